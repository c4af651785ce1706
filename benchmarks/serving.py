"""What does the policy server add to carrying the bytes? Round trips on this machine's loopback.

A policy that computes nothing answers through the real server and the real client: over the socket
("server") and with pictures in memory that both see, as a local policy has it ("local"). Peers, in
processes of their own too: the same number of bytes there and back over a plain TCP socket ("raw
copy"), and as one message of the websockets library ("websockets"). Each round asks all of them in
turn, so that other work on the machine meets all alike. Examples (20 s; a minute):

    python benchmarks/serving.py
    python benchmarks/serving.py --calls 2000 --json out.json
"""

import argparse
import asyncio
import contextlib
import json
import mmap
import multiprocessing
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from websockets.sync.client import connect
from websockets.sync.server import serve

from arp_jax.export.protocol import MAX_MESSAGE_BYTES, Actions, Query, encode
from arp_jax.export.server import PolicyServer, ServerOptions
from arp_jax.specs import ActionSpec, CameraSpec, FeatureSpec, ObservationSpec, PolicySpec
from robot_bridge.actions.policy_client import PolicyClient

PACKAGES = ("websockets", "msgpack", "numpy")
DIMS = (*(f"joint{i}" for i in range(1, 7)), "gripper")
HORIZON = 16
# name -> cameras, height, width
CASES = {
    "state only": (0, 0, 0),
    "1 x 224^2": (1, 224, 224),
    "4 x 224^2": (4, 224, 224),
    "4 x 480 x 640": (4, 480, 640),
}
WARM_UP = 20


class Row(NamedTuple):
    """Milliseconds of a round trip; `added` is its median minus the raw copy's."""

    case: str
    request_bytes: int
    way: str
    min_ms: float
    p50_ms: float
    p99_ms: float
    added_p50_ms: float
    added_min_ms: float


class Nothing:
    """A policy that answers zeros at once."""

    manifest: dict[str, Any] = {"policy": "nothing"}  # noqa: RUF012, read only

    def __init__(self, case: str) -> None:
        count, height, width = CASES[case]
        cameras = tuple(CameraSpec(f"camera{i}", height, width) for i in range(count))
        features = (FeatureSpec("state", DIMS, "rad", "joint"),)
        limits = (-3.0,) * len(DIMS), (3.0,) * len(DIMS)
        action = ActionSpec(DIMS, "rad", "joint", (True,) * len(DIMS), *limits, 10.0)
        self.spec = PolicySpec(ObservationSpec(features, cameras), action, 1, HORIZON)
        self._actions = np.zeros((1, HORIZON, len(DIMS)), np.float32)

    def act(self, observation: Any, seed: int = 0) -> np.ndarray:
        """Zeros [1, H, A]."""
        return self._actions

    def warm_up(self) -> float:
        """There is nothing to warm."""
        return 0.0


def serve_policy(pipe: Any, case: str, shared_fd: int | None) -> None:
    """A process with the real server."""
    shared = None
    if shared_fd is not None:
        shared = memoryview(mmap.mmap(shared_fd, 0, access=mmap.ACCESS_READ))
    addresses: list[str] = []

    async def run() -> None:
        server = PolicyServer(lambda: Nothing(case), ServerOptions(shared=shared))
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()

        def wait() -> None:  # the end of our parent's pipe ends us
            pipe.poll(None)
            loop.call_soon_threadsafe(stop.set)

        threading.Thread(target=wait).start()
        await server.run(stop, addresses.append, lambda seconds: pipe.send(addresses[0]))

    asyncio.run(run())


