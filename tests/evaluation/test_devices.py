"""Outcomes do not depend on the number of devices: one process with four virtual CPUs."""

import json
import os
import subprocess
import sys
from pathlib import Path

SCRIPT = """
import json, jax, numpy as np
from conftest import OBSERVATION, ACTION, NoisyLinear, PointMass
from arp_jax.evaluation.controllers import policy_controller
from arp_jax.evaluation.rollout import Rollout, RolloutConfig
from arp_jax.normalize import affine_from_limits
from arp_jax.policies.base import make_physical_act
from arp_jax.specs import PolicySpec

policy = NoisyLinear(PolicySpec(OBSERVATION, ACTION, window=2, horizon=8, action_offset=-1))
limits = affine_from_limits((-1.0, -1.0), (1.0, 1.0))
act = make_physical_act(policy, {"position": limits, "action": limits})
controller = policy_controller("noisy", act, policy.spec, execute=4)
params = policy.init(jax.random.key(3), {})
found = []
for devices in (jax.devices()[:1], jax.devices()):
    config = RolloutConfig(episodes=10, envs=10, max_steps=40)
    r = Rollout(PointMass(), controller, config, devices=devices)(params)
    found.append([len(devices), r.length.tolist(), r.score.tolist()])
print(json.dumps(found))
"""


def test_one_and_four_devices_agree():
    here = Path(__file__).parent
    environment = os.environ | {
        "XLA_FLAGS": "--xla_force_host_platform_device_count=4",
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": os.pathsep.join([str(here), str(here.parents[1])]),
    }
    output = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env=environment,
        check=True,
        capture_output=True,
        text=True,
        timeout=180,
    ).stdout
    (one, length, score), (four, length_of_four, score_of_four) = json.loads(output)
    assert (one, four) == (1, 4)
    assert length == length_of_four
    apart = max(abs(a - b) for a, b in zip(score, score_of_four, strict=True))
    print(f"1 against 4 devices: best closeness at most {apart:.2e} apart")
    assert apart < 1e-5
