"""What a policy server counts, as Prometheus' text; a registry of its own for each server.

Flows in: events. Flows out: the page /metrics. No history, no threads.
"""

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import generate_latest

CONTENT_TYPE = CONTENT_TYPE_LATEST
_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)


class ServerMetrics:
    """Counters of one server.

    Attributes:
        ready, clients: whether it can be asked; connections now.
        queries, bytes_received: messages with a query, and all bytes of messages.
        answers: labelled "ok" or "policy_error".
        superseded: queries dropped for a newer one.
        refused: connections and messages, labelled with the reason.
        queue_s, infer_s: how long queries waited and were computed.
    """

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        self.ready = Gauge("arp_policy_ready", "Policy is warm", registry=registry)
        self.clients = Gauge("arp_policy_clients", "Connections now", registry=registry)
        self.queries = Counter("arp_policy_queries", "Queries received", registry=registry)
        self.bytes_received = Counter(
            "arp_policy_received_bytes", "Bytes of messages received", registry=registry
        )
        self.answers = Counter("arp_policy_answers", "Answers", ["result"], registry=registry)
        self.superseded = Counter(
            "arp_policy_superseded", "Queries dropped for a newer one", registry=registry
        )
        self.refused = Counter(
            "arp_policy_refused", "Connections and messages refused", ["reason"], registry=registry
        )
        self.queue_s = Histogram(
            "arp_policy_queue_seconds", "Time waited", buckets=_SECONDS, registry=registry
        )
        self.infer_s = Histogram(
            "arp_policy_infer_seconds", "Time computed", buckets=_SECONDS, registry=registry
        )

    def answered(self, waited_s: float, computed_s: float, went_well: bool) -> None:
        """Counts an answer."""
        self.queue_s.observe(waited_s)
        self.infer_s.observe(computed_s)
        self.answers.labels("ok" if went_well else "policy_error").inc()

    def text(self) -> str:
        """The page."""
        return generate_latest(self._registry).decode()
