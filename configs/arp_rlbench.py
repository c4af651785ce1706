"""The published ARP and ARP+ on RLBench: point clouds and sentences, 72.1 M and 74.0 M parameters.

Variants:  arp    4 'self' layers, cross-attention normalised before AdaLN: 72,115,622 parameters
           plus   ARP+: 6 'self' layers, not normalised, wider heat-map head: 74,014,374
Command:   python -m arp_jax.profile --config=configs/arp_rlbench.py:plus
Use:       RlbenchArpPolicy with weights from interop.arp_rlbench.convert_rlbench; docs/arp.md.
           `arp_jax.train` cannot run this file: no reader of RLBench recordings is here.
Expected:  the publishers report 81.2 % over 18 tasks for ARP; not run here (it needs CoppeliaSim).

Optimiser as published except: LAMB with 8-bit states is AdamW here, and the cosine ends at 0, not
at a hundredth of the peak. Published rate: 1.25e-5 times the total batch of 2 x 96.
"""

import ml_collections

from configs import common

TOTAL_BATCH = 192
TRANSITIONS = 100 * 160_000  # epochs times transitions per epoch

VARIANTS = {
    "arp": {"self_layers": 4, "norm_before_adaln": True, "hidden_dim_mult": 1.25},
    "plus": {"self_layers": 6, "norm_before_adaln": False, "hidden_dim_mult": 2.0},
}


def get_config(variant: str = "arp") -> ml_collections.ConfigDict:
    """See the module's docstring."""
    if variant not in VARIANTS:
        raise ValueError(f"variant {variant!r} is unknown; choose one of {tuple(VARIANTS)}")
    config = common.base()
    config.observations = ("proprio",)
    config.window = 1
    config.horizon = 1
    config.action_offset = 0
    config.policy = ml_collections.ConfigDict(
        {
            "name": "arp_rlbench",
            "image_size": 224,
            "patch": 14,
            "view_layers": 8,
            "view_width": 512,
            "cross_layers": 4,
            "heads": 8,
            "rotation_classes": 72,
            "rotation_jitter": "symmetric",
            "compute_dtype": "float32",
            **VARIANTS[variant],
        }
    )
    config.data.source = "rlbench"
    config.data.normalization = {}  # metres in, metres out
    config.optim.learning_rate = 1.25e-5 * TOTAL_BATCH
    config.optim.b1 = 0.9
    config.optim.b2 = 0.999
    config.optim.weight_decay = 1e-4
    config.optim.schedule = "cosine"
    config.optim.warmup_steps = 2_000
    config.train.steps = TRANSITIONS // TOTAL_BATCH
    config.train.batch_size = TOTAL_BATCH
    config.train.save_every = 10_000
    config.eval.env = "rlbench"
    config.eval.episodes = 25
    config.eval.execute = 1
    config.eval.max_steps = 25
    return config
