"""ACT and Mobile ALOHA's ACT++ at the published size: two arms, images, chunks of 100 actions.

Data:      python -m arp_jax.sim.record --task transfer_cube -n 50 --full_length \
               --observations state,top --out DATA
           python datasets/convert_act_hdf5.py RECORDINGS --name wipe_wine --out DATA \
               --base always --smooth_base --shift_real                             (:mobile)
Command:   python -m arp_jax.train --config=configs/act_aloha.py --workdir=runs/act_aloha \
               --config.data.source=DATA/transfer_cube/1.0.0
Import:    python -m arp_jax.import_checkpoint policy_best.ckpt --workdir=runs/act \
               --config=configs/act_aloha.py:published
Evaluate:  python -m arp_jax.evaluate runs/act_aloha --episodes 50 --execute 100
           python -m arp_jax.evaluate runs/act_aloha --episodes 50 --ensemble 0.01
Variants:  (none)            one camera "top", 14 actions, one decoder layer
           published         the same as ACT's checkpoints: seven layers, of which the first is read
           mobile            three cameras with a trunk each, 16 actions (arms and base)
           mobile_published  the same as ACT++'s checkpoints
           For codes instead of a Gaussian style: --config.policy.latent=codes; without a style:
           --config.policy.latent=none.
Expected:  for a GPU; not trained here. Checked are the network and the importer, on vectors of the
           published code (tests/interop/test_act_golden.py).

As published: AdamW at 1e-5 for trunk and rest, batch 8, no schedule, no clipping, no average of the
parameters. Published trunks start from ImageNet weights with frozen norms; the variants for
training start from random ones with group norm.
"""

import ml_collections

from configs import common

VARIANTS = ("", "published", "mobile", "mobile_published")
MOBILE_CAMERAS = ("cam_high", "cam_left_wrist", "cam_right_wrist")
BASE_DELAY = 13  # steps that Mobile ALOHA's base is commanded ahead


def get_config(variant: str = "") -> ml_collections.ConfigDict:
    """See the module's docstring; raises ValueError for an unknown variant."""
    if variant not in VARIANTS:
        raise ValueError(f"configs/act_aloha.py: variant {variant!r} is none of {VARIANTS[1:]}")
    mobile, published = variant.startswith("mobile"), variant.endswith("published")
    cameras = MOBILE_CAMERAS if mobile else ("top",)
    config = common.base()
    config.observations = ("state", *cameras)
    config.window = 1
    config.horizon = 100
    config.action_offset = 0
    config.policy = policy(cameras, mobile, published)
    config.data.source = ""
    config.data.normalization = {"state": "standard", "action": "standard"}
    config.data.pad_after = -1  # every frame starts a chunk, also the last one
    config.data.validation_fraction = 0.2
    config.optim.learning_rate = 1e-5
    config.optim.b1 = 0.9
    config.optim.weight_decay = 1e-4
    if published:
        # Frozen norms are in the tree without a gradient: decay must not shrink them.
        config.optim.weight_decay_groups = ((r"^net/trunks_\d+/.*norm", 0.0),)
    config.optim.schedule = "constant"
    config.optim.warmup_steps = 0
    config.train.steps = 100_000
    config.train.batch_size = 8
    config.train.ema_max = 0.0
    config.train.eval_every = 10_000
    config.train.save_every = 20_000
    config.eval.env = "mobile_aloha" if mobile else "transfer_cube"
    config.eval.episodes = 50
    config.eval.envs = 50
    config.eval.execute = 100
    config.eval.max_steps = 400
    if mobile:
        config.eval.base_delay = BASE_DELAY
        config.eval.execute = 100 - BASE_DELAY
    return config


def policy(
    cameras: tuple[str, ...], mobile: bool = False, published: bool = False
) -> ml_collections.ConfigDict:
    """The `policy` section."""
    return ml_collections.ConfigDict(
        {
            "name": "act",
            "cameras": cameras,
            "state_feature": "state",
            "latent": "gaussian",
            "latent_dim": 32,
            "kl_weight": 10.0,
            "code_classes": 32,
            "code_values": 32,
            "decoder_layers": 7 if published else 1,
            "decoder_output": "first" if published else "last",
            "shared_trunk": not mobile,
            "trunk": "resnet",
            "depth": 18,
            "trunk_norm": "frozen_batch" if published else "group",
            "pre_norm": False,
            "embed_dim": 512,
            "heads": 8,
            "hidden": 3200,
            "style_layers": 4,
            "encoder_layers": 4,
            "dropout": 0.1,
            "compute_dtype": "float32",
        }
    )
