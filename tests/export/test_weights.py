"""Weights in fewer bits come back within their rounding, and the artifact says what that costs."""

import numpy as np
import pytest

from arp_jax.export import runtime, weights
from arp_jax.export.artifact import random_observation, write_artifact
from arp_jax.export.description import describe
from arp_jax.export.runtime import ArtifactError, load_artifact
from arp_jax.export.weights import read_weights, write_weights


def tensors():
    rng = np.random.default_rng(0)
    wide = rng.normal(size=(40, 64)).astype(np.float32) * np.geomspace(1e-4, 10, 64)
    return {
        "kernel": wide.astype(np.float32),
        "empty channel": np.concatenate([wide, np.zeros((40, 1))], 1).astype(np.float32),
        "bias": rng.normal(size=2000).astype(np.float32),
        "rows": rng.integers(0, 9, (50, 50)).astype(np.int32),
    }


@pytest.mark.parametrize("kind", weights.KINDS)
def test_tensors_come_back_within_their_rounding(kind, tmp_path):
    given, path = tensors(), tmp_path / "params.safetensors"
    section = write_weights(given, kind, path)
    found = read_weights(path, given, section)
    for name, value in given.items():
        assert found[name].dtype == value.dtype
        assert found[name].shape == value.shape
        error = np.abs(found[name] - value)
        if kind == "float32" or name in ("bias", "rows"):
            assert error.max() == 0
        elif kind == "bfloat16":
            assert (error <= np.abs(value) * 2.0**-8).all()
        else:  # half a step of each channel
            assert (error <= np.abs(value).max(0) / 127 * 0.5001).all()
    assert section["float32_bytes"] == sum(v.nbytes for v in given.values())
    assert section["bytes"] < path.stat().st_size
    smaller = {"float32": 1.0, "bfloat16": 0.75, "int8": 0.62}[kind]
    assert section["bytes"] <= smaller * section["float32_bytes"]


def test_what_cannot_be_rounded_is_named(tmp_path):
    path = tmp_path / "params.safetensors"
    with pytest.raises(ValueError, match="--weights: 'int4' is unknown"):
        write_weights(tensors(), "int4", path)
    broken = tensors()
    broken["kernel"][3, 3] = np.nan
    with pytest.raises(ValueError, match="parameter kernel has values that are not finite"):
        write_weights(broken, "int8", path)
    section = write_weights(tensors(), "int8", path)
    with pytest.raises(ValueError, match="parameter other is absent"):
        read_weights(path, ["other"], section)


@pytest.mark.parametrize("kind", ["bfloat16", "int8"])
def test_an_artifact_measures_what_rounding_costs(source, kind, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(weights, "SMALLEST", 32)  # the test's policy is tiny
    manifest = write_artifact(source, tmp_path / "out", ("cpu",), kind)
    error = manifest["weights"]["error"]
    assert 0 < error["median_of_maxima"] <= error["max_difference"] < 2
    assert manifest["parity"]["max_difference"] <= manifest["parity"]["tolerance"]
    artifact = load_artifact(tmp_path / "out")
    assert np.isfinite(artifact.act(random_observation(artifact.spec, 1, 0))).all()
    text = describe(tmp_path / "out", artifact.manifest)
    for said in (kind, "actions differ by", "x 0..512", "uint8 [b, 2, 12, 12, 3] rgb", "10 Hz"):
        assert said in text
    assert manifest["content_hash"] in text
    assert runtime.main([str(tmp_path / "out")]) == 0
    assert "compiled programs are kept in" in capsys.readouterr().out
    assert runtime.main([str(tmp_path / "nothing")]) == 2
    with pytest.raises(ArtifactError, match="does not exist"):
        load_artifact(tmp_path / "nothing")
