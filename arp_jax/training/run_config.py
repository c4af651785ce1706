"""The resolved config of a run: its sections, checked and frozen.

Flows in: the ml_collections config of the command line. Flows out: `RunConfig`, with plain values
for the files and dataclasses for the components. Every unknown key fails here, before any work.
"""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from arp_jax.policies.preprocessed import ImagesConfig
from arp_jax.training.data_config import DataConfig
from arp_jax.training.metrics import MetricsConfig
from arp_jax.training.optim import OptimConfig
from arp_jax.training.sections import check_keys, read_section
from arp_jax.training.state import UpdateConfig


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """The `train` section.

    Attributes:
        steps: updates in all.
        batch_size: examples per update, over all devices and processes.
        accumulate, ema_power, ema_max, ema_copies: see `state.UpdateConfig`.
        log_every, save_every, eval_every: in steps; 0 for eval_every means never.
        eval_batches: held-out batches per validation, at most.
        keep: newest checkpoints kept; keep_every: multiples of it are kept for good (0: none).
    """

    steps: int
    batch_size: int
    accumulate: int = 1
    ema_power: float = 0.75
    ema_max: float = 0.9999
    ema_copies: int = 1
    log_every: int = 50
    save_every: int = 1000
    eval_every: int = 500
    eval_batches: int = 4
    keep: int = 2
    keep_every: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "log_every", "save_every", "eval_batches"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be >= 1, found {getattr(self, name)}")
        if self.batch_size % self.accumulate:
            raise ValueError(f"accumulate {self.accumulate} must divide batch_size")

    @property
    def update(self) -> UpdateConfig:
        """The part that the compiled step needs."""
        return UpdateConfig(self.accumulate, self.ema_power, self.ema_max, self.ema_copies)


# What may be written when training is done; "" is nothing.
REPORTS = ("", "digits")


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """All sections; `plain` is the whole config as JSON values."""

    plain: dict[str, Any]
    seed: int
    data: DataConfig
    policy: dict[str, Any]
    images: dict[str, Any]
    optim: OptimConfig
    train: TrainConfig
    mesh: dict[str, int]
    metrics: MetricsConfig
    report: str

    SECTIONS = (
        *("seed", "data", "policy", "images", "window", "horizon", "action_offset", "observations"),
        *("optim", "train", "mesh", "metrics", "eval", "report"),
    )

    @classmethod
    def resolve(cls, config: Mapping[str, Any]) -> "RunConfig":
        """Checks and freezes a config of plain values; raises ValueError naming a bad key."""
        check_keys(config, cls.SECTIONS, "config")
        for name in cls.SECTIONS:
            if name not in config:
                raise ValueError(f"config.{name} is missing; start from configs.common.base()")
        if "name" not in config["policy"]:
            raise ValueError("config.policy.name is missing; e.g. 'arp'")
        check_keys(config["mesh"], ("data", "fsdp"), "config.mesh")
        if not 0 <= config["seed"] < 2**31:
            raise ValueError(f"config.seed must be in 0 .. 2^31-1, found {config['seed']}")
        ImagesConfig.from_section(config["images"])  # raises for what makes no sense
        _check_report(config)
        return cls(
            # Through JSON, so that a resumed run compares like with like (tuples are lists).
            plain=json.loads(json.dumps(config)),
            seed=config["seed"],
            data=read_section(DataConfig, config["data"], "config.data"),
            policy=dict(config["policy"]),
            images=dict(config["images"]),
            optim=read_section(OptimConfig, config["optim"], "config.optim"),
            train=read_section(TrainConfig, config["train"], "config.train"),
            mesh=dict(config["mesh"]),
            metrics=read_section(MetricsConfig, config["metrics"], "config.metrics"),
            report=config["report"],
        )


def _check_report(config: Mapping[str, Any]) -> None:
    """A report that cannot be written fails before training, not after it."""
    if config["report"] not in REPORTS:
        raise ValueError(f"config.report {config['report']!r}: choose one of {REPORTS}")
    if config["report"] == "digits" and config["policy"]["name"] != "arp_digits":
        raise ValueError(
            f"config.report 'digits' is about the policy arp_digits, found "
            f"{config['policy']['name']!r}; set config.report to ''"
        )
    if config["report"] == "digits" and not config["data"]["validation_fraction"] > 0:
        raise ValueError("config.report 'digits' needs config.data.validation_fraction above 0")
    if config["report"] == "digits" and config["data"].get("stream"):
        raise ValueError("config.report 'digits' reads a pack; set config.data.stream to False")
