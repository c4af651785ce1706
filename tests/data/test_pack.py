"""A packed dataset reads back exactly, in any form and from any part; damage is one clear line."""

import fcntl
import json
import os
import threading

import numpy as np
import pytest
from array_record.python.array_record_module import ArrayRecordReader

from arp_jax.data.images import decode_image, encode_image, resize_image
from arp_jax.data.pack import main, open_pack, pack_dataset
from arp_jax.data.rlds import open_dataset
from arp_jax.data.store import read_meta
from tests.data.rlds_folder import ACTION_SPEC, OBSERVATION_SPEC, synthetic_episodes, write_folder
from tests.data.toy_pack import LENGTHS, NAMES, SHARD_BYTES, contents, write_version_1


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("rlds") / "toy", synthetic_episodes(LENGTHS))


@pytest.fixture
def packed(source, tmp_path):
    pack_dataset(source, tmp_path / "pack", NAMES, progress=False, shard_bytes=SHARD_BYTES).close()
    return tmp_path / "pack"


def joined(name, lengths=LENGTHS):
    return np.concatenate([e[name] for e in synthetic_episodes(lengths)])


@pytest.mark.parametrize("memory_budget", [0, 16 * sum(LENGTHS), 1 << 30])
@pytest.mark.parametrize("images", ["encoded", "raw"])
def test_round_trip_and_random_access(source, tmp_path, images, memory_budget):
    packed = tmp_path / "pack"
    pack_dataset(
        source, packed, NAMES, progress=False, images=images, shard_bytes=SHARD_BYTES
    ).close()
    pack = open_pack(packed, memory_budget=memory_budget, verify=True)
    assert pack.encoded == (("image",) if images == "encoded" else ())
    held = {0: (), 1 << 30: ("agent_pos", "action", "image")}
    assert pack.in_memory == held.get(memory_budget, ("agent_pos", "action"))
    assert pack.episode_lengths.tolist() == LENGTHS
    assert (pack.num_episodes, pack.num_steps) == (6, 29)
    assert len(read_meta(packed)["shards"]) > 2
    indices = np.random.default_rng(1).integers(0, 29, (7, 3))
    arrays = pack.read_steps(indices)
    assert set(arrays) == {"agent_pos", "image", "action"}
    for name, array in arrays.items():
        expected = joined(name)[indices]
        assert array.dtype == expected.dtype
        np.testing.assert_array_equal(array, expected)
    only = pack.read_steps(np.array(4), ["image"])
    assert list(only) == ["image"]
    assert only["image"].shape == (4, 4, 3)
    pack.close()


def test_carries_specs_and_stats(packed):
    pack = open_pack(packed)
    assert pack.observation_spec == OBSERVATION_SPEC
    assert pack.action_spec == ACTION_SPEC
    assert set(pack.stats) == {"agent_pos", "action"}
    np.testing.assert_allclose(pack.stats["action"].mean, joined("action").mean(0), rtol=1e-6)
    assert pack.stats["action"].count == 29


def test_equal_content_is_reused_and_other_content_refused(source, packed, tmp_path):
    before = contents(packed)
    stamp = (packed / "meta.json").stat().st_mtime_ns
    pack_dataset(source, packed, NAMES, progress=False)
    assert contents(packed) == before
    assert (packed / "meta.json").stat().st_mtime_ns == stamp
    with pytest.raises(ValueError, match=r"another source or selection.*--overwrite"):
        pack_dataset(source, packed, ["agent_pos"], progress=False)
    other = write_folder(tmp_path / "other", synthetic_episodes(LENGTHS, seed=1))
    with pytest.raises(ValueError, match="another source or selection"):
        pack_dataset(other, packed, NAMES, progress=False)
    pack = pack_dataset(source, packed, ["agent_pos"], progress=False, overwrite=True)
    assert list(pack.shapes) == ["agent_pos", "action"]
    assert not list(packed.glob("images*"))


