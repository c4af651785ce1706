"""The optimiser: AdamW with a learning-rate schedule, clipping and weight decay by parameter group.

Flows in: the `optim` section as an `OptimConfig`. Flows out: an optax transformation and, apart,
its schedule (so that the learning rate can be reported). Not here: gradients and the moving average
of the parameters, which belong to `state.py`.
"""

import dataclasses
import re
from typing import Any

import jax
import jax.numpy as jnp
import optax

SCHEDULES = ("constant", "cosine", "cosine_restarts")


@dataclasses.dataclass(frozen=True)
class OptimConfig:
    """The `optim` section; the defaults are ARP's on Push-T (reference configuration).

    Attributes:
        learning_rate: peak rate.
        b1, b2, eps: AdamW moments and denominator floor.
        weight_decay: decoupled decay of every parameter that no group names.
        weight_decay_groups: (regular expression, decay) pairs; the first one found in a parameter's
            path ("encoder/conv/kernel") decides.
        schedule: "constant", "cosine" (to 0 at `decay_steps`) or "cosine_restarts" (`cycles`
            cosines with hard restarts over `decay_steps`).
        warmup_steps: linear warm-up from 0; part of `decay_steps`.
        decay_steps: length of the schedule; 0 means train.steps.
        cycles: number of cosines, for "cosine_restarts".
        clip_norm: largest global gradient norm; 0 means no clipping.
    """

    learning_rate: float = 1e-4
    b1: float = 0.95
    b2: float = 0.999
    eps: float = 1e-8
    weight_decay: float = 1e-3
    weight_decay_groups: tuple[tuple[str, float], ...] = ()
    schedule: str = "cosine_restarts"
    warmup_steps: int = 500
    decay_steps: int = 0
    cycles: int = 1
    clip_norm: float = 0.0

    def __post_init__(self) -> None:
        if self.schedule not in SCHEDULES:
            raise ValueError(f"schedule {self.schedule!r} is unknown; choose one of {SCHEDULES}")
        if self.learning_rate <= 0 or self.clip_norm < 0 or self.weight_decay < 0:
            raise ValueError("learning_rate must be > 0, clip_norm and weight_decay >= 0")
        if self.warmup_steps < 0 or self.decay_steps < 0 or self.cycles < 1:
            raise ValueError("warmup_steps and decay_steps must be >= 0, cycles >= 1")
        for pattern, _ in self.weight_decay_groups:
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(
                    f"weight_decay_groups: {pattern!r} is not a regex: {error}"
                ) from error


def make_schedule(config: OptimConfig, total_steps: int) -> optax.Schedule:
    """Learning rate as a function of the number of updates done, float32 [].

    With warm-up w, length n and c cycles: rate * t / w for t < w, then, with
    u = (t - w) / (n - w), rate * (1 + cos(pi * (c * u mod 1))) / 2, and 0 from n on.
    """
    length = config.decay_steps or total_steps
    warmup = config.warmup_steps
    cycles = config.cycles if config.schedule == "cosine_restarts" else 1

    def schedule(step: jax.typing.ArrayLike) -> jax.Array:
        t = jnp.asarray(step, jnp.float32)
        warm = jnp.minimum(t / warmup, 1.0) if warmup else jnp.ones_like(t)
        if config.schedule == "constant":
            return config.learning_rate * warm
        done = (t - warmup) / max(length - warmup, 1)
        phase = jnp.mod(cycles * done, 1.0)
        cosine = jnp.where(done < 1.0, 0.5 * (1.0 + jnp.cos(jnp.pi * phase)), 0.0)
        return config.learning_rate * jnp.where(t < warmup, warm, cosine)

    return schedule


def make_optimizer(config: OptimConfig, total_steps: int) -> optax.GradientTransformation:
    """Clip by global norm -> Adam moments -> decoupled weight decay -> learning rate."""
    return optax.chain(
        optax.clip_by_global_norm(config.clip_norm) if config.clip_norm else optax.identity(),
        optax.scale_by_adam(config.b1, config.b2, config.eps),
        _grouped_weight_decay(config),
        optax.scale_by_learning_rate(make_schedule(config, total_steps)),
    )


def path_name(path: tuple[Any, ...]) -> str:
    """A key path as text: "encoder/conv/kernel"."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def decay_of(name: str, config: OptimConfig) -> float:
    """Weight decay of the parameter whose path is `name`."""
    for pattern, decay in config.weight_decay_groups:
        if re.search(pattern, name):
            return decay
    return config.weight_decay


def _grouped_weight_decay(config: OptimConfig) -> optax.GradientTransformation:
    """Adds decay * parameter to each update; a regex that matches nothing is refused."""

    def init(params: optax.Params) -> optax.EmptyState:
        names = [path_name(path) for path, _ in jax.tree_util.tree_leaves_with_path(params)]
        for pattern, _ in config.weight_decay_groups:
            if not any(re.search(pattern, name) for name in names):
                raise ValueError(
                    f"config.optim.weight_decay_groups: {pattern!r} matches no parameter; "
                    f"the first ones are {', '.join(names[:3])}"
                )
        return optax.EmptyState()

    def update(
        updates: optax.Updates, state: optax.OptState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, optax.OptState]:
        def add(path: tuple[Any, ...], update: jax.Array, param: jax.Array) -> jax.Array:
            return update + decay_of(path_name(path), config) * param

        return jax.tree_util.tree_map_with_path(add, updates, params), state

    return optax.GradientTransformation(init, update)
