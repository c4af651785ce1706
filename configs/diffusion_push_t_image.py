"""The published Diffusion Policy on Push-T from images: 262.7 M parameters (Chi et al. 2023).

Data:      python datasets/push_t/build.py --replay PATH/pusht_cchi_v7_replay.zarr --out DATA
Command:   python -m arp_jax.train --config=configs/diffusion_push_t_image.py \
               --workdir=runs/diffusion_push_t_image --config.data.source=DATA/push_t/1.0.0
Import:    python -m arp_jax.import_checkpoint latest.ckpt --workdir=runs/imported \
               --config=configs/diffusion_push_t_image.py
Evaluate:  python -m arp_jax.evaluate runs/diffusion_push_t_image --env gym_pusht/PushT-v0 \
               --episodes 50
Expected:  for a GPU; docs/results.md says what has been run. Checked are the networks and the
           importer, against PyTorch (tests/interop/test_diffusion_checkpoints.py).

As published: a U-Net of 251.5 M parameters, crops of 84 pixels (random in training), images in
[-1, 1], keypoints, two observed steps, 16 predicted of which 8 are executed, DDPM with all 100
steps, ranges of the data to -1 .. 1, 90 training episodes, moving average of the parameters.
"""

import ml_collections

from configs import common

# 90 training episodes give 10,726 windows: 168 batches of 64 an epoch.
STEPS_PER_EPOCH, EPOCHS = 168, 3_050


def get_config() -> ml_collections.ConfigDict:
    """See the module's docstring."""
    config = common.base()
    config.observations = ("agent_pos", "image")
    config.policy = ml_collections.ConfigDict(
        {
            "name": "diffusion",
            "net": "unet",
            "cameras": ("image",),
            "crop": (84, 84),
            "image_scale": "signed",
            "pool": "keypoints",
            "keypoints": 32,
            "image_features": 64,
            "feature_relu": True,
            "widths": (512, 1024, 2048),
            "step_size": 128,
            "kernel": 5,
            "groups": 8,
            "diffusion_steps": 100,
            "prediction": "epsilon",
            "sampler": "ddpm",
        }
    )
    config.data.normalization = {"agent_pos": "min_max", "action": "min_max"}
    config.data.max_train_episodes = 90
    config.optim.learning_rate = 1e-4
    config.optim.weight_decay = 1e-6
    config.optim.warmup_steps = 500
    config.train.steps = EPOCHS * STEPS_PER_EPOCH
    config.train.batch_size = 64
    config.train.ema_copies = 2
    config.train.eval_every = 50 * STEPS_PER_EPOCH
    config.train.save_every = 50 * STEPS_PER_EPOCH
    config.eval.episodes = 50
    return config
