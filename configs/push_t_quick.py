"""The quickstart: planned demonstrations, keypoints, a small ARP; minutes on 2 cores.

Command:   make quickstart      (or: python -m launch.quickstart --workdir runs/quickstart)
Train only:
           python datasets/push_t_planned/build.py --episodes 300 --out DATA
           python -m arp_jax.train --config=configs/push_t_quick.py --workdir=runs/quick \
               --config.data.source=DATA/push_t_planned/1.0.0
Expected:  see docs/results.md.
"""

import ml_collections

from configs import push_t_state


def get_config() -> ml_collections.ConfigDict:
    """See the module's docstring."""
    config = push_t_state.get_config()
    config.train.steps = 4_000
    config.train.save_every = 2_000
    config.train.keep_every = 0
    return config
