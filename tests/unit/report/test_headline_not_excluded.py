"""Headline of what is not excluded: counted, with the ceiling, and one advice for all."""

import msgspec
import pytest

from perfgate.accept.accept import accept
from perfgate.accept.choice import Choice
from perfgate.judge.baseline_store import Store
from perfgate.report import summary, terminal, verdict_text
from perfgate.report.headline import (
    attention,
    drift,
    other_versions,
    verdict_sentence,
)
from perfgate.report.page import Report, build
from perfgate.results import schema
from tests.support import builders as m
from tests.support.judged_runs import judged

MORE, FEWER = "launch it 3 times", "record 3 more launches"


def hidden(*advices, ceilings=(0.05,)):
    """A run whose rows are not excluded, with this advice, after one that passed."""
    results = judged("PASSED", *["NOT_EXCLUDED"] * len(advices))
    first, *others = results.verdicts
    rows = [first]
    for index, (row, advice) in enumerate(zip(others, advices, strict=True)):
        ceiling = ceilings[index % len(ceilings)]
        rows.append(
            msgspec.structs.replace(
                row,
                advice=advice,
                change=-0.03,
                excluded=0.2,
                allowed=ceiling,
                fail_over=ceiling,
            )
        )
    return msgspec.structs.replace(results, verdicts=tuple(rows))


@pytest.mark.parametrize(
    ("ceilings", "words"),
    [
        ((0.05,), "a loss of 5.0 %"),
        ((0.05, 0.10), "a loss of 5.0 to 10.0 %"),
        ((None,), "a loss"),
    ],
)
def test_rows_that_hide_a_loss_are_counted_with_their_ceiling(ceilings, words):
    """In the sentence of the run."""
    results = hidden(MORE, FEWER, MORE, ceilings=ceilings)

    assert (
        f"Undecided: 3 of 4 rows cannot exclude {words}; 1 passed"
        == verdict_sentence(results)
    )


def test_the_commonest_advice_is_given_once():
    """Not a dozen times; each row is named with what it may have lost."""
    results = hidden(FEWER, MORE, MORE)

    (text,) = terminal.attention(results)
    (item,) = attention(results)

    assert 1 == text.count("do:")
    assert text.endswith(f"do:   {MORE}")
    assert 3 == text.count("-3.0 % (slower), may be -20.0 %, allowed -5.0 %")
    assert MORE == item.advice
    assert 3 == item.finding.count("may be -20.0 %")
    assert 3 == len(item.messages)


def test_one_row_is_told_in_full():
    """As any other; a skipped test says it in one line."""
    results = hidden(MORE)
    row = results.verdicts[-1]

    assert [verdict_text.render(row)] == terminal.attention(results)
    assert 1 == len(verdict_text.skip_reason(row).splitlines())
    assert row.summary in verdict_text.skip_reason(row)


def test_failures_come_first_in_the_sentence():
    """The first part has the number of rows; gains are among what passed."""
    results = judged("PASSED", "IMPROVED", "INCOMPARABLE", "REGRESSED")

    assert (
        "Red: 1 of 4 rows regressed; 1 cannot be compared; 2 passed (1 of them improved)"
        == verdict_sentence(results)
    )


def test_a_row_that_passed_by_an_accepted_loss_is_counted():
    """A row 20 % slower with 5 % allowed was one of those that passed, and no word of it."""
    results = judged("PASSED", "IMPROVED", "PASSED")
    *others, row = results.verdicts
    lost = msgspec.structs.replace(
        row, reference="recorded", worse_by=0.2, allowed=0.05
    )
    results = msgspec.structs.replace(results, verdicts=[*others, lost])

    assert (
        "Green: 3 of 3 rows passed (1 of them improved, 1 of them with an accepted loss)"
        == verdict_sentence(results)
    )


def run_of(number, version):
    """A run of this version of vLLM."""
    results = m.run(
        {m.MOE_LOAD: {"output_throughput": [1000.0]}},
        [m.THROUGHPUT],
        f"202606{number:02}-120000-1",
    )
    servers = {}
    for key, server in results.servers.items():
        versions = server.versions | {"vllm": version}
        servers[key] = msgspec.structs.replace(server, versions=versions)
    return msgspec.structs.replace(results, servers=servers)


def test_other_versions_are_said_though_all_is_green(tmp_path):
    """Of the engine and its libraries, in one line."""
    store = Store(tmp_path / "baselines")
    schema.save(run_of(1, "0.26.0"), tmp_path / "run")
    accept([tmp_path / "run"], store, Choice(), env={})
    same, other = run_of(2, "0.26.0"), run_of(3, "0.27.0")
    line = (
        "Built against other versions than the baseline: vllm 0.26.0 -> 0.27.0"
    )

    assert "" == other_versions(same, store) == other_versions(other, None)
    assert line == other_versions(other, store)
    assert line in summary.markdown(other, store)
    page = build(Report([other], store))
    assert line.replace(">", "&gt;") in page


@pytest.mark.parametrize(
    ("gate", "level"), [("required", "warning"), ("strict", "error")]
)
def test_one_annotation_is_for_all_that_may_hide_a_loss(gate, level):
    """GitHub shows ten of a step: a dozen equal ones would hide the others."""
    results = msgspec.structs.replace(hidden(MORE, MORE, FEWER), gate=gate)

    (command,) = summary.workflow_commands(results, {"GITHUB_ACTIONS": "true"})

    assert command.startswith(
        f"::{level} title=NOT_EXCLUDED%3A 3 rows cannot exclude a loss of 5.0 %25::"
    )
    assert 1 == command.count(MORE)


def test_other_packages_and_driver_are_said_in_the_same_line(tmp_path):
    """What a baseline does not know is unknown, and no difference."""
    old = run_of(1, "0.26.0")
    (python,) = {server.python for server in old.servers.values()}

    def with_nccl(run, version, driver):
        hardware = msgspec.structs.replace(run.hardware, driver=driver)
        packages = {"nvidia-nccl-cu13": version, "rich": "14"}
        return msgspec.structs.replace(
            run, hardware=hardware, environments={python: packages}
        )

    for name, run in (
        ("old", old),
        ("new", with_nccl(run_of(2, "0.26.0"), "2.28", "580")),
    ):
        schema.save(run, tmp_path / name)
        store = Store(tmp_path / f"baselines-{name}")
        accept([tmp_path / name], store, Choice(), env={})
    now = with_nccl(run_of(3, "0.26.0"), "2.29", "590")
    before = Store(tmp_path / "baselines-old")

    assert (
        "Built against other versions than the baseline: nvidia-nccl-cu13 2.28 -> 2.29; "
        "Other environment than the baseline: driver 580 -> 590"
    ) == other_versions(now, store)
    assert "nccl" not in other_versions(now, before)
    assert "not recorded, so unknown" in drift(now, before).sentence
    assert "unknown" not in drift(now, store).sentence
