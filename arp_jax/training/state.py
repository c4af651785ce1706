"""The train state and the one compiled step that changes it.

Flows in: a policy, an optimiser, batches. Flows out: `update(state, batch) -> (state, metrics)`, a
single jitted program with a donated state: augmentation, gradients (accumulated over micro-batches
when asked), optimiser and moving average. Not here: the loop, logging, files.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct

from arp_jax.policies.base import Batch, Metrics, Params, Policy
from arp_jax.specs import PolicySpec

Augment = Callable[[Batch, jax.Array], Batch]


@struct.dataclass
class TrainState:
    """Everything that a step changes, and the run's key that it never changes.

    Attributes:
        step: int32 [], number of updates done.
        params: parameters.
        opt_state: optimiser state.
        ema: moving average of the parameters; evaluation uses it.
        rng: uint32 [2], the run's key; step n uses fold_in(rng, n).
    """

    step: jax.Array
    params: Params
    opt_state: optax.OptState
    ema: Params
    rng: jax.Array


@dataclasses.dataclass(frozen=True)
class UpdateConfig:
    """How a step is done.

    Attributes:
        accumulate: number of micro-batches that a batch is split into; the gradients are their
            mean, so memory falls and the result stays that of the whole batch (for a loss that is
            a mean over examples, up to float order).
        ema_power, ema_max, ema_copies: of the moving average's decay, see `ema_decay`.
    """

    accumulate: int = 1
    ema_power: float = 0.75
    ema_max: float = 0.9999
    ema_copies: int = 1

    def __post_init__(self) -> None:
        if self.accumulate < 1:
            raise ValueError(f"accumulate must be >= 1, found {self.accumulate}")
        if self.ema_power < 0 or not 0 <= self.ema_max < 1:
            raise ValueError("ema_power must be >= 0 and ema_max in [0, 1)")
        if self.ema_copies < 1:
            raise ValueError(f"ema_copies must be >= 1, found {self.ema_copies}")


def example_batch(spec: PolicySpec, batch_size: int = 1) -> Batch:
    """A batch of zeros with the shapes and dtypes that `spec` promises (for init and tests)."""
    lead = (batch_size, spec.window)
    observation: dict[str, np.ndarray] = {
        f.name: np.zeros((*lead, f.size), np.float32) for f in spec.observation.features
    }
    for camera in spec.observation.cameras:
        observation[camera.name] = np.zeros((*lead, camera.height, camera.width, 3), np.uint8)
    return {
        "observation": observation,
        "action": np.zeros((batch_size, spec.horizon, spec.action.size), np.float32),
        "action_is_pad": np.zeros((batch_size, spec.horizon), bool),
    }


def init_state(policy: Policy, tx: optax.GradientTransformation, rng: jax.Array) -> TrainState:
    """A fresh state; jittable, so that parameters are born with their final sharding."""
    params_rng, run_rng = jax.random.split(rng)
    params = policy.init(params_rng, example_batch(policy.spec))
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        opt_state=tx.init(params),
        # A copy: the state is donated, and one buffer cannot be donated twice.
        ema=jax.tree.map(jnp.copy, params),
        rng=run_rng,
    )


def ema_decay(step: jax.typing.ArrayLike, config: UpdateConfig) -> jax.Array:
    """Decay of the moving average at an update: min(1 - (1 + n)^-power, max).

    The first `ema_copies` updates have n = 0 and therefore decay 0: the average is a copy and
    forgets the initialisation; n counts from there. ARP copies once, Diffusion Policy twice.
    """
    n = jnp.maximum(jnp.asarray(step, jnp.float32) - (config.ema_copies - 1), 0.0)
    return jnp.minimum(1.0 - (1.0 + n) ** -config.ema_power, config.ema_max)


def make_update_fn(
    policy: Policy,
    tx: optax.GradientTransformation,
    config: UpdateConfig,
    schedule: optax.Schedule | None = None,
    augment: Augment | None = None,
    state_sharding: Any = None,
) -> jax.stages.Wrapped:
    """The jitted training step.

    Args:
        policy: its `loss` is minimised.
        tx: optimiser.
        config: accumulation and moving average.
        schedule: learning rate, only to report it.
        augment: fn(batch, rng) -> batch, run on the device before the batch is split.
        state_sharding: tree of shardings for the state (`sharding.state_sharding`), or None.

    Returns:
        fn(state, batch) -> (state, metrics); the state passed in is donated. Metrics are scalars:
        "loss", "grad_norm" (before clipping), "ema_decay", "learning_rate" and the policy's own.
    """

    def update(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        augment_rng, loss_rng = jax.random.split(jax.random.fold_in(state.rng, state.step))
        if augment is not None:
            batch = augment(batch, augment_rng)
        grads, metrics = _gradients(policy, state, batch, loss_rng, config.accumulate)
        updates, opt_state = tx.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        decay = ema_decay(state.step, config)
        ema = jax.tree.map(lambda e, p: p + (e - p) * decay.astype(p.dtype), state.ema, params)
        metrics |= {"grad_norm": optax.global_norm(grads), "ema_decay": decay}
        if schedule is not None:
            metrics["learning_rate"] = schedule(state.step)
        return TrainState(state.step + 1, params, opt_state, ema, state.rng), metrics

    if state_sharding is None:
        return jax.jit(update, donate_argnums=0)
    return jax.jit(update, donate_argnums=0, out_shardings=(state_sharding, None))


def make_loss_fn(policy: Policy) -> Callable[[Params, Batch, jax.Array], Metrics]:
    """The jitted validation loss: fn(params, batch, rng) -> scalar metrics with "loss"."""

    def evaluate(params: Params, batch: Batch, rng: jax.Array) -> Metrics:
        loss, metrics = policy.loss(params, batch, rng, train=False)
        return {**metrics, "loss": loss}

    return jax.jit(evaluate)


def _gradients(
    policy: Policy, state: TrainState, batch: Batch, rng: jax.Array, accumulate: int
) -> tuple[Params, Metrics]:
    """Mean gradients and metrics over `accumulate` micro-batches."""
    params = state.params
    from_average = getattr(policy, "learns_from_average", False)
    options: dict[str, Any] = {"average": state.ema} if from_average else {}

    def loss_fn(params: Params, batch: Batch, rng: jax.Array) -> tuple[jax.Array, Metrics]:
        loss, metrics = policy.loss(params, batch, rng, train=True, **options)
        return loss, {**metrics, "loss": loss}

    grad_fn = jax.grad(loss_fn, has_aux=True)
    if accumulate == 1:
        return grad_fn(params, batch, rng)

    def add(total: Any, item: tuple[jax.Array, Batch]) -> tuple[Any, None]:
        index, micro = item
        found = grad_fn(params, micro, jax.random.fold_in(rng, index))
        return jax.tree.map(lambda t, f: t + f / accumulate, total, found), None

    micro_batches = jax.tree.map(lambda x: _split(x, accumulate), batch)
    shapes = jax.eval_shape(grad_fn, params, jax.tree.map(lambda x: x[0], micro_batches), rng)
    zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
    total, _ = jax.lax.scan(add, zeros, (jnp.arange(accumulate), micro_batches))
    return total


def _split(x: jax.Array, parts: int) -> jax.Array:
    """[B, ...] -> [parts, B / parts, ...]; part i takes rows i, i + parts, ...

    Interleaved rather than contiguous: each device keeps the rows that it already holds.
    """
    if x.shape[0] % parts:
        raise ValueError(
            f"config.train.accumulate = {parts} does not divide the batch size {x.shape[0]}"
        )
    return jnp.swapaxes(x.reshape(x.shape[0] // parts, parts, *x.shape[1:]), 0, 1)
