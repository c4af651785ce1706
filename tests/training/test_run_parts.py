"""Small parts of a run: sections, progress, normaliser, the compilation cache's folder."""

from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from arp_jax import compile_cache
from arp_jax.normalize import FeatureStats
from arp_jax.training import progress as progress_module
from arp_jax.training.optim import OptimConfig
from arp_jax.training.packs import build_normalizer
from arp_jax.training.progress import Progress, format_seconds
from arp_jax.training.run_dir import check_same_config
from arp_jax.training.sections import read_section
from tests.training.tiny_policy import TinyConfig, tiny_spec


def test_sections_become_frozen_dataclasses() -> None:
    section = {"weight_decay_groups": [["^a/", 0.0]], "clip_norm": 1.0}
    config = read_section(OptimConfig, section, "config.optim")
    assert config.weight_decay_groups == (("^a/", 0.0),)
    assert hash(config) == hash(read_section(OptimConfig, section, "config.optim"))
    with pytest.raises(
        ValueError, match=r"config\.policy\.activation is not a config key; known keys"
    ):
        read_section(TinyConfig, {"activation": 3}, "config.policy")


def test_progress_counts_waiting_and_leaves_out_pauses(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr(progress_module, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    progress = Progress(start=10, total=110, batch_size=4)
    with progress.waiting():
        now[0] += 0.5
    with progress.pause():
        now[0] += 7.0
    now[0] += 1.5
    rates = progress.interval(20)
    # 10 steps in 2 s, a quarter of it waiting; the pause does not count.
    expected = {"steps_per_s": 5.0, "examples_per_s": 20.0, "data_wait_share": 0.25}
    assert rates == pytest.approx(expected)
    progress.show(20, {**rates, "steps_per_s": 9.0}, loss=0.25)
    progress.show(20, {**rates, "steps_per_s": 9.0}, loss=None)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == lines[1]
    assert "step 20/110 9.0 steps/s" in lines[0]
    assert lines[0].endswith("loss 0.2500 ETA 10s")


def test_format_seconds() -> None:
    assert [format_seconds(s) for s in (12.7, 200, 7300)] == ["12s", "3m20s", "2h01m"]


def test_normalizer_methods() -> None:
    def stats(size: int) -> FeatureStats:
        one = np.ones(size, np.float32)
        return FeatureStats(one, 2 * one, -one, 3 * one, 0 * one, 2 * one, 9)

    found = {"agent_pos": stats(2), "block_pose": stats(3)}
    methods = {"agent_pos": "limits", "block_pose": "standard", "action": "limits"}
    normalizer = build_normalizer(found, tiny_spec(), methods)
    np.testing.assert_array_equal(normalizer["agent_pos"].offset, [256, 256])
    np.testing.assert_array_equal(normalizer["block_pose"].scale, [2, 2, 2])
    with pytest.raises(ValueError, match=r"normalization\.block_pose is 'limits', but its spec"):
        build_normalizer(found, tiny_spec(), methods | {"block_pose": "limits"})
    with pytest.raises(ValueError, match=r"normalization\.action is missing"):
        build_normalizer(found, tiny_spec(), {"agent_pos": "limits", "block_pose": "standard"})


def test_compile_cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = jax.config.jax_compilation_cache_dir
    try:
        monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "given"))
        assert compile_cache.enable() == tmp_path / "given"
        monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR")
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        folder = compile_cache.enable()
        assert folder.parent == tmp_path / "arp_jax" / "compiled"
        assert jax.config.jax_compilation_cache_dir == str(folder)
        assert compile_cache.enable() == folder
    finally:
        jax.config.update("jax_compilation_cache_dir", before)


def test_a_run_from_before_a_key_existed_is_continued() -> None:
    old = {"seed": 1, "data": {"source": "somewhere", "split": "train"}}
    new = {"seed": 1, "data": {"source": "elsewhere", "split": "train", "stride": 1}}
    check_same_config(old, new, Path("run"))
    new["data"] = {**old["data"], "stride": 2}  # type: ignore[dict-item]
    with pytest.raises(ValueError, match=r"config\.data\.stride is 2, run was started with 1"):
        check_same_config(old, new, Path("run"))
