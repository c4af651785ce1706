"""The commands import_checkpoint and export_torch: file to run, and back to the same file."""

import importlib
import json
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from arp_jax import export_torch, train
from arp_jax.evaluation.config_policy import policy_of_config
from arp_jax.import_checkpoint import import_checkpoint
from arp_jax.interop.published import conversion, normalizer_from_limits
from arp_jax.interop.torch_file import read_state, write_state
from arp_jax.sim.push_t.env import ACTION_SPEC, OBSERVATION_SPEC
from arp_jax.specs import PolicySpec
from arp_jax.training.checkpoint import load_run
from arp_jax.training.run_config import RunConfig
from tests.golden_files import golden_path, load_golden
from tests.interop.formula_weights import formula_state

ROOT = Path(__file__).resolve().parents[2]
# Buffers of the published modules that are functions of the configuration.
CONSTANTS = ("div_term", "num_batches_tracked", "_dummy_variable", "temperature", "pos_x", "pos_y")
SMALL = {
    "push_t_image": {"layers": 2, "embed_dim": 16, "heads": 2},
    "arp_aloha": {
        **{"layers": 1, "embed_dim": 64, "heads": 2, "encoder_layers": 1, "encoder_hidden": 64},
        "guide_corr_dim": 8,
    },
    "arp_rlbench": {
        **{"view_width": 64, "view_heads": 2, "view_head_dim": 8, "view_layers": 2},
        **{"cross_layers": 1, "self_layers": 1},
    },
}


def small_config(name: str, **sections: dict) -> RunConfig:
    """A config of the repository with a small policy."""
    config = importlib.import_module(f"configs.{name}").get_config()
    with config.unlocked():
        config.policy.update(SMALL[name])
        for section, values in sections.items():
            config[section].update(values)
    return RunConfig.resolve(config.to_dict())


def published_state(config: RunConfig, seed: int = 0) -> dict[str, np.ndarray]:
    """A state dict of noise with the published names for the config's policy."""
    rng = np.random.default_rng(seed)
    policy = policy_of_config(config.plain)
    rules = conversion(config.policy["name"])
    template, _ = rules.to_ours({}, policy)
    noise = jax.tree.map(lambda x: rng.uniform(0.1, 1, x.shape).astype(np.float32), template)
    state = rules.to_torch(noise, policy, {})
    if config.policy["name"] == "arp_aloha":
        for buffer in ("inputs.buffer_observation_state", "targets.buffer_action"):
            state[f"normalize_{buffer}.mean"] = rng.normal(size=14).astype(np.float32)
            state[f"normalize_{buffer}.std"] = rng.uniform(0.5, 2, 14).astype(np.float32)
        for part in ("mean", "std"):
            twin = state[f"normalize_targets.buffer_action.{part}"]
            state[f"unnormalize_outputs.buffer_action.{part}"] = twin
    return state


def assert_same_states(found: dict, expected: dict) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert (found[name].dtype, found[name].shape) == (value.dtype, value.shape), name
        assert found[name].tobytes() == value.tobytes(), name


@pytest.fixture(scope="module")
def push_t_file(tmp_path_factory) -> tuple[RunConfig, Path]:
    """(config, file) of a small Push-T policy."""
    config = small_config("push_t_image")
    file = tmp_path_factory.mktemp("checkpoint") / "weights.npz"
    write_state(file, published_state(config))
    return config, file


