"""Does everything work? A few steps of a very small ARP on synthetic episodes.

Command:   python -m arp_jax.train --config=configs/debug.py --workdir=runs/debug
Expected:  under a minute on 2 cores; the loss falls, two checkpoints are written. The policy is
           useless: its data is made of random curves (no download, nothing outside the workdir).
"""

import ml_collections

from configs import common


def get_config() -> ml_collections.ConfigDict:
    """See the module's docstring."""
    config = common.base()
    config.policy = ml_collections.ConfigDict(
        {
            "name": "arp",
            "encoder": "state",
            "state_hidden": 32,
            "plan_head": "mixture",
            "plan_components": 1,
            "layers": 2,
            "embed_dim": 32,
            "heads": 4,
            "dropout": 0.0,
        }
    )
    config.data.validation_fraction = 0.2
    config.optim.learning_rate = 1e-3
    config.optim.warmup_steps = 10
    config.optim.clip_norm = 1.0
    config.train.steps = 60
    config.train.batch_size = 16
    config.train.log_every = 10
    config.train.eval_every = 20
    config.train.save_every = 30
    config.eval.episodes = 4
    config.eval.envs = 4
    config.eval.max_steps = 40
    return config
