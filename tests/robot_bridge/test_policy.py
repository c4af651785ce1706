"""A policy behind a real server: answers, outages, refusals; nothing of it blocks the loop."""

import contextlib
import os
import re
import socket
import threading
import time

import numpy as np
import pytest
from websockets.sync.server import serve

from arp_jax.control.execution import Execution
from arp_jax.export.protocol import Actions, Metadata, Problem, Query, encode
from robot_bridge.actions.policy import RemotePolicy, default_execution
from robot_bridge.actions.policy_client import PolicyClient, PolicyError, PolicyRefused
from robot_bridge.observations import Frame, Observation
from tests.policy_servers import RATE_HZ, SPEC, TOKEN, CountingActor, running_server

PERIOD = int(1e9 / RATE_HZ)
PATIENCE_S = 60.0


@pytest.fixture(autouse=True)
def no_thread_is_left():
    before = set(threading.enumerate())
    yield
    deadline = time.monotonic() + 10
    while set(threading.enumerate()) - before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not set(threading.enumerate()) - before


@contextlib.contextmanager
def remote(address, **options):
    policy = RemotePolicy(address, **{"timeout_s": 5.0, **options})
    try:
        yield policy
    finally:
        policy.close()
        policy.close()


def see(policy, value, time_ns=None):
    """One observation; the actor answers with `value` + row."""
    now = time.monotonic_ns() if time_ns is None else time_ns
    image = np.zeros((4, 6, 3), np.uint8)
    vectors = {"state": np.float32([value, 0]), "not_asked_for": np.float32([1])}
    policy.observe(Observation(now, vectors, {"image": Frame(now, image)}))
    return now


def wait_for(condition, what):
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.002)


