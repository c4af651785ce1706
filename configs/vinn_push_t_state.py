"""VINN on Push-T from keypoints, on the human demonstrations: a minute on 2 cores.

Data:      python datasets/push_t/build.py --replay PATH/pusht_cchi_v7_replay.zarr --out DATA
Command:   python -m arp_jax.train --config=configs/vinn_push_t_state.py \
               --config.data.source=DATA/push_t/1.0.0
Evaluate:  python -m arp_jax.evaluate runs/vinn_push_t_state --episodes 256 --public_seeds
Expected:  5 seconds: one step, by which nothing is learned, then the library is filled and k is
           chosen on held-out episodes. RUN/finish.json has the error of every k. Success of 256
           public starts: 28.1 % [23.0, 33.9], mean maximal reward 0.680.

Without cameras nothing is trained: what is compared are the agent's position and the block's key
points, as they are normalised. The baseline that every trained policy should beat.

k is tried up to 5 only. The error on held-out episodes goes on falling to k = 49, but success does
not: the mean of people who push from different sides pushes nothing. On 256 starts (--seed 7),
k = 1, 3, 5, 10 succeed in 30, 35, 35, 25 %; k = 49 in 4 % (--public_seeds).
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
            "name": "vinn",
            "state_weight": 10.0,
            "neighbors": 0,
            "most_neighbors": 5,
            "weighting": "repaired",
        }
    )
    # Every moment of a demonstration is in the library; its last action is held behind the end.
    config.data.pad_after = -1
    config.data.validation_fraction = 0.1
    config.train.steps = 1
    config.train.batch_size = 256
    config.train.eval_every = 0
    return config
