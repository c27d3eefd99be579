"""Numbers for Prometheus."""

from collections.abc import Sequence, Sized

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

from anomaly_gan.watching.journal import Row
from anomaly_gan.watching.stream import Stream

SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)
"""Borders of the histogram of times."""


class Metrics:
    """What is counted; `registry` has it all, with memory and time of the process.

    Args:
        stream: of which the test is shown.
        waiting: how many pictures wait.
    """

    def __init__(self, stream: Stream, waiting: Sized):
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.pictures = Counter(
            "anomaly_gan_pictures",
            "Pictures by decision, or unreadable",
            ["decision"],
            registry=self.registry,
        )
        self.refused = Counter(
            "anomaly_gan_refused", "Requests refused, by status", ["status"], registry=self.registry
        )
        self.seconds = Histogram(
            "anomaly_gan_request_seconds",
            "From the first byte of a request for predictions to its answer",
            buckets=SECONDS,
            registry=self.registry,
        )
        for name, what, value in (
            ("waiting", "Pictures that wait to be scored", lambda: len(waiting)),
            ("log10_martingale", "Evidence of a change", lambda: stream.test.log10_martingale),
            ("alarmed", "1 from when the pictures have changed", lambda: stream.test.alarmed),
            (
                "recent_p_value",
                "Of the last pictures, the median",
                lambda: stream.recent_p_value,
            ),
        ):
            Gauge(f"anomaly_gan_{name}", what, registry=self.registry).set_function(value)

    def count(self, rows: Sequence[Row]) -> None:
        """Count the pictures of a batch."""
        for row in rows:
            self.pictures.labels(row["decision"] or "unreadable").inc()
