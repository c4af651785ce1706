"""Actions from a learned policy, which always runs in another process: a server, or a child.

Flows in: each tick's observation. Flows out: the action for a point in time, merged from chunks by
time stamp (`chunk_timeline.py`). A thread of its own asks about the newest observation whenever the
policy is free and the next chunk is due, and connects again when the server was away; `observe` and
`action` never wait. When the policy stops answering, the chunks run out and there is no action.
"""

import logging
import math
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from arp_jax.control.chunking import available_rows
from arp_jax.control.execution import Execution, available_actions
from arp_jax.export.protocol import Actions, Metadata, Problem, Query
from arp_jax.specs import PolicySpec
from robot_bridge.actions.chunk_timeline import ChunkTimeline, ObservationWindow
from robot_bridge.actions.policy_client import PolicyClient, PolicyError, PolicyRefused
from robot_bridge.actions.policy_process import PolicyProcess
from robot_bridge.observations import Observation
from robot_bridge.sources import Plan, PlannedAction, SourceHealth

_log = logging.getLogger(__name__)
# Between two attempts to connect.
_RETRY_S = 0.5
# How soon a connection that broke while nothing was asked is noticed.
_LOOK_S = 0.2


def default_execution(spec: PolicySpec) -> Execution:
    """Half of a chunk's actions before the next query, and a short fade at the seam."""
    execute = max(1, available_rows(spec) // 2)
    return Execution(execute=execute, blend=min(2, available_rows(spec) - execute, execute))


class RemotePolicy:
    """An `ActionSource`: a policy behind `python -m arp_jax.serve`.

    Args:
        url: ws://HOST:PORT or wss://HOST:PORT.
        token: the server's, None without one.
        ca_cert: a file with the server's certificate or its authority's, for wss.
        execution: how chunks become actions, as it was evaluated; None for `default_execution`. Its
            latency must be 0 (the real one counts) and `drop_zeros` off.
        timeout_s: longest wait for a chunk before the connection is given up and opened again.
        seed: of the policy's sampling noise; the n-th query uses seed + n.
        clock: monotonic ns, the same as the observations'.
        shared: memory that the server sees too (`LocalPolicy`'s); None for a network.

    Attributes:
        name: for people: the address, and the policy's name once it is known.
        kind: "policy".
    """

    kind = "policy"

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        ca_cert: Path | None = None,
        execution: Execution | None = None,
        timeout_s: float = 10.0,
        seed: int = 0,
        clock: Callable[[], int] = time.monotonic_ns,
        shared: memoryview | None = None,
    ) -> None:
        self.name = url
        self._url, self._token, self._ca_cert = url, token, ca_cert
        self._execution = execution
        self._timeout = timeout_s
        self._seed = seed
        self._clock = clock
        self._shared = shared
        # Guards everything below; held for microseconds only.
        self._changed = threading.Condition()
        self._closing = False
        self._client: PolicyClient | None = None
        self._metadata: Metadata | None = None
        self._refusal = ""
        self._connected = False
        self._requests = 0
        self._plans: _Plans | None = None
        self._asking = False  # about the newest observation, as soon as the policy is free
        self._asked: int | None = None  # time of the observation last asked about
        self._forget()
        self._thread = threading.Thread(target=self._run, name="policy", daemon=True)
        self._thread.start()

    @property
    def metadata(self) -> Metadata | None:
        """What the server serves; None before the first connection."""
        return self._metadata

    @property
    def spec(self) -> PolicySpec | None:
        """The policy's spec; None before the first connection."""
        return None if self._metadata is None else self._metadata.spec

    def wait_ready(self, timeout_s: float) -> Metadata:
        """Waits for the first connection; raises PolicyError with the reason when there is none."""
        with self._changed:
            self._changed.wait_for(lambda: self._metadata or self._refusal, timeout_s)
            if self._metadata is None or self._refusal:
                reason = self._refusal or self._last_error or f"{self._url} does not answer"
                raise PolicyError(reason)
            return self._metadata

    def reset(self) -> None:
        """An episode begins: forgets observations, chunks and counts."""
        with self._changed:
            self._forget()

    def observe(self, observation: Observation) -> None:
        """Hands over the newest observation; a query that is still unsent is replaced."""
        with self._changed:
            if self._plans is None:
                return  # nobody knows yet what a window is
            self._plans.window.push(observation)
            if not self._due(observation.time_ns):
                return
            self._skipped += self._asking
            self._asking = True
            self._changed.notify_all()

    def action(self, time_ns: int) -> PlannedAction | None:
        """The action for this time; None while there is no chunk that reaches it."""
        with self._changed:
            return None if self._plans is None else self._plans.timeline.action(time_ns)

    def plan(self) -> Plan | None:
        """The newest chunk from now on."""
        with self._changed:
            return None if self._plans is None else self._plans.timeline.plan(self._clock())

    def health(self) -> SourceHealth:
        """State of the connection and counts since `reset`."""
        with self._changed:
            return SourceHealth(
                ready=self._connected,
                queries=self._queries,
                chunks=self._chunks,
                late=self._late,
                skipped=self._skipped,
                latency_ms=self._latency_ms,
                last_error=self._last_error,
            )

    def close(self) -> None:
        """Ends the thread and the connection; twice does no harm."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join(0.5)
        # It waits for an answer: there is no reason to wait with it.
        if self._thread.is_alive() and self._client is not None:
            self._client.abort()
        self._thread.join()

    def _forget(self) -> None:
        """State of an episode; with the lock."""
        if self._plans is not None:
            self._plans.window.clear()
            self._plans.timeline.clear()
        self._asking, self._asked = False, None
        self._episode_requests = self._requests  # answers to requests up to here are of no use
        self._queries = self._chunks = self._late = self._skipped = 0
        self._latency_ms = 0.0
        self._last_error = ""

    def _due(self, time_ns: int) -> bool:
        """Whether the next chunk should come from an observation of this time; with the lock."""
        assert self._plans is not None
        if self._asked is None:
            return True
        # Half a period of tolerance: ticks jitter.
        waited = (time_ns - self._asked) / self._plans.period_ns
        # Before the last one: another clock.
        return waited > self._plans.execution.period - 0.5 or waited < 0

    def _run(self) -> None:
        """The thread: connects, answers queries, connects again."""
        while not self._closing:
            try:
                with PolicyClient(
                    self._url, self._token, self._ca_cert, self._timeout, self._shared
                ) as client:
                    self._client = client
                    self._welcome(client.metadata)
                    self._converse(client)
            except PolicyError as error:
                self._lost(error)
            except Exception as error:  # a thread that dies silently would look like a slow policy
                _log.exception("the policy's thread failed")
                self._lost(PolicyError(f"{type(error).__name__}: {error}"))
            finally:
                self._client = None
            with self._changed:
                self._connected = False
                self._changed.wait_for(lambda: self._closing, _RETRY_S)

    def _lost(self, error: PolicyError) -> None:
        with self._changed:
            if self._closing:
                return
            self._connected = False
            self._asked = None  # the next observation is asked about, however soon
            self._refusal = str(error) if isinstance(error, PolicyRefused) else ""
            if str(error) != self._last_error:
                _log.warning("policy: %s", error)
            self._last_error = str(error)
            self._changed.notify_all()

    def _welcome(self, found: Metadata) -> None:
        """Takes what the server serves; a server that came back must serve the same."""
        known = self._metadata
        with self._changed:
            if known is None:
                self._plans = _Plans(found.spec, self._execution)
                self._metadata = found
                self.name = f"{found.policy} at {self._url}"
            elif (known.spec, known.content_hash) != (found.spec, found.content_hash):
                raise PolicyRefused(
                    f"{self._url} now serves another policy ({found.policy} "
                    f"{found.content_hash[:12]}) than before ({known.policy} "
                    f"{known.content_hash[:12]}); start the bridge again"
                )
            self._connected = True
            self._refusal = self._last_error = ""
            self._changed.notify_all()

    def _converse(self, client: PolicyClient) -> None:
        """Asks and merges answers until the end, or until the connection breaks."""
        while (query := self._next_query(client)) is not None:
            answer = client.ask(query)
            now = self._clock()
            with self._changed:
                if isinstance(answer, Problem):
                    self._asked = None
                    self._last_error = f"{answer.field}: {answer.message}"[:500]
                    _log.warning("policy: %s", self._last_error)
                elif query.request > self._episode_requests:
                    self._merge(answer, query, now)

    def _next_query(self, client: PolicyClient) -> Query | None:
        """Waits until there is something to ask; None at the end or when the connection is gone."""
        with self._changed:
            while not self._asking:
                if self._closing:
                    return None
                if not client.is_open:
                    raise PolicyError(f"{self._url} has gone")
                self._changed.wait(_LOOK_S)
            if self._closing:
                return None
            assert self._plans is not None
            self._requests += 1
            self._queries += 1
            self._asked, seen = self._plans.window.history()
            self._asking = False
            wanted = self._plans.spec.observation.names
            return Query(
                self._requests,
                self._asked,
                # Names that the policy does not know would only be carried.
                {name: rows for name, rows in seen.items() if name in wanted},
                (self._seed + self._requests) % 2**32,
            )

    def _merge(self, answer: Actions, query: Query, now_ns: int) -> None:
        """An answer becomes part of the timeline; with the lock."""
        assert self._plans is not None
        spec = self._plans.spec
        if answer.actions.shape != (spec.horizon, spec.action.size):
            raise PolicyError(
                f"{self._url} sent actions {list(answer.actions.shape)}, its spec says "
                f"{[spec.horizon, spec.action.size]}"
            )
        if not np.isfinite(answer.actions).all():
            self._last_error = "actions: the policy answered with NaN or infinity"
            _log.warning("policy: %s", self._last_error)
            return
        self._chunks += 1
        self._latency_ms = (now_ns - query.observed_ns) / 1e6
        rows = available_actions(answer.actions, spec, self._plans.execution.base_delay)
        if self._plans.timeline.merge(rows, query.observed_ns, now_ns):
            self._last_error = ""
        else:
            self._late += 1


class _Plans:
    """What follows from a policy's spec; raises PolicyRefused when `execution` does not fit it."""

    def __init__(self, spec: PolicySpec, execution: Execution | None) -> None:
        self.spec = spec
        self.execution = default_execution(spec) if execution is None else execution
        try:
            if self.execution.latency or self.execution.drop_zeros:
                raise ValueError("on a robot latency is what it is: latency=0, drop_zeros=False")
            self.execution.check(spec)
        except ValueError as error:
            raise PolicyRefused(f"execution: {error}") from error
        if not math.isfinite(spec.action.rate_hz) or not spec.observation.names:
            raise PolicyRefused("spec: a policy without a rate or without observations")
        self.period_ns = 1e9 / spec.action.rate_hz
        ensemble, blend = self.execution.ensemble, self.execution.blend
        self.timeline = ChunkTimeline(self.period_ns, blend, ensemble)
        self.window = ObservationWindow(self.period_ns, spec.window)


class LocalPolicy(RemotePolicy):
    """An `ActionSource`: an artifact in a child process; inference never has the loop's GIL.

    Args:
        artifact: its folder.
        execution, seed, clock, timeout_s: as for `RemotePolicy`.
        niceness: added to the child's; the control loop goes first.
    """

    def __init__(
        self,
        artifact: Path,
        *,
        execution: Execution | None = None,
        timeout_s: float = 10.0,
        seed: int = 0,
        niceness: int = 10,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._process = PolicyProcess(artifact, niceness)
        super().__init__(
            self._process.url,
            token=self._process.token,
            execution=execution,
            timeout_s=timeout_s,
            seed=seed,
            clock=clock,
            shared=self._process.shared,
        )

    @property
    def pid(self) -> int:
        """The child's process id."""
        return self._process.pid

    def _lost(self, error: PolicyError) -> None:
        """A child that has ended says more about the reason than its silent socket."""
        ended = self._process.ended()
        super()._lost(PolicyRefused(ended) if ended else error)

    def close(self) -> None:
        """Ends the child too."""
        super().close()
        self._process.close()
