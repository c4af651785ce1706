"""The policy server over real sockets: health, turns, refusals, clients that die or lie."""

import asyncio
import contextlib
import socket
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from arp_jax.export.inference_queue import Client, InferenceQueue
from arp_jax.export.protocol import Metadata, Problem, Query, decode, encode
from arp_jax.export.server import ServerOptions
from robot_bridge.actions.policy_client import PolicyClient, PolicyError, PolicyRefused
from tests.policy_servers import TOKEN, CountingActor, get, running_server


def query(number, value=0.0, **changes):
    observation = {
        "state": np.full((2, 2), value, np.float32),
        "image": np.zeros((2, 4, 6, 3), np.uint8),
    }
    observation |= changes
    kept = {name: array for name, array in observation.items() if array is not None}
    return Query(number, 10 * number, kept, seed=number)


def wait_for(condition, what):
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.005)


def clients_now(address):
    lines = get(address, "/metrics")[1].splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith("arp_policy_clients "))


@contextlib.contextmanager
def raw_client(address, **options):
    """A websocket after the server's first message."""
    with connect(address, compression=None, proxy=None, **options) as connection:
        assert isinstance(decode(connection.recv(timeout=10)), Metadata)
        yield connection


def test_an_answer_echoes_and_says_how_long_it_took():
    with running_server() as address, PolicyClient(address) as client:
        assert client.metadata.policy == "counting"
        assert client.metadata.content_hash == "c0ffee"
        answer = client.ask(query(7, 2.0))
        assert (answer.request, answer.observed_ns, answer.superseded) == (7, 70, 0)
        np.testing.assert_array_equal(answer.actions[:, 0], 2 + np.arange(9))
        np.testing.assert_array_equal(answer.actions[:, 1], 7)
        assert answer.timing_ms["infer"] > 0
        assert answer.timing_ms["queue"] >= 0


def test_health_says_when_it_is_ready_and_answers_while_it_computes():
    actor = CountingActor(pause_s=1.0, loading=threading.Event())
    with running_server(actor, wait=False) as address:
        assert get(address, "/healthz") == (503, "warming up\n")
        with pytest.raises(PolicyError, match="warming up") as error:
            PolicyClient(address)
        assert not isinstance(error.value, PolicyRefused), "it will be ready soon"
        actor.loading.set()
        wait_for(lambda: get(address, "/healthz") == (200, "ready\n"), "never ready")
        with PolicyClient(address) as client, ThreadPoolExecutor() as other:
            answer = other.submit(client.ask, query(1))
            wait_for(lambda: actor.calls, "not asked")
            for _ in range(5):
                assert get(address, "/healthz") == (200, "ready\n")
            assert not answer.done(), "it answered while the policy was computing"
            assert answer.result().request == 1


def test_metrics_are_prometheus_text():
    with running_server() as address, PolicyClient(address) as client:
        client.ask(query(1))
        client.ask(query(2, state=None))
        status, text = get(address, "/metrics")
        assert status == 200
        for line in (
            "arp_policy_ready 1.0",
            "arp_policy_clients 1.0",
            "arp_policy_queries_total 2.0",
            'arp_policy_answers_total{result="ok"} 1.0',
            'arp_policy_refused_total{reason="observation"} 1.0',
            "arp_policy_infer_seconds_count 1.0",
        ):
            assert line in text.splitlines()


def test_a_client_that_dies_frees_its_place():
    with running_server(max_clients=1) as address:
        with raw_client(address) as first:
            with pytest.raises(PolicyError, match=r"refuses \(503\): 1 clients are connected"):
                PolicyClient(address)
            first.socket.shutdown(socket.SHUT_RDWR)
            wait_for(lambda: clients_now(address) == 0, "its place is taken still")
        with PolicyClient(address) as second:
            assert second.ask(query(1)).request == 1


def test_a_client_that_dies_while_its_answer_is_computed():
    actor = CountingActor(pause_s=0.3)
    with running_server(actor, max_clients=2) as address:
        with raw_client(address) as doomed, PolicyClient(address) as other:
            doomed.send(b"".join(encode(query(1))))
            doomed.send(b"".join(encode(query(2))))
            wait_for(lambda: actor.calls, "not asked")
            doomed.socket.shutdown(socket.SHUT_RDWR)
            assert other.ask(query(3)).request == 3
            wait_for(lambda: clients_now(address) == 1, "its place is taken still")
        assert actor.calls <= 3


