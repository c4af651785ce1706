"""ACT and ACT++ checkpoints by command: weights, statistics, prior; and back, bit for bit."""

import importlib
import os
import pickle

import jax
import numpy as np
import pytest

from arp_jax import export_torch
from arp_jax.evaluation.config_policy import policy_of_config
from arp_jax.import_checkpoint import import_checkpoint
from arp_jax.interop.act import PREFIX, act_to_torch, convert_act, prior_to_torch
from arp_jax.interop.published import FilesBeside, conversion
from arp_jax.interop.torch_file import read_state, write_state
from arp_jax.training.checkpoint import load_run
from arp_jax.training.run_config import RunConfig
from tests.interop.test_arp_import_command import assert_same_states

SMALL = {
    **{"trunk_width": 4, "embed_dim": 16, "heads": 2, "hidden": 24, "style_layers": 1},
    **{"encoder_layers": 1, "decoder_layers": 3, "latent_dim": 4, "code_classes": 3},
    **{"code_values": 5, "prior_layers": 2, "prior_dim": 16, "prior_heads": 2},
}
CASES = {
    "act": ("published", {}),
    "act++ pre-norm": ("mobile_published", {"pre_norm": True}),
    "act++ codes": ("mobile_published", {"latent": "codes"}),
    "act++ no encoder": ("mobile_published", {"latent": "none"}),
}


def small_config(variant="published", **policy):
    config = importlib.import_module("configs.act_aloha").get_config(variant)
    with config.unlocked():
        config.policy.update(SMALL | policy)
    return RunConfig.resolve(config.to_dict())


def noise(tree, seed=0):
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda x: rng.uniform(0.1, 1, x.shape).astype(np.float32), tree)


def published_files(folder, config, seed=0):
    """Writes weights, statistics and, for codes, the prior; returns the paths."""
    policy = policy_of_config(config.plain)
    template, _ = convert_act({}, policy)
    file = folder / "policy_best.safetensors"
    write_state(file, act_to_torch(noise(template), policy))
    write_stats(folder / "dataset_stats.pkl", policy.spec.action.size)
    prior = None
    if policy.config.latent == "codes":
        codes = np.zeros((1, policy.config.code_classes, policy.config.code_values), np.float32)
        shapes = jax.eval_shape(policy.prior.init, jax.random.key(0), codes)["params"]
        prior = folder / "latent_model_last.safetensors"
        write_state(prior, prior_to_torch({"prior": noise(shapes, 1)}, policy))
    return file, prior


def write_stats(path, actions, state=14, **changes):
    rng = np.random.default_rng(2)
    sizes = {"action": actions, "qpos": state}
    stats = {}
    for name, size in sizes.items():
        stats[f"{name}_mean"] = rng.normal(size=size).astype(np.float32)
        stats[f"{name}_std"] = rng.uniform(0.01, 2, size).astype(np.float32)
    stats |= {"action_min": -np.ones(actions), "action_max": np.ones(actions)}
    stats["example_qpos"] = rng.normal(size=(7, state)).astype(np.float32)
    path.write_bytes(pickle.dumps({k: v for k, v in (stats | changes).items() if v is not None}))
    return stats


SLOW = ("act++ pre-norm", "act++ no encoder")


@pytest.mark.parametrize(
    "case", [pytest.param(c, marks=[pytest.mark.slow] if c in SLOW else []) for c in CASES]
)
def test_files_become_a_run_and_the_same_files_again(case, tmp_path):
    variant, options = CASES[case]
    config = small_config(variant, **options)
    file, prior = published_files(tmp_path, config)
    state, run = read_state(file), tmp_path / "run"
    assert f"{PREFIX}pos_table" in state
    assert len([name for name in state if name.endswith("body.conv1.weight")]) == (
        1 if case == "act" else 3
    )
    import_checkpoint(file, config, run, beside=FilesBeside(latent_model=prior))

    # Mobile ALOHA is no environment.
    assert ("arp_jax.evaluate" in (run / "README.txt").read_text()) == (case == "act")
    loaded = load_run(run)
    with (tmp_path / "dataset_stats.pkl").open("rb") as content:
        stats = pickle.load(content)
    for ours, theirs in (("state", "qpos"), ("action", "action")):
        affine = loaded.normalizer[ours]
        np.testing.assert_array_equal(affine.offset, stats[f"{theirs}_mean"])
        np.testing.assert_array_equal(affine.scale, stats[f"{theirs}_std"])

    assert export_torch.main([str(run), str(tmp_path / "back.safetensors")]) == 0
    back = read_state(tmp_path / "back.safetensors")
    unread = ("cls_embed", "encoder_joint_proj", "encoder_action_proj", "latent_proj")
    if case == "act++ no encoder":
        assert [name for name in back if name.removeprefix(PREFIX).startswith(unread)]
    assert_same_states(back, state)
    with (tmp_path / "back_dataset_stats.pkl").open("rb") as content:
        found = pickle.load(content)
    names = ("qpos_mean", "qpos_std", "action_mean", "action_std")
    assert_same_states(found, {name: stats[name] for name in names})
    if prior is not None:
        found = read_state(tmp_path / "back_latent_model.safetensors")
        assert_same_states(found, read_state(prior))


