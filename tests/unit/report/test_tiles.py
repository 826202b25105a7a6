"""Tiles: what is red first, one of each question next, and only what has a value."""

import msgspec

from perfgate.report import questions, tiles
from tests.unit.report.test_losses import DENSE, SPARSE, results_of, row


def valued(*where, value=5.0, unit="ms", **how):
    """A verdict with a value."""
    experiment = how.pop("experiment", "E1")
    return msgspec.structs.replace(
        row(*where, **how), value=value, unit=unit, experiment=experiment
    )


def test_red_tiles_come_first():
    """What regressed stands before the leading answers of the other questions."""
    found = tiles.tiles(
        results_of(
            valued(DENSE, "single-stream", "itl_median_ms", experiment="E2"),
            valued(
                SPARSE,
                "batch-32",
                "itl_median_ms",
                experiment="E4",
                change=0.1,
                outcome="REGRESSED",
            ),
        )
    )

    assert ["E4 batch sizes", "E2 one stream"] == [
        tile.question for tile in found
    ]
    assert ("✗ regressed", "fail", "5 ms") == (
        found[0].outcome,
        found[0].level,
        found[0].value,
    )


def test_the_leading_metric_answers_a_question():
    """Of memory it is the peak; the others of the question come after all leading ones."""
    found = tiles.tiles(
        results_of(
            valued(DENSE, "launch", "kv_cache_tokens", experiment="E6"),
            valued(DENSE, "launch", "memory_peak_bytes", experiment="E6"),
            valued(DENSE, "launch", "ready_s", experiment="E12"),
        )
    )

    assert ["memory peak", "ready", "KV cache"] == [
        tile.metric for tile in found
    ]


def test_what_has_no_value_has_no_tile():
    """An invalid measurement is said elsewhere."""
    results = results_of(
        row(DENSE, "batch-32", "itl_median_ms", outcome="INVALID")
    )

    assert [] == tiles.tiles(results)


def test_report_only_answers_a_question_that_has_no_other():
    """Routing that is never judged still is an answer of the study."""
    found = tiles.tiles(
        results_of(
            valued(DENSE, "closed-c32", "output_throughput"),
            valued(
                SPARSE,
                "routing",
                "routing_entropy",
                gate="report",
                experiment="E8",
            ),
        )
    )

    assert "✓ passed (report-only)" == found[-1].outcome


def test_a_tile_says_how_many_are_worst():
    """Of two loads one regressed: the tile shows its change and how many."""
    (tile,) = tiles.tiles(
        results_of(
            valued(DENSE, "a", "itl_median_ms", value=4.0),
            valued(
                DENSE,
                "b",
                "itl_median_ms",
                value=6.0,
                change=0.2,
                outcome="REGRESSED",
            ),
        )
    )

    assert ("4 to 6 ms", "✗ 1 of 2 regressed") == (tile.value, tile.outcome)
    assert questions.ASKS["E1"] == tile.asks
    assert tile.definition
