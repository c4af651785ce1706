"""The demonstration of the bridge, shorter: it checks itself."""

import pytest

from launch.browser import find_chromium
from robot_bridge.log.episode_log import read_log
from tests.commands import run_module


@pytest.mark.slow
@pytest.mark.skipif(find_chromium() is None, reason="no Chromium on this machine")
def test_from_a_policy_to_a_dataset(tmp_path, repository):
    arguments = ("--seconds=8", f"--workdir={tmp_path}")
    shown = run_module("launch.bridge_demo", *arguments, cwd=repository)
    assert "NOT GOOD" not in shown
    assert "Timing at 10 Hz" in shown
    assert {path.name for path in tmp_path.glob("*.png")} == {
        "page.png",
        "page_phone.png",
        "page_stopped.png",
    }
    (path,) = (tmp_path / "logs").rglob("*.arplog")
    assert read_log(path).end == "estop by the operator"
