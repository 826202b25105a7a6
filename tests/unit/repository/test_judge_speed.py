"""Speed of the judge: time grows with the cases, and not faster."""

from __future__ import annotations

from benchmarks.judge_speed import WORKLOADS, timing


def test_time_grows_with_the_cases():
    """Five times the cases take less than ten times as long, each of them judged."""
    timing(1, 1)  # what is imported on first use
    one, five = timing(3, 1), timing(3, 5)

    assert 10 * WORKLOADS == one.outcomes.total()
    assert 5 * one.outcomes.total() == five.outcomes.total()
    assert five.judged_s < 10 * one.judged_s


def test_time_hardly_grows_with_the_launches():
    """Ten recorded launches and ten new ones take less than five times two of each.

    The fastest of three counts: other processes share the cores and their caches.
    """
    few_s, many_s = [], []
    for _ in range(3):
        few_s.append(timing(2, 2).judged_s)
        many_s.append(timing(10, 2).judged_s)

    assert min(many_s) < 5 * min(few_s)
