"""VINN on Push-T from keypoints, on the human demonstrations: a minute on 2 cores.

Data:      python datasets/push_t/build.py --replay PATH/pusht_cchi_v7_replay.zarr --out DATA
Command:   python -m arp_jax.train --config=configs/vinn_push_t_state.py \
               --config.data.source=DATA/push_t/1.0.0
Evaluate:  python -m arp_jax.evaluate runs/vinn_push_t_state --episodes 256 --public_seeds
Expected:  one step, of which nothing is learned; then the library is filled and k is chosen on
           held-out episodes. RUN/finish.json has the error of every k.

Without cameras nothing is trained: what is compared are the agent's position and the block's key
points, as they are normalised. The baseline that every trained policy should beat.
"""

import ml_collections

from configs import common


def get_config() -> ml_collections.ConfigDict:
    """See the module's docstring."""
    config = common.base()
    config.policy = ml_collections.ConfigDict(
        {"name": "vinn", "neighbors": 0, "most_neighbors": 64, "weighting": "repaired"}
    )
    # Every moment of a demonstration is in the library; its last action is held behind the end.
    config.data.pad_after = -1
    config.data.validation_fraction = 0.1
    config.train.steps = 1
    config.train.batch_size = 256
    config.train.eval_every = 0
    return config