@pytest.mark.parametrize(
    "name",
    [
        "push_t_image",
        pytest.param("arp_aloha", marks=pytest.mark.slow),
        pytest.param("arp_rlbench", marks=pytest.mark.slow),
    ],
)
def test_a_file_becomes_a_run_and_the_same_file_again(push_t_file, tmp_path: Path, name) -> None:
    config, file = push_t_file
    if name != "push_t_image":
        config, file = small_config(name), tmp_path / "x.safetensors"
        write_state(file, published_state(config))
    state = read_state(file)
    run, back = tmp_path / "run", tmp_path / "back.safetensors"
    run.mkdir()
    (run / "config.json").write_text("{}")
    import_checkpoint(file, config, run, overwrite=True)

    loaded = load_run(run)
    assert loaded.step == 0
    assert loaded.spec == policy_of_config(config.plain).spec
    if name == "push_t_image":
        for affine in (loaded.normalizer["agent_pos"], loaded.normalizer["action"]):
            np.testing.assert_array_equal(affine.offset, [256, 256])
            np.testing.assert_array_equal(affine.scale, [256, 256])
    if name == "arp_aloha":
        mean = state["unnormalize_outputs.buffer_action.mean"]
        np.testing.assert_array_equal(loaded.normalizer["action"].offset, mean)
    # Only Push-T has an environment to be evaluated in.
    readme = (run / "README.txt").read_text()
    assert ("python -m arp_jax.evaluate" in readme) == (name == "push_t_image")
    assert f"python -m arp_jax.export_torch {run}" in readme
    assert json.loads((run / "config.json").read_text()) == config.plain

    assert export_torch.main([str(run), str(back)]) == 0
    assert_same_states(read_state(back), state)


@pytest.mark.slow
def test_an_imported_policy_is_trained_on(push_t_file, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "compiled"))
    _, file = push_t_file
    sections: dict[str, dict] = {"train": {"steps": 1, "batch_size": 2, "save_every": 1}}
    sections |= {
        "data": {"source": "synthetic"},
        "optim": {"learning_rate": 1e-4, "warmup_steps": 0},
    }
    config, run = small_config("push_t_image", **sections), tmp_path / "run"
    import_checkpoint(file, config, run)
    assert train.train(config, run, resume=True, overwrite=False) == 0
    before, after = (load_run(run, step, use_ema=False) for step in (0, 1))
    changes = jax.tree.map(lambda a, b: float(np.abs(a - b).max()), before.params, after.params)
    assert 0 < max(jax.tree.leaves(changes)) < 1e-3
    assert after.stats["action"].count > 0
    assert json.loads((run / "run.json").read_text())["starts"][1:]
    assert "sha256" in (run / "README.txt").read_text()


def test_both_parameter_sets_of_a_torch_checkpoint(push_t_file, tmp_path: Path, capsys) -> None:
    """As the Push-T trainer writes them; evaluation then uses the moving average."""
    torch = pytest.importorskip("torch", reason="torch writes the file of this test")
    pickler = pytest.importorskip("dill")
    omegaconf = pytest.importorskip("omegaconf")
    config, other = push_t_file
    average = read_state(other)
    last = {name: value * 2 for name, value in average.items() if not name.endswith(CONSTANTS)}
    last = {**average, **last}
    tensors = {
        key: {name: torch.from_numpy(value) for name, value in state.items()}
        for key, state in (("model", last), ("ema_model", average))
    }
    content = {
        "cfg": omegaconf.OmegaConf.create({"task": {"name": "pusht_image"}}),
        "state_dicts": tensors | {"optimizer": {"state": {0: {"step": torch.tensor(3.0)}}}},
        "pickles": {"epoch": pickler.dumps(7)},
    }
    file, run, report = tmp_path / "latest.ckpt", tmp_path / "run", tmp_path / "report.txt"
    torch.save(content, file, pickle_module=pickler)
    import_checkpoint(file, config, run, report=report)
    printed = capsys.readouterr().out
    assert "latest.ckpt state_dicts.ema_model" in printed
    for name in last:
        assert name in report.read_text()
    for flags, expected in (([], average), (["--no_ema"], last)):
        assert export_torch.main([str(run), str(tmp_path / "back.pth"), *flags]) == 0
        found = torch.load(tmp_path / "back.pth", weights_only=True)
        assert_same_states({name: x.numpy() for name, x in found.items()}, expected)


def test_an_incomplete_match_writes_nothing(push_t_file, tmp_path: Path, capsys) -> None:
    config, file = push_t_file
    state = read_state(file)
    del state["policy.pos_emb.weight"]
    state["policy.final_ln.weight"] = np.ones(3, np.float32)
    state["policy.extra"] = np.ones((), np.float32)
    write_state(tmp_path / "other.npz", state)
    with pytest.raises(ValueError, match=r"1 wrong shape.*1 missing.*1 unused") as caught:
        import_checkpoint(tmp_path / "other.npz", config, tmp_path / "run")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()
    printed = " ".join(capsys.readouterr().out.split())
    assert "policy.pos_emb.weight missing" in printed
    assert "policy.final_ln.weight wrong shape 3 16" in printed
    assert "policy.extra unused scalar" in printed


