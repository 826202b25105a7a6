"""Pytest fixtures: judge a case, or start a server, send it load and judge a number.

``check`` judges a case. The others are for tests that start their own server:

    @pytest.mark.perf
    def test_chat_is_as_fast_as_before(perf_server, perf_load, perf_gate):
        server = perf_server(engine="vllm", model="llama-small")
        load = perf_load(server, "chat", num_prompts=16, max_concurrency=4, input_len_tokens=64)
        perf_gate("itl_median_ms", load)

Such a test runs once for each selected platform.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import pytest

from perfgate.cases import Case
from perfgate.engines.base import ServerConfig
from perfgate.errors import Failure
from perfgate.judge.verdict import Outcome, Verdict, is_red
from perfgate.run.session import PerfSession
from perfgate.study import Study

if TYPE_CHECKING:
    from perfgate.run.campaign import Campaign
    from perfgate.run.in_hand import Hand, LoadInHand, ServerInHand

Result = TypeVar("Result")
SESSION = pytest.StashKey[PerfSession]()
# What `perf_gate` has judged in a test that still runs.
_VERDICTS = pytest.StashKey[list[Verdict]]()
# A failure's message -> the test that showed all of it.
_SHOWN_BY = pytest.StashKey[dict[str, str]]()
# Fields of a verdict that become properties of the test, as in JUnit XML.
_PROPERTIES = (
    "outcome",
    "value",
    "baseline",
    "change",
    "threshold",
    "target_effect",
    "launches",
)


@pytest.fixture
def check(request: pytest.FixtureRequest) -> Callable[[Case], None]:
    """Judge a case: measure what is missing, then fail, skip or pass by its verdict.

    Where many cases need a server that failed, the first shows the whole message.
    """
    campaign = _campaign_of(request)

    def decide(case: Case) -> Verdict:
        _refuse_unplanned(request.config.stash[SESSION], case)
        return campaign().judge(case, request.node.nodeid)

    def judge(case: Case) -> None:
        verdict = _run_or_fail(request, lambda: decide(case))
        _record_properties(verdict, request.node)
        apply_verdicts(request.config.stash[SESSION], [verdict])

    return judge


def _refuse_unplanned(perf: PerfSession, case: Case) -> None:
    """Refuse a case of a load that no selected perf test asks: nothing measures it."""
    planned = {load for row in perf.runnable_cases for load in row.loads}
    if set(case.loads) <= planned:
        return
    raise Failure(
        tried=f"check of {case.id}",
        seen="no selected perf test asks for this load, so it is not measured",
        remedy=(
            "take the case from @pytest.mark.perf(cases=QUESTION) by the argument `case`, "
            "or start a server with perf_server"
        ),
    )


@pytest.fixture
def perf_platform(request: pytest.FixtureRequest) -> str:
    """The platform of this test; the plugin makes a test for each selected platform."""
    raise pytest.UsageError(
        f"{request.node.nodeid}: it needs @pytest.mark.perf and a platform (-m cpu)"
    )


@pytest.fixture
def perf_study(request: pytest.FixtureRequest, perf_platform: str) -> Study:
    """The study on this test's platform, with the first engine under test."""
    perf = request.config.stash[SESSION]
    for study in perf.studies():
        if study.platform == perf_platform:
            return study
    raise LookupError(perf_platform)  # pragma: no cover


@pytest.fixture
def _perf_hand(request: pytest.FixtureRequest, perf_study: Study) -> Hand:
    from perfgate.run.in_hand import Hand

    perf = request.config.stash[SESSION]
    return Hand(
        perf_study,
        _campaign_of(request),
        perf.add_case,
        perf.judged_metrics(perf_study.platform),
        request.node.nodeid,
    )


@pytest.fixture
def perf_server(
    request: pytest.FixtureRequest, perf_platform: str, _perf_hand: Hand
) -> Callable[..., ServerInHand]:
    """Start a server: ``perf_server(engine=..., model=..., tensor_parallel_size=...)``.

    Other fields come from the study on this platform. A complete `ServerConfig` is
    accepted, too. A configuration is started once in a session. One server runs at a
    time: the next one stops it, and a later load starts it again. The test is skipped
    where this machine cannot run the server.
    """

    def start(
        model: str | ServerConfig | None = None, **changes: Any
    ) -> ServerInHand:
        perf = request.config.stash[SESSION]
        config = _run_or_fail(
            request, lambda: _perf_hand.config(model, **changes)
        )
        reason = perf.server_skip_reason(perf_platform, config)
        if reason is not None:
            perf.skip_reasons[request.node.nodeid] = reason
            perf.skipped_cases[request.node.nodeid] = reason
            pytest.skip(reason)
        return _run_or_fail(request, lambda: _perf_hand.server(config))

    return start


@pytest.fixture
def perf_load(
    request: pytest.FixtureRequest, _perf_hand: Hand
) -> Callable[..., LoadInHand]:
    """Send a load: ``perf_load(server, "chat", num_prompts=16, max_concurrency=4)``.

    A name without fields is a workload of the study. The server is warmed up, and every
    repetition is sent.
    """

    def send(
        server: ServerInHand, workload: Any = None, **fields: Any
    ) -> LoadInHand:
        return _run_or_fail(
            request, lambda: _perf_hand.load(server, workload, **fields)
        )

    return send


