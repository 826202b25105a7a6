"""Several verdicts in one test: all are judged, then the test ends once."""

from __future__ import annotations

import pytest

from perfgate.results.schema import load
from tests.support.projects import (
    DENSE,
    GPU_QUESTIONS,
    H200,
    outcomes,
    perfgate,
    record,
    verdicts,
)

pytest_plugins = ["pytester"]

TWO = """
import pytest

LOAD = dict(
    num_prompts=8, max_concurrency=4, repetitions=2, input_len_tokens=8, output_len_tokens=20
)

@pytest.mark.perf
def test_chat(perf_server, perf_load, perf_gate):
    chat = perf_load(perf_server(), "chat", **LOAD)
    perf_gate("itl_median_ms", chat)
    perf_gate("output_throughput", chat)
    print("the test went on")
"""
CASES = {
    f"{DENSE}/chat/{metric}"
    for metric in ("itl_median_ms", "output_throughput")
}


@pytest.fixture
def hand(gpus, pytester):
    """Run pytest on one fake H200 with this test alone."""

    def run(*options: str):
        (pytester.path / "tests" / "perf" / "test_small.py").write_text(TWO)
        return gpus(*H200, "tests/perf", "-s", *options)

    return run


def test_all_are_judged_and_the_test_ends_once(hand, pytester):
    """Without baselines both cases are judged and the test is skipped.

    Slower, both fail it with one report.
    """
    first = hand(
        "--baseline-record", "--run-dir", "recorded", "--launches", "3"
    )
    accepted = perfgate(pytester, "accept", "recorded")
    same = hand("--run-dir", "same")
    slower = hand("--run-dir", "slower", "--inject-delay", "llama-3.1-8b=1")

    assert {"skipped": 1} == outcomes(first), first.stdout.str()
    assert dict.fromkeys(CASES, "NO_BASELINE") == verdicts(
        pytester.path / "recorded"
    )
    assert 0 == accepted.ret, accepted.outlines + accepted.errlines
    assert {"passed": 1} == outcomes(same), same.stdout.str()
    assert {"failed": 1} == outcomes(slower), slower.stdout.str()
    assert dict.fromkeys(CASES, "REGRESSED") == verdicts(
        pytester.path / "slower"
    )
    assert 3 == len(load(pytester.path / "slower").launches)
    for result in (first, same, slower):
        assert "the test went on" in result.stdout.str()


def test_two_configurations_of_one_key_are_refused(gpus, pytester):
    """A server of another context length is not the one that runs: it needs a name of its own."""
    text = """
import pytest

@pytest.mark.perf
def test_two(perf_server):
    perf_server(max_model_len=2048)
    perf_server(max_model_len=1024)
"""
    (pytester.path / "tests" / "perf" / "test_small.py").write_text(text)
    result = gpus(*H200, "tests/perf")

    assert {"failed": 1} == outcomes(result), result.stdout.str()
    assert "max_model_len is 2048 or 1024" in result.stdout.str()


# One is judged by a fixture after its function has returned, the other one skips itself.
LATE = f"""{TWO.partition("@pytest")[0]}
@pytest.fixture
def late(perf_server, perf_load, perf_gate):
    load = perf_load(perf_server(), "chat", **LOAD)
    yield
    perf_gate("itl_median_ms", load)

@pytest.mark.perf
def test_late(late):
    pass

@pytest.mark.perf
def test_skips(perf_server, perf_load, perf_gate):
    perf_gate("itl_median_ms", perf_load(perf_server(), "chat", **LOAD))
    pytest.skip("its own reason")
"""


def test_a_loss_fails_a_test_that_skips_itself_or_judges_at_its_end(
    gpus, pytester
):
    """Each had ended with 0; without a loss they end as they say."""
    (pytester.path / "tests" / "perf" / "test_small.py").write_text(LATE)
    record(gpus, pytester, *H200, "--launches", "3")
    same = gpus(*H200)
    slower = gpus(*H200, "--inject-delay", "llama-3.1-8b=1")

    assert {"passed": 1, "skipped": 1} == outcomes(same), same.stdout.str()
    assert "its own reason" in same.stdout.str()
    # Its function has passed, and its fixture has failed.
    assert {"passed": 1, "failed": 1, "errors": 1} == outcomes(slower)
    assert pytest.ExitCode.TESTS_FAILED == slower.ret
    slower.stdout.fnmatch_lines(["ERROR *test_late*REGRESSED*"])


# A case that no test asks, in a perf test and in one that no platform selects.
MADE_UP = """
import msgspec

@pytest.mark.perf(cases=closed)
def test_other(check, case):
    load = msgspec.structs.replace(case.numerator, workload=workload("other", 9))
    check(msgspec.structs.replace(case, numerator=load))

def test_plain(check, request):
    from perfgate.cases import Case, Load
    from perfgate.engines.base import ServerConfig

    server = ServerConfig(engine="fake", model="llama-3.1-8b", dtype="bfloat16")
    check(Case(experiment="own", metric="itl_median_ms", numerator=Load(server=server)))
"""


def test_a_case_that_nobody_measures_is_refused_by_name(gpus, pytester):
    """Without a server: it had been INVALID, or a KeyError of a session that nobody closed."""
    (pytester.path / "tests" / "perf" / "test_small.py").write_text(
        GPU_QUESTIONS + MADE_UP
    )

    selected = gpus(*H200, "-k", "test_other")
    plain = gpus("-k", "test_plain", "--run-dir", "plain")

    for result, name in ((selected, "other"), (plain, "launch")):
        shown = " ".join(result.stdout.str().split())
        assert f"check of {DENSE}/{name}/itl_median_ms" in shown
        assert "no selected perf test asks for this load" in shown
        assert "Traceback" not in shown
    assert not (pytester.path / "plain").exists()


def test_a_coroutine_is_told_to_be_a_function(gpus, pytester):
    """A load has an event loop of its own, and two of them do not run in one thread."""
    text = f"""{TWO.partition("@pytest")[0]}
import asyncio

@pytest.mark.perf
def test_chat(perf_server, perf_load):
    async def chat():
        perf_load(perf_server(), "chat", **LOAD)

    asyncio.run(chat())
"""
    (pytester.path / "tests" / "perf" / "test_small.py").write_text(text)

    result = gpus(*H200)

    assert {"failed": 1} == outcomes(result)
    assert "call it from a plain function (def)" in result.stdout.str()
