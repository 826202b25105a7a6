"""Choices and context that changed since the baselines were recorded, on both sides of a ratio."""

import dataclasses
import types
from dataclasses import replace

import msgspec
import pytest

from perfgate.judge.identity import ratio_fields
from perfgate.judge.observation import RunReader
from perfgate.report import headline
from tests.support import builders as m


def test_a_field_of_both_sides_is_one_row(monkeypatch):
    """A driver is the same on both sides: it counts once for the case.

    Changed choices of the engine are rows, too; unknown ones are not.
    """
    results = m.run(
        {
            m.MOE_LOAD: {"output_throughput": [1.0]},
            m.DENSE_LOAD: {"output_throughput": [2.0]},
        },
        [m.RATIO, m.THROUGHPUT],
    )
    single = replace(
        m.recorded(m.THROUGHPUT, [1.0]), chosen={"graphs": "on", "chunk": "8"}
    )
    baselines = {
        m.THROUGHPUT: {"driver": "then"},
        m.RATIO: ratio_fields([{"driver": "then"}] * 2),
    }
    now = {
        m.THROUGHPUT: {"driver": "now"},
        m.RATIO: ratio_fields([{"driver": "now"}] * 2),
    }

    class Reader:
        def __init__(self, results):
            pass

        def observe(self, case):
            return replace(
                m.seen(case, 1.0),
                context=now[case],
                chosen={"graphs": "off", "chunk": "8", "unknown": "x"},
            )

    def find(case, label):
        return replace(single, context=baselines[case])

    monkeypatch.setattr(headline, "RunReader", Reader)

    drift = headline.drift(results, types.SimpleNamespace(find=find))

    assert (
        ("driver", "now", "then", 2),
        ("graphs", "off", "on", 2),
    ) == drift.rows
    assert 2 == drift.compared


@pytest.mark.parametrize(
    ("recorded", "rows"),
    [
        (
            "aaaaaa xxxxxx",
            (("answers", "1 of 2 changed", "0 of 2 changed", 1),),
        ),
        ("aaaaaa bbbbbb", ()),
        ("", ()),
    ],
    ids=["changed", "same", "unknown"],
)
def test_changed_answers_are_counted(recorded, rows):
    """Hashes are not shown; equal answers, and those of one side alone, are no change."""
    results = m.run({m.MOE_LOAD: {"output_throughput": [1.0]}}, [m.THROUGHPUT])
    (launch,) = results.launches
    answered = msgspec.structs.replace(launch, answers=("aaaaaa", "bbbbbb"))
    results = msgspec.structs.replace(results, launches=(answered,))
    context = dict(RunReader(results).observe(m.THROUGHPUT).context)
    context["answers"] = recorded
    baseline = dataclasses.replace(
        m.recorded(m.THROUGHPUT, [1.0]), context=context
    )
    store = types.SimpleNamespace(find=lambda case, label: baseline)

    assert rows == headline.drift(results, store).rows


def test_a_paired_run_has_no_drift():
    """Its base build ran on the same day."""
    results = m.run({m.MOE_LOAD: {"output_throughput": [1.0]}}, [])
    paired = msgspec.structs.replace(results, mode="paired")

    assert headline.Drift() == headline.drift(paired, object())