@pytest.fixture
def perf_gate(
    request: pytest.FixtureRequest, _perf_hand: Hand
) -> Iterator[Callable[..., Verdict]]:
    """Judge against the stored baseline.

    When the test function returns, the test fails, is skipped or passes by all of its
    verdicts. What a fixture judges after it fails the test as well.

    ``perf_gate("itl_median_ms", load)`` judges a metric of a load.
    ``perf_gate("tokenize_ms", value=3.2, unit="ms", server=server)`` judges a number
    that the test measured.
    """

    def judge(
        metric: str,
        load: LoadInHand | None = None,
        *,
        value: float | None = None,
        server: ServerInHand | None = None,
        unit: str = "",
        better: Literal["higher", "lower"] = "lower",
    ) -> Verdict:
        def decide() -> Verdict:
            if load is not None:
                return _perf_hand.judge(metric, load)
            if value is None or server is None:
                raise Failure(
                    tried=f"judging {metric}",
                    seen="neither a load nor a value with its server was given",
                    remedy=(
                        f'write perf_gate("{metric}", load), or '
                        f'perf_gate("{metric}", value=..., server=..., unit=...)'
                    ),
                )
            return _perf_hand.judge_number(metric, value, server, unit, better)

        verdict = _run_or_fail(request, decide)
        _record_properties(verdict, request.node)
        request.node.stash.setdefault(_VERDICTS, []).append(verdict)
        return verdict

    yield judge
    fail_by_collected_verdicts(request.node)


def apply_collected_verdicts(item: pytest.Item) -> None:
    """Fail, skip or pass a test whose function has returned, by all of its verdicts."""
    verdicts = forget_collected_verdicts(item)
    apply_verdicts(item.config.stash[SESSION], verdicts)


def fail_by_collected_verdicts(item: pytest.Item) -> None:
    """Fail a test by its verdicts, if any fails it."""
    verdicts = forget_collected_verdicts(item)
    failures = _failures(item.config.stash[SESSION], verdicts)
    if failures:
        pytest.fail("\n".join(failures), pytrace=False)


def forget_collected_verdicts(item: pytest.Item) -> list[Verdict]:
    """The verdicts of a test that have not failed, skipped or passed it; none from now on."""
    verdicts = item.stash.get(_VERDICTS, [])
    item.stash[_VERDICTS] = []
    return verdicts


def apply_verdicts(perf: PerfSession, verdicts: Sequence[Verdict]) -> None:
    """Fail a test if any verdict fails it, else skip it if any was not judged."""
    from perfgate.report import verdict_text

    failures = _failures(perf, verdicts)
    if failures:
        pytest.fail("\n".join(failures), pytrace=False)
    run = str(perf.config.run_dir)
    skips = []
    for verdict in verdicts:
        if is_red(verdict.outcome, verdict.gate, "strict"):
            skips.append(verdict_text.skip_reason(verdict, run))
    if skips:
        pytest.skip("\n".join(dict.fromkeys(skips)))


def _failures(perf: PerfSession, verdicts: Sequence[Verdict]) -> list[str]:
    """The message of each verdict that fails its test."""
    from perfgate.report import verdict_text

    run = str(perf.config.run_dir)
    is_brief = not perf.config.verbose
    failures = []
    for verdict in verdicts:
        if not is_red(verdict.outcome, verdict.gate, perf.config.gate):
            continue
        render = verdict_text.render
        if is_brief and verdict.outcome is Outcome.REGRESSED:
            render = verdict_text.render_brief
        failures.append(render(verdict, run))
    return failures


def _record_properties(verdict: Verdict, item: pytest.Item) -> None:
    """Add a verdict to the test's properties.

    The fixture record_property of pytest would warn of --junitxml in its default family,
    and is not there with -p no:junitxml.
    """
    for name in _PROPERTIES:
        value = getattr(verdict, name)
        if value is not None:
            item.user_properties.append((name, str(value)))


def _campaign_of(request: pytest.FixtureRequest) -> Callable[[], Campaign]:
    config = request.config

    def campaign() -> Campaign:
        progress = config.hook.pytest_perfgate_progress(config=config)
        return config.stash[SESSION].open(progress).campaign

    return campaign


def _run_or_fail(
    request: pytest.FixtureRequest, call: Callable[[], Result]
) -> Result:
    """Call it; a Failure fails the test without a traceback, with its details once."""
    shown_by = request.config.stash.setdefault(_SHOWN_BY, {})
    nodeid = request.node.nodeid
    try:
        _refuse_in_event_loop()
        return call()
    except Failure as failure:
        text = str(failure)
        first_test = shown_by.setdefault(text, nodeid)
        if first_test != nodeid:
            text = failure.brief(first_test)
        # Without "from None" pytest would show the message twice.
        raise pytest.fail.Exception(text, pytrace=False) from None


def _refuse_in_event_loop() -> None:
    """Refuse to be called by a coroutine: a load runs in an event loop of its own."""
    import asyncio

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise Failure(
        tried="measuring within an event loop",
        seen="it was called by a coroutine (async def)",
        remedy="call it from a plain function (def), and not within asyncio.run",
    )
