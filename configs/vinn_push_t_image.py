"""VINN on Push-T from images: a ResNet trained without labels (BYOL), then nearest neighbours.

Data:      python datasets/push_t/build.py --replay PATH/pusht_cchi_v7_replay.zarr --out DATA
Command:   python -m arp_jax.train --config=configs/vinn_push_t_image.py \
               --config.data.source=DATA/push_t/1.0.0
Evaluate:  python -m arp_jax.evaluate runs/vinn_push_t_image --episodes 256 --public_seeds
Expected:  sized for a GPU. A loss that falls quickly to 0 means that all images look alike to the
           network; RUN/finish.json says what the features are worth (error of every k).

The published training: Adam at 3e-4 in batches of 32, projections of 256 behind 4096, a target
network that is a moving average of decay 0.99 (here the run's own, which is also what acts). Other
than published are the views: a mirrored Push-T and one cut to a tenth of it are other tasks, in
which other actions are right, so crops are large and nothing is mirrored. k is tried up to 5 as in
vinn_push_t_state.py, which says why.
"""

import ml_collections

from configs import common


def get_config() -> ml_collections.ConfigDict:
    """See the module's docstring."""
    config = common.base()
    config.observations = ("agent_pos", "image")
    config.window = 1
    config.action_offset = 0
    config.policy = ml_collections.ConfigDict(
        {
            "name": "vinn",
            "cameras": ("image",),
            "state_features": ("agent_pos",),
            "state_weight": 1.0,
            "neighbors": 0,
            "most_neighbors": 5,
            "weighting": "repaired",
            "depth": 18,
            "trunk_norm": "group",
            "trunk_width": 64,
            "projection": 256,
            "projection_hidden": 4096,
            "views": {"area": (0.6, 1.0), "flip": 0.0},
        }
    )
    config.data.pad_after = -1
    config.data.validation_fraction = 0.1
    config.optim.learning_rate = 3e-4
    config.optim.b1 = 0.9
    config.optim.weight_decay = 0.0
    config.optim.schedule = "constant"
    config.optim.warmup_steps = 0
    # A decay of 0.99 from the second update on: the target network.
    config.train.ema_max = 0.99
    config.train.ema_power = 10.0
    config.train.batch_size = 32
    config.train.steps = 40_000
    config.train.eval_every = 2_000
    config.train.save_every = 5_000
    return config
