"""The stream: the windows of the loader, shuffled within bytes, per host, resumed approximately."""

import dataclasses
import importlib.util
import itertools

import numpy as np
import pytest

from arp_jax.data.cards import load_card
from arp_jax.data.images import encode_image, resize_image
from arp_jax.data.loader import Loader
from arp_jax.data.pack import pack_dataset
from arp_jax.data.prefetch import prefetch
from arp_jax.data.source import open_source
from arp_jax.data.stream import Streamer
from arp_jax.data.stream_member import StreamConfig, StreamMember
from arp_jax.data.stream_records import EpisodeRecords
from arp_jax.data.synthetic import write_raw_dataset, write_synthetic
from arp_jax.data.task import TaskConfig
from arp_jax.normalize import affine_from_limits, unnormalize
from arp_jax.specs import PolicySpec, SpecMismatch
from tests.data.rlds_folder import ACTION_SPEC, OBSERVATION_SPEC, synthetic_episodes, write_folder

LENGTHS = [5, 1, 9, 4, 7, 3, 8, 2, 6, 5, 4]
WINDOWS = sum(LENGTHS)
SPEC = PolicySpec(OBSERVATION_SPEC, ACTION_SPEC, window=2, horizon=4, action_offset=-1)
LIMITS = affine_from_limits([0, 0], [512, 512])
NORMALIZER = {"agent_pos": LIMITS, "action": LIMITS}
HAVE_TENSORFLOW = importlib.util.find_spec("tensorflow") is not None
READERS = [
    "python",
    pytest.param(
        "tensorflow",
        marks=pytest.mark.skipif(
            not HAVE_TENSORFLOW,
            reason="needs TensorFlow: pip install tensorflow-cpu",
        ),
    ),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Eleven episodes in four shards."""
    root = tmp_path_factory.mktemp("stream")
    return write_folder(root / "toy", synthetic_episodes(LENGTHS), files=4)


@pytest.fixture(scope="module")
def source(folder):
    return open_source(folder)


def stream_of(source, batch_size=4, seed=3, spec=SPEC, reader="python", **options):
    placed = {k: options.pop(k) for k in ("position", "host") if k in options}
    config = StreamConfig(reader=reader, **options)
    members = [StreamMember(source)] if not isinstance(source, list) else source
    return Streamer(members, spec, NORMALIZER, batch_size, seed, config=config, **placed)


def rows_of(batch):
    """Each example of a batch as hashable bytes: observation, action, padding and goal."""
    arrays = [*batch["observation"].values(), batch["action"], batch["action_is_pad"]]
    if "task" in batch:
        arrays += [batch["action_is_past_goal"], *batch["task"]["goal"].values()]
    return [tuple(array[row].tobytes() for array in arrays) for row in range(len(arrays[0]))]


def drawn(stream, batches):
    return [row for _ in range(batches) for row in rows_of(next(stream))]


@pytest.mark.parametrize("reader", READERS)
def test_one_pass_is_what_the_loader_delivers(folder, source, tmp_path, reader):
    """Every window of every episode once, equal to the byte to those of a pack."""
    pack = pack_dataset(folder, tmp_path / "pack", ["agent_pos", "image"], progress=False)
    loader = Loader(pack, SPEC, NORMALIZER, WINDOWS, seed=0)
    expected = rows_of(loader.batch_at(0))
    stream = stream_of(source, batch_size=1, reader=reader, buffer_mb=1e-6, cycle=3)
    found = drawn(stream, WINDOWS)
    assert stream.position == WINDOWS
    assert sorted(found) == sorted(expected)
    assert len(set(found)) == WINDOWS
    batch = next(stream_of(source, reader=reader))
    example = loader.batch_at(0)
    for name in ("agent_pos", "image"):
        left, right = batch["observation"][name], example["observation"][name]
        assert (left.dtype, left.shape[1:]) == (right.dtype, right.shape[1:])
    assert batch["action"].shape == (4, 4, 2)
    assert batch["action_is_pad"].dtype == bool


def test_goals_are_those_of_the_loader(folder, source, tmp_path):
    pack = pack_dataset(folder, tmp_path / "pack", ["agent_pos", "image"], progress=False)
    task = TaskConfig(goal="hindsight")
    expected = rows_of(Loader(pack, SPEC, NORMALIZER, WINDOWS, seed=0, task=task).batch_at(0))
    found = drawn(stream_of(source, batch_size=1, buffer_mb=1e-6, task=task), WINDOWS)
    assert sorted(found) == sorted(expected)
    # "uniform": a later step of the same episode (the last one where there is none).
    batch = next(stream_of(source, batch_size=256, task=TaskConfig(goal="uniform")))
    place = {
        tuple(pos.round(2)): (number, step)
        for number, episode in enumerate(synthetic_episodes(LENGTHS))
        for step, pos in enumerate(episode["agent_pos"])
    }
    kept = unnormalize(batch["observation"]["agent_pos"][:, -1], LIMITS).round(2)
    goals = unnormalize(batch["task"]["goal"]["agent_pos"], LIMITS).round(2)
    ahead = []
    for row, (current, goal) in enumerate(zip(kept, goals, strict=True)):
        (episode, step), (same, later) = place[tuple(current)], place[tuple(goal)]
        assert episode == same
        assert later > step or later == step == LENGTHS[episode] - 1
        past = step - 1 + np.arange(4) >= later  # offset -1, H = 4
        np.testing.assert_array_equal(batch["action_is_past_goal"][row], past)
        ahead.append(later - step)
    assert {1, 2, 3, 4, 5} <= set(ahead)


def test_a_larger_buffer_shuffles_more_and_holds_what_it_may(source):
    sizes = {}
    for megabytes in (1e-6, 2e-3, 10):
        stream = stream_of(source, batch_size=2, buffer_mb=megabytes)
        held, order = [], []
        for _ in range(100):
            order += [tuple(p) for p in next(stream)["observation"]["agent_pos"][:, -1]]
            held.append(stream.nbytes)
        sizes[megabytes] = max(held)
        # Never more than the budget and one episode (at most 9 steps of 4 x 4 pixels).
        assert max(held) <= megabytes * 2**20 + 9 * (200 + 16)
        assert max(held) > 0
    assert sizes[1e-6] < sizes[2e-3] < sizes[10]
    # A buffer for everything holds each episode once, not the endless stream.
    assert sizes[10] < 3 * WINDOWS * 216


def test_the_same_arguments_give_the_same_stream(source):
    first = drawn(stream_of(source), 30)
    assert drawn(stream_of(source), 30) == first
    assert drawn(stream_of(source, seed=4), 30) != first


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("count", [2, 3, 7])
def test_hosts_read_disjoint_parts(source, count, reader):
    """By shards while there are enough (2, 3 of 4), else by records (7 of 4)."""
    seen: list[list[tuple[str, int]]] = [[], []]
    for index in range(count):
        records = EpisodeRecords(source.dataset, "train", 1, (index, count), 2, reader)
        endless = records.endless()
        for one_pass in seen:
            part = itertools.islice(endless, records.per_pass)
            one_pass += [(record.file, record.number) for record in part]
    for one_pass in seen:
        assert len(one_pass) == len(set(one_pass)) == len(LENGTHS)
    stream = stream_of(source, batch_size=2 * count, host=(count - 1, count))
    assert next(stream)["action"].shape == (2, 4, 2)


@pytest.mark.parametrize("split", ["train", "train[2:9]", "train[50%:]"])
def test_tensorflow_and_python_read_in_the_same_order(source, split):
    pytest.importorskip("tensorflow", reason="needs TensorFlow: pip install tensorflow-cpu")
    for cycle in (1, 2, 3, 8):
        orders = []
        for reader in ("python", "tensorflow"):
            records = EpisodeRecords(source.dataset, split, 5, cycle=cycle, reader=reader)
            endless = records.endless()
            orders.append([next(endless) for _ in range(3 * records.per_pass)])
        assert orders[0] == orders[1]


def test_records_are_skipped_whole_shards_first(source):
    records = EpisodeRecords(source.dataset, "train", 5, cycle=2, reader="python")
    total = records.per_pass
    assert total == len(LENGTHS)
    files = [
        {record.file: 0 for record in itertools.islice(records.endless(i * total), total)}
        for i in range(6)
    ]
    assert len({tuple(order) for order in files}) > 2  # every pass has an order of its own
    # A whole pass is skipped exactly; within a pass as many are left out as asked for.
    endless = records.endless()
    for _ in range(total):
        next(endless)
    assert next(records.endless(total)) == next(endless)
    for skip in range(total):
        left: list[tuple[str, int]] = []
        for record in records.endless(skip):
            if len(left) == total - skip:
                break
            left.append((record.file, record.number))
        assert len(set(left)) == total - skip


def test_resuming_keeps_members_and_skips_whole_episodes(source, tmp_path):
    other = open_source(write_folder(tmp_path / "other", synthetic_episodes([6, 5, 8], seed=1)))
    members = [StreamMember(source, 3), StreamMember(other, 1)]
    whole = stream_of(members, batch_size=8)
    batches = [next(whole) for _ in range(40)]
    resumed = [stream_of(members, batch_size=8, position=25) for _ in range(2)]
    left, right = (drawn(stream, 15) for stream in resumed)
    assert resumed[0].position == 40
    assert left == right  # resuming twice is the same
    positions = unnormalize(
        np.concatenate([b["observation"]["agent_pos"][:, -1] for b in batches[25:]]), LIMITS
    )
    of_first = {tuple(p) for e in synthetic_episodes(LENGTHS) for p in e["agent_pos"].round(2)}
    expected = [tuple(p) in of_first for p in positions.round(2)]
    stream = stream_of(members, batch_size=8, position=25)
    found = [
        tuple(p) in of_first
        for _ in range(15)
        for p in unnormalize(next(stream)["observation"]["agent_pos"][:, -1], LIMITS).round(2)
    ]
    assert found == expected  # the same member gives each example


def test_shares_are_exact(source, tmp_path):
    other = open_source(write_folder(tmp_path / "other", synthetic_episodes([6, 5], seed=1)))
    stream = stream_of([StreamMember(source, 3), StreamMember(other, 1)], batch_size=64)
    mine = {tuple(p) for e in synthetic_episodes([6, 5], seed=1) for p in e["agent_pos"].round(2)}
    count = 0
    for _ in range(1024 // 64):  # one block
        positions = unnormalize(next(stream)["observation"]["agent_pos"][:, -1], LIMITS)
        count += sum(tuple(p) in mine for p in positions.round(2))
    assert count == 256


def test_published_datasets_are_standardised_and_resized(tmp_path):
    """bridge and fractal, as they lie on a disk: the canonical steps, pictures in one size."""
    sources = [
        open_source(write_raw_dataset(tmp_path, load_card(name), episodes=1, seed=0))
        for name in ("bridge", "fractal20220817_data")
    ]
    observation = sources[0].specs.observation.select(["image", "language_embedding"])
    camera = dataclasses.replace(observation.cameras[0], height=48, width=64)
    observation = dataclasses.replace(observation, cameras=(camera,))
    action = sources[0].specs.action
    spec = PolicySpec(observation, action, window=1, horizon=1)
    same = affine_from_limits([-1] * 7, [1] * 7)
    normalizer = {"action": same, "language_embedding": affine_from_limits([-1] * 512, [1] * 512)}
    members = [StreamMember(source) for source in sources]
    config = StreamConfig(reader="python", differences=("rate", "limits"))
    expected = set()
    for source in sources:
        for episode in source.episodes("train", ["image"]):
            for image, target in zip(
                episode["observation"]["image"], episode["action"], strict=True
            ):
                expected.add((resize_image(image, 48, 64).tobytes(), target.tobytes()))
    found = set()
    stream = Streamer(members, spec, normalizer, 32, 0, config=config)
    for batch in itertools.islice(stream, 2):
        for image, target in zip(batch["observation"]["image"], batch["action"], strict=True):
            found.add((image.tobytes(), target.tobytes()))
        assert batch["observation"]["language_embedding"].shape == (32, 1, 512)
    assert found == expected
    task = TaskConfig(language=True, language_dropout=0.3)
    config = dataclasses.replace(config, task=task)
    plain = dataclasses.replace(spec, observation=observation.select([]))
    stream = Streamer(members, plain, normalizer, 512, 0, config=config)
    batch = next(stream)
    assert batch["observation"] == {}
    lengths = np.linalg.norm(batch["task"]["language_embedding"], axis=1)
    np.testing.assert_allclose(lengths[lengths > 0], 1, atol=1e-5)
    assert 0.2 < np.mean(lengths == 0) < 0.4
    with pytest.raises(SpecMismatch, match=r"fractal.*differ in action\.rate_hz.*differences"):
        Streamer(members, spec, normalizer, 32, 0)


def test_prefetching_gives_the_same_batches(source):
    expected = drawn(stream_of(source), 10)
    with prefetch(stream_of(source), depth=2) as ahead:
        found = [row for _ in range(10) for row in rows_of(next(ahead))]
        assert ahead.position == 10
    assert found == expected


def test_episodes_too_short_are_left_out(source, tmp_path):
    stream = stream_of(source, batch_size=1, pad_after=0, buffer_mb=1e-6)
    room = sum(max(length + 1 - 3, 0) for length in LENGTHS)  # offset -1, H = 4, nothing padded
    found = drawn(stream, room)
    assert len(set(found)) == room
    short = open_source(write_folder(tmp_path / "short", synthetic_episodes([2, 1])))
    with pytest.raises(ValueError, match="no episode of 'train' has room for horizon 4"):
        next(stream_of(short, pad_after=0))


def test_wrong_use_is_named(source, tmp_path):
    with pytest.raises(ValueError, match="must be a multiple of the hosts"):
        stream_of(source, batch_size=3, host=(0, 2))
    with pytest.raises(ValueError, match="pad_after must be in"):
        stream_of(source, pad_after=9)
    with pytest.raises(ValueError, match="buffer_mb must be positive"):
        stream_of(source, buffer_mb=0)
    with pytest.raises(ValueError, match="reader 'numpy' is unknown"):
        stream_of(source, reader="numpy")
    with pytest.raises(ValueError, match="no split 'test'"):
        stream_of([StreamMember(source, 1, "test")])
    with pytest.raises(ValueError, match="episodes for 12 hosts"):
        stream_of(source, batch_size=12, host=(11, 12))
    with pytest.raises(ValueError, match="map of 'agent_pos' is none"):
        Streamer([StreamMember(source)], SPEC, {"action": LIMITS}, 4, 0)
    with pytest.raises(SpecMismatch, match="toy stores no 'language_embedding'"):
        stream_of(source, task=TaskConfig(language=True))
    other = PolicySpec(
        OBSERVATION_SPEC, ACTION_SPEC.from_json({**ACTION_SPEC.to_json(), "unit": "m"}), 2, 4
    )
    with pytest.raises(SpecMismatch, match=r"toy and policy differ in action\.unit"):
        stream_of(source, spec=other)


@pytest.mark.parametrize("reader", READERS)
def test_damage_is_named(tmp_path, reader):
    folder = write_folder(tmp_path / "toy", synthetic_episodes(LENGTHS), files=4)
    shard = sorted(folder.glob("*.tfrecord-*"))[2]
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    stream = stream_of(open_source(folder), reader=reader)
    with pytest.raises(ValueError, match=r"copy (it|the file) again") as error:
        next(stream)
    assert str(folder) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_picture_that_cannot_be_decoded_is_named(tmp_path):
    (episode,) = synthetic_episodes([6])
    pictures = [encode_image(picture, "png") for picture in episode["image"]]
    pictures[4] = pictures[4][:40]
    folder = write_folder(tmp_path / "toy", [{**episode, "image": pictures}])
    stream = stream_of(open_source(folder), batch_size=6)
    with pytest.raises(ValueError, match=r"00000-of-00001: episode 0 of the file, step 4: image:"):
        next(stream)
    stream.close()


@pytest.mark.slow
def test_memory_is_flat(tmp_path):
    """20,000 samples of a set five times the buffer: no more memory than after 2,000."""
    rng = np.random.default_rng(0)
    pictures = [encode_image(rng.integers(0, 256, (96, 96, 3), np.uint8), "jpeg") for _ in range(9)]
    episodes = [
        {**episode, "image": [pictures[rng.integers(9)] for _ in episode["action"]]}
        for episode in synthetic_episodes(rng.integers(20, 60, 60), size=1)
    ]
    source = open_source(write_folder(tmp_path / "toy", episodes, files=6, image_format="jpeg"))
    spec = dataclasses.replace(SPEC, observation=source.specs.observation)
    stream = stream_of(source, batch_size=50, spec=spec, buffer_mb=4)
    stored = sum(path.stat().st_size for path in (tmp_path / "toy").glob("*.tfrecord-*"))
    assert stored > 5 * 4 * 2**20
    used = []
    for _ in range(400):
        next(stream)
        assert stream.nbytes < 4.7 * 2**20
        with open("/proc/self/statm") as file:
            used.append(int(file.read().split()[1]))
    assert max(used[40:]) < 1.05 * max(used[:40])


@pytest.mark.skipif(HAVE_TENSORFLOW, reason="says what is missing where TensorFlow is")
def test_a_missing_tensorflow_is_named_at_once(source, tmp_path):
    with pytest.raises(ImportError, match=r"pip install 'arp_jax\[tf\]'"):
        stream_of(source, reader="tensorflow")
    # ArrayRecord is read without it.
    folder = write_synthetic(tmp_path, OBSERVATION_SPEC, ACTION_SPEC, episodes=2)
    assert next(stream_of(open_source(folder), reader="tensorflow"))["action"].shape == (4, 4, 2)
