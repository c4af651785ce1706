"""Open-loop check: what the policy would have done beside what the demonstrator did.

Flows in: a policy and batches of the training pipeline (normalised). Flows out: errors per horizon
step and action dimension in physical units. A policy that ignores its input, or statistics of the
wrong dataset, show here before any robot moves. Not a measure of success: `rollout.py` is.
"""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from arp_jax.normalize import Affine, unnormalize
from arp_jax.policies.base import Batch, Params, Policy
from arp_jax.specs import ActionSpec


@dataclasses.dataclass(frozen=True)
class OpenLoopErrors:
    """Predicted minus recorded actions, in the units of the `ActionSpec`; padding excluded.

    Attributes:
        mean_absolute, root_mean_square, bias: float64 [H, A].
        recorded_spread: float64 [A], standard deviation of the recorded actions: the root mean
            square error of a policy that always predicts the mean.
        count: int64 [H], actions compared at each horizon step.
        action: the spec that names dimensions and unit.
    """

    mean_absolute: np.ndarray
    root_mean_square: np.ndarray
    bias: np.ndarray
    recorded_spread: np.ndarray
    count: np.ndarray
    action: ActionSpec

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        fields = dataclasses.asdict(self) | {"action": self.action.to_json()}
        return {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in fields.items()}

    def describe(self) -> str:
        """A table: one line a horizon step, mean absolute error per dimension."""
        unit = self.action.unit
        head = "step  " + "  ".join(f"{d + ' ' + unit:>12}" for d in self.action.dims) + "       n"
        lines = [
            f"{h:>4}  " + "  ".join(f"{e:12.4g}" for e in row) + f"  {self.count[h]:6d}"
            for h, row in enumerate(self.mean_absolute)
        ]
        spread = "  sd  " + "  ".join(f"{e:12.4g}" for e in self.recorded_spread)
        return "\n".join([head, *lines, spread])


def open_loop_errors(
    policy: Policy,
    params: Params,
    normalizer: Mapping[str, Affine],
    batches: Iterable[Batch],
    seed: int = 0,
) -> OpenLoopErrors:
    """Compares the policy's chunks with the recorded ones.

    Args:
        policy: its `act` maps normalised observations to normalised chunks.
        params: its parameters.
        normalizer: the maps with which the batches were normalised.
        batches: from `arp_jax.data.loader`; keys observation, action, action_is_pad.
        seed: of the sampling noise.

    Raises:
        ValueError: no batches.
    """
    act = jax.jit(policy.act)
    affine = normalizer["action"]
    shape = (policy.spec.horizon, policy.spec.action.size)
    absolute, squared, signed = np.zeros(shape), np.zeros(shape), np.zeros(shape)
    recorded_sum, recorded_squared = np.zeros(shape[1]), np.zeros(shape[1])
    count = np.zeros(shape[0], np.int64)
    for index, batch in enumerate(batches):
        rng = jax.random.fold_in(jax.random.key(seed), index)
        observation = jax.tree.map(jnp.asarray, batch["observation"])
        predicted = np.asarray(act(params, observation, rng), np.float64)  # [B, H, A]
        predicted = np.asarray(unnormalize(predicted, affine))
        recorded = np.asarray(unnormalize(np.asarray(batch["action"], np.float64), affine))
        real = ~np.asarray(batch["action_is_pad"])  # [B, H]
        error = np.where(real[..., None], predicted - recorded, 0.0)
        absolute += np.abs(error).sum(0)
        squared += (error**2).sum(0)
        signed += error.sum(0)
        count += real.sum(0)
        recorded_sum += recorded[real].sum(0)
        recorded_squared += (recorded[real] ** 2).sum(0)
    if not count.any():
        raise ValueError("open-loop check: the loader gave no batch")
    per_step = np.maximum(count, 1)[:, None]  # [H, 1]
    mean = recorded_sum / count.sum()
    return OpenLoopErrors(
        mean_absolute=absolute / per_step,
        root_mean_square=np.sqrt(squared / per_step),
        bias=signed / per_step,
        recorded_spread=np.sqrt(np.maximum(recorded_squared / count.sum() - mean**2, 0)),
        count=count,
        action=policy.spec.action,
    )