def test_open_names_every_damage(packed):
    shard = packed / "vectors-00001.array_record"
    good = shard.read_bytes()
    shard.write_bytes(good[:-1])
    with pytest.raises(ValueError, match=r"vectors-00001.*bytes, written were"):
        open_pack(packed)
    flipped = bytearray(good)
    flipped[len(good) // 2] ^= 1
    shard.write_bytes(flipped)
    with pytest.raises(ValueError, match=r"vectors-00001.*checksum differs"):
        open_pack(packed, verify=True)
    shard.unlink()
    with pytest.raises(ValueError, match=r"vectors-00001.*missing"):
        open_pack(packed)


def test_corrupt_record_is_named_when_read(packed):
    shard = packed / "images.image-00000.array_record"
    content = bytearray(shard.read_bytes())
    content[60:300] = bytes(240)
    shard.write_bytes(content)
    pack = open_pack(packed, memory_budget=0)
    with pytest.raises(ValueError, match=r"images\.image-00000"):
        pack.read_steps(np.arange(5))


def test_any_flipped_byte_is_found(packed):
    rng = np.random.default_rng(0)
    for path in sorted(p for p in packed.iterdir() if not p.name.startswith(".lock")):
        good = path.read_bytes()
        # ArrayRecord pads its blocks with zeros, which nobody reads but which count all the same.
        for position in rng.integers(0, len(good), 200 if path.suffix == ".json" else 5):
            flipped = bytearray(good)
            flipped[position] ^= 1 << int(rng.integers(8))
            path.write_bytes(flipped)
            with pytest.raises(ValueError, match=path.name):
                open_pack(packed, memory_budget=0, verify=path.suffix != ".json")
        path.write_bytes(good)
    open_pack(packed, verify=True).close()


def test_pictures_are_kept_as_the_source_stores_them(tmp_path):
    episodes = synthetic_episodes([3, 2], size=16)
    frames = [encode_image(p, "jpeg", 80) for e in episodes for p in e["image"]]
    episodes[0]["image"], episodes[1]["image"] = frames[:3], frames[3:]
    source = write_folder(tmp_path / "toy", episodes, image_format="jpeg")
    pack = pack_dataset(source, tmp_path / "pack", NAMES, progress=False, memory_budget=0)
    reader = ArrayRecordReader(str(tmp_path / "pack/images.image-00000.array_record"))
    assert reader.read(list(range(5))) == frames
    pixels = np.stack([decode_image(frame) for frame in frames])
    np.testing.assert_array_equal(pack.read_steps(np.arange(5))["image"], pixels)
    # A step that is asked for several times is decoded once and copied.
    again = pack.read_steps(np.array([[4, 4, 0], [0, 2, 4]]), ["image"])["image"]
    np.testing.assert_array_equal(again, pixels[[[4, 4, 0], [0, 2, 4]]])
    pack.close()
    np.testing.assert_array_equal(pack.read_steps(np.arange(5))["image"], pixels)
    raw = pack_dataset(source, tmp_path / "raw", NAMES, progress=False, images="raw")
    np.testing.assert_array_equal(raw.read_steps(np.arange(5))["image"], pixels)


@pytest.mark.parametrize("images", ["encoded", "raw"])
def test_resized_once(tmp_path, images):
    source = write_folder(tmp_path / "toy", synthetic_episodes([3], size=16), image_format="jpeg")
    options = {"progress": False, "images": images, "resize": {"image": (8, 12)}}
    pack = pack_dataset(source, tmp_path / "pack", (), **options)
    assert pack.shapes["image"] == (8, 12, 3)
    camera = pack.observation_spec.cameras[0]
    assert (camera.height, camera.width) == (8, 12)
    (episode,) = open_dataset(source).episodes("train")
    expected = [resize_image(p, 8, 12) for p in episode["observation"]["image"]]
    if images == "encoded":
        expected = [decode_image(encode_image(p, "jpeg", 95)) for p in expected]
    np.testing.assert_array_equal(pack.read_steps(np.arange(3))["image"], np.stack(expected))
    # Pictures that have the size already are not encoded a second time.
    options["resize"] = {"image": (16, 16)}
    same = pack_dataset(source, tmp_path / "same", (), **options).read_steps(np.arange(3))["image"]
    np.testing.assert_array_equal(same, episode["observation"]["image"])


def test_language_is_a_table_and_indices(tmp_path):
    told = ["push the T", "", "lift", "push the T", "lift", "wait"]
    source = write_folder(tmp_path / "toy", synthetic_episodes(LENGTHS), instructions=told)
    pack = pack_dataset(source, tmp_path / "pack", progress=False, shard_bytes=SHARD_BYTES)
    assert pack.instructions == ("push the T", "lift", "wait")
    assert pack.episode_language == [(0,), (), (1,), (0,), (1,), (2,)]


def test_a_pack_of_version_1_is_read_and_goes_on(source, tmp_path):
    old = write_version_1(tmp_path / "old", source)
    pack = open_pack(old, verify=True)
    arrays = pack.read_steps(np.arange(29))
    for name in ("agent_pos", "image", "action"):
        np.testing.assert_array_equal(arrays[name], joined(name))
    assert pack.instructions == ()
    assert pack.episode_language == [()] * 6
    before = contents(old)
    # Training that was begun with it packs "again" at every start, and finds it.
    again = pack_dataset(source, old, NAMES, progress=False)
    assert (again.content_hash, contents(old)) == (pack.content_hash, before)
    with pytest.raises(ValueError, match="another source or selection"):
        pack_dataset(source, old, ["agent_pos"], progress=False)


def test_other_version_and_no_pack(packed, tmp_path):
    meta = json.loads((packed / "meta.json").read_text())
    (packed / "meta.json").write_text(json.dumps(meta | {"format_version": 99}))
    with pytest.raises(ValueError, match="version 99, this program reads"):
        open_pack(packed)
    (packed / "meta.json").write_text("{")
    with pytest.raises(ValueError, match="not a JSON object"):
        open_pack(packed)
    with pytest.raises(ValueError, match=r"no finished pack.*--source"):
        open_pack(tmp_path / "absent")


def test_a_second_process_waits_and_opens_the_result(source, packed, tmp_path):
    out = tmp_path / "contended"
    out.mkdir()
    results = []

    def work():
        results.append(pack_dataset(source, out, NAMES, progress=False).content_hash)

    with (out / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        threads = [threading.Thread(target=work) for _ in range(2)]
        for thread in threads:
            thread.start()
        threads[0].join(0.2)
        assert not results
    for thread in threads:
        thread.join(20)
    assert results == [open_pack(packed).content_hash] * 2


@pytest.mark.parametrize("images", ["encoded", "raw"])
def test_several_threads_read_at_once(source, tmp_path, images):
    options = {"images": images, "shard_bytes": SHARD_BYTES, "memory_budget": 0}
    pack = pack_dataset(source, tmp_path / "pack", NAMES, progress=False, **options)
    expected = {name: joined(name) for name in pack.shapes}
    wrong = []

    def work(seed):
        rng = np.random.default_rng(seed)
        for _ in range(30):
            indices = rng.integers(0, 29, (8, 3))
            for name, array in pack.read_steps(indices).items():
                if not np.array_equal(array, expected[name][indices]):
                    wrong.append((seed, name))

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_bad_requests(source, packed, tmp_path):
    with pytest.raises(ValueError, match="no observation 'depth'; there are"):
        pack_dataset(source, tmp_path / "x", ["depth"], progress=False)
    with pytest.raises(ValueError, match="no split 'test'"):
        pack_dataset(source, tmp_path / "x", NAMES, progress=False, split="test")
    pack = open_pack(packed)
    with pytest.raises(ValueError, match="no feature 'depth'"):
        pack.read_steps(np.arange(2), ["depth"])
    for wrong in (-1, 29):
        with pytest.raises(ValueError, match="step indices"):
            pack.read_steps(np.array([0, wrong]))


def test_nan_names_episode_and_step(tmp_path):
    episodes = synthetic_episodes([3, 4])
    episodes[1]["action"][2, 0] = np.nan
    source = write_folder(tmp_path / "toy", episodes)
    with pytest.raises(ValueError, match=r"action\[0\] is nan in episode 1, step 2"):
        pack_dataset(source, tmp_path / "pack", NAMES, progress=False)


def test_part_of_a_split(source, tmp_path):
    pack = pack_dataset(source, tmp_path / "p", ["agent_pos"], progress=False, split="train[1:3]")
    assert pack.episode_lengths.tolist() == LENGTHS[1:3]
    np.testing.assert_array_equal(pack.read_steps(np.arange(10))["action"], joined("action")[5:15])


def test_real_rlds_dataset(shared_dir, tmp_path):
    source = shared_dir / "data/bridge_dataset/1.0.0"
    names = ["state", "image", "image_2"]
    pack = pack_dataset(source, tmp_path / "pack", names, progress=False)
    assert pack.episode_lengths.tolist() == [10] * 25
    assert pack.action_spec.dims[-1] == "gripper"  # its card says what the numbers mean
    assert pack.observation_spec.names == ("state", "image", "image_2")
    arrays = pack.read_steps(np.arange(pack.num_steps))
    raw = list(open_dataset(source).episodes("train"))
    for name, stored in {"state": "state", "image": "image_0", "image_2": "image_1"}.items():
        expected = np.concatenate([e["observation"][stored] for e in raw])
        np.testing.assert_array_equal(arrays[name], expected)
    np.testing.assert_array_equal(arrays["action"], np.concatenate([e["action"] for e in raw]))
    spoken = [[pack.instructions[i] for i in told] for told in pack.episode_language]
    expected = [[t] if (t := str(e["language_instruction"][0])) else [] for e in raw]
    assert spoken == expected


def test_command_line(source, tmp_path, capsys):
    out = tmp_path / "pack"
    arguments = ["--source", str(source), "--out", str(out), "--features", "agent_pos"]
    assert main([*arguments, "--quiet"]) == 0
    assert "6 episodes, 29 steps" in capsys.readouterr().out
    for wrong, message in {
        ("--features", "depth"): "no observation 'depth'; there are",
        ("--resize", "image=8"): "--resize 'image=8': write CAMERA=HEIGHTxWIDTH",
        ("--resize", "photo=8x8"): "resize: no camera 'photo'",
        ("--host", "1"): "--host '1': write I/N",
        ("--host", "2/2"): "host 2/2: I must be",
        ("--workers", "-1"): "must not be negative",
        ("--card", "nowhere.json"): "card 'nowhere.json'",
    }.items():
        assert main([*arguments, *wrong, "--quiet"]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("error: ")
        assert message in line


def test_random_reads_do_not_grow_memory(tmp_path):
    # 2,000 pictures read from disk many times over: about 50 MB of pixels pass through.
    episodes = synthetic_episodes([500] * 4, size=16)
    source = write_folder(tmp_path / "toy", episodes, image_format="jpeg")
    pack_dataset(source, tmp_path / "pack", NAMES, progress=False).close()
    pack = open_pack(tmp_path / "pack", memory_budget=0)
    rng = np.random.default_rng(0)

    def read(times):
        for _ in range(times):
            pack.read_steps(rng.integers(0, 2000, (128, 4)))

    read(30)
    before = resident_bytes()
    read(130)
    assert resident_bytes() - before < 8 << 20


def resident_bytes() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
