"""ARP on the bimanual transfer cube from joint positions and the cube's pose, 50 demonstrations.

Data:      python -m arp_jax.sim.record --task transfer_cube -n 50 --full_length --out DATA
Command:   GLIBC_TUNABLES=glibc.malloc.hugetlb=1 \
           python -m arp_jax.train --config=configs/arp_transfer_cube_state.py \
               --workdir=runs/arp_transfer_cube_state --config.data.source=DATA/transfer_cube/1.0.0
Evaluate:  python -m arp_jax.evaluate runs/arp_transfer_cube_state --episodes 200
           python -m arp_jax.evaluate runs/arp_transfer_cube_state --episodes 200 \
               --env gym_aloha/AlohaTransferCube-v0
Expected:  10 minutes on 2 cores; see docs/results.md. No image is drawn anywhere.

One second of the future (50 actions) is predicted and executed at a time. The plan,
five way-points of all 14 joints from the last to the first, comes one a pass; the actions between
them come in one.
"""

import ml_collections

from configs import common


def get_config() -> ml_collections.ConfigDict:
    """See the module's docstring."""
    config = common.transfer_cube_state()
    config.policy = ml_collections.ConfigDict(
        {
            "name": "arp",
            "encoder": "state",
            "prompt_feature": "state",
            "plan_head": "mixture",
            "plan_points": 5,
            "plan_chunk": 1,
            "plan_components": 4,
            "action_chunk": 50,
            "sample": False,
            "layers": 4,
            "embed_dim": 128,
            "heads": 4,
            "dropout": 0.0,
        }
    )
    config.data.pad_after = 49
    config.optim.learning_rate = 1e-3
    config.optim.b1 = 0.9
    config.optim.b2 = 0.95
    config.optim.clip_norm = 1.0
    config.optim.warmup_steps = 100
    config.train.steps = 1_500
    config.train.batch_size = 64
    config.train.eval_every = 500
    config.train.save_every = 500
    return config
