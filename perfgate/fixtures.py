"""Pytest fixtures: to judge a case, and to start a server, send it load and judge a number.

``check`` judges a case. The others are for tests that want a server in hand:

    @pytest.mark.perf
    def test_chat_is_as_fast_as_before(perf_server, perf_load, perf_gate):
        server = perf_server(engine="vllm", model="llama-small")
        load = perf_load(server, "chat", num_prompts=16, max_concurrency=4, input_len_tokens=64)
        perf_gate("itl_median_ms", load)

Such a test runs once for each selected platform.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import pytest

from perfgate.cases import Case
from perfgate.engines.base import ServerConfig
from perfgate.errors import Failure
from perfgate.judge.verdict import Verdict, is_red
from perfgate.run.session import PerfSession
from perfgate.study import Study

if TYPE_CHECKING:
    from perfgate.run.campaign import Campaign
    from perfgate.run.in_hand import Hand, LoadInHand, ServerInHand

Answer = TypeVar("Answer")
SESSION = pytest.StashKey[PerfSession]()
# A failure's message -> the test that showed it whole.
_SHOWN_BY = pytest.StashKey[dict[str, str]]()
_RECORDED = (
    "outcome",
    "value",
    "baseline",
    "change",
    "threshold",
    "target_effect",
    "launches",
)


@pytest.fixture
def check(
    request: pytest.FixtureRequest, record_property: Callable[[str, object], None]
) -> Callable[[Case], None]:
    """Judge a case: measure what is missing, then fail, skip or pass as the gate decides.

    The message of a server that failed is shown whole once, however many cases need it.
    """
    campaign = _campaign_of(request)

    def judge(case: Case) -> None:
        verdict = _or_fail(request, lambda: campaign().judge(case, request.node.nodeid))
        settle(request.config.stash[SESSION], verdict, record_property)

    return judge


@pytest.fixture
def perf_platform(request: pytest.FixtureRequest) -> str:
    """The platform on which this test runs; the plugin makes one test for each selected one."""
    raise pytest.UsageError(
        f"{request.node.nodeid}: mark it with @pytest.mark.perf and select a platform: -m cpu"
    )


@pytest.fixture
def perf_study(request: pytest.FixtureRequest, perf_platform: str) -> Study:
    """The study on this test's platform, with the first engine under test."""
    perf = request.config.stash[SESSION]
    return next(study for study in perf.studies() if study.platform == perf_platform)


@pytest.fixture
def _perf_hand(request: pytest.FixtureRequest, perf_study: Study) -> Hand:
    from perfgate.run.in_hand import Hand

    perf = request.config.stash[SESSION]
    return Hand(perf_study, _campaign_of(request), perf.expect, request.node.nodeid)


@pytest.fixture
def perf_server(
    request: pytest.FixtureRequest, perf_platform: str, _perf_hand: Hand
) -> Callable[..., ServerInHand]:
    """Start a server: ``perf_server(engine=..., model=..., tensor_parallel_size=...)``.

    What is left out is as in the study on this platform; a whole `ServerConfig` is
    taken, too. A server of the same configuration is started once in a session. One
    server lives at a time: the next one ends it, and a load that is sent to it after
    that starts it again. The test is skipped where this machine cannot run it.
    """

    def start(model: str | ServerConfig | None = None, **changes: Any) -> ServerInHand:
        perf = request.config.stash[SESSION]
        config = _or_fail(request, lambda: _perf_hand.config(model, **changes))
        reason = perf.lacks_for(perf_platform, config)
        if reason is not None:
            perf.skipped[request.node.nodeid] = reason
            perf.lacking[request.node.nodeid] = reason
            pytest.skip(reason)
        return _or_fail(request, lambda: _perf_hand.server(config))

    return start


@pytest.fixture
def perf_load(
    request: pytest.FixtureRequest, _perf_hand: Hand
) -> Callable[..., LoadInHand]:
    """Send a load: ``perf_load(server, "chat", num_prompts=16, max_concurrency=4)``.

    A name alone is a workload of the study. It warms up, then sends every repetition.
    """

    def send(server: ServerInHand, workload: Any = None, **fields: Any) -> LoadInHand:
        return _or_fail(request, lambda: _perf_hand.load(server, workload, **fields))

    return send


@pytest.fixture
def perf_gate(
    request: pytest.FixtureRequest,
    record_property: Callable[[str, object], None],
    _perf_hand: Hand,
) -> Callable[..., Verdict]:
    """Judge against the stored baseline, and fail, skip or pass as the gate decides.

    ``perf_gate("itl_median_ms", load)`` judges a metric of a load;
    ``perf_gate("tokenize_ms", value=3.2, unit="ms", server=server)`` a number of one's
    own.
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
                    remedy=f'write perf_gate("{metric}", load), or value=, server= and unit=',
                )
            return _perf_hand.judge_number(metric, value, server, unit, better)

        verdict = _or_fail(request, decide)
        settle(request.config.stash[SESSION], verdict, record_property)
        return verdict

    return judge


def settle(
    perf: PerfSession, verdict: Verdict, record_property: Callable[[str, object], None]
) -> None:
    """Fail, skip or pass a test as its verdict says."""
    for name in _RECORDED:
        value = getattr(verdict, name)
        if value is not None:
            record_property(name, str(value))
    from perfgate.report import verdict_text

    run = str(perf.run_dir)
    if is_red(verdict.outcome, verdict.gate, perf.required):
        pytest.fail(verdict_text.render(verdict, run), pytrace=False)
    if is_red(verdict.outcome, verdict.gate, required=True):
        pytest.skip(verdict_text.skip_reason(verdict, run))


def _campaign_of(request: pytest.FixtureRequest) -> Callable[[], Campaign]:
    config = request.config

    def campaign() -> Campaign:
        progress = config.hook.pytest_perfgate_progress(config=config)
        return config.stash[SESSION].open(progress).campaign

    return campaign


def _or_fail(request: pytest.FixtureRequest, act: Callable[[], Answer]) -> Answer:
    """Do it; a failure fails the test, without a traceback, and whole only the first time."""
    shown_by = request.config.stash.setdefault(_SHOWN_BY, {})
    nodeid = request.node.nodeid
    try:
        return act()
    except Failure as failure:
        first = shown_by.setdefault(str(failure), nodeid)
        text = str(failure)
        if first != nodeid:
            text = failure.brief(first)
        # Without "from None" pytest would show it twice, as the cause of itself.
        raise pytest.fail.Exception(text, pytrace=False) from None
