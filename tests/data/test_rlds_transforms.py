"""RLDS's own transformations on our episodes, against values written by hand and our windows."""

import importlib.util
import sys
from typing import Any

import numpy as np
import pytest

from arp_jax.data import rlds_transforms as transforms
from arp_jax.data.rlds import open_dataset
from arp_jax.data.source import open_source
from arp_jax.data.synthetic import synthetic_raw_episode
from arp_jax.data.tensorflow_files import import_tensorflow
from arp_jax.data.windows import window_table
from tests.data.raw_card import assert_same_episode, raw_card

HAVE = [importlib.util.find_spec(name) is not None for name in ("tensorflow", "rlds")]
needs_rlds = pytest.mark.skipif(
    not all(HAVE), reason="needs TensorFlow and rlds: pip install tensorflow-cpu rlds"
)
EPISODE: dict[str, Any] = {
    "observation": {
        "pos": np.arange(10, dtype=np.float32).reshape(5, 2),
        "image": np.array([b"a" * (i + 1) for i in range(5)], object),
    },
    "action": np.arange(5, dtype=np.float32)[:, None],
    "reward": np.ones(5, np.float32),
    "is_terminal": np.array([False] * 4 + [True]),
    "language_instruction": np.array(["Tür"] * 5),
    "episode_metadata": {"number": np.array(3)},
}


@pytest.mark.skipif(HAVE[0], reason="says what is missing where TensorFlow is")
def test_missing_packages_are_named():
    with pytest.raises(ImportError, match=r"pip install 'arp_jax\[tf\]'"):
        import_tensorflow()
    with pytest.raises(ImportError, match=r"pip install 'arp_jax\[tf\]'"):
        transforms.import_rlds()
    with pytest.raises(ValueError, match=r"gs://bucket/set: .*pip install 'arp_jax\[tf\]'"):
        open_source("gs://bucket/set")


@needs_rlds
def test_rlds_is_imported_without_leaving_a_false_reverb():
    rlds = transforms.import_rlds()
    assert rlds.STEPS == "steps"
    assert "reverb" not in sys.modules


@needs_rlds
def test_steps_come_back_as_they_were():
    episode = synthetic_raw_episode(raw_card(), 7, seed=2, decode_images=False)
    steps = list(transforms.numpy_steps(transforms.steps_dataset(episode)))
    assert len(steps) == 7
    assert set(steps[0]) == {k.split("/")[0] for k in raw_card().fields if k[0] != "/"} - {
        "episode_metadata"
    }
    for t, step in enumerate(steps):
        for name, values in episode["observation"].items():
            np.testing.assert_array_equal(step["observation"][name], values[t])
        assert step["language_instruction"].decode() == episode["language_instruction"][t]


@needs_rlds
@pytest.mark.parametrize(("length", "shift", "stride"), [(3, 1, 1), (2, 2, 1), (2, 1, 2)])
def test_sub_trajectories_are_windows(length, shift, stride):
    steps = transforms.steps_dataset(EPISODE)
    found = transforms.sub_trajectories(steps, length, shift, stride)
    begins = range(0, 5 - (length - 1) * stride, shift)
    batches = list(transforms.numpy_steps(found))
    assert len(batches) == len(begins)
    for begin, batch in zip(begins, batches, strict=True):
        indices = begin + stride * np.arange(length)
        np.testing.assert_array_equal(batch["action"], EPISODE["action"][indices])
        np.testing.assert_array_equal(
            batch["observation"]["pos"], EPISODE["observation"]["pos"][indices]
        )
    if (shift, stride) == (1, 1):  # windows.py finds the same steps, without TensorFlow
        table = window_table([5], window=1, horizon=length, pad_after=0)
        ours = EPISODE["action"][table.action_steps(np.arange(len(table)))]
        np.testing.assert_array_equal(ours, [batch["action"] for batch in batches])


@needs_rlds
def test_shifting_aligns_actions_with_what_they_led_to():
    steps = transforms.steps_dataset(EPISODE)
    found = list(transforms.numpy_steps(transforms.shifted(steps, ["action"], -1)))
    assert [float(step["action"][0]) for step in found] == [0, 1, 2, 3]
    assert [float(step["observation"]["pos"][0]) for step in found] == [2, 4, 6, 8]
    with pytest.raises(ValueError, match="no key 'torque' to shift"):
        transforms.shifted(steps, ["torque"], 1)


@needs_rlds
def test_joining_padding_and_cutting():
    steps = transforms.steps_dataset(EPISODE)
    short = transforms.steps_dataset({"action": np.full((2, 1), 9, np.float32)})
    joined = list(transforms.numpy_steps(transforms.concatenated(steps, short)))
    assert [float(s["action"][0]) for s in joined] == [0, 1, 2, 3, 4, 9, 9]
    assert [float(s["reward"]) for s in joined] == [1, 1, 1, 1, 1, 0, 0]
    zero = transforms.zero_step(steps)
    assert zero["observation"]["pos"].tolist() == [0, 0]
    assert zero["observation"]["image"] == b""
    absorbing = list(transforms.numpy_steps(transforms.with_absorbing_step(steps)))
    assert [float(s["reward"]) for s in absorbing] == [1, 1, 1, 1, 1, 0]
    assert absorbing[-1]["observation"]["image"] == b"aaaaa"
    going_on = transforms.steps_dataset({**EPISODE, "is_terminal": np.zeros(5, bool)})
    assert len(list(transforms.numpy_steps(transforms.with_absorbing_step(going_on)))) == 5
    cut = transforms.cut_after(steps, lambda step: step["action"][0] > 1.5)
    assert [float(s["action"][0]) for s in transforms.numpy_steps(cut)] == [0, 1, 2]


@needs_rlds
def test_statistics_of_the_real_clips(shared_dir):
    dataset = open_dataset(shared_dir / "data/bridge_dataset/1.0.0")
    episodes = list(dataset.episodes("train", ["action"]))
    mean, std = transforms.mean_and_std(episodes, ["action"])
    rows = np.concatenate([episode["action"] for episode in episodes]).astype(np.float64)
    np.testing.assert_allclose(mean["action"], rows.mean(0), atol=1e-7)
    np.testing.assert_allclose(std["action"], rows.std(0, ddof=1), atol=1e-7)


@needs_rlds
def test_a_dataset_may_be_read_twice():
    steps = transforms.steps_dataset(EPISODE)
    first, second = (list(transforms.numpy_steps(steps)) for _ in range(2))
    for left, right in zip(first, second, strict=True):
        assert_same_episode(left, right)