def see_until(policy, value, condition):
    """Observations at the control rate until something is so; returns the last one's time."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        seen = see(policy, value)
        if condition():
            return seen
        assert time.monotonic() < deadline, policy.health()
        time.sleep(PERIOD / 1e9)


def test_actions_are_for_the_time_after_their_observation():
    with running_server() as address, remote(address, seed=40) as policy:
        assert policy.wait_ready(PATIENCE_S).spec == SPEC
        assert policy.name == f"counting at {address}"
        assert policy.action(time.monotonic_ns()) is None
        seen = see(policy, 10.0)
        wait_for(lambda: policy.health().chunks, "no chunk")
        # Row 1 of a chunk belongs to the observation: action_offset is -1.
        planned = policy.action(seen + 2 * PERIOD)
        np.testing.assert_allclose(planned.action, [13.0, 41.0])
        assert planned.observed_ns == seen
        assert policy.plan().actions.shape[1] == 2
        health = policy.health()
        assert health.ready
        assert (health.queries, health.chunks, health.late, health.skipped) == (1, 1, 0, 0)
        assert health.latency_ms > 0
        assert health.last_error == ""


def test_the_chunks_run_out_when_the_policy_stops_answering():
    actor = CountingActor()
    with running_server(actor) as address, remote(address) as policy:
        policy.wait_ready(PATIENCE_S)
        seen = see(policy, 1.0)
        wait_for(lambda: policy.health().chunks, "no chunk")
        # 8 rows from the observation on: the last one lasts until 8 periods after it.
        assert policy.action(seen + 8 * PERIOD - 1) is not None
        assert policy.action(seen + 8 * PERIOD) is None


def test_the_next_query_comes_when_the_chunk_is_executed():
    with running_server() as address, remote(address, execution=Execution(3)) as policy:
        policy.wait_ready(PATIENCE_S)
        start = time.monotonic_ns()
        for tick in range(10):
            before = policy.health().queries
            see(policy, tick, start + tick * PERIOD)
            if tick % 3 == 0:
                wait_for(lambda b=before: policy.health().queries > b, "not asked")
                wait_for(lambda b=before: policy.health().chunks > b, "no chunk")
        assert policy.health().queries == 4
        assert policy.health().skipped == 0


def test_the_newest_observation_wins():
    actor = CountingActor(pause_s=0.3)
    start = time.monotonic_ns()
    options = {"execution": Execution(1), "clock": lambda: start}
    with running_server(actor) as address, remote(address, **options) as policy:
        policy.wait_ready(PATIENCE_S)
        see(policy, 0, start)
        wait_for(lambda: actor.calls, "not asked")
        for tick in range(1, 6):  # all while the first one is computed
            see(policy, 100 + tick, start + tick * PERIOD)
        wait_for(lambda: policy.health().chunks == 2, "no second chunk")
        assert policy.action(start + 5 * PERIOD).action[0] == 106
        assert policy.health().skipped == 4
        assert actor.calls == 2


def test_late_chunks_are_dropped_and_counted():
    with running_server() as address, remote(address) as policy:
        policy.wait_ready(PATIENCE_S)
        long_ago = time.monotonic_ns() - 100 * PERIOD
        see(policy, 1.0, long_ago)
        wait_for(lambda: policy.health().late, "not counted")
        assert policy.action(long_ago + PERIOD) is None
        assert policy.health().chunks == 1


def test_reset_forgets_what_was_asked_before():
    actor = CountingActor(pause_s=0.3)
    start = time.monotonic_ns()
    with running_server(actor) as address, remote(address, clock=lambda: start) as policy:
        policy.wait_ready(PATIENCE_S)
        see(policy, 1.0, start)
        wait_for(lambda: actor.calls, "not asked")
        policy.reset()
        seen = see(policy, 50.0, start)
        wait_for(lambda: policy.health().chunks, "no chunk")
        assert actor.calls == 2
        assert policy.health().queries == 1
        assert policy.action(seen + PERIOD).action[0] == 52


def test_a_server_that_comes_back_is_used_again():
    with running_server() as address:
        policy = RemotePolicy(address, timeout_s=5.0)
        policy.wait_ready(PATIENCE_S)
    try:
        wait_for(lambda: not policy.health().ready, "did not notice")
        assert "gone" in policy.health().last_error or "reached" in policy.health().last_error
        port = int(address.rpartition(":")[2])
        with running_server(port=port):
            see_until(policy, 7.0, lambda: policy.health().chunks)
            assert policy.health().ready
            assert policy.health().last_error == ""
        with running_server(CountingActor(content_hash="another"), port=port):
            wait_for(lambda: "another policy" in policy.health().last_error, "not noticed")
            assert not policy.health().ready
    finally:
        policy.close()


def test_a_policy_that_fails_gives_no_actions_and_says_why():
    actor = CountingActor(failure="the weights are gone")
    with running_server(actor) as address, remote(address) as policy:
        policy.wait_ready(PATIENCE_S)
        see_until(policy, 1.0, lambda: "the weights are gone" in policy.health().last_error)
        assert policy.health().ready
        assert policy.action(time.monotonic_ns()) is None
        actor.failure = ""
        see_until(policy, 1.0, lambda: policy.action(time.monotonic_ns()) is not None)
        assert policy.health().last_error == ""


def test_nan_is_no_action():
    with running_server() as address, remote(address) as policy:
        policy.wait_ready(PATIENCE_S)
        see(policy, np.finfo(np.float32).max)
        wait_for(lambda: policy.health().chunks, "the largest number is one")
        policy.reset()
        see(policy, np.nan)
        wait_for(lambda: "observation.state" in policy.health().last_error, "NaN was sent on")
    actor = CountingActor()
    actor.act = lambda observation, seed: np.full((1, 9, 2), np.nan)
    with running_server(actor) as address, remote(address) as policy:
        policy.wait_ready(PATIENCE_S)
        see(policy, 1.0)
        wait_for(lambda: "NaN" in policy.health().last_error, "NaN was believed")
        assert policy.health().chunks == 0


def test_refusals_are_final_and_say_why():
    with running_server(token=TOKEN) as address:
        for options, message in (
            ({"token": "x" * 20}, r"refuses \(401\): wrong or missing token"),
            ({"token": TOKEN, "execution": Execution(9)}, "execution: execute=9 is not possible"),
            ({"token": TOKEN, "execution": Execution(2, latency=1)}, "execution: .*latency=0"),
        ):
            with remote(address, **options) as policy, pytest.raises(PolicyError, match=message):
                policy.wait_ready(PATIENCE_S)
    with remote("http://localhost") as policy, pytest.raises(PolicyError, match="ws://HOST:PORT"):
        policy.wait_ready(PATIENCE_S)
    assert issubclass(PolicyRefused, PolicyError)


def test_nobody_there():
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with remote(f"ws://127.0.0.1:{port}") as policy:
        with pytest.raises(PolicyError, match=r"cannot be reached.*is the server running"):
            policy.wait_ready(1.0)
        see(policy, 1.0)
        assert policy.action(time.monotonic_ns()) is None


def test_a_server_that_accepts_and_is_silent():
    """Neither the handshake nor `close` waits for it for ever."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"ws://127.0.0.1:{silent.getsockname()[1]}"
        with remote(address, timeout_s=0.5) as policy:
            wait_for(lambda: "does not answer" in policy.health().last_error, "still waiting")


