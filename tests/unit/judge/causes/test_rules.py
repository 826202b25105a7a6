"""Rules for causes: where none fits, the cause is unknown, and what was lost is told."""

from perfgate.judge.causes import rules
from tests.support.symptoms import first, server, step


def test_unknown_tells_what_was_lost():
    """A prefill that is slower alone has no rule."""
    slow = server(step(1, 4.8, 4.8), first(20.0, 30.0))
    finding = rules.find(slow, [slow])

    assert ("unknown", "prefill") == (finding.cause, finding.phase)
    assert "TTFT of at-1 +50.0 %" in finding.evidence[0]
