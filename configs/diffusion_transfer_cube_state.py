"""Diffusion Policy on the bimanual transfer cube from joint positions and the cube's pose.

Data:      python -m arp_jax.sim.record --task transfer_cube -n 50 --full_length --out DATA
Command:   GLIBC_TUNABLES=glibc.malloc.hugetlb=1 \
           python -m arp_jax.train --config=configs/diffusion_transfer_cube_state.py \
               --config.data.source=DATA/transfer_cube/1.0.0
Evaluate:  python -m arp_jax.evaluate runs/diffusion_transfer_cube_state --episodes 200
Expected:  see docs/results.md (the comparison). No image is drawn anywhere.

52 actions are predicted, because a U-Net of three widths wants a multiple of 4, and 50 executed, as
in configs/arp_transfer_cube_state.py. Ranges of the data become -1 .. 1: samples are clipped there.
"""

import ml_collections

from configs import arp_transfer_cube_state, diffusion_push_t_state


def get_config() -> ml_collections.ConfigDict:
    """See the module's docstring."""
    config = arp_transfer_cube_state.get_config()
    published = diffusion_push_t_state.get_config()
    config.policy = published.policy
    config.optim = published.optim
    config.horizon = 52
    config.data.normalization = {
        "state": "min_max",
        "object_pose": "min_max",
        "action": "min_max",
    }
    config.optim.warmup_steps = 200
    config.train.steps = 4_000
    config.train.eval_every = 1_000
    config.train.save_every = 1_000
    return config
