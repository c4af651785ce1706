"""Config of the tests: the tiny policy on synthetic episodes, a checkpoint every two steps."""

import ml_collections

from configs import common


def get_config() -> ml_collections.ConfigDict:
    config = common.base()
    config.observations = ("agent_pos", "block_pose")
    config.horizon = 4
    config.policy = ml_collections.ConfigDict(
        {"name": "tiny", "width": 32, "dropout": 0.1, "fail_at": 1e9}
    )
    config.data.normalization = {
        "agent_pos": "limits",
        "block_pose": "min_max",
        "action": "limits",
    }
    config.data.validation_fraction = 0.2
    config.data.pad_after = -1
    config.optim.learning_rate = 1e-2
    config.optim.warmup_steps = 2
    config.optim.decay_steps = 8
    config.optim.clip_norm = 1.0
    config.train.steps = 4
    config.train.batch_size = 8
    config.train.log_every = 1
    config.train.eval_every = 2
    config.train.save_every = 2
    config.train.keep = 10
    return config
