"""A real policy server on a free port, in a thread, with a policy that needs no jax.

For tests of both ends of the socket: `tests/export` and `tests/robot_bridge`.
"""

import asyncio
import contextlib
import dataclasses
import threading
import time
import urllib.error
import urllib.request

import numpy as np

from arp_jax.export.server import PolicyServer, ServerOptions
from arp_jax.specs import ActionSpec, CameraSpec, FeatureSpec, ObservationSpec, PolicySpec

TOKEN = "a token of sufficient length"
RATE_HZ = 20.0
SPEC = PolicySpec(
    ObservationSpec(
        (FeatureSpec("state", ("j1", "j2"), "rad", "joint"),), (CameraSpec("image", 4, 6),)
    ),
    ActionSpec(("j1", "j2"), "rad", "joint", (True,) * 2, (-3.0,) * 2, (3.0,) * 2, RATE_HZ),
    window=2,
    horizon=9,
    action_offset=-1,
)


@dataclasses.dataclass
class CountingActor:
    """Row j of a chunk is [newest state + j, seed]; `pause_s` is how long it thinks."""

    spec: PolicySpec = SPEC
    pause_s: float = 0.0
    failure: str = ""
    loading: threading.Event | None = None
    calls: int = 0
    content_hash: str = "c0ffee"

    @property
    def manifest(self):
        return {"policy": "counting", "content_hash": self.content_hash}

    def act(self, observation, seed=0):
        self.calls += 1
        time.sleep(self.pause_s)
        if self.failure:
            raise RuntimeError(self.failure)
        actions = np.zeros((1, self.spec.horizon, self.spec.action.size), np.float32)
        actions[..., 0] = observation["state"][:, -1:, 0] + np.arange(self.spec.horizon)
        actions[..., 1] = seed
        return actions

    def warm_up(self):
        if self.loading is not None:
            assert self.loading.wait(30)
        return 0.0


@contextlib.contextmanager
def running_server(actor=None, wait=True, **options):
    """Yields the server's address, ws://...; it is warm unless `wait` is False."""
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()
    addresses, listening, ready, errors = [], threading.Event(), threading.Event(), []

    def heard(address):
        addresses.append(address)
        listening.set()

    def run():
        try:
            server = PolicyServer(lambda: actor or CountingActor(), ServerOptions(**options))
            loop.run_until_complete(server.run(stop, heard, lambda seconds: ready.set()))
        except ValueError as error:
            errors.append(error)
        finally:
            loop.close()
            listening.set()
            ready.set()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        assert listening.wait(30)
        if wait:
            assert ready.wait(30)
        if errors:
            raise errors[0]
        yield addresses[0]
    finally:
        with contextlib.suppress(RuntimeError):  # it ended by itself
            loop.call_soon_threadsafe(stop.set)
        thread.join(30)
        assert not thread.is_alive()


def get(address, path, token=None):
    """Plain HTTP: (status, text)."""
    request = urllib.request.Request(address.replace("ws", "http", 1) + path)
    if token is not None:
        request.add_header("Authorization", f"Bearer {token}")
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
