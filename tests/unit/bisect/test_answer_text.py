"""Answer text: what was found, what it explains, and how to see it again."""

from __future__ import annotations

from pathlib import Path

from perfgate.bisect import answer_text
from perfgate.bisect.builds import CommandBuild, ReadyBuild
from perfgate.bisect.dependencies import ExchangedBuild
from perfgate.results import schema
from tests.support import builders as m
from tests.support.bisections import (
    CASE,
    ToldPairs,
    bisection,
    session,
    slow_from,
    state,
)

COMMAND = ["pytest", "-m", "h200", "-k", "llama and batch"]


def told(tmp_path, pairs, builds=8, begun=None):
    """The lines of the answer of a bisection whose runs have nothing else to say."""
    found = bisection(pairs, builds, begun)[0]
    answer = found.run()
    if answer.confirmation is not None:
        schema.save(m.bare_run(), tmp_path / answer.confirmation.run)
    return answer_text.lines(answer, found.builds, tmp_path, COMMAND)


def test_found(tmp_path):
    """Which build, by how much, after which one, at what cost, and the command."""
    lines = told(tmp_path, ToldPairs(slow_from(5)))

    assert [
        "FOUND: b5: vllm llama, closed-c32, itl_median_ms loss +10.0 % (+9.3 to +10.7 %)",
        "  last good build: b4",
        "  measured: 4 pairs to find it, 3 to confirm it, 5 min",
        "See it again: pytest -m h200 -k 'llama and batch'",
    ] == lines


def test_span_of_builds(tmp_path):
    """Those between that could not be compared are suspects, too."""
    lines = told(tmp_path, ToldPairs(slow_from(5), broken=["b5", "b4"]))

    assert lines[0].startswith("FOUND: one of b4; b5; b6: vllm llama")
    assert lines[1] == "  last good build: b3"
    assert "could not be compared" in lines[2]


def test_not_confirmed(tmp_path):
    """Nothing is called found, and the reason is said."""
    pairs = ToldPairs({}, noise=[0.1, 0.1])

    lines = told(tmp_path, pairs, builds=3)

    assert lines[0].startswith("NOT CONFIRMED: b")
    assert "do not differ as expected" in "\n".join(lines)


def test_loss_before_the_build(tmp_path):
    """A smaller step came earlier: the option that finds it is named."""
    losses = {**slow_from(2, 0.08, builds=4), **slow_from(4, 0.21)}

    lines = told(tmp_path, ToldPairs(losses))

    assert lines[0].startswith("FOUND: b4: ")
    (line,) = [line for line in lines if "look again" in line]
    assert line.startswith("  Before it b3 is worse already, loss +8.0 %")
    assert line.endswith("--bad b3, and another --folder")


def test_loss_after_the_build(tmp_path):
    """The larger step came first; what is left is said, and where."""
    losses = {**slow_from(2, 0.12, builds=4), **slow_from(4, 0.21)}

    lines = told(tmp_path, ToldPairs(losses))

    assert lines[0].startswith("FOUND: b2: ")
    (line,) = [line for line in lines if "look again" in line]
    assert line.startswith("  After it +8.0 % more is lost")
    assert line.endswith("--good b2, and another --folder")


def test_what_is_left_between_packages_is_looked_for_by_pythons(tmp_path):
    """The option takes no name of a package."""
    losses = {**slow_from(2, 0.12, builds=4), **slow_from(4, 0.21)}
    found = bisection(ToldPairs(losses))[0]
    answer = found.run()
    schema.save(m.bare_run(), tmp_path / answer.confirmation.run)
    python = Path("/bin/true")
    builds = list(found.builds)
    label = "kernels 1.0 -> 1.1"
    builds[2] = ExchangedBuild(label, python, python, ("kernels",), tmp_path)

    lines = answer_text.lines(answer, builds, tmp_path, COMMAND)

    (line,) = [line for line in lines if "look again" in line]
    script = tmp_path / "pythons" / "kernels-1.0---1.1"
    assert line.endswith(f"--good {script}, and another --folder")


def test_build_that_is_neither_is_named(tmp_path):
    """Exactly half of the loss, in every pair."""
    losses = {"b1": 1.1 - 1, "b2": 1.21 - 1}

    lines = told(tmp_path, ToldPairs(losses), builds=3)

    assert "neither good nor bad for sure: b1" in "\n".join(lines)


def test_other_cases_are_named(tmp_path):
    """With how to ask for them: their pairs are there."""
    end = session("b1", [0.1])
    other = CASE.replace("itl_median_ms", "tpot_median_ms")
    rows = {**end.rows, other: end.rows[CASE]}
    begun = state(2, schema.msgspec.structs.replace(end, rows=rows))

    lines = told(tmp_path, ToldPairs(slow_from(1, builds=2)), begun=begun)

    assert any("worse too: " in line for line in lines)
    assert any("--case" in line for line in lines)


def test_subject_of_a_commit_is_shown(tmp_path):
    """Which commit it is, one wants to read."""
    found = bisection(ToldPairs(slow_from(1, builds=2)), builds=2)[0]
    answer = found.run()
    schema.save(m.bare_run(), tmp_path / answer.confirmation.run)
    builds = [
        ReadyBuild("b0", "/bin/true"),
        CommandBuild("b1", "", tmp_path, "Sort the batch twice"),
    ]

    lines = answer_text.lines(answer, builds, tmp_path, COMMAND)

    assert lines[0].startswith("FOUND: b1 Sort the batch twice: ")