def test_the_newest_query_of_a_client_wins():
    actor = CountingActor(pause_s=0.3)
    with running_server(actor) as address, raw_client(address) as client:
        client.send(b"".join(encode(query(1))))
        wait_for(lambda: actor.calls, "not asked")
        for number in range(2, 7):
            client.send(b"".join(encode(query(number))))
        answers = [decode(client.recv(timeout=10)) for _ in range(2)]
        assert [answer.request for answer in answers] == [1, 6]
        assert [answer.superseded for answer in answers] == [0, 4]
        assert actor.calls == 2
        assert "arp_policy_superseded_total 4.0" in get(address, "/metrics")[1]


def test_clients_take_turns():
    """A client with a newer query waits behind those that came while it was served."""
    order, first = [], threading.Event()

    class Gated(CountingActor):
        def act(self, observation, seed=0):
            order.append(seed)
            assert seed != 1 or first.wait(30)
            return super().act(observation, seed)

    async def ask_all():
        answered = asyncio.Event()
        numbers = []

        async def send(answer):
            numbers.append(answer.request)
            if len(numbers) == 4:
                answered.set()

        greedy, modest, third = Client(send), Client(send), Client(send)
        with ThreadPoolExecutor(1) as executor:
            queue = InferenceQueue(Gated(), executor, lambda waited, computed, well: None)
            running = asyncio.create_task(queue.run())
            queue.put(greedy, query(1))
            await asyncio.sleep(0)
            for client, number in ((greedy, 2), (modest, 3), (greedy, 4), (third, 5)):
                queue.put(client, query(number))
            first.set()
            await asyncio.wait_for(answered.wait(), 30)
            running.cancel()
        return greedy

    greedy = asyncio.run(ask_all())
    assert order == [1, 3, 5, 4]
    assert greedy.superseded == 0


def test_one_that_sends_without_pause_does_not_starve_another():
    with running_server(CountingActor(pause_s=0.02)) as address, raw_client(address) as greedy:
        stop = threading.Event()

        def flood():
            while not stop.is_set():
                greedy.send(b"".join(encode(query(1))))

        with ThreadPoolExecutor() as threads:
            flooding, reading = threads.submit(flood), threads.submit(drain, greedy)
            try:
                with PolicyClient(address) as modest:
                    for number in range(5):
                        assert modest.ask(query(number)).request == number
            finally:
                stop.set()
            flooding.result()
            greedy.socket.shutdown(socket.SHUT_RDWR)
            reading.result()


def drain(connection):
    with contextlib.suppress(ConnectionClosed):
        while True:
            connection.recv()


@pytest.mark.parametrize(
    ("changes", "field", "message"),
    [
        ({"image": None}, "observation.image", "is missing"),
        ({"wrist": np.zeros((2, 3), np.float32)}, "observation.wrist", "is not seen by"),
        (
            {"image": np.zeros((2, 6, 4, 3), np.uint8)},
            "observation.image",
            "expected uint8 [2, 4, 6, 3], found uint8 [2, 6, 4, 3]",
        ),
        ({"image": np.zeros((2, 4, 6, 3), np.float32)}, "observation.image", "found float32"),
        ({"state": np.zeros((1, 2), np.float32)}, "observation.state", "found float32 [1, 2]"),
        ({"state": np.zeros((2, 2), np.float64)}, "observation.state", "found float64"),
        ({"state": np.full((2, 2), np.nan, np.float32)}, "observation.state", "NaN"),
    ],
)
def test_a_wrong_observation_is_named_and_the_connection_stays(changes, field, message):
    actor = CountingActor()
    with running_server(actor) as address, PolicyClient(address) as client:
        answer = client.ask(query(1, **changes))
        assert isinstance(answer, Problem)
        assert (answer.request, answer.field) == (1, field)
        assert message in answer.message
        assert actor.calls == 0
        assert client.ask(query(2)).request == 2
        assert actor.calls == 1


