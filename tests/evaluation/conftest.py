"""A tiny environment and policy of the real protocols, so that evaluation is tested on its own."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest

from arp_jax.evaluation.controllers import Controller, policy_controller
from arp_jax.normalize import affine_from_limits
from arp_jax.policies.base import make_physical_act
from arp_jax.sim.env import State
from arp_jax.specs import ActionSpec, FeatureSpec, ObservationSpec, PolicySpec

OBSERVATION = ObservationSpec(
    features=(FeatureSpec("position", ("x", "y"), "m", "world", (-1.0, -1.0), (1.0, 1.0)),)
)
ACTION = ActionSpec(("x", "y"), "m", "world", (True, True), (-1.0, -1.0), (1.0, 1.0), 10.0)


@dataclasses.dataclass(frozen=True)
class PointMass:
    """A point that moves a tenth of the way to its target; solved within 0.1 of the origin.

    The metric "steps" counts physics steps, so that a step after the end would show.
    """

    name: str = "point_mass"
    observation_spec: ObservationSpec = OBSERVATION
    action_spec: ActionSpec = ACTION
    max_episode_steps: int = 40
    success_metric: str = "closeness"

    def initial_condition(self, rng):
        return jax.random.uniform(rng, (2,), minval=-1.0, maxval=1.0)

    def reset_to(self, initial):
        return self._state(jnp.asarray(initial, jnp.float32), jnp.float32(0))

    def reset(self, rng):
        return self.reset_to(self.initial_condition(rng))

    def step(self, state, action):
        position, steps = state.physics
        return self._state(position + 0.1 * (action - position), steps + 1)

    def _state(self, position, steps):
        closeness = 1 - jnp.sqrt(jnp.sum(position**2))
        return State(
            physics=(position, steps),
            observation={"position": position},
            reward=jnp.clip(closeness / 0.9, 0, 1),
            done=closeness > 0.9,
            metrics={"closeness": closeness, "steps": steps},
        )


@dataclasses.dataclass(frozen=True)
class NoisyLinear:
    """A policy that goes to a noisy point near the origin; sees W observations, predicts H."""

    spec: PolicySpec

    def init(self, rng, batch):
        shape = (2 * self.spec.window, 2 * self.spec.horizon)
        return {"dense": {"kernel": 0.02 * jax.random.normal(rng, shape)}}

    def loss(self, params, batch, rng, *, train):
        actions = self.act(params, batch["observation"], rng)
        return jnp.mean((actions - batch["action"]) ** 2), {}

    def act(self, params, observation, rng):
        x = observation["position"].reshape(observation["position"].shape[0], -1)
        mean = (x @ params["dense"]["kernel"]).reshape(-1, self.spec.horizon, 2)
        return mean + 0.8 * jax.random.normal(rng, mean.shape)


@pytest.fixture(scope="session")
def env() -> PointMass:
    return PointMass()


@pytest.fixture(scope="session")
def policy() -> NoisyLinear:
    return NoisyLinear(PolicySpec(OBSERVATION, ACTION, window=2, horizon=8, action_offset=-1))


@pytest.fixture(scope="session")
def normalizer():
    limits = affine_from_limits((-1.0, -1.0), (1.0, 1.0))
    return {"position": limits, "action": limits}


@pytest.fixture(scope="session")
def params(policy):
    return policy.init(jax.random.key(3), {})


@pytest.fixture(scope="session")
def controller(policy, normalizer) -> Controller:
    act = make_physical_act(policy, normalizer)
    return policy_controller("noisy_linear", act, policy.spec, execute=4)
