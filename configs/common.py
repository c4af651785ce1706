"""Fragments that the experiments share; every value is plain, every key is listed here once.

A config file calls `base()` and changes what it is about. Sections become frozen dataclasses where
they are used (class names below), so a misspelt key fails at start-up with its name.
"""

import ml_collections


def base() -> ml_collections.ConfigDict:
    """Push-T, without a policy: data, optimiser, training, mesh, metrics, evaluation."""
    config = ml_collections.ConfigDict()
    config.seed = 0
    # What the policy sees, and the chunk that it predicts (PolicySpec).
    config.observations = ("agent_pos", "keypoints")
    config.window = 2
    config.horizon = 16
    config.action_offset = -1  # the chunk starts at the oldest observation, as published
    config.data = data()
    config.images = images()
    config.optim = optim()
    config.train = train()
    config.mesh = ml_collections.ConfigDict({"data": -1, "fsdp": 1})
    config.metrics = ml_collections.ConfigDict({"tensorboard": False, "wandb_project": ""})
    config.eval = evaluation()
    config.report = ""  # "digits" writes RUN/report when training is done
    return config


def transfer_cube_state() -> ml_collections.ConfigDict:
    """Bimanual transfer cube from joints and the cube's pose; one second is executed at a time."""
    config = base()
    config.observations = ("state", "object_pose")
    config.window = 1
    config.horizon = 50
    config.action_offset = 0
    names = ("state", "object_pose", "action")
    config.data.normalization = dict.fromkeys(names, "standard")
    config.data.validation_fraction = 0.1
    config.eval.env = "transfer_cube"
    config.eval.episodes = 200
    config.eval.envs = 200
    config.eval.execute = 50
    config.eval.max_steps = 400
    return config


def data() -> ml_collections.ConfigDict:
    """arp_jax.training.data_config.DataConfig."""
    return ml_collections.ConfigDict(
        {
            "source": "synthetic",  # an RLDS folder, a pack, "synthetic" or "digits"
            "split": "train",
            "pack_dir": "",  # "" packs into RUN/pack
            "resize": "",  # "CAMERA=HEIGHTxWIDTH,...": cameras are packed in that size
            # feature -> "limits" | "standard" | "min_max" | "quantile"
            "normalization": {"agent_pos": "limits", "keypoints": "limits", "action": "limits"},
            "augment": "",  # or "push_t_mirror", for "limits" normalisation
            "pad_after": 7,
            "stride": 1,  # every stride-th step starts an example
            "goal": "",  # goals in the batch: "uniform" or "hindsight"
            "language": False,  # instructions in the batch
            "language_dropout": 0.0,
            "validation_fraction": 0.02,
            "split_seed": 42,
            "max_train_episodes": 0,  # 0 = all
            "prefetch": 2,
            "memory_budget_mb": 2048,
            "mixture": "",  # a name (python -m arp_jax.data.mixtures) or "PATH=WEIGHT,PATH=WEIGHT"
            "mixture_weights": "",  # "draw" | "step" | "episode"; "" as the mix says
            "mixture_differences": "",  # what members may differ in: "rate,limits,frame"
            "stats": "",  # statistics of the "target" or of "all" members; "" as the mix says
            # Sets too large to pack are streamed (docs/data.md); resuming is then approximate.
            "stream": False,
            "stream_buffer_mb": 1024.0,  # memory in which windows are shuffled
            "stream_cycle": 8,  # shards read alternately
            "stream_reader": "tensorflow",  # or "python": without TensorFlow, from a disk
        }
    )


def images() -> ml_collections.ConfigDict:
    """arp_jax.models.image_augment.ImageAugment, for every camera; as it is, nothing changes.

    These go with the policy, into its checkpoints and artifacts; docs/decisions/0007.
    """
    return ml_collections.ConfigDict(
        {
            "masks": (),  # painted over: ((top, left, height, width), ...) in the camera's pixels
            "mask_value": 0,
            "crop": (),  # kept: (top, left, height, width)
            "random_crop": (),  # (height, width); the centre in evaluation
            "scale": (),  # share of the area of a random region, e.g. (0.8, 1.0)
            "ratio": (),  # its shape over the picture's, e.g. (0.9, 1.1)
            "eval_scale": 0.0,  # 0 = the middle of scale
            "size": (),  # (height, width) that the policy sees
            "brightness": 0.0,  # factors from 1 - x .. 1 + x
            "contrast": 0.0,
            "saturation": 0.0,
            "hue": 0.0,  # turns from -x .. x
            "per_frame": False,
            "cameras": {},  # camera -> those of the keys above that differ
        }
    )


def optim() -> ml_collections.ConfigDict:
    """arp_jax.training.optim.OptimConfig; ARP's published Push-T values."""
    return ml_collections.ConfigDict(
        {
            "learning_rate": 1e-4,
            "b1": 0.95,
            "b2": 0.999,
            "eps": 1e-8,
            "weight_decay": 1e-3,
            "weight_decay_groups": (),
            "schedule": "cosine",
            "warmup_steps": 500,
            "decay_steps": 0,  # 0 = train.steps
            "cycles": 1,
            "clip_norm": 0.0,  # 0 = no clipping
        }
    )


def train() -> ml_collections.ConfigDict:
    """arp_jax.training.run_config.TrainConfig."""
    return ml_collections.ConfigDict(
        {
            "steps": 10_000,
            "batch_size": 128,
            "accumulate": 1,
            "ema_power": 0.75,
            "ema_max": 0.9999,
            "ema_copies": 1,  # updates before the average is one; Diffusion Policy's is 2
            "log_every": 50,
            "save_every": 1_000,
            "eval_every": 500,
            "eval_batches": 4,
            "keep": 2,
            "keep_every": 0,
        }
    )


def evaluation() -> ml_collections.ConfigDict:
    """The reference's Push-T protocol, read by arp_jax.evaluate."""
    return ml_collections.ConfigDict(
        {
            "env": "push_t",
            "episodes": 256,
            "envs": 64,
            "seed": 100_000,
            "execute": 8,
            "max_steps": 0,  # the environment's own time limit
        }
    )
