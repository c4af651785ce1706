"""Priorities and garbage: settings that are undone, collections that wait for time."""

import gc
import os
import subprocess
import sys

import pytest

from robot_bridge.loop.real_time import SlackCollector, Upkeep, quiet_interpreter

# In a process of its own: priorities are not given back.
RAISING = """
import os, threading
from robot_bridge.loop.real_time import Priorities

done = threading.Event()
early = threading.Thread(target=done.wait)
early.start()
priorities = Priorities()
late = threading.Thread(target=done.wait)
late.start()
priorities.refresh()
child = os.popen("nice").read().strip()
for thread in (threading.current_thread(), early, late):
    identity = thread.native_id
    policy = os.sched_getscheduler(identity) & ~os.SCHED_RESET_ON_FORK
    print(policy, os.sched_getparam(identity).sched_priority)
print(child)
print(priorities.reached)
done.set()
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux's scheduling")
def test_all_threads_are_raised_and_children_are_not():
    done = subprocess.run(
        [sys.executable, "-c", RAISING],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.getcwd()},
        check=True,
    )
    clock, early, late, child, reached = done.stdout.splitlines()
    if "SCHED_FIFO" in reached:
        assert clock == f"{os.SCHED_FIFO} 10"
        assert early == late == f"{os.SCHED_RR} 1"
        assert int(child) >= 0
    else:  # not permitted here: normal scheduling, and it says so
        assert clock == early == late == f"{os.SCHED_OTHER} 0"
        assert "nice -10" in reached or "not raised" in reached


def test_the_interpreter_is_as_before_afterwards():
    before = sys.getswitchinterval(), gc.isenabled(), gc.get_freeze_count()
    with quiet_interpreter():
        assert not gc.isenabled()
        assert sys.getswitchinterval() < before[0]
        assert gc.get_freeze_count() > 0
    assert (sys.getswitchinterval(), gc.isenabled(), gc.get_freeze_count()) == before


class Ring:
    """Garbage that only a collection finds."""

    alive = 0

    def __init__(self):
        self.me = self
        Ring.alive += 1

    def __del__(self):
        Ring.alive -= 1


def test_garbage_is_collected_when_there_is_time():
    with quiet_interpreter():
        collector = SlackCollector()
        made = [Ring() for _ in range(6000)]
        assert Ring.alive == 6000
        made.clear()
        collector.collect(slack_ns=10_000)
        assert Ring.alive == 6000  # no time
        collector.collect(slack_ns=1_000_000_000)
        assert Ring.alive == 0
        assert collector.collections == 1
        collector.collect(slack_ns=1_000_000_000)
        assert collector.collections == 1  # nothing to do


def test_garbage_does_not_grow_without_end_when_there_is_never_time():
    with quiet_interpreter():
        collector = SlackCollector()
        for _ in range(25):
            made = [Ring() for _ in range(10_000)]
            made.clear()
            collector.collect(slack_ns=0)
        assert collector.collections >= 1
        assert Ring.alive < 250_000
    gc.collect()
    assert Ring.alive == 0


def test_upkeep_of_nothing():
    upkeep = Upkeep(None, None)
    upkeep.between_ticks(10**9)
    assert upkeep.scheduling == "normal"
