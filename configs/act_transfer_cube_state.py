"""ACT on the bimanual transfer cube from joint positions and the cube's pose: sized for 2 cores.

Data:      python -m arp_jax.sim.record --task transfer_cube -n 50 --full_length --out DATA
Command:   GLIBC_TUNABLES=glibc.malloc.hugetlb=1 \
           python -m arp_jax.train --config=configs/act_transfer_cube_state.py \
               --workdir=runs/act_transfer_cube_state --config.data.source=DATA/transfer_cube/1.0.0
Evaluate:  python -m arp_jax.evaluate runs/act_transfer_cube_state --episodes 200
           python -m arp_jax.evaluate runs/act_transfer_cube_state --episodes 200 --blend 10
Expected:  see docs/results.md. No image is drawn anywhere.

One second of the future (50 actions) is predicted and executed at a time, as in
configs/arp_transfer_cube_state.py. configs/act_aloha.py is the same task from images.
"""

import ml_collections

from configs import common


def get_config() -> ml_collections.ConfigDict:
    """See the module's docstring."""
    config = common.transfer_cube_state()
    config.policy = ml_collections.ConfigDict(
        {
            "name": "act",
            "state_feature": "state",
            "token_features": ("object_pose",),
            "latent_dim": 8,
            "kl_weight": 10.0,
            "embed_dim": 128,
            "heads": 8,  # a chunk's steps differ by how they mix few tokens
            "hidden": 512,
            "style_layers": 2,
            "encoder_layers": 2,
            "decoder_layers": 2,
            "dropout": 0.1,
        }
    )
    config.data.pad_after = -1
    config.optim.learning_rate = 3e-4
    config.optim.b1 = 0.9
    config.optim.weight_decay = 1e-4
    config.optim.clip_norm = 1.0
    config.optim.warmup_steps = 200
    config.train.steps = 4_000
    config.train.batch_size = 64
    config.train.eval_every = 1_000
    config.train.save_every = 1_000
    return config
