"""Adds a metric of this repository's own: a hook of perfgate's, called once a session."""

from perfgate.load.metrics import CustomMetric, Metric

SLOWEST = Metric(
    name="slowest_ttft_ms",
    unit="ms",
    better="lower",
    definition="largest time to first token of a repetition's requests",
    family="ttft",
)


def slowest_ttft(requests, duration_s):
    """The figure of one repetition; None where no request was answered."""
    times = [
        request.ttft_ms for request in requests if request.ttft_ms is not None
    ]
    return max(times, default=None)


def pytest_perfgate_metrics(config):
    """Declare the metric."""
    return [CustomMetric(SLOWEST, slowest_ttft)]