def test_a_torch_file_and_an_old_pickle(tmp_path):
    """As torch.save and numpy 1 write them."""
    torch = pytest.importorskip("torch", reason="torch writes the file of this test")
    config = small_config()
    file, _ = published_files(tmp_path, config)
    state = read_state(file)
    checkpoint = tmp_path / "policy_best.ckpt"
    torch.save({name: torch.from_numpy(value) for name, value in state.items()}, checkpoint)
    elsewhere = tmp_path / "elsewhere.pkl"
    content = (tmp_path / "dataset_stats.pkl").read_bytes()
    stats = pickle.loads(content)
    old = pickle.dumps(stats, protocol=2).replace(b"cnumpy._core.", b"cnumpy.core.")
    assert b"_core" not in old
    elsewhere.write_bytes(old)
    (tmp_path / "dataset_stats.pkl").unlink()
    import_checkpoint(checkpoint, config, tmp_path / "run", beside=FilesBeside(stats=elsewhere))
    scale = load_run(tmp_path / "run").normalizer["action"].scale
    np.testing.assert_array_equal(scale, stats["action_std"])


class Attack:
    """Unpickled by Python, it would make a folder."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return (os.mkdir, (self.path,))


def test_statistics_are_read_without_running_anything(tmp_path):
    config = small_config()
    file, _ = published_files(tmp_path, config)
    stats, target = tmp_path / "dataset_stats.pkl", tmp_path / "made"
    write_stats(stats, 14, extra=Attack(target))
    import_checkpoint(file, config, tmp_path / "run")
    assert not target.exists()
    write_stats(stats, 14, qpos_mean=Attack(target))
    with pytest.raises(ValueError, match=r"dataset_stats\.pkl: there is no 'qpos_mean'"):
        import_checkpoint(file, config, tmp_path / "other")
    assert not target.exists()


def test_files_that_do_not_fit_are_named(tmp_path):
    config = small_config()
    file, _ = published_files(tmp_path, config)
    stats, run = tmp_path / "dataset_stats.pkl", tmp_path / "run"

    def refused(message, config=config, **beside):
        with pytest.raises(ValueError, match=message) as caught:
            import_checkpoint(file, config, run, beside=FilesBeside(**beside))
        assert "\n" not in str(caught.value)
        assert not run.exists()

    refused("--latent_model is for policies", latent_model=file)
    write_stats(stats, 16)
    refused(r"dataset_stats\.pkl: 'action_mean' has shape \(16,\), the policy has 14 values")
    write_stats(stats, 14, action_std=np.zeros(14, np.float32))
    refused(r"dataset_stats\.pkl: 'action_std' has values that are not positive")
    write_stats(stats, 14, qpos_std=np.full(14, np.nan, np.float32))
    refused("'qpos_std' holds numbers that are not finite")
    stats.write_bytes(pickle.dumps([1, 2]))
    refused(r"dataset_stats\.pkl: holds no dict of statistics but list")
    stats.write_bytes(b"\x80\x04\x95")
    refused(r"dataset_stats\.pkl: no whole pickle")
    stats.unlink()
    refused(r"dataset_stats\.pkl: no such file; .*--stats=FILE")
    write_stats(stats, 14)
    refused("wrong shape|missing|unused", small_config(decoder_layers=2))
    refused(r"--latent_model=FILE", small_config(latent="codes"))
    cube = {"observations": ("state", "object_pose", "top")}
    plain = {**config.plain, **cube}
    refused("one vector, not also 'object_pose'", RunConfig.resolve(plain))
    wrong = {**config.plain["data"], "normalization": {"state": "min_max", "action": "standard"}}
    plain = {**config.plain, "data": wrong}
    refused(r"normalization\.state is 'min_max'; .*need 'standard'", RunConfig.resolve(plain))


def test_a_table_of_other_positions_is_no_act(tmp_path):
    policy = policy_of_config(small_config().plain)
    state = act_to_torch(noise(convert_act({}, policy)[0]), policy)
    state[f"{PREFIX}pos_table"] = state[f"{PREFIX}pos_table"] + 0.1
    assert convert_act(state, policy)[1].unused == [f"{PREFIX}pos_table"]


def test_other_policies_have_one_file(tmp_path):
    with pytest.raises(ValueError, match=r"--stats=x\.pkl: weights of this policy are one file"):
        conversion("arp").beside(tmp_path, None, FilesBeside(stats="x.pkl"))
