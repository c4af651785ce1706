"""Diffusion Policy through the real commands, tiny: resumed, exported; four episodes learned."""

from typing import Any

import pytest

from arp_jax.data.synthetic import write_synthetic
from arp_jax.sim.push_t.env import ACTION_SPEC, OBSERVATION_SPEC
from tests.policies.smoke_run import (
    check_export,
    check_resume,
    normalised_error,
    small_config,
    trained,
)
from tests.policies.test_act_runs import compiled_programs_are_kept, four_episodes

__all__ = ["compiled_programs_are_kept", "four_episodes"]  # fixtures of the tests here
pytestmark = pytest.mark.slow

TRAIN = {"batch_size": 8, "save_every": 2, "eval_every": 2, "log_every": 1, "keep": 10}
OPTIM = {"warmup_steps": 1, "decay_steps": 8}
UNET: dict[str, Any] = {"widths": (16, 32), "step_size": 16, "groups": 4, "diffusion_steps": 10}
# Config -> (its observations, changes of its policy).
CASES: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {
    "diffusion_push_t_state": (("agent_pos", "keypoints"), UNET | {"inference_steps": 5}),
    "diffusion_push_t_transformer": (
        ("agent_pos", "keypoints"),
        {"width": 16, "layers": 2, "heads": 2, "diffusion_steps": 10},
    ),
    "diffusion_push_t_image": (
        ("agent_pos", "image"),
        UNET | {"trunk_width": 16, "keypoints": 4, "image_features": 8},
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_four_steps_are_two_plus_two_and_the_export_acts_alike(name, tmp_path):
    features, policy = CASES[name]
    source = write_synthetic(tmp_path, OBSERVATION_SPEC.select(features), ACTION_SPEC)
    data = {"source": str(source), "augment": "", "validation_fraction": 0.2}
    config = small_config(name, policy=policy, data=data, train=TRAIN, optim=OPTIM)
    check_export(check_resume(config, tmp_path))


def test_four_episodes_of_push_t_are_learned(four_episodes, tmp_path):
    """Mean error of the open-loop chunks under 1e-2, of a range of 2 (2.6 px of 512).

    Every fourth step starts an example. The network says the clean chunk: what it says of the noise
    is multiplied at the first, noisiest levels, and a net this small stays at 5e-2 then.
    """
    policy: dict[str, Any] = {"prediction": "sample", "widths": (64, 128), "step_size": 32}
    policy |= {"diffusion_steps": 50, "inference_steps": 10}
    steps = 2_400
    data = {"source": str(four_episodes), "augment": "", "validation_fraction": 0.0, "stride": 4}
    optim = {"learning_rate": 2e-3, "warmup_steps": 50, "weight_decay": 0.0}
    train = {"steps": steps, "batch_size": 32, "save_every": steps, "eval_every": 0}
    name = "diffusion_push_t_state"
    config = small_config(name, policy=policy, data=data, optim=optim, train=train)
    assert normalised_error(trained(config, tmp_path / "run"), config) < 1e-2
