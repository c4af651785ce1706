"""ARP on Push-T from keypoints, on the human demonstrations: under an hour on 2 cores.

Data:      python datasets/push_t/build.py --replay PATH/pusht_cchi_v7_replay.zarr --out DATA
Command:   GLIBC_TUNABLES=glibc.malloc.hugetlb=1 \
           python -m arp_jax.train --config=configs/push_t_state.py --workdir=runs/push_t_state \
               --config.data.source=DATA/push_t/1.0.0
Evaluate:  python -m arp_jax.evaluate runs/push_t_state --env gym_pusht/PushT-v0 --episodes 50
Expected:  see docs/results.md. (The GLIBC setting lets the allocator use huge pages: a training
           step on a CPU takes 30 % less time, benchmarks/README.md.)

The plan is autoregressive here, one way-point a pass from the last to the first, each a mixture of
Gaussians: a fraction of the cost of the published heat-map head, which images need.
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
            "plan_head": "mixture",
            "plan_points": 4,
            "plan_chunk": 1,
            "plan_components": 16,
            "action_chunk": 16,
            "layers": 4,
            "embed_dim": 128,
            "heads": 4,
            "dropout": 0.0,
        }
    )
    config.data.augment = "push_t_mirror"
    config.optim.learning_rate = 1e-3
    config.optim.b1 = 0.9
    config.optim.b2 = 0.95
    config.optim.clip_norm = 1.0
    config.optim.warmup_steps = 300
    config.train.steps = 14_000
    config.train.batch_size = 64
    config.train.eval_every = 1_000
    config.train.save_every = 2_500
    config.train.keep_every = 5_000
    return config
