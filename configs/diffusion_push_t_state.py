"""Diffusion Policy on Push-T from keypoints, on the human demonstrations: sized for 2 cores.

Data:      python datasets/push_t/build.py --replay PATH/pusht_cchi_v7_replay.zarr --out DATA
Command:   GLIBC_TUNABLES=glibc.malloc.hugetlb=1 \
           python -m arp_jax.train --config=configs/diffusion_push_t_state.py \
               --config.data.source=DATA/push_t/1.0.0
Evaluate:  python -m arp_jax.evaluate runs/diffusion_push_t_state --episodes 256 --public_seeds

The published low-dimensional model is wider (256, 512, 1024), samples with 100 DDPM steps and
trains for 5000 epochs in batches of 256; set policy.widths, policy.sampler and train.* to have it.
"""

import ml_collections

from configs import common


def get_config() -> ml_collections.ConfigDict:
    """See the module's docstring."""
    config = common.base()
    config.policy = ml_collections.ConfigDict(
        {
            "name": "diffusion",
            "net": "unet",
            "widths": (64, 128, 256),
            "step_size": 128,
            "diffusion_steps": 100,
            "sampler": "ddim",
            "inference_steps": 10,
        }
    )
    config.data.augment = "push_t_mirror"
    config.optim.learning_rate = 1e-3
    config.optim.warmup_steps = 500
    config.optim.weight_decay = 1e-6
    config.optim.clip_norm = 1.0
    config.train.steps = 14_000
    config.train.batch_size = 64
    config.train.eval_every = 1_000
    config.train.save_every = 2_500
    return config
