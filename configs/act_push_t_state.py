"""ACT on Push-T from keypoints, on the human demonstrations: sized for 2 cores.

Data:      python datasets/push_t/build.py --replay PATH/pusht_cchi_v7_replay.zarr --out DATA
Command:   GLIBC_TUNABLES=glibc.malloc.hugetlb=1 \
           python -m arp_jax.train --config=configs/act_push_t_state.py \
               --workdir=runs/act_push_t_state --config.data.source=DATA/push_t/1.0.0
Evaluate:  python -m arp_jax.evaluate runs/act_push_t_state --episodes 256 --public_seeds
           python -m arp_jax.evaluate runs/act_push_t_state --ensemble 0.01
Expected:  see docs/results.md.

The policy sees one time step (position and keypoints, a token each) and no image. Sizes are a
quarter of the published ones; the last of the decoder's layers is read.
"""

import ml_collections

from configs import common


def get_config() -> ml_collections.ConfigDict:
    """See the module's docstring."""
    config = common.base()
    config.window = 1
    config.action_offset = 0
    config.policy = ml_collections.ConfigDict(
        {
            "name": "act",
            "state_feature": "agent_pos",
            "token_features": ("keypoints",),
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
    config.data.augment = "push_t_mirror"
    config.data.pad_after = -1  # every step starts a chunk; what lies behind the end is masked
    config.optim.learning_rate = 3e-4
    config.optim.b1 = 0.9
    config.optim.weight_decay = 1e-4
    config.optim.clip_norm = 1.0
    config.optim.warmup_steps = 200
    config.train.steps = 10_000
    config.train.batch_size = 64
    config.train.eval_every = 1_000
    config.train.save_every = 2_500
    return config