def test_a_policy_that_fails_is_a_problem_and_the_server_goes_on():
    actor = CountingActor(failure="out of memory\nat line 3")
    with running_server(actor) as address, PolicyClient(address) as client:
        answer = client.ask(query(1))
        assert (answer.field, answer.message) == ("policy", "RuntimeError: out of memory")
        actor.failure = ""
        assert client.ask(query(2)).actions.shape == (9, 2)


def test_wrong_tokens_are_refused():
    with running_server(token=TOKEN) as address:
        for token in (None, "", "x", TOKEN + "x", TOKEN[:-1]):
            with pytest.raises(PolicyRefused, match=r"refuses \(401\): wrong or missing token"):
                PolicyClient(address, token)
            assert get(address, "/metrics", token)[0] == 401
        assert get(address, "/healthz")[0] == 200
        assert get(address, "/metrics", TOKEN)[0] == 200
        with PolicyClient(address, TOKEN) as client:
            assert client.ask(query(1)).request == 1


def test_a_browser_is_refused():
    """A page of another site must not reach a server on this machine."""
    with running_server() as address, pytest.raises(InvalidStatus) as error:
        connect(address, origin="https://example.org", proxy=None).__enter__()
    assert error.value.response.status_code == 403


def send_and_listen(client, data):
    client.send(data)  # the server may hang up before the last fragment
    client.recv(timeout=10)


@pytest.mark.parametrize(
    ("data", "code", "reason"),
    [
        (b"\x00" * 2000, 1009, "exceeds limit"),
        ([b"\x00" * 600, b"\x00" * 600], 1009, "exceeds limit"),
        (b"".join(encode(query(1))).replace(b"\xa1v\x01", b"\xa1v\x09"), 4400, "version 9"),
        (b"garbage", 4401, "a head of"),
        (b"".join(encode(Problem(1, "x", "y"))), 4401, "queries only"),
        ("text", 1003, "a text, not bytes"),
    ],
)
def test_other_messages_end_the_conversation_with_a_reason(data, code, reason):
    with running_server(max_message_bytes=1024) as address:
        with raw_client(address) as client, pytest.raises(ConnectionClosed) as error:
            send_and_listen(client, data)
        assert error.value.rcvd.code == code
        assert reason in error.value.rcvd.reason
        wait_for(lambda: clients_now(address) == 0, "its place is taken still")
        with PolicyClient(address) as other:
            assert other.ask(query(1)).request == 1


def test_the_client_says_why_the_server_ended_it():
    with running_server(max_message_bytes=1024) as address, PolicyClient(address) as client:
        with pytest.raises(PolicyRefused, match=r"ended the conversation: .*exceeds limit"):
            client.ask(query(1, image=np.zeros((2, 100, 100, 3), np.uint8)))
        assert not client.is_open


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"host": "0.0.0.0"}, "--host=0.0.0.0 lets other machines in: give --token_file"),
        ({"host": ""}, "give --token_file"),
        ({"host": "robot.local"}, "give --token_file"),
        ({"host": "::"}, "give --token_file"),
        ({"token": "short"}, "fewer than 16 characters"),
        ({"tls_cert": "cert.pem"}, "--tls_cert and --tls_key belong together"),
        ({"max_clients": 0}, "--max_clients"),
    ],
)
def test_unsafe_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        ServerOptions(**options).check()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.9.9.9"])
def test_this_machine_needs_no_token(host):
    ServerOptions(host=host).check()
    ServerOptions(host="0.0.0.0", token=TOKEN).check()


def test_a_port_that_is_taken():
    with running_server() as address:
        port = int(address.rpartition(":")[2])
        with pytest.raises(ValueError, match=f"--port={port} cannot be used"):
            running_server(port=port).__enter__()


def test_tls(tmp_path):
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    command += ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    command += ["-keyout", str(key), "-out", str(cert)]
    subprocess.run(command, check=True, capture_output=True)
    with running_server(tls_cert=cert, tls_key=key, token=TOKEN) as address:
        assert address.startswith("wss://")
        with PolicyClient(address, TOKEN, ca_cert=cert) as client:
            assert client.ask(query(1)).request == 1
        with pytest.raises(PolicyRefused, match="certificate is not trusted"):
            PolicyClient(address, TOKEN)
    with pytest.raises(ValueError, match="no pair of PEM files"):
        running_server(tls_cert=cert, tls_key=cert).__enter__()
