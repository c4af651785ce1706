"""A policy and an environment that do not fit are refused, naming the field."""

import dataclasses

import numpy as np
import pytest

from arp_jax.evaluation.controllers import hold_controller, policy_controller
from arp_jax.evaluation.environments import check_environment, make_arena
from arp_jax.evaluation.protocol import RolloutConfig
from arp_jax.specs import ObservationSpec, PolicySpec, SpecMismatch


def test_a_fitting_policy_passes(env, policy):
    check_environment(policy.spec, env, "run a")


def test_mismatch_names_policy_environment_and_field(env, policy):
    feature = dataclasses.replace(policy.spec.observation.features[0], unit="cm")
    spec = dataclasses.replace(policy.spec, observation=ObservationSpec(features=(feature,)))
    with pytest.raises(SpecMismatch, match=r"run a and environment point_mass.*unit.*'cm'"):
        check_environment(spec, env, "run a")
    action = dataclasses.replace(policy.spec.action, absolute=(True, False))
    spec = dataclasses.replace(policy.spec, action=action)
    with pytest.raises(SpecMismatch, match="absolute"):
        check_environment(spec, env, "run a")


def test_absent_observation_is_named(env, policy):
    feature = dataclasses.replace(policy.spec.observation.features[0], name="depth")
    spec = dataclasses.replace(policy.spec, observation=ObservationSpec(features=(feature,)))
    with pytest.raises(ValueError, match=r"needs observation 'depth', offered: \['position'\]"):
        check_environment(spec, env, "run a")


def test_unknown_environments_are_named():
    with pytest.raises(ValueError, match="--env 'ant'"):
        make_arena("ant", ())
    with pytest.raises(ValueError, match="--env 'gym_ant/Ant-v0'"):
        make_arena("gym_ant/Ant-v0", ())


def test_gym_pusht_starts_as_its_twin_does_from_public_seeds():
    pytest.importorskip("gym_pusht")
    twin, host = (make_arena(name) for name in ("push_t", "gym_pusht/PushT-v0"))
    assert host.engine == "host"
    assert host.render is None
    config = RolloutConfig(episodes=3, envs=2, seed=100_000, max_steps=2, shard=(1, 2))
    controller = hold_controller(host.observation_spec, host.action_spec, 2)
    results = host.classified(host.make_rollout(controller, config, None, True)({}, iter))
    assert results.episode.tolist() == [1]
    starts = twin.public_initial_conditions(range(100_000, 100_003))
    np.testing.assert_allclose(results.initial, starts[1:2])
    expected = twin.classified(twin.make_rollout(controller, config, starts, False)({}, iter))
    np.testing.assert_allclose(results.score, expected.score, atol=1e-4)
    assert results.classes["block quadrant"] == expected.classes["block quadrant"]
    with pytest.raises(ValueError, match="it has no --engine"):
        make_arena("gym_pusht/PushT-v0", engine="mjx")
    with pytest.raises(ValueError, match="--workers steps gymnasium environments"):
        make_arena("push_t", workers=2)


def test_execute_must_fit_the_chunk(policy):
    spec: PolicySpec = policy.spec  # horizon 8, first executed 1
    with pytest.raises(ValueError, match=r"choose 1\.\.7"):
        policy_controller("p", lambda *_: None, spec, execute=8)
