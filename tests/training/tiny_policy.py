"""A small real policy for the tests of training: behaviour cloning with a two-layer network."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from arp_jax.policies.base import Policy
from arp_jax.policies.preprocessed import preprocessed
from arp_jax.specs import ActionSpec, FeatureSpec, ObservationSpec, PolicySpec
from arp_jax.training.sections import read_section


@dataclasses.dataclass(frozen=True)
class TinyConfig:
    """`width` hidden units, `dropout` rate (so that the step's randomness matters)."""

    width: int = 32
    dropout: float = 0.1
    fail_at: float = 1e9


class TinyPolicy:
    """Mean squared error on the chunk; features of the window are concatenated."""

    def __init__(self, config: TinyConfig, spec: PolicySpec) -> None:
        self.config, self.spec = config, spec

    def init(self, rng: jax.Array, batch: dict[str, Any]) -> dict[str, Any]:
        size = self._flat(batch["observation"]).shape[-1]
        out = self.spec.horizon * self.spec.action.size
        first, second = jax.random.split(rng)
        width = self.config.width
        return {
            "hidden": {
                "kernel": jax.random.normal(first, (size, width)) / size**0.5,
                "bias": jnp.zeros((width,)),
            },
            "out": {
                "kernel": jax.random.normal(second, (width, out)) / width**0.5,
                "bias": jnp.zeros((out,)),
            },
        }

    def loss(
        self, params: dict[str, Any], batch: dict[str, Any], rng: jax.Array, *, train: bool
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        predicted = self._apply(params, batch["observation"], rng if train else None)
        error = jnp.abs(predicted - batch["action"])
        loss = jnp.mean(error**2)
        # A non-finite loss on demand, from the data alone: an action beyond `fail_at`.
        loss = jnp.where(jnp.max(batch["action"]) > self.config.fail_at, jnp.nan, loss)
        return loss, {"error": jnp.mean(error)}

    def act(self, params: dict[str, Any], observation: Any, rng: jax.Array) -> jax.Array:
        return self._apply(params, observation, None)

    def _flat(self, observation: Mapping[str, jax.Array]) -> jax.Array:
        parts = [observation[name] for name in sorted(observation)]
        return jnp.concatenate([p.reshape(p.shape[0], -1) for p in parts], axis=-1)

    def _apply(self, params: Any, observation: Any, rng: jax.Array | None) -> jax.Array:
        x = self._flat(observation)
        x = jnp.tanh(x @ params["hidden"]["kernel"] + params["hidden"]["bias"])
        if rng is not None and self.config.dropout:
            keep = 1 - self.config.dropout
            x = x * jax.random.bernoulli(rng, keep, x.shape) / keep
        x = x @ params["out"]["kernel"] + params["out"]["bias"]
        return x.reshape(x.shape[0], self.spec.horizon, self.spec.action.size)


def build_tiny(
    name: str, section: Mapping[str, Any], spec: PolicySpec, images: Mapping[str, Any] | None = None
) -> Policy:
    """Takes the place of `build_policy` in the tests."""
    options = {key: value for key, value in section.items() if key != "name"}
    config = read_section(TinyConfig, options, "config.policy")
    return preprocessed(lambda seen: TinyPolicy(config, seen), spec, images or {})


def tiny_spec(window: int = 2, horizon: int = 4) -> PolicySpec:
    """Two features of Push-T's kind."""
    observation = ObservationSpec(
        features=(
            FeatureSpec("agent_pos", ("x", "y"), "px", "world", (0.0, 0.0), (512.0, 512.0)),
            FeatureSpec("block_pose", ("x", "y", "angle"), "px, px, rad", "world"),
        )
    )
    action = ActionSpec(
        ("x", "y"), "px", "world", (True, True), (0.0, 0.0), (512.0, 512.0), rate_hz=10.0
    )
    return PolicySpec(observation, action, window, horizon, action_offset=1 - window)
