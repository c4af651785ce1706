"""Diffusion Policy through the real commands, tiny: resumed, exported."""

from typing import Any

import pytest

from arp_jax.data.synthetic import write_synthetic
from arp_jax.sim.push_t.env import ACTION_SPEC, OBSERVATION_SPEC
from tests.policies.smoke_run import (
    check_export,
    check_resume,
    small_config,
)
from tests.policies.test_act_runs import compiled_programs_are_kept

__all__ = ["compiled_programs_are_kept"]  # a fixture of every test here
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
