"""Packing in pieces, killed at any moment, in parallel, on several hosts: always the same bytes."""

import os
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from arp_jax.data.pack import main, open_pack, pack_dataset
from arp_jax.data.pack_write import pack_part
from arp_jax.data.store import read_meta
from tests.data.rlds_folder import synthetic_episodes, write_folder
from tests.data.toy_pack import LENGTHS, NAMES, SHARD_BYTES, contents

# Ends itself with SIGKILL at the n-th call of a function on the writing path.
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
    shards.publish = killing(shards.publish)
pack.pack_dataset(source, out, ["agent_pos", "image"], progress=False, shard_bytes=400)
"""


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    told = ["push", "lift", "push", "", "wait", "lift"]
    folder = tmp_path_factory.mktemp("rlds") / "toy"
    return write_folder(folder, synthetic_episodes(LENGTHS), files=3, instructions=told)


@pytest.fixture(scope="module")
def packed(source, tmp_path_factory):
    out = tmp_path_factory.mktemp("packed") / "pack"
    pack_dataset(source, out, NAMES, progress=False, shard_bytes=SHARD_BYTES).close()
    return out


def resume(source, out):
    pack_dataset(source, out, NAMES, progress=False, shard_bytes=SHARD_BYTES).close()


def kill_at(source, out, where, count):
    command = [sys.executable, "-c", KILLER, str(source), str(out), where, str(count)]
    killed = subprocess.run(command, capture_output=True, timeout=60)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()


# Each shard publishes vectors, images, description: "publish" 6 is between the second shard's data
# and its description, "last" just before meta.json gets its name.
@pytest.mark.parametrize(("where", "count"), [("add", 4), ("publish", 6), ("publish", "last")])
def test_kill_and_resume_gives_the_same_bytes(source, packed, tmp_path, where, count):
    if count == "last":
        count = 3 * len(read_meta(packed)["shards"]) + 1
    out = tmp_path / "killed"
    kill_at(source, out, where, count)
    with pytest.raises(ValueError, match="no finished pack"):
        open_pack(out)
    assert list(out.glob("shard-*.json"))
    kept = out / "vectors-00000.array_record"
    written = kept.stat().st_mtime_ns
    resume(source, out)
    assert contents(out) == contents(packed)
    assert kept.stat().st_mtime_ns == written


def test_a_kill_behind_the_end_leaves_nothing(source, packed, tmp_path):
    out = tmp_path / "killed"
    resume(source, out)
    (out / "shard-00000.json").write_text((out / "meta.json").read_text())  # not removed in time
    resume(source, out)
    assert contents(out) == contents(packed)


def test_damaged_unfinished_shard_is_written_again(source, packed, tmp_path):
    out = tmp_path / "damaged"
    kill_at(source, out, "publish", 8)
    path = out / "vectors-00001.array_record"
    path.write_bytes(path.read_bytes()[:-3])
    resume(source, out)
    assert contents(out) == contents(packed)


def test_what_another_dataset_left_is_refused_or_replaced(source, packed, tmp_path):
    other = write_folder(tmp_path / "other", synthetic_episodes([400] * 3, seed=1))
    out = tmp_path / "killed"
    kill_at(other, out, "add", 3)
    with pytest.raises(ValueError, match=r"shard-0000\d.json: packed from another source"):
        resume(source, out)
    options = {"overwrite": True, "shard_bytes": SHARD_BYTES}
    pack_dataset(source, out, NAMES, progress=False, **options).close()
    assert contents(out) == contents(packed)


def test_shards_of_another_size_are_refused_or_replaced(source, packed, tmp_path):
    out = tmp_path / "killed"
    kill_at(source, out, "publish", 6)
    options = {"progress": False, "shard_bytes": 3 * SHARD_BYTES}
    with pytest.raises(ValueError, match="was begun with another --shard-mb"):
        pack_dataset(source, out, NAMES, **options)
    pack_dataset(source, out, NAMES, overwrite=True, **options).close()
    pack_dataset(source, tmp_path / "straight", NAMES, **options).close()
    assert contents(out) == contents(tmp_path / "straight") != contents(packed)


def test_worker_processes_write_the_same_bytes(source, packed, tmp_path):
    out = tmp_path / "parallel"
    options = {"workers": 2, "shard_bytes": SHARD_BYTES}
    pack_dataset(source, out, NAMES, progress=False, **options).close()
    assert contents(out) == contents(packed)


@pytest.mark.parametrize("shared", [True, False])
def test_hosts_write_one_store_together(source, packed, tmp_path, shared):
    total = len(read_meta(packed)["shards"])
    left = []
    for host in range(3):
        folder = tmp_path / ("pack" if shared else f"pack{host}")
        options = {"host": (host, 3), "shard_bytes": SHARD_BYTES}
        left.append(pack_part(source, folder, NAMES, False, **options))
    out = folder
    if shared:
        assert left == [total * 2 // 3, total // 3, 0]
        assert (out / "meta.json").is_file()
    else:  # folders of their own are copied into one, and any command finishes it
        assert min(left) > 0
        for host in range(2):
            for path in (tmp_path / f"pack{host}").glob("*[0-9n].[aj]*"):
                (out / path.name).write_bytes(path.read_bytes())
        assert pack_part(source, out, NAMES, False, host=(0, 3), shard_bytes=SHARD_BYTES) == 0
    assert contents(out) == contents(packed)
    with pytest.raises(ValueError, match=r"host 3/3: I must be"):
        pack_part(source, out, NAMES, False, host=(3, 3))


def command(source, out):
    """The command line, in two worker processes, with about 40 shards of `slow_source`."""
    program = (
        "import arp_jax.data.pack as pack, sys; "
        "sys.exit(pack.pack_part(sys.argv[1], sys.argv[2], (), False, workers=2, shard_bytes=9000))"
    )
    return [sys.executable, "-c", program, str(source), str(out)]


@pytest.fixture(scope="module")
def slow_source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("slow") / "toy"
    return write_folder(folder, synthetic_episodes([20] * 60, size=24), image_format="jpeg")


def kill_at_random(slow_source, out, moments, rng):
    """Starts packing, kills it `moments` times while it writes, and lets it end."""
    for _ in range(moments):
        process = subprocess.Popen(command(slow_source, out))
        # From the first sign of work on: before it, a kill is no test.
        before = set(out.glob("*")) if out.is_dir() else set()
        while not (out.is_dir() and set(out.glob("*-*")) - before) and process.poll() is None:
            time.sleep(0.001)
        time.sleep(rng.uniform(0, 0.15))
        process.send_signal(signal.SIGKILL)
        process.wait()
    subprocess.run(command(slow_source, out), check=True, timeout=120)


@pytest.mark.parametrize("moments", [3, pytest.param(10, marks=pytest.mark.slow)])
def test_kill_nine_at_random_moments(slow_source, tmp_path, moments):
    expected = tmp_path / "expected"
    pack_part(slow_source, expected, (), False, workers=1, shard_bytes=9000)
    kill_at_random(slow_source, tmp_path / "killed", moments, random.Random(moments))
    assert contents(tmp_path / "killed") == contents(expected)
    assert len(read_meta(expected)["shards"]) > 20
    open_pack(tmp_path / "killed", verify=True).close()


def test_workers_die_with_the_process_that_started_them(slow_source, tmp_path):
    out = tmp_path / "pack"
    process = subprocess.Popen(command(slow_source, out))
    while not list(out.glob("shard-*.json")):
        time.sleep(0.005)
    process.kill()
    process.wait()
    time.sleep(0.2)
    left = {path.name: path.stat().st_size for path in out.iterdir()}
    time.sleep(0.3)
    assert {path.name: path.stat().st_size for path in out.iterdir()} == left
    assert "meta.json" not in left


def test_a_killed_worker_is_one_clear_error(slow_source, tmp_path):
    out = tmp_path / "pack"
    process = subprocess.Popen(command(slow_source, out), stderr=subprocess.PIPE)
    while not (list(out.glob("shard-*.json")) and (begun := list(out.glob("vectors*.partial")))):
        time.sleep(0.001)
    os.kill(int(begun[0].name.split(".")[-2]), signal.SIGKILL)
    _, error = process.communicate(timeout=60)
    assert b"a worker process was killed (out of memory?)" in error
    assert not list(out.glob("*.partial"))


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize(
    ("damage", "field"),
    [
        ("picture", "image"),
        ("size", "image"),
        ("nan", "action[1]"),
        ("key", "image"),
        ("width", "agent_pos"),
        ("checksum", "CRC32C"),
    ],
)
def test_an_error_names_file_episode_and_field(tmp_path, capsys, damage, field, workers):
    episodes = synthetic_episodes(LENGTHS, size=8)
    bad = episodes[4]
    pictures = list(bad["image"])
    if damage == "picture":
        pictures[2] = b"\xff\xd8\xff no picture"
    elif damage == "size":
        pictures[2] = np.zeros((4, 4, 3), np.uint8)
    elif damage == "key":
        pictures = []
    elif damage == "width":
        bad["agent_pos"] = np.zeros((7, 3), np.float32)
    elif damage == "nan":
        bad["action"][2, 1] = np.nan
    bad["image"] = pictures
    source = write_folder(tmp_path / "toy", episodes, files=3)
    if damage == "checksum":
        path = source / "toy-train.tfrecord-00002-of-00003"
        path.write_bytes(path.read_bytes().replace(b"agent_pos", b"agent-pos", 1))
    out = tmp_path / "pack"
    arguments = ["--source", str(source), "--out", str(out), "--workers", workers, "--quiet"]
    assert main([*arguments, "--shard-mb", "0"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {source}/toy-train.tfrecord-00002-of-00003: ")
    assert "episode 4" in line or damage == "checksum"
    assert field in line
    if damage in ("picture", "size"):
        assert "step 2" in line
    left = {path.name for path in out.iterdir()}
    assert not [name for name in left if "partial" in name or name == "meta.json"]
