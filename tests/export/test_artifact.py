"""An artifact acts like the policy it came from, without flax, and a broken one is refused."""

import json
import shutil
import subprocess
import sys

import jax
import numpy as np
import pytest

from arp_jax.export import artifact as writer
from arp_jax.export import runtime
from arp_jax.export.artifact import random_observation, write_artifact
from arp_jax.export.runtime import ArtifactError, load_artifact
from arp_jax.policies.base import make_physical_act


@pytest.fixture(scope="module")
def artifact(artifact_dir):
    return load_artifact(artifact_dir)


def live_actions(source, observation, seed):
    """Row by row with the live policy: [B, H, A]."""
    batch = len(observation["agent_pos"])
    act = jax.jit(make_physical_act(source.policy, source.normalizer))
    keys = [jax.random.fold_in(jax.random.key(seed), row) for row in range(batch)]
    rows = [{k: v[i : i + 1] for k, v in observation.items()} for i in range(batch)]
    return np.concatenate(
        [act(source.params, row, key) for row, key in zip(rows, keys, strict=True)]
    )


@pytest.mark.parametrize("batch", [1, 5])
def test_same_actions_as_the_live_policy(source, artifact, batch):
    observation = random_observation(artifact.spec, batch, seed=7)
    found = artifact.act(observation, seed=11)
    assert found.shape == (batch, 4, 2)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found / 256, live_actions(source, observation, 11) / 256, atol=1e-5)


def test_seed_decides_the_noise(artifact):
    observation = random_observation(artifact.spec, 2, seed=7)
    np.testing.assert_array_equal(artifact.act(observation, 1), artifact.act(observation, 1))
    assert np.abs(artifact.act(observation, 1) - artifact.act(observation, 2)).max() > 1


def test_a_row_does_not_depend_on_its_neighbours(artifact):
    observation = random_observation(artifact.spec, 5, seed=7)
    alone = {name: value[:1] for name, value in observation.items()}
    np.testing.assert_allclose(
        artifact.act(observation, 3)[:1], artifact.act(alone, 3), atol=256e-5
    )


@pytest.mark.parametrize("absent", ["", "flatbuffers"])
def test_runs_in_a_fresh_process_without_flax(artifact, artifact_dir, tmp_path, absent):
    observation = random_observation(artifact.spec, 2, seed=5)
    np.savez(tmp_path / "observation.npz", **observation)
    script = """
import sys
BLOCKED = {"flax", "optax", "orbax", "ml_collections", "tensorflow", "mujoco", sys.argv[3]}
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in BLOCKED:
            raise ImportError(f"{name} is blocked")
sys.meta_path.insert(0, Blocked())
import numpy as np
from arp_jax.export.runtime import load_artifact
folder, work = sys.argv[1:3]
with np.load(work + "/observation.npz") as observation:
    actions = load_artifact(folder).act(dict(observation), seed=4)
np.save(work + "/actions.npy", actions)
loaded = {name.split(".")[0] for name in sys.modules}
assert "flax" not in loaded, "flax was imported"
"""
    subprocess.run(
        [sys.executable, "-c", script, str(artifact_dir), str(tmp_path), absent],
        check=True,
        timeout=120,
    )
    found = np.load(tmp_path / "actions.npy")
    np.testing.assert_allclose(found / 256, artifact.act(observation, seed=4) / 256, atol=1e-5)


def test_manifest_says_what_it_is(source, artifact):
    manifest = artifact.manifest
    assert manifest["platforms"] == ["cpu", "cuda", "tpu"]
    assert manifest["parity"]["max_difference"] <= 1e-5
    assert manifest["latency"]["median_ms"] > 0
    assert manifest["provenance"] == {"run": "test", "step": 3}
    assert artifact.spec == source.policy.spec
    assert manifest["signature"]["observation"]["image"] == {
        "dtype": "uint8",
        "shape": ["b", 2, 12, 12, 3],
    }