def test_what_cannot_be_imported_is_named(push_t_file, tmp_path: Path) -> None:
    config, file = push_t_file
    cases = [
        (small_config("push_t_image", eval={"env": "kitchen"}), r"eval\.env 'kitchen'"),
        (small_config("push_t_image", policy={"encoder": "state"}), r"policy\.encoder 'image'"),
        (small_config("push_t_image", policy={"layers": 3}), r"missing \(first: policy\.blocks\.2"),
    ]
    for wrong, message in cases:
        with pytest.raises(ValueError, match=message):
            import_checkpoint(file, wrong, tmp_path / "run")
    with pytest.raises(ValueError, match=r"there is no state dict 'ema'; choose one of ''"):
        import_checkpoint(file, config, tmp_path / "run", key="ema")
    with pytest.raises(ValueError, match="'tiny' has no published PyTorch weights"):
        conversion("tiny")
    (tmp_path / "run").mkdir()
    (tmp_path / "run/notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="not empty"):
        import_checkpoint(file, config, tmp_path / "run")
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["notes.txt"]


def test_a_normalization_that_needs_data_is_refused() -> None:
    spec = PolicySpec(OBSERVATION_SPEC.select(["agent_pos"]), ACTION_SPEC, window=1, horizon=1)
    key = r"config\.data\.normalization"
    with pytest.raises(ValueError, match=rf"{key}\.agent_pos is 'min_max'.*'limits'"):
        normalizer_from_limits(spec, {"agent_pos": "min_max", "action": "limits"})
    with pytest.raises(ValueError, match=rf"{key}\.action is None.*'limits'"):
        normalizer_from_limits(spec, {"agent_pos": "limits"})


def run_module(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=280
    )


def test_wrong_usage_is_one_line(tmp_path: Path) -> None:
    done = run_module(
        "arp_jax.import_checkpoint",
        *(str(tmp_path / "absent.ckpt"), "--config=configs/push_t_image.py"),
        *("--config.policy.layers=1", f"--workdir={tmp_path / 'run'}"),
    )
    assert done.returncode == 2
    assert done.stderr.strip() == f"error: {tmp_path / 'absent.ckpt'}: no such file"
    assert not (tmp_path / "run").exists()
    assert export_torch.main([str(tmp_path / "run"), str(tmp_path / "x.npz")]) == 2


@pytest.mark.slow
@pytest.mark.golden
def test_the_published_policy_by_command(tmp_path: Path) -> None:
    """14.3 M formula weights: imported, evaluated, exported both ways."""
    shapes = json.loads(str(load_golden(golden_path("pusht_real"))["state_dict_json"]))
    file, run = tmp_path / "weights.npz", tmp_path / "run"
    write_state(file, formula_state(shapes))
    config = "--config=configs/push_t_image.py"
    done = run_module("arp_jax.import_checkpoint", str(file), config, f"--workdir={run}")
    assert done.returncode == 0, done.stderr
    assert "14,333,861 parameters" in done.stdout

    few = ("--episodes", "1", "--envs", "1", "--max_steps", "9", "--videos", "0")
    done = run_module("arp_jax.evaluate", str(run), *few)
    assert done.returncode == 0, done.stderr
    assert (run / "eval/push_t_100000/summary.json").is_file()
    done = run_module("arp_jax.export_policy", str(run), "--platforms", "cpu")
    assert done.returncode == 0, done.stderr

    back = tmp_path / "back.safetensors"
    done = run_module("arp_jax.export_torch", str(run), str(back))
    assert done.returncode == 0, done.stderr
    found, given = read_state(back), read_state(file)
    assert {name: list(value.shape) for name, value in found.items()} == shapes
    same = [name for name, value in given.items() if found[name].tobytes() == value.tobytes()]
    # The others are constants and second names, which formula_state leaves at zero.
    assert len(same) >= 630