@contextlib.contextmanager
def server_that_says(*messages):
    """Sends these, and then neither reads nor says anything."""

    def talk(connection):
        for message in messages:
            connection.send(b"".join(encode(message)))
        over.wait(PATIENCE_S)

    over = threading.Event()
    # It reads a message ahead and no further, so that a sender meets a full buffer.
    options = {"compression": None, "max_size": None, "max_queue": 1, "close_timeout": 0.2}
    with serve(talk, "127.0.0.1", 0, **options) as listening:
        thread = threading.Thread(target=listening.serve_forever)
        thread.start()
        try:
            yield f"ws://127.0.0.1:{listening.socket.getsockname()[1]}"
        finally:
            over.set()
            listening.shutdown()
            thread.join()


def test_a_server_that_stops_reading_is_given_up():
    large = Query(1, 0, {"image": np.zeros(30_000_000, np.uint8)})
    with (
        server_that_says(Metadata("x", SPEC)) as address,
        PolicyClient(address, timeout_s=0.5) as client,
    ):
        with pytest.raises(PolicyError, match=r"connection to .* broke"):
            client.ask(large)
        assert not client.is_open


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (Metadata("x", SPEC), "metadata in the middle"),
        (Query(1, 0, {}), "sent a query instead"),
        (Actions(1, 0, np.zeros((9, 3), np.float32)), r"sent actions \[9, 3\]"),
    ],
)
def test_answers_that_are_none(answer, message):
    with server_that_says(Metadata("x", SPEC), answer) as address, remote(address) as policy:
        policy.wait_ready(PATIENCE_S)
        see(policy, 1.0)
        wait_for(lambda: re.search(message, policy.health().last_error), "it was believed")
        assert policy.health().chunks == 0


def test_answers_to_other_queries_are_passed_over():
    right = np.ones((9, 2), np.float32)
    answers = (Actions(77, 0, 5 * right), Problem(88, "policy", "not yours"), Actions(1, 0, right))
    with server_that_says(Metadata("x", SPEC), *answers) as address, remote(address) as policy:
        policy.wait_ready(PATIENCE_S)
        seen = see(policy, 1.0)
        wait_for(lambda: policy.health().chunks, "no chunk")
        assert policy.action(seen).action[0] == 1


def test_close_does_not_wait_for_an_answer():
    actor = CountingActor(pause_s=5.0)
    with running_server(actor) as address:
        policy = RemotePolicy(address, timeout_s=60.0)
        policy.wait_ready(PATIENCE_S)
        see(policy, 1.0)
        wait_for(lambda: actor.calls, "not asked")
        begin = time.monotonic()
        policy.close()
        assert time.monotonic() - begin < 4


def test_no_call_waits_for_a_policy_that_thinks():
    """CPU time, because the machine that runs this has other work."""
    actor = CountingActor(pause_s=1.0)
    with running_server(actor) as address, remote(address) as policy:
        policy.wait_ready(PATIENCE_S)
        see(policy, 1.0)
        wait_for(lambda: actor.calls, "not asked")
        while actor.calls == 1 and policy.health().chunks == 0:
            begin = time.thread_time()
            seen = see(policy, 2.0)
            policy.action(seen)
            policy.plan()
            assert time.thread_time() - begin < 0.01
            time.sleep(0.01)
        assert policy.health().chunks == 1


def test_the_default_asks_again_halfway():
    execution = default_execution(SPEC)
    assert (execution.execute, execution.blend) == (4, 2)
    execution.check(SPEC)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs processes that inherit sockets")
def test_local_policy_says_why_its_process_ended(tmp_path):
    from robot_bridge.actions.policy import LocalPolicy

    policy = LocalPolicy(tmp_path / "nothing")
    try:
        with pytest.raises(PolicyError, match=r"process ended \(2\): error: .*manifest.json"):
            policy.wait_ready(PATIENCE_S)
        assert not policy.health().ready
    finally:
        policy.close()
