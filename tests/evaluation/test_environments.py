"""A policy and an environment that do not fit are refused, naming the field."""

import dataclasses

import pytest

from arp_jax.evaluation.controllers import policy_controller
from arp_jax.evaluation.environments import check_environment, make_arena, make_host_environment
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
        make_host_environment("gym_ant/Ant-v0", ())


def test_execute_must_fit_the_chunk(policy):
    spec: PolicySpec = policy.spec  # horizon 8, first executed 1
    with pytest.raises(ValueError, match=r"choose 1\.\.7"):
        policy_controller("p", lambda *_: None, spec, execute=8)
