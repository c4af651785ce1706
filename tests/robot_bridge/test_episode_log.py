"""The robot's episode log: what was written is read, whatever happens to the writer or the file."""

import dataclasses
import os
import signal
import subprocess
import sys

import msgpack
import numpy as np
import pytest

from robot_bridge.log import log_records
from robot_bridge.log.episode_log import EpisodeLogWriter, read_log
from robot_bridge.log.log_records import Damage, RecordFile, read_records
from tests.robot_bridge.log_steps import HEADER, make_step, write_log


def assert_equal_steps(found, expected):
    for field in dataclasses.fields(expected):
        left, right = getattr(found, field.name), getattr(expected, field.name)
        if field.name in ("vectors", "frames", "frame_times_ns"):
            assert set(left) == set(right)
            for name in left:
                np.testing.assert_array_equal(left[name], right[name], err_msg=name)
        elif left is None or right is None:
            assert left is right
        else:
            np.testing.assert_array_equal(left, right, err_msg=field.name)


def test_a_log_is_read_back(tmp_path):
    path = write_log(tmp_path / "a.arplog", flags=("clamped:j1",))
    log = read_log(path)
    assert dataclasses.replace(log.header, started_ns=0) == HEADER
    assert log.header.started_ns > 1_600_000_000_000_000_000
    assert len(log.steps) == 6
    for number, step in enumerate(log.steps):
        source = "takeover" if 2 <= number < 4 else "policy"
        assert_equal_steps(step, make_step(number, source=source, flags=("clamped:j1",)))
    names = [(m.name, m.step) for m in log.markers]
    assert names == [("intervention_begin", 2), ("intervention_end", 4), ("success", 6)]
    assert log.intervened.tolist() == [False, False, True, True, False, False]
    assert log.outcome is True
    assert (log.end, log.damage) == ("finished", None)
    assert log.state == "6 steps, complete"


def test_a_picture_that_did_not_change_is_stored_once(tmp_path):
    path = write_log(tmp_path / "a.arplog")
    content, picture = path.read_bytes(), make_step(2).frames["wrist_image"]
    assert make_step(3).frames["wrist_image"] == picture
    assert content.count(picture) == 1


def test_no_intervention_and_no_outcome(tmp_path):
    with EpisodeLogWriter(tmp_path / "a.arplog", HEADER) as log:
        log.step(make_step(0))
        log.marker("failure")
        log.marker("intervention_begin")
        log.step(make_step(1))
    read = read_log(tmp_path / "a.arplog")
    assert read.outcome is False
    assert read.intervened.tolist() == [False, True]
    with EpisodeLogWriter(tmp_path / "b.arplog", HEADER):
        pass
    read = read_log(tmp_path / "b.arplog")
    assert read.outcome is None
    assert read.steps == ()


def test_an_exception_in_the_run_is_the_end(tmp_path):
    def run():
        with EpisodeLogWriter(tmp_path / "a.arplog", HEADER) as log:
            log.step(make_step(0))
            raise RuntimeError("arm unplugged")

    with pytest.raises(RuntimeError):
        run()
    assert read_log(tmp_path / "a.arplog").end == "RuntimeError: arm unplugged"


@pytest.mark.parametrize("after", [0, 7, 40])
def test_a_killed_writer_loses_no_step(tmp_path, repository, after):
    path = tmp_path / "killed.arplog"
    code = "from pathlib import Path; import sys; from tests.robot_bridge import log_steps; "
    code += "log_steps.write_until_killed(Path(sys.argv[1]))"
    with subprocess.Popen(
        [sys.executable, "-c", code, str(path)], cwd=repository, stdout=subprocess.PIPE, text=True
    ) as process:
        last = -1
        while last < after:
            last = int(process.stdout.readline())
        os.kill(process.pid, signal.SIGKILL)
        rest = process.stdout.read().split()
    logged = int(rest[-1]) if rest else last
    log = read_log(path)
    # The step after the last one reported may be whole, too.
    assert logged + 1 <= len(log.steps) <= logged + 2
    for number in (0, logged):
        assert_equal_steps(log.steps[number], make_step(number))
    assert log.end is None
    assert log.damage is None or log.damage.reason == "cut"


def record_offsets(path):
    offsets, place = [], len(log_records.SIGNATURE)
    for payload in read_records(path):
        offsets.append(place)
        place += 12 + len(payload)
    return [*offsets, place]


def test_a_log_cut_anywhere_keeps_the_whole_records_before(tmp_path):
    whole = write_log(tmp_path / "whole.arplog", count=3)
    content, offsets = whole.read_bytes(), record_offsets(whole)
    cut = tmp_path / "cut.arplog"
    # Every byte around the ends of records, and a sample of all others.
    ends = {o + d for o in offsets for d in (-1, 0, 1, 3, 5, 11, 12, 13)}
    for size in sorted(ends | set(range(8, len(content), 61))):
        if not 8 <= size < len(content):
            continue
        cut.write_bytes(content[:size])
        kept = sum(end <= size for end in offsets[1:])
        *records, last = [*read_records(cut), None]
        if size not in offsets:
            *records, last = records
            assert isinstance(last, Damage)
            assert (last.reason, last.later_records) == ("cut", 0)
            assert last.lost_bytes == size - offsets[kept]
        assert len(records) == kept
        if kept:
            log = read_log(cut)
            assert log.end is None
            assert (log.damage is None) == (size in offsets)
        else:
            with pytest.raises(ValueError, match="ends before its header"):
                read_log(cut)