@pytest.mark.parametrize("name", [runtime.PROGRAM, runtime.PARAMS, runtime.STATS])
def test_a_changed_file_is_refused_by_name(artifact_dir, tmp_path, name):
    copy = shutil.copytree(artifact_dir, tmp_path / "copy")
    content = bytearray((copy / name).read_bytes())
    content[len(content) // 2] ^= 1
    (copy / name).write_bytes(content)
    with pytest.raises(ArtifactError, match=f"{name} is damaged"):
        load_artifact(copy)
    (copy / name).unlink()
    with pytest.raises(ArtifactError, match=f"{name} is missing"):
        load_artifact(copy)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"policy": "other"}, "was changed"),
        ({"format_version": 99}, "format version 99"),
        ({"format": "onnx"}, "not the manifest"),
    ],
)
def test_a_changed_manifest_is_refused(artifact_dir, tmp_path, change, message):
    copy = shutil.copytree(artifact_dir, tmp_path / "copy")
    manifest = json.loads((copy / "manifest.json").read_text()) | change
    (copy / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ArtifactError, match=message) as error:
        load_artifact(copy)
    assert "manifest.json" in str(error.value)
    assert "\n" not in str(error.value)


def test_no_artifact_and_cut_off_manifest(artifact_dir, tmp_path):
    with pytest.raises(ArtifactError, match="does not exist"):
        load_artifact(tmp_path)
    (tmp_path / "manifest.json").write_text('{"format": "arp_')
    with pytest.raises(ArtifactError, match="is not JSON"):
        load_artifact(tmp_path)


def test_artifact_for_other_platforms_is_refused(artifact_dir, tmp_path):
    copy = shutil.copytree(artifact_dir, tmp_path / "copy")
    manifest = json.loads((copy / "manifest.json").read_text()) | {"platforms": ["tpu"]}
    manifest["content_hash"] = runtime.content_hash(manifest)
    (copy / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ArtifactError, match="--platforms=cpu"):
        load_artifact(copy)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("image", np.zeros((1, 2, 12, 12, 3), np.float32), "'image': expected uint8"),
        ("agent_pos", np.zeros((1, 3, 2), np.float32), r"found float32 \[1, 3, 2\]"),
        ("agent_pos", np.zeros((4, 2, 2), np.float32), "one batch size"),
        ("agent_pos", None, "'agent_pos' is absent"),
    ],
)
def test_wrong_observations_are_named(artifact, name, value, message):
    observation = random_observation(artifact.spec, 1, seed=0)
    observation.pop(name)
    if value is not None:
        observation[name] = value
    with pytest.raises(ValueError, match=message):
        artifact.act(observation)


def test_export_replaces_an_artifact_and_nothing_else(source, tmp_path):
    out = tmp_path / "artifact"
    write_artifact(source, out, platforms=["cpu"])
    manifest = write_artifact(source, out, platforms=["cpu", "tpu"])
    assert load_artifact(out).manifest == json.loads(json.dumps(manifest))
    assert [p.name for p in tmp_path.iterdir()] == ["artifact"]
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.png").write_bytes(b"")
    with pytest.raises(ValueError, match="is no artifact"):
        write_artifact(source, tmp_path / "photos")
    with pytest.raises(ValueError, match="'abacus' is unknown"):
        write_artifact(source, out, platforms=["abacus"])


def test_a_program_that_disagrees_is_not_written(source, tmp_path, monkeypatch):
    """The export is compared with the live policy; here the exported parameters are shifted."""
    original = writer.load_artifact

    def shifted(folder):
        artifact = original(folder)
        artifact._params = [x + 0.01 for x in artifact._params]
        return artifact

    monkeypatch.setattr(writer, "load_artifact", shifted)
    with pytest.raises(ValueError, match="differs from the live policy"):
        write_artifact(source, tmp_path / "artifact", platforms=["cpu"])
    assert list(tmp_path.iterdir()) == []
