"""Batches: content, order, resumption at any position, slices of hosts, reading ahead."""

import threading
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arp_jax.data.loader import Loader, train_validation_split
from arp_jax.data.pack import pack_dataset
from arp_jax.data.prefetch import prefetch
from arp_jax.data.task import TaskConfig
from arp_jax.data.windows import window_table
from arp_jax.normalize import Affine, affine_from_limits, unnormalize
from arp_jax.specs import PolicySpec, SpecMismatch
from tests.data.rlds_folder import ACTION_SPEC, OBSERVATION_SPEC, synthetic_episodes, write_folder

LENGTHS = [5, 1, 9, 4]
SPEC = PolicySpec(OBSERVATION_SPEC, ACTION_SPEC, window=2, horizon=4, action_offset=-1)
LIMITS = affine_from_limits([0, 0], [512, 512])
NORMALIZER = {"agent_pos": LIMITS, "action": LIMITS}


@pytest.fixture(scope="module")
def pack(tmp_path_factory):
    folder = tmp_path_factory.mktemp("loader")
    source = write_folder(folder / "toy", synthetic_episodes(LENGTHS))
    return pack_dataset(source, folder / "pack", ["agent_pos", "image"], progress=False)


def loader_of(pack, batch_size=4, seed=3, **kwargs):
    return Loader(pack, SPEC, NORMALIZER, batch_size, seed, **kwargs)


def assert_equal(left, right):
    np.testing.assert_array_equal(left["action"], right["action"])
    np.testing.assert_array_equal(left["action_is_pad"], right["action_is_pad"])
    assert left["observation"].keys() == right["observation"].keys()
    for name, value in left["observation"].items():
        np.testing.assert_array_equal(value, right["observation"][name])


def test_shapes_dtypes_and_content(pack):
    loader = loader_of(pack)
    batch = next(loader)
    observation = batch["observation"]
    assert observation["agent_pos"].shape == (4, 2, 2)
    assert observation["agent_pos"].dtype == batch["action"].dtype == np.float32
    assert observation["image"].shape == (4, 2, 4, 4, 3)
    assert observation["image"].dtype == np.uint8
    assert batch["action"].shape == (4, 4, 2)
    assert batch["action_is_pad"].shape == (4, 4)
    assert batch["action_is_pad"].dtype == bool
    # Every example against the episodes that were written, found by its newest observation.
    episodes = synthetic_episodes(LENGTHS)
    for b in range(4):
        agent = unnormalize(observation["agent_pos"][b], LIMITS)
        (e, t) = next(
            (e, t)
            for e, episode in enumerate(episodes)
            for t, pos in enumerate(episode["agent_pos"])
            if np.allclose(pos, agent[-1], atol=1e-3)
        )
        last = LENGTHS[e] - 1
        previous = max(t - 1, 0)
        np.testing.assert_allclose(agent[0], episodes[e]["agent_pos"][previous], atol=1e-3)
        np.testing.assert_array_equal(observation["image"][b, 1], episodes[e]["image"][t])
        for h in range(4):
            time_of = t - 1 + h
            expected = episodes[e]["action"][min(max(time_of, 0), last)]
            got = unnormalize(batch["action"][b, h], LIMITS)
            np.testing.assert_allclose(got, expected, atol=1e-3)
            assert batch["action_is_pad"][b, h] == (not 0 <= time_of <= last)


def test_every_window_once_an_epoch_and_epochs_differ(pack):
    loader = loader_of(pack, batch_size=1)
    size = loader.num_windows
    assert size == sum(LENGTHS)
    assert loader.batches_per_epoch == size
    first = [int(loader.example_ids(p)[0]) for p in range(size)]
    second = [int(loader.example_ids(p)[0]) for p in range(size, 2 * size)]
    assert sorted(first) == sorted(second) == list(range(size))
    assert first != second
    other = loader_of(pack, batch_size=1, seed=4)
    assert first != [int(other.example_ids(p)[0]) for p in range(size)]


@given(position=st.integers(0, 60), batch_size=st.integers(1, 45), seed=st.integers(0, 2**63 - 1))
@settings(max_examples=30, deadline=None)
def test_resume_at_any_position(pack, position, batch_size, seed):
    # Batches larger than the epoch (19 windows) straddle several epochs.
    straight = loader_of(pack, batch_size, seed)
    straight.position = max(position - 2, 0)
    while straight.position < position:
        next(straight)
    resumed = loader_of(pack, batch_size, seed, position=position)
    for _ in range(2):
        assert_equal(next(straight), next(resumed))
    assert straight.position == resumed.position == position + 2


@pytest.mark.parametrize("hosts", [2, 3, 6])
def test_hosts_share_the_same_global_batch(pack, hosts):
    whole = loader_of(pack, batch_size=6)
    parts = [loader_of(pack, batch_size=6, host=(i, hosts)) for i in range(hosts)]
    for _ in range(5):
        batch, slices = next(whole), [next(part) for part in parts]
        joined = {
            "observation": {
                name: np.concatenate([s["observation"][name] for s in slices])
                for name in batch["observation"]
            },
            "action": np.concatenate([s["action"] for s in slices]),
            "action_is_pad": np.concatenate([s["action_is_pad"] for s in slices]),
        }
        assert_equal(batch, joined)


