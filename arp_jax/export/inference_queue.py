"""Who is answered next: the newest query of each client, clients in turn, one at a time.

Flows in: queries from the event loop. Flows out: answers, computed in one worker thread, so that
the loop goes on receiving, pinging and answering health checks meanwhile. A query that was not
looked at when a newer one of its client came is dropped: a robot has no use for an old answer.
"""

import asyncio
import collections
import dataclasses
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Executor
from typing import Any, Protocol

import numpy as np

from arp_jax.export.protocol import Actions, Problem, Query
from arp_jax.specs import PolicySpec

_log = logging.getLogger(__name__)


class Actor(Protocol):
    """What can be served; `runtime.Artifact` is one."""

    @property
    def manifest(self) -> dict[str, Any]:
        """Says at least its "policy", a name, and "content_hash"."""
        ...

    @property
    def spec(self) -> PolicySpec:
        """What it sees and commands."""
        ...

    def act(self, observation: Mapping[str, np.ndarray], seed: int = 0) -> np.ndarray:
        """{name: [B, W, ...]} -> float32 [B, H, A]."""
        ...

    def warm_up(self) -> float:
        """Makes the first call quick; returns the seconds."""
        ...


@dataclasses.dataclass(eq=False)
class Client:
    """Someone who asks.

    Attributes:
        send: hands an answer over; returns once the client's connection can take the next one.
        waiting: the newest query that was not looked at, and when it came (`perf_counter`).
        busy: an answer is being computed or sent.
        superseded: queries dropped since the last answer.
    """

    send: Callable[[Actions | Problem], Awaitable[None]]
    waiting: tuple[Query, float] | None = None
    busy: bool = False
    superseded: int = 0


class InferenceQueue:
    """Computes answers one after the other; all methods belong to the event loop's thread.

    Args:
        actor: the policy.
        executor: its one worker thread.
        observe: told of each answer: seconds waited, seconds computed, whether it went well.
    """

    def __init__(
        self, actor: Actor, executor: Executor, observe: Callable[[float, float, bool], None]
    ) -> None:
        self._actor = actor
        self._executor = executor
        self._observe = observe
        self._turns: collections.deque[Client] = collections.deque()
        self._something = asyncio.Event()
        self._sending: set[asyncio.Task[None]] = set()

    def put(self, client: Client, query: Query) -> None:
        """Takes a client's newest query; one that is still waiting is dropped."""
        if client.waiting is not None:
            client.superseded += 1
        elif not client.busy:
            self._line_up(client)
        client.waiting = (query, time.perf_counter())

    def leave(self, client: Client) -> None:
        """Forgets a client; an answer under way is thrown away."""
        client.waiting = None
        if client in self._turns:
            self._turns.remove(client)

    async def run(self) -> None:
        """Answers until it is cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            while not self._turns:
                self._something.clear()
                await self._something.wait()
            client = self._turns.popleft()
            assert client.waiting is not None
            (query, came), client.waiting = client.waiting, None
            client.busy = True
            dropped, client.superseded = client.superseded, 0
            begin = time.perf_counter()
            answer = await loop.run_in_executor(self._executor, self._answer, query)
            seconds = time.perf_counter() - begin
            self._observe(begin - came, seconds, isinstance(answer, Actions))
            if isinstance(answer, Actions):
                timing = {"queue": 1e3 * (begin - came), "infer": 1e3 * seconds}
                answer = dataclasses.replace(answer, timing_ms=timing, superseded=dropped)
            # A client that reads slowly must not keep the others waiting.
            sending = loop.create_task(self._send(client, answer))
            self._sending.add(sending)
            sending.add_done_callback(self._sending.discard)

    def _line_up(self, client: Client) -> None:
        self._turns.append(client)
        self._something.set()

    async def _send(self, client: Client, answer: Actions | Problem) -> None:
        await client.send(answer)
        client.busy = False
        if client.waiting is not None:
            self._line_up(client)

    def _answer(self, query: Query) -> Actions | Problem:
        """In the worker thread."""
        batch = {name: np.asarray(value)[None] for name, value in query.observation.items()}
        try:
            actions = self._actor.act(batch, query.seed)[0]
        except Exception as error:  # whatever a policy does, the server goes on
            _log.exception("the policy failed")
            text = str(error).splitlines()[0] if str(error) else ""
            return Problem(query.request, "policy", f"{type(error).__name__}: {text}"[:500])
        return Actions(query.request, query.observed_ns, np.asarray(actions, np.float32))


def find_problem(spec: PolicySpec, query: Query) -> Problem | None:
    """What is wrong with a query's observation: absent and unknown names, dtypes, shapes, NaN."""
    wanted = spec.observation_shapes
    for name in sorted(set(query.observation) ^ set(wanted)):
        what = "is missing" if name in wanted else f"is not seen by this policy: {list(wanted)}"
        return Problem(query.request, f"observation.{name}", what)
    for name, (dtype, shape) in wanted.items():
        value = np.asarray(query.observation[name])
        if value.dtype.name != dtype or value.shape != shape:
            expected = f"expected {dtype} {list(shape)}, found {value.dtype} {list(value.shape)}"
            return Problem(query.request, f"observation.{name}", expected)
        if dtype == "float32" and not np.isfinite(value).all():
            return Problem(query.request, f"observation.{name}", "NaN or infinity in it")
    return None
