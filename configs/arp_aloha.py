"""The published ARP on ALOHA: two arms, one camera, 59.16 M parameters (Zhang et al. 2024).

Data:      an RLDS dataset of AlohaInsertion or AlohaTransferCube with the camera "top" (480 x 640),
           the feature "state" (14) and, per action, the pixels of both grippers, "left_points" and
           "right_points" [2] (policy.guide_points = 0 trains without them). This repository has no
           builder of such a dataset yet, and its loader does not yet hand out the grippers' tracks.
Command:   python -m arp_jax.train --config=configs/arp_aloha.py --workdir=runs/arp_aloha \
               --config.data.source=DATA
Variants:  --config=configs/arp_aloha.py:one_step predicts actions and guide points in one pass.
Expected:  the paper reports 24.8 % (insertion) and 94 % (transfer cube) success. Not trained here.
           This configuration is for a GPU. What has been checked is the network: the same numbers
           as the reference implementation, tests/interop/test_arp_aloha_golden.py.

As published: AdamW at 1e-5 for trunk and rest, gradients clipped at 10, batch 8, 100,000 steps, no
schedule and no moving average. The published trunk starts from ImageNet weights
(`arp_jax.interop.torch_resnet.convert_trunk` reads torchvision's file); `init` draws random ones.
"""

import ml_collections

from configs import common

VARIANTS = ("", "one_step")


def get_config(variant: str = "") -> ml_collections.ConfigDict:
    """See the module's docstring."""
    if variant not in VARIANTS:
        raise ValueError(f"configs/arp_aloha.py: variant {variant!r} is none of {VARIANTS[1:]}")
    config = common.base()
    config.observations = ("state", "top")
    config.window = 1
    config.horizon = 100
    config.action_offset = 0
    config.policy = ml_collections.ConfigDict(
        {
            "name": "arp_aloha",
            "camera": "top",
            "state_feature": "state",
            "guide_points": 10,
            "guide_chunk": 1,
            "action_chunk": 100,
            "one_step": variant == "one_step",
            "layers": 4,
            "embed_dim": 512,
            "heads": 8,
            "dropout": 0.1,
            "encoder_layers": 4,
            "encoder_hidden": 3100,
            "published_padding": False,
            "compute_dtype": "float32",
        }
    )
    config.data.source = ""
    config.data.normalization = {"state": "standard", "action": "standard"}
    config.data.pad_after = -1  # every frame starts a chunk, also the last one
    config.optim.learning_rate = 1e-5
    config.optim.b1, config.optim.b2 = 0.9, 0.999
    config.optim.weight_decay = 1e-4
    # Statistics and frozen norms are in the tree without a gradient: decay must not shrink them.
    config.optim.weight_decay_groups = (("^statistics/", 0.0), ("^encoder/trunk/.*norm", 0.0))
    config.optim.schedule = "constant"
    config.optim.warmup_steps = 0
    config.optim.clip_norm = 10.0
    config.train.steps = 100_000
    config.train.batch_size = 8
    config.train.ema_max = 0.0
    config.train.eval_every = 10_000
    config.train.save_every = 20_000
    config.eval.env = "gym_aloha/AlohaInsertion-v0"
    config.eval.episodes = 50
    config.eval.envs = 50
    config.eval.execute = 100
    config.eval.max_steps = 400
    return config