def test_a_flipped_bit_is_found_wherever_it_is(tmp_path):
    whole = write_log(tmp_path / "whole.arplog", count=4)
    content, offsets = whole.read_bytes(), record_offsets(whole)
    harmed = tmp_path / "harmed.arplog"
    rng = np.random.default_rng(0)
    places = [*rng.integers(offsets[1], len(content), 60), *(offsets[3] + np.arange(12))]
    for place in places:
        changed = bytearray(content)
        changed[place] ^= 1 << int(rng.integers(8))
        harmed.write_bytes(changed)
        log = read_log(harmed)
        first = max(i for i, o in enumerate(offsets) if o <= place)
        *records, damage = list(read_records(harmed))
        assert len(records) == first
        assert damage.offset == offsets[first]
        assert damage.lost_bytes == len(content) - offsets[first]
        last = first == len(offsets) - 2
        assert damage.reason == "harmed" or last
        assert damage.later_records == len(offsets) - 2 - first
        assert log.damage == damage
        assert f"{len(log.steps)} steps recovered" in log.state


def test_any_damage_leaves_a_prefix_or_one_clear_error(tmp_path):
    content = write_log(tmp_path / "whole.arplog", count=4).read_bytes()
    written = read_log(tmp_path / "whole.arplog").steps
    harmed, rng, prefixes = tmp_path / "harmed.arplog", np.random.default_rng(1), 0
    messages = []
    for _ in range(150):
        start, size = rng.integers(len(content)), int(rng.integers(1, 400))
        middle = (b"", rng.bytes(size), content[:size], b"\0" * size)[rng.integers(4)]
        skipped = int(rng.integers(0, 400))
        harmed.write_bytes(content[:start] + middle + content[start + skipped :])
        try:
            steps = read_log(harmed).steps
        except ValueError as error:
            messages.append(str(error))
            continue
        prefixes += 1
        for found, expected in zip(steps, written[: len(steps)], strict=True):
            assert_equal_steps(found, expected)
    assert prefixes > 50
    assert all(message.startswith(f"{harmed}: ") for message in messages)


def test_other_files_are_refused(tmp_path):
    path = tmp_path / "x.arplog"
    with pytest.raises(ValueError, match=r"x\.arplog: cannot be read"):
        read_log(path)
    path.write_bytes(b"PK\x03\x04 something else")
    with pytest.raises(ValueError, match=r"x\.arplog: no episode log"):
        read_log(path)
    path.unlink()
    file = RecordFile(path)
    file.append(msgpack.packb({"kind": "header", "version": 99}))
    file.close()
    with pytest.raises(ValueError, match=r"record 0: .*log version 99, this program reads 1"):
        read_log(path)
    path.unlink()
    file = RecordFile(path)
    for payload in (b"\xc1", b"\x01"):
        file.append(payload)
    file.close()
    with pytest.raises(ValueError, match=r"record 0: .*msgpack"):
        read_log(path)


def test_steps_that_do_not_fit_are_refused_and_leave_nothing(tmp_path):
    path = tmp_path / "a.arplog"
    good = make_step(0)
    wrong = {
        "source 'robot' is unknown": {"source": "robot"},
        r"vectors \[\], expected \['state'\]": {"vectors": {}},
        r"pictures of \['image'\]": {"frames": {"image": b"x"}},
        r"command has shape \(2,\), expected \(3,\)": {"command": np.zeros(2)},
        r"proposed has shape \(\)": {"proposed": np.float32(1)},
        r"state has shape \(4,\)": {"vectors": {"state": np.zeros(4)}},
    }
    with EpisodeLogWriter(path, HEADER) as log:
        size = path.stat().st_size
        for message, change in wrong.items():
            with pytest.raises(ValueError, match=rf"a\.arplog: step 0: {message}"):
                log.step(dataclasses.replace(good, **change))
        with pytest.raises(ValueError, match="marker 'win' is unknown"):
            log.marker("win")
        assert path.stat().st_size == size
        log.step(good)
    assert len(read_log(path).steps) == 1
    with pytest.raises(FileExistsError):
        EpisodeLogWriter(path, HEADER)
    with pytest.raises(ValueError, match="the log is closed"):
        log.step(good)


def test_a_full_disk_leaves_a_readable_log(tmp_path, monkeypatch):
    path, real = tmp_path / "a.arplog", os.write
    log = EpisodeLogWriter(path, HEADER)
    log.step(make_step(0))
    left = [100]

    def full(file, content):
        if left[0] == 0:
            raise OSError(28, "No space left on device")
        count = real(file, bytes(content)[: left[0]])
        left[0] -= count
        return count

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="No space left"):
        log.step(make_step(1))
    monkeypatch.setattr(os, "write", real)
    log.step(make_step(1))  # space was made
    log.close()
    assert read_log(path).state == "2 steps, complete"


def test_the_log_needs_no_jax(repository):
    code = (
        "import sys, robot_bridge.log.episode_log as e; bad = {'jax', 'flax', 'tensorflow', 'h5py'}"
    )
    code += "; print(sorted(bad & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=repository, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