def serve_raw(pipe: Any, request: int, reply: int) -> None:
    """A process that takes `request` bytes into one buffer and gives `reply` back."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        pipe.send(listening.getsockname()[1])
        connection, _ = listening.accept()
        with connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            buffer, answer = memoryview(bytearray(request)), bytes(reply)
            while receive(connection, buffer):
                connection.sendall(answer)


def serve_websockets(pipe: Any, reply: int) -> None:
    """A process that answers each message of the library with `reply` bytes."""

    def talk(connection: Any) -> None:
        for _ in connection:
            connection.send(bytes(reply))

    with serve(talk, "127.0.0.1", 0, compression=None, max_size=MAX_MESSAGE_BYTES) as server:
        pipe.send(server.socket.getsockname()[1])

        def wait() -> None:
            pipe.poll(None)
            server.shutdown()

        threading.Thread(target=wait).start()
        server.serve_forever()


def receive(connection: socket.socket, buffer: memoryview) -> bool:
    """Fills a buffer; False at the end of the connection."""
    done = 0
    while done < len(buffer):
        count = connection.recv_into(buffer[done:])
        if count == 0:
            return False
        done += count
    return True


@contextlib.contextmanager
def process(target: Callable[..., None], *arguments: Any) -> Iterator[Any]:
    """Runs `target` in a process; yields the first thing that it sends."""
    # fork: the child inherits the shared memory's number; nothing has threads yet.
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    child = context.Process(target=target, args=(theirs, *arguments), daemon=True)
    child.start()
    theirs.close()
    try:
        yield ours.recv()
    finally:
        ours.close()
        child.join(5)
        child.kill()


def measure(case: str, calls: int) -> list[Row]:
    """All ways, asked in turn."""
    policy = Nothing(case)
    rng = np.random.default_rng(0)
    observation: dict[str, np.ndarray] = {"state": np.zeros((1, len(DIMS)), np.float32)}
    for camera in policy.spec.observation.cameras:
        shape = (1, camera.height, camera.width, 3)
        observation[camera.name] = rng.integers(0, 256, shape, dtype=np.uint8)
    query = Query(1, 2, observation)
    request = b"".join(encode(query))
    reply = sum(map(len, encode(Actions(1, 2, policy._actions[0], {"queue": 0.1, "infer": 0.1}))))
    memory = os.memfd_create("benchmark")
    os.ftruncate(memory, MAX_MESSAGE_BYTES)
    shared = memoryview(mmap.mmap(memory, MAX_MESSAGE_BYTES))
    with contextlib.ExitStack() as stack:
        enter = stack.enter_context
        ports = (
            enter(process(serve_raw, len(request), reply)),
            enter(process(serve_websockets, reply)),
        )
        addresses = (
            enter(process(serve_policy, case, None)),
            enter(process(serve_policy, case, memory)),
        )
        raw = enter(socket.create_connection(("127.0.0.1", ports[0])))
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        library = enter(connect(f"ws://127.0.0.1:{ports[1]}", compression=None, proxy=None))
        server = enter(PolicyClient(addresses[0]))
        local = enter(PolicyClient(addresses[1], shared=shared))
        answer = memoryview(bytearray(reply))

        def ask_raw() -> None:
            raw.sendall(request)
            receive(raw, answer)

        def ask_library() -> None:
            library.send(request)
            library.recv()

        ways: dict[str, Callable[[], Any]] = {
            "raw copy": ask_raw,
            "websockets": ask_library,
            "server": lambda: server.ask(query),
            "local": lambda: local.ask(query),
        }
        times: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(WARM_UP + calls):
            for name, call in ways.items():
                begin = time.perf_counter()
                call()
                times[name].append(1e3 * (time.perf_counter() - begin))
    os.close(memory)
    return rows_of(case, len(request), {name: t[WARM_UP:] for name, t in times.items()})


def rows_of(case: str, size: int, times: dict[str, list[float]]) -> list[Row]:
    """What the times say, beside those of the raw copy."""
    base = np.asarray(times["raw copy"])
    rows = []
    for way, values in times.items():
        found = np.asarray(values)
        least, p50, p99 = float(found.min()), float(np.median(found)), np.percentile(found, 99)
        added = p50 - float(np.median(base)), least - float(base.min())
        rows.append(Row(case, size, way, least, p50, float(p99), *added))
    return rows


def main() -> None:
    """Measures, prints a line per row, and writes JSON when asked."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--calls", type=int, default=500, help="round trips of each way")
    parser.add_argument("--json", type=Path, help="file for the results")
    args = parser.parse_args()
    rows = [row for case in CASES for row in measure(case, args.calls)]
    # Here: it imports jax, whose threads the processes above must not inherit.
    from hardware import hardware, write_report

    machine = hardware(PACKAGES)
    print(json.dumps(machine))
    print(f"{'':<14} {'':<11} {'min':>8} {'p50':>8} {'p99':>8}   added p50      min   (ms)")
    for row in rows:
        print(
            f"{row.case:<14} {row.way:<11} {row.min_ms:>8.3f} {row.p50_ms:>8.3f} "
            f"{row.p99_ms:>8.3f}   {row.added_p50_ms:>+9.3f} {row.added_min_ms:>+8.3f}"
        )
    if args.json is not None:
        write_report(args.json, machine, rows)


if __name__ == "__main__":
    main()
