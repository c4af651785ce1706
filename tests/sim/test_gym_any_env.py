"""Any gymnasium environment behind our host interface: names, shapes, endings, clear refusals."""

import numpy as np
import pytest

from arp_jax.evaluation.controllers import random_controller
from arp_jax.evaluation.host_rollout import host_rollout
from arp_jax.evaluation.rollout import RolloutConfig
from arp_jax.sim.gym_adapter import is_gym_id, make_host_environment

gymnasium = pytest.importorskip("gymnasium", reason="gymnasium is not installed")
LIMIT = 12


class Corridor(gymnasium.Env):
    """Walks along a corridor; the right end is success, the left end is the end."""

    def __init__(self, action=None, observation=None):
        from gymnasium import spaces

        self.metadata = {"render_fps": 20}
        self.action_space = action or spaces.Box(-1, 1, (1, 2), np.float64)
        box = spaces.Box(-5, 5, (2, 3), np.float64)
        picture = spaces.Box(0, 255, (8, 10, 3), np.uint8)
        self.observation_space = observation or spaces.Dict(
            {"place": box, "pixels": spaces.Dict({"top": picture})}
        )

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.x = float(self.np_random.uniform(-1, 1))
        return self._observe(), {}

    def step(self, action):
        assert action.shape == (1, 2)
        assert action.dtype == np.float64
        self.x += float(action[0, 0])
        info = {"is_success": self.x > 2}
        return self._observe(), self.x, abs(self.x) > 2, False, info

    def _observe(self):
        if not hasattr(self.observation_space, "spaces"):
            return np.full(self.observation_space.shape, self.x)
        top = np.full((8, 10, 3), 7, np.uint8)
        return {"place": np.full((2, 3), self.x), "pixels": {"top": top}}


@pytest.fixture(autouse=True, scope="module")
def corridor():
    """Registered as Corridor-v0."""
    gymnasium.register("Corridor-v0", Corridor, max_episode_steps=LIMIT)
    yield
    del gymnasium.registry["Corridor-v0"]


def test_names_shapes_and_limits_come_from_the_spaces():
    env = make_host_environment("Corridor-v0")
    assert env.observation_spec.names == ("place", "pixels/top")
    feature = env.observation_spec.feature("place")
    assert (feature.size, feature.low, feature.unit) == (6, (-5.0,) * 6, "unknown")
    assert env.action_spec.size == 2
    assert env.action_spec.rate_hz == 20
    assert env.max_episode_steps == LIMIT
    observation = env.reset(3)
    assert observation["place"].shape == (6,)
    assert observation["place"].dtype == np.float32
    assert observation["pixels/top"].shape == (8, 10, 3)
    np.testing.assert_array_equal(env.reset(3)["place"], observation["place"])
    only = make_host_environment("Corridor-v0", ["place"])
    assert set(only.reset(3)) == {"place"}


def test_endings_are_told_apart():
    env = make_host_environment("Corridor-v0")
    for direction in (1.0, -1.0):
        env.reset(0)
        done = False
        while not done:
            _, reward, done, metrics = env.step(np.array([direction, 0.0]))
        assert metrics["success"] == (direction > 0)
        assert abs(reward) > 2
    env.reset(0)
    for step in range(1, LIMIT + 1):
        _, _, done, metrics = env.step(np.zeros(2))
        assert done == (step == LIMIT)
    assert metrics["success"] == 0


def test_it_is_evaluated():
    env = make_host_environment("Corridor-v0", ["place"])
    controller = random_controller(env.action_spec, 2)
    config = RolloutConfig(episodes=20, envs=5, seed=0, max_steps=env.max_episode_steps)
    results = host_rollout(
        lambda: make_host_environment("Corridor-v0", ["place"]), controller, {}, config, 0
    )
    assert 0 < results.success.sum() < 20
    np.testing.assert_array_equal(results.success, results.best["success"] > 0)
    lost = ~results.success & (results.length < LIMIT)
    assert lost.any()  # ended at the wrong end: over, not solved
    assert (results.final["return"][lost] < 0).any()


def test_a_single_box_is_called_observation():
    from gymnasium import spaces

    gymnasium.register(
        "Corridor-v1", lambda: Corridor(observation=spaces.Box(-np.inf, np.inf, (2,), np.float64))
    )
    try:
        env = make_host_environment("Corridor-v1")
        assert env.observation_spec.names == ("observation",)
        assert env.observation_spec.features[0].low is None
        assert env.reset(0)["observation"].shape == (2,)
    finally:
        del gymnasium.registry["Corridor-v1"]


def test_what_cannot_be_evaluated_is_named():
    from gymnasium import spaces

    cases = {
        "its observation is Discrete": {"observation": spaces.Discrete(3)},
        "its action is Discrete": {"action": spaces.Discrete(3)},
        "no finite limits": {"action": spaces.Box(-np.inf, np.inf, (1,))},
    }
    for message, arguments in cases.items():
        gymnasium.register("Corridor-v2", lambda arguments=arguments: Corridor(**arguments))
        try:
            with pytest.raises(ValueError, match=f"Corridor-v2.*{message}"):
                make_host_environment("Corridor-v2")
        finally:
            del gymnasium.registry["Corridor-v2"]
    with pytest.raises(ValueError, match="--env 'Ant-v99': gymnasium cannot make it"):
        make_host_environment("Ant-v99")
    with pytest.raises(ValueError, match="no observation 'pixel'"):
        make_host_environment("Corridor-v0", ["pixel"])
    with pytest.raises(ImportError, match="no_such_package"):
        make_host_environment("no_such_package:Ant-v1")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("gym_pusht/PushT-v0", True),
        ("Pendulum-v1", True),
        ("some.module:space/Name-v12", True),
        ("push_t", False),
        ("transfer_cube", False),
    ],
)
def test_gymnasium_ids_are_recognised(name, expected):
    assert is_gym_id(name) == expected
