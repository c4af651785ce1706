"""Diffusion Policy checkpoints by command: both projects' files to runs, and back, bit for bit."""

from typing import Any

import numpy as np
import pytest

from arp_jax import export_torch
from arp_jax.evaluation.config_policy import policy_of_config
from arp_jax.import_checkpoint import import_checkpoint
from arp_jax.interop.dataset_stats import read_dataset_stats
from arp_jax.interop.diffusion import convert_diffusion, diffusion_to_torch
from arp_jax.interop.torch_file import read_state
from arp_jax.policies.preprocessed import network_of
from arp_jax.training.checkpoint import load_run
from tests.interop.test_act_import_command import noise, write_stats
from tests.interop.test_arp_import_command import assert_same_states
from tests.policies.smoke_run import small_config

torch: Any = pytest.importorskip("torch", reason="writes files as the published trainers do")
SMALL: dict[str, Any] = {
    **{"trunk_width": 16, "keypoints": 4, "image_features": 6, "widths": (16, 32)},
    **{"step_size": 8, "groups": 4},
}
PARAMS = "normalizer.params_dict."
DATA = {"agent_pos": ([0.0, 10.0], [512.0, 500.0]), "action": ([5.0, 0.0], [500.0, 512.0])}


def states_of(config):
    """(last, averaged) state dicts of noise under the published names, as tensors."""
    policy: Any = network_of(policy_of_config(config.plain))
    template, _ = convert_diffusion({}, policy)
    for seed in (0, 1):
        state = diffusion_to_torch(noise(template, seed), policy)
        yield {name: torch.from_numpy(value) for name, value in state.items()}


def original_normalizer():
    maps = {name: (np.array(low), np.array(high)) for name, (low, high) in DATA.items()}
    pairs = {
        name: (2 / (high - low), -1 - 2 * low / (high - low)) for name, (low, high) in maps.items()
    }
    pairs["image"] = (np.array([2.0]), np.array([-1.0]))
    state = {}
    for name, (scale, offset) in pairs.items():
        state[f"{PARAMS}{name}.scale"] = torch.tensor(scale).float()
        state[f"{PARAMS}{name}.offset"] = torch.tensor(offset).float()
        state[f"{PARAMS}{name}.input_stats.min"] = torch.zeros(len(scale))
    return state


@pytest.mark.slow
def test_the_originals_file(tmp_path):
    config = small_config("diffusion_push_t_image", policy=SMALL)
    last, average = ({**state, **original_normalizer()} for state in states_of(config))
    file, run, back = (tmp_path / name for name in ("latest.ckpt", "run", "back.safetensors"))
    dicts = {"model": last, "ema_model": average, "optimizer": {"state": {}}}
    torch.save({"cfg": {"horizon": 16}, "state_dicts": dicts, "pickles": {"epoch": b"1"}}, file)
    import_checkpoint(file, config, run)

    loaded = load_run(run)
    for name, (low, high) in DATA.items():
        affine = loaded.normalizer[name]
        np.testing.assert_allclose(affine.offset, (np.array(low) + high) / 2, rtol=1e-6)
        np.testing.assert_allclose(affine.scale, (np.array(high) - low) / 2, rtol=1e-6)
    for flags, key in (([], "ema_model"), (["--no_ema"], "model")):
        assert export_torch.main([str(run), str(back), *flags]) == 0
        found, expected = read_state(back), read_state(file, f"state_dicts.{key}")
        for name in [name for name in found if name.startswith(PARAMS)]:
            np.testing.assert_allclose(found.pop(name), expected[name], rtol=1e-6, atol=1e-6)
        assert_same_states(found, {k: v for k, v in expected.items() if not k.startswith(PARAMS)})


@pytest.mark.slow
def test_mobile_alohas_file_and_statistics(tmp_path):
    config = small_config("diffusion_aloha", policy=SMALL)
    last, average = states_of(config)
    file, run, back = (tmp_path / name for name in ("policy_best.ckpt", "run", "back.pth"))
    torch.save({"nets": last, "ema": average}, file)
    with pytest.raises(ValueError, match=r"dataset_stats\.pkl: no such file; .* --stats=FILE"):
        import_checkpoint(file, config, run)
    assert not run.exists()
    low, high = -np.arange(1.0, 17.0), np.ones(16)
    limits = {"action_min": low, "action_max": high}
    stats = write_stats(tmp_path / "dataset_stats.pkl", 16, **limits) | limits
    import_checkpoint(file, config, run)

    normalizer = load_run(run).normalizer
    np.testing.assert_allclose(normalizer["action"].offset, (low + high) / 2, rtol=1e-6)
    np.testing.assert_allclose(normalizer["action"].scale, (high - low) / 2, rtol=1e-6)
    np.testing.assert_allclose(normalizer["state"].offset, stats["qpos_mean"])
    assert export_torch.main([str(run), str(back)]) == 0
    assert_same_states(read_state(back), read_state(file, "ema"))
    written = read_dataset_stats(tmp_path / "back_dataset_stats.pkl")
    for name in ("qpos_mean", "qpos_std", "action_min", "action_max"):
        np.testing.assert_allclose(written[name], stats[name], rtol=1e-5, atol=1e-6)


def test_a_file_of_the_other_project_is_refused(tmp_path):
    config = small_config("diffusion_push_t_image", policy=SMALL)
    other = small_config("diffusion_aloha", policy=SMALL)
    file = tmp_path / "policy_best.ckpt"
    torch.save({"nets": next(states_of(other))}, file)
    with pytest.raises(ValueError, match=r"policy_best\.ckpt nets does not fit the config"):
        import_checkpoint(file, config, tmp_path / "run")
    assert not (tmp_path / "run").exists()
