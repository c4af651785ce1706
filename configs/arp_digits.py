"""ARP as a pen: binary digits as sequences of pixels; no download, minutes on 2 cores.

Command:   GLIBC_TUNABLES=glibc.malloc.hugetlb=1 \
           python -m arp_jax.train --config=configs/arp_digits.py
Expected:  see docs/results.md. RUN is runs/arp_digits; RUN/report holds the drawn digits beside
           real ones (digits.png) and the nats per held-out image (digits.csv, digits.json).

The published demonstration on binary MNIST, scaled from 28 x 28 and 139 pixels to the 8 x 8 digits
that scikit-learn ships, with at most 27 lit pixels.
"""

import ml_collections

from configs import common


def get_config() -> ml_collections.ConfigDict:
    """See the module's docstring."""
    config = common.base()
    config.observations = ("digit",)
    config.window = 1
    config.horizon = 27  # lit pixels of the fullest image
    config.action_offset = 0
    config.policy = ml_collections.ConfigDict(
        {
            "name": "arp_digits",
            "layers": 4,
            "embed_dim": 64,
            "heads": 4,
            "dropout": 0.1,  # as published; without it the model overfits
            "temperature": 1.0,
        }
    )
    config.data.source = "digits"
    config.data.normalization = {"digit": "limits", "action": "limits"}
    config.data.pad_after = 0  # an episode is one example: a whole image
    config.data.validation_fraction = 0.2
    config.optim.learning_rate = 2e-3
    config.optim.b1 = 0.9
    config.optim.b2 = 0.95
    config.optim.weight_decay = 0.01
    config.optim.clip_norm = 1.0
    config.optim.warmup_steps = 50
    config.train.steps = 600
    config.train.batch_size = 64
    config.train.ema_max = 0.99
    config.train.eval_every = 50
    config.train.eval_batches = 6  # all held-out images
    config.train.save_every = 200
    config.report = "digits"
    return config