def test_subset_of_episodes(pack):
    loader = loader_of(pack, batch_size=9, episodes=[2])
    assert loader.num_windows == 9
    agent = unnormalize(next(loader)["observation"]["agent_pos"][:, -1], LIMITS)
    expected = synthetic_episodes(LENGTHS)[2]["agent_pos"]
    np.testing.assert_allclose(np.sort(agent, 0), np.sort(expected, 0), atol=1e-3)
    # W=2, H=4, offset -1, one padded action at most: t = 0 .. L-2.
    assert loader_of(pack, pad_after=1).num_windows == sum(n - 1 for n in LENGTHS)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"batch_size": 5, "host": (0, 2)}, ValueError, "batch_size 5 must be a multiple"),
        ({"host": (2, 2)}, ValueError, "host must be"),
        ({"seed": -1}, ValueError, "seed must be"),
        ({"position": -1}, ValueError, "position must not be negative"),
        ({"normalizer": {"action": LIMITS}}, ValueError, "no map for 'agent_pos'"),
        ({"normalizer": NORMALIZER | {"image": LIMITS}}, ValueError, "'image' is an image"),
        (
            {"normalizer": NORMALIZER | {"action": Affine(np.zeros(3), np.ones(3))}},
            ValueError,
            "map of 'action'",
        ),
    ],
)
def test_errors(pack, change, error, message):
    arguments = {"normalizer": NORMALIZER, "batch_size": 4, "seed": 0} | change
    with pytest.raises(error, match=message):
        Loader(pack, SPEC, **arguments)


def test_spec_mismatch_names_the_field(pack):
    from dataclasses import replace

    unit = replace(SPEC, action=replace(ACTION_SPEC, unit="m"))
    with pytest.raises(SpecMismatch, match=r"unit: expected 'm', found 'px'"):
        Loader(pack, unit, NORMALIZER, 4, 0)
    feature = replace(OBSERVATION_SPEC.features[0], name="block_pose")
    absent = replace(SPEC, observation=replace(OBSERVATION_SPEC, features=(feature,)))
    with pytest.raises(SpecMismatch, match="no 'block_pose' in the pack"):
        Loader(pack, absent, NORMALIZER, 4, 0)
    camera = replace(OBSERVATION_SPEC.cameras[0], height=8)
    tall = replace(SPEC, observation=replace(OBSERVATION_SPEC, cameras=(camera,)))
    with pytest.raises(SpecMismatch, match="'image' is"):
        Loader(pack, tall, NORMALIZER, 4, 0)


def test_split_is_pure_disjoint_and_as_published():
    training, validation = train_validation_split(206, 0.02, seed=42, max_train=90)
    assert (len(training), len(validation)) == (90, 4)
    assert not set(training) & set(validation)
    again = train_validation_split(206, 0.02, seed=42, max_train=90)
    np.testing.assert_array_equal(training, again[0])
    rest, same = train_validation_split(206, 0.02, seed=42)
    np.testing.assert_array_equal(same, validation)
    assert sorted([*rest, *validation]) == list(range(206))
    everything, nothing = train_validation_split(5, 0.0, seed=1)
    assert everything.tolist() == [0, 1, 2, 3, 4]
    assert len(nothing) == 0
    assert len(train_validation_split(2, 0.99, seed=1)[0]) == 1
    for arguments in [(0, 0.1, 1), (5, 1.0, 1), (5, -0.1, 1), (1, 0.5, 1), (5, 0.1, 1, 0)]:
        with pytest.raises(ValueError, match="split"):
            train_validation_split(*arguments)


def test_prefetch_gives_the_same_batches_and_the_consumed_position(pack):
    straight, ahead = loader_of(pack, position=5), loader_of(pack, position=5)
    with prefetch(ahead, depth=2) as batches:
        for consumed in range(1, 8):
            assert_equal(next(batches), next(straight))
            assert batches.position == 5 + consumed
        deadline = time.monotonic() + 5
        while ahead.position <= batches.position and time.monotonic() < deadline:
            time.sleep(0.01)
        assert ahead.position > batches.position  # the loader itself runs ahead
    assert not [t for t in threading.enumerate() if t.name == "prefetch"]
    with pytest.raises(RuntimeError, match="closed"):
        next(batches)
    resumed = loader_of(pack, position=batches.position)
    assert_equal(next(resumed), next(straight))


class Failing:
    """Delivers two numbers, then fails."""

    position = 0

    def __next__(self):
        if self.position == 2:
            raise ValueError("shard 7 is missing")
        self.position += 1
        return self.position


