"""A policy that uses all cores, for bridge_jitter.py: slow waves round the home pose.

Serves like `python -m arp_jax.serve`: prints its address, then answers until standard input ends.
Each answer costs products of large matrices; besides, one process per core does nothing else, so
that no core is ever idle, whether or not an answer is due. Niceness is inherited from the starter.
"""

import asyncio
import multiprocessing
import os
import sys
import threading
import time

import numpy as np

from arp_jax.export.server import PolicyServer, ServerOptions
from arp_jax.specs import CameraSpec, ObservationSpec, PolicySpec
from robot_bridge.arm import HOME, action_spec, state_spec

CAMERA = CameraSpec("top", 224, 224)
SPEC = PolicySpec(
    ObservationSpec((state_spec(True),), (CAMERA,)), action_spec(True), window=1, horizon=40
)
_AMPLITUDE, _PERIOD_S = 0.12, 6.0
_SIZE = 700


class WavingActor:
    """An `Actor`: rows of a sine through time, computed the long way."""

    spec = SPEC

    def __init__(self):
        self.manifest = {"policy": "waving", "content_hash": "none"}
        self._matrix = np.random.default_rng(0).standard_normal((_SIZE, _SIZE)).astype(np.float32)

    def act(self, observation, seed=0):
        """{name: [B, 1, ...]} -> float32 [B, H, A]."""
        batch = len(observation["state"])
        for _ in range(4):
            self._matrix = np.tanh(self._matrix @ self._matrix / _SIZE)
        times = time.monotonic() + np.arange(SPEC.horizon) / SPEC.action.rate_hz
        wave = _AMPLITUDE * np.sin(2 * np.pi * times / _PERIOD_S)
        rows = np.tile(np.array([*HOME, 1.0]), (SPEC.horizon, 1))
        rows[:, (0, 3, 5)] += wave[:, None]
        return np.tile(rows.astype(np.float32), (batch, 1, 1))

    def warm_up(self):
        """Nothing is compiled."""
        return 0.0


def burn():
    """Keeps one core busy."""
    matrix = np.ones((200, 200), np.float32)
    while True:
        matrix = np.tanh(matrix @ matrix)


def main():
    """Serves until standard input ends."""
    context = multiprocessing.get_context("spawn")
    burners = [context.Process(target=burn, daemon=True) for _ in range(os.cpu_count() or 1)]
    for burner in burners:
        burner.start()
    asyncio.run(serve())
    for burner in burners:
        burner.terminate()


async def serve():
    """One server, one client."""
    stop, loop = asyncio.Event(), asyncio.get_running_loop()

    def wait_for_the_end():
        sys.stdin.read()
        loop.call_soon_threadsafe(stop.set)

    threading.Thread(target=wait_for_the_end, daemon=True).start()
    server = PolicyServer(WavingActor, ServerOptions())
    await server.run(stop, listening=lambda address: print(address, flush=True))


if __name__ == "__main__":
    main()
