"""Good datasets of all sorts are not reported."""

import dataclasses

import pytest

from arp_jax.data.cards import load_card
from arp_jax.data.synthetic import write_raw_dataset, write_synthetic
from tests.commands import run_module
from tests.data.defect_sets import arm_episodes, findings_of, write_raw_episodes
from tests.datasets.scripts import load_script


@pytest.mark.parametrize("seed", [1, 2])
def test_an_arm(tmp_path, seed):
    assert findings_of(write_raw_episodes(tmp_path, arm_episodes(8, seed))) == []


@pytest.mark.parametrize(
    "name", ["push_t", "push_t_planned", "transfer_cube", "mycobot_pick_place", "place_on_color"]
)
def test_synthetic_episodes_of_our_datasets(tmp_path, name):
    specs = load_card(name).specs
    cameras = tuple(
        dataclasses.replace(c, height=48, width=48) for c in specs.observation.cameras[:1]
    )
    observation = dataclasses.replace(specs.observation, cameras=cameras)
    assert findings_of(write_synthetic(tmp_path, observation, specs.action, 8, 3)) == []


@pytest.mark.parametrize("name", ["austin_buds", "bridge_dataset", "droid", "utaustin_mutex"])
def test_raw_episodes_of_published_datasets(tmp_path, name):
    assert findings_of(write_raw_dataset(tmp_path, load_card(name), 7, 0)) == []


def test_real_bridge_clips_have_no_errors(shared_dir):
    found = findings_of(shared_dir / "data/bridge_dataset/1.0.0")
    assert {f.kind for f in found} == {"flags_unset", "blank_camera"}
    assert [f.field for f in found if f.kind == "flags_unset"] == ["is_last"]
    assert {f.field for f in found if f.kind == "blank_camera"} == {"observation/image_4"}


@pytest.mark.slow
def test_planned_push_t_with_pictures(tmp_path, repository):
    build = load_script(repository / "datasets/push_t_planned/build.py", "push_t_planned_build")
    assert build.main(["--episodes", "6", "--images", "--out", str(tmp_path)]) == 0
    assert findings_of(tmp_path / "push_t_planned/1.0.0") == []


@pytest.mark.slow
def test_recorded_transfer_cube_with_pictures(tmp_path, repository):
    flags = ["--task", "transfer_cube", "-n", 6, "--envs", 8, "--image_format", "jpeg"]
    flags += ["--observations", "state,velocity,top", "--height", 60, "--width", 80]
    run_module("arp_jax.sim.record", *flags, "--out", tmp_path, cwd=repository)
    assert findings_of(tmp_path / "transfer_cube/1.0.0") == []
