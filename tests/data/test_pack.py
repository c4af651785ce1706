"""Packing: the same bytes whatever interrupts it; reading; each damage is one clear line."""

import fcntl
import json
import os
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest

from arp_jax.data.pack import main, open_pack, pack_dataset
from arp_jax.data.rlds import open_dataset
from arp_jax.data.store import read_meta
from tests.data.rlds_folder import ACTION_SPEC, OBSERVATION_SPEC, synthetic_episodes, write_folder

LENGTHS = [5, 1, 9, 4, 7, 3]
NAMES = ["agent_pos", "image"]
# One or two episodes a shard.
SHARD_BYTES = 400


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("rlds") / "toy", synthetic_episodes(LENGTHS))


@pytest.fixture
def packed(source, tmp_path):
    pack_dataset(source, tmp_path / "pack", NAMES, progress=False, shard_bytes=SHARD_BYTES).close()
    return tmp_path / "pack"


def joined(name, lengths=LENGTHS):
    return np.concatenate([e[name] for e in synthetic_episodes(lengths)])


def contents(folder):
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.name != ".lock"}


@pytest.mark.parametrize("memory_budget", [0, 16 * sum(LENGTHS), 1 << 30])
def test_round_trip_and_random_access(packed, memory_budget):
    pack = open_pack(packed, memory_budget=memory_budget, verify=True)
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
    assert not list(packed.glob("images-*"))


# Kills itself with SIGKILL at the n-th call of a function on the writing path.
KILLER = """
import os, signal, sys
import arp_jax.data.pack as pack, arp_jax.data.shards as shards
source, out, where, count = sys.argv[1:]
calls = 0
def killing(function):
    def wrapped(*args):
        global calls
        calls += 1
        if calls == int(count):
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*args)
    return wrapped
if where == "add":
    shards.ShardWriter.add = killing(shards.ShardWriter.add)
else:
    shards._publish = killing(shards._publish)
pack.pack_dataset(source, out, ["agent_pos", "image"], progress=False, shard_bytes=400)
"""


# Each shard publishes vectors, images, description: "publish" 6 is between the second shard's data
# and its description, "last" just before meta.json gets its name.
@pytest.mark.parametrize(("where", "count"), [("add", 4), ("publish", 6), ("publish", "last")])
def test_kill_and_resume_gives_the_same_bytes(source, packed, tmp_path, where, count):
    expected = contents(packed)
    if count == "last":
        count = 3 * len(read_meta(packed)["shards"]) + 1
    out = tmp_path / "killed"
    command = [sys.executable, "-c", KILLER, str(source), str(out), where, str(count)]
    killed = subprocess.run(command, capture_output=True, timeout=60)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    with pytest.raises(ValueError, match="no finished pack"):
        open_pack(out)
    finished = {p: p.stat().st_mtime_ns for p in out.glob("shard-*.json")}
    assert finished
    data = {p: p.stat().st_mtime_ns for p in out.glob("vectors-00000.array_record")}
    pack_dataset(source, out, NAMES, progress=False, shard_bytes=SHARD_BYTES)
    assert contents(out) == expected
    assert {p: p.stat().st_mtime_ns for p in data} == data  # kept, not written again


def test_damaged_unfinished_shard_is_written_again(source, packed, tmp_path):
    expected = contents(packed)
    out = tmp_path / "damaged"
    command = [sys.executable, "-c", KILLER, str(source), str(out), "publish", "8"]
    subprocess.run(command, capture_output=True, timeout=60)
    path = out / "vectors-00001.array_record"
    path.write_bytes(path.read_bytes()[:-3])
    pack_dataset(source, out, NAMES, progress=False, shard_bytes=SHARD_BYTES)
    assert contents(out) == expected


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
    shard = packed / "images-00000.array_record"
    content = bytearray(shard.read_bytes())
    content[60:300] = bytes(240)
    shard.write_bytes(content)
    pack = open_pack(packed, memory_budget=0)
    with pytest.raises(ValueError, match="images-00000"):
        pack.read_steps(np.arange(5))


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
    pack = pack_dataset(source, tmp_path / "pack", ["state", "image_0"], progress=False)
    assert pack.episode_lengths.tolist() == [10] * 25
    assert pack.observation_spec is None  # a foreign dataset says nothing about its units
    arrays = pack.read_steps(np.arange(pack.num_steps))
    episodes = list(open_dataset(source).episodes("train", ["state", "image_0", "action"]))
    for name in ("state", "image_0"):
        expected = np.concatenate([e["observation"][name] for e in episodes])
        np.testing.assert_array_equal(arrays[name], expected)
    np.testing.assert_array_equal(arrays["action"], np.concatenate([e["action"] for e in episodes]))


def test_command_line(source, tmp_path, capsys):
    out = tmp_path / "pack"
    arguments = ["--source", str(source), "--out", str(out), "--features", "agent_pos"]
    assert main([*arguments, "--quiet"]) == 0
    assert "6 episodes, 29 steps" in capsys.readouterr().out
    assert main([*arguments[:-1], "depth", "--quiet"]) == 2
    assert capsys.readouterr().err.startswith("error: ")


def test_random_reads_do_not_grow_memory(tmp_path):
    # 2,000 images read from disk many times over: about 90 MB pass through.
    source = write_folder(tmp_path / "toy", synthetic_episodes([500] * 4))
    pack_dataset(source, tmp_path / "pack", NAMES, progress=False).close()
    pack = open_pack(tmp_path / "pack", memory_budget=0)
    rng = np.random.default_rng(0)

    def read(times):
        for _ in range(times):
            pack.read_steps(rng.integers(0, 2000, (128, 4)))

    read(50)
    before = resident_bytes()
    read(400)
    assert resident_bytes() - before < 8 << 20


def resident_bytes() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
