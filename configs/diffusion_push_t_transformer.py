"""The published Diffusion Policy on Push-T from keypoints, as a transformer (Chi et al. 2023).

Data:      python datasets/push_t/build.py --replay PATH/pusht_cchi_v7_replay.zarr --out DATA
Command:   python -m arp_jax.train --config=configs/diffusion_push_t_transformer.py \
               --config.data.source=DATA/push_t/1.0.0
Evaluate:  python -m arp_jax.evaluate runs/diffusion_push_t_transformer --episodes 256 \
               --public_seeds
Expected:  for a GPU; docs/results.md says what has been run. Checked are the network and the
           importer, against PyTorch (tests/interop/test_diffusion_checkpoints.py).

The published environment gives nine points of the block, ours its eight corners. Else as published:
8 layers of width 256 (9.0 M parameters), causal, dropout 0.01, AdamW with (0.9, 0.95)
and decay 1e-3 of the matrices only, 1000 steps of warm-up, batches of 256, 5000 epochs.
"""

import ml_collections

from configs import common

# 90 training episodes give 10,726 windows: 42 batches of 256 an epoch.
STEPS_PER_EPOCH, EPOCHS = 42, 5_000


def get_config() -> ml_collections.ConfigDict:
    """See the module's docstring."""
    config = common.base()
    config.policy = ml_collections.ConfigDict(
        {
            "name": "diffusion",
            "net": "transformer",
            "state_features": ("keypoints", "agent_pos"),
            "width": 256,
            "layers": 8,
            "heads": 4,
            "dropout": 0.01,
            "diffusion_steps": 100,
            "prediction": "epsilon",
            "sampler": "ddpm",
        }
    )
    config.data.normalization = dict.fromkeys(("agent_pos", "keypoints", "action"), "min_max")
    config.data.max_train_episodes = 90
    config.optim.learning_rate = 1e-4
    config.optim.b1 = 0.9
    config.optim.b2 = 0.95
    config.optim.weight_decay = 1e-3
    config.optim.weight_decay_groups = ((r"(bias|scale|position)$", 0.0),)
    config.optim.warmup_steps = 1_000
    config.train.steps = EPOCHS * STEPS_PER_EPOCH
    config.train.batch_size = 256
    config.train.ema_copies = 2
    config.train.eval_every = 50 * STEPS_PER_EPOCH
    config.train.save_every = 50 * STEPS_PER_EPOCH
    return config