def test_prefetch_passes_errors_on_after_the_good_batches():
    batches = prefetch(Failing(), depth=2, transform=lambda n: 10 * n)
    assert [next(batches), next(batches)] == [10, 20]
    for _ in range(2):  # it fails again rather than hang
        with pytest.raises(ValueError, match="shard 7"):
            next(batches)
    assert batches.position == 2
    batches.close()


def test_prefetch_reads_no_further_than_its_depth():
    source = iter(range(100))

    class Counting:
        position = 0

        def __next__(self):
            self.position += 1
            return next(source)

    counting = Counting()
    with prefetch(counting, depth=2):
        time.sleep(0.3)
        assert counting.position <= 3  # two wait in the queue, one in the thread's hand
    with pytest.raises(ValueError, match="depth"):
        prefetch(counting, depth=0)


class Slow:
    """Needs `seconds` for each number."""

    def __init__(self, seconds):
        self.position, self.seconds = 0, seconds

    def __next__(self):
        time.sleep(self.seconds)
        self.position += 1
        return self.position


def test_prefetch_reports_the_share_of_waiting():
    with prefetch(Slow(0.05), depth=1) as batches:
        assert batches.wait_fraction == 0.0
        for _ in range(6):
            next(batches)
        assert batches.wait_fraction > 0.6  # whoever does nothing waits nearly always
        assert batches.waited_s > 0.2
    with prefetch(Slow(0.005), depth=2) as batches:
        for _ in range(5):
            next(batches)
            time.sleep(0.05)
        assert batches.wait_fraction < 0.3  # reading keeps up


@pytest.mark.parametrize("goal", ["uniform", "hindsight"])
def test_goals_are_later_observations_of_the_same_episode(pack, goal):
    loader = loader_of(pack, batch_size=19, task=TaskConfig(goal=goal))
    batch, ids = loader.batch_at(0), loader.example_ids(0)
    table = window_table(LENGTHS, SPEC.window, SPEC.horizon, SPEC.action_offset)
    episodes = synthetic_episodes(LENGTHS)
    shown = batch["task"]["goal"]
    assert shown["agent_pos"].shape == (19, 2)
    assert shown["image"].shape == (19, 4, 4, 3)
    assert shown["image"].dtype == np.uint8
    pos = unnormalize(shown["agent_pos"], LIMITS)
    for b, example in enumerate(ids):
        episode, t = table.episode[example], table.step[example]
        of_episode = episodes[episode]["agent_pos"]
        (goal_t,) = np.flatnonzero(np.abs(of_episode - pos[b]).max(1) < 1e-3)
        last = LENGTHS[episode] - 1
        assert goal_t == last if goal == "hindsight" or t == last else t < goal_t <= last
        np.testing.assert_array_equal(shown["image"][b], episodes[episode]["image"][goal_t])
        times = t - 1 + np.arange(4)
        assert batch["action_is_past_goal"][b].tolist() == (times >= goal_t).tolist()
    # Another epoch shows other goals, and the same one again the same.
    again = loader_of(pack, batch_size=19, task=TaskConfig(goal=goal)).batch_at(0)
    assert_equal(batch, again)
    np.testing.assert_array_equal(shown["agent_pos"], again["task"]["goal"]["agent_pos"])


def test_by_default_batches_say_nothing_about_the_task(pack):
    assert set(next(loader_of(pack))) == {"observation", "action", "action_is_pad"}
    with pytest.raises(ValueError, match="no episode has an instruction"):
        loader_of(pack, task=TaskConfig(language=True))
    with pytest.raises(ValueError, match="goal 'later' is unknown"):
        TaskConfig(goal="later")
    with pytest.raises(ValueError, match=r"language_dropout must be in 0 \.\. 1, found 1\.5"):
        TaskConfig(language_dropout=1.5)


def test_language_is_an_index_into_the_list(tmp_path):
    told = ["push", "", "lift", "push"]
    source = write_folder(tmp_path / "toy", synthetic_episodes(LENGTHS), instructions=told)
    pack = pack_dataset(source, tmp_path / "pack", progress=False)
    assert pack.instructions == ("push", "lift")
    loader = loader_of(pack, batch_size=19, task=TaskConfig(language=True))
    table = window_table(LENGTHS, SPEC.window, SPEC.horizon, SPEC.action_offset)
    owners, chosen = table.episode[loader.example_ids(0)], loader.batch_at(0)["task"]["language"]
    assert chosen.dtype == np.int32
    assert chosen.tolist() == [[0, -1, 1, 0][owner] for owner in owners]
    # In a mixture the list is a longer one.
    listed = ("wait", "lift", "push")
    loader = loader_of(pack, batch_size=19, task=TaskConfig(language=True), instructions=listed)
    chosen = loader.batch_at(0)["task"]["language"]
    assert chosen.tolist() == [[2, -1, 1, 2][owner] for owner in owners]
    silent = loader_of(pack, 19, task=TaskConfig(language=True, language_dropout=1.0))
    assert (silent.batch_at(0)["task"]["language"] == -1).all()


def test_stride_thins_the_examples_out(pack):
    assert loader_of(pack, stride=3).num_windows == 2 + 1 + 3 + 2
