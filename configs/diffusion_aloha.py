"""Mobile ALOHA's Diffusion Policy (ACT++): three cameras, arms and base, chunks of 32 actions.

Data:      python datasets/convert_act_hdf5.py RECORDINGS --name wipe_wine --out DATA \
               --base always --smooth_base --shift_real
Command:   python -m arp_jax.train --config=configs/diffusion_aloha.py --config.data.source=DATA
Import:    python -m arp_jax.import_checkpoint policy_best.ckpt --workdir=runs/imported \
               --config=configs/diffusion_aloha.py
Expected:  for a GPU and a robot; not trained here. Checked are the network and the importer,
           against PyTorch (tests/interop/test_diffusion_checkpoints.py).

As published: a ResNet-18 with group norm and 32 keypoints a camera, images in [0, 1], DDIM with 10
of 50 steps, the range of the actions to -1 .. 1, states by mean and deviation, AdamW without decay,
batches of 32, crops of 95 % resized, colors changed. The published training also turns the images
by up to 5 degrees and keeps padded actions in the loss's denominator.
"""

import ml_collections

from configs import act_aloha, common

HORIZON = 32  # or 64; a multiple of 4
HEIGHT, WIDTH, SHARE = 480, 640, 0.95


def get_config() -> ml_collections.ConfigDict:
    """See the module's docstring."""
    config = common.base()
    config.observations = ("state", *act_aloha.MOBILE_CAMERAS)
    config.window = 1
    config.horizon = HORIZON
    config.action_offset = 0
    config.policy = ml_collections.ConfigDict(
        {
            "name": "diffusion",
            "net": "unet",
            "cameras": act_aloha.MOBILE_CAMERAS,
            "image_scale": "unit",
            "pool": "keypoints",
            "keypoints": 32,
            "image_features": 64,
            "feature_relu": False,
            "widths": (256, 512, 1024),
            "step_size": 256,
            "kernel": 5,
            "groups": 8,
            "diffusion_steps": 50,
            "prediction": "epsilon",
            "sampler": "ddim",
            "inference_steps": 10,
            "mask_padded_actions": True,
        }
    )
    config.data.source = ""
    config.data.normalization = {"state": "standard", "action": "min_max"}
    config.data.pad_after = -1  # every frame starts a chunk, also the last one
    config.data.validation_fraction = 0.01
    config.images.random_crop = (int(HEIGHT * SHARE), int(WIDTH * SHARE))
    config.images.size = (HEIGHT, WIDTH)
    config.images.brightness = 0.3
    config.images.contrast = 0.4
    config.images.saturation = 0.5
    config.optim.learning_rate = 1e-4
    config.optim.b1 = 0.9
    config.optim.weight_decay = 0.0
    config.optim.schedule = "constant"
    config.optim.warmup_steps = 0
    config.train.steps = 100_000
    config.train.batch_size = 32
    config.train.ema_copies = 2
    config.train.eval_every = 10_000
    config.train.save_every = 20_000
    config.eval.env = "mobile_aloha"
    config.eval.execute = HORIZON - act_aloha.BASE_DELAY
    config.eval.base_delay = act_aloha.BASE_DELAY
    return config
