"""Session: what can run on this machine."""

import sys

import pytest

from perfgate.cases import Case, Load
from perfgate.config.config import Config
from perfgate.config.project import Project
from perfgate.locations import default_locations
from perfgate.machine.leases import NotLeased
from perfgate.run import session as run_session
from perfgate.run.session import PerfSession
from perfgate.servers.external import ExternalServer
from perfgate.web import Address
from tests.support.studies import SHIPPED, study_of


@pytest.fixture
def session(tmp_path, monkeypatch):
    """A session on a machine where no engine is installed, with these options."""
    monkeypatch.setenv("PERFGATE_ENGINES_DIR", str(tmp_path))
    for engine in ("VLLM", "SGLANG"):
        monkeypatch.delenv(f"PERFGATE_{engine}_PYTHON", raising=False)

    def make(**options):
        project = Project(
            default_locations(tmp_path),
            SHIPPED,
            tests=(tmp_path / "tests" / "perf",),
        )
        fields = {
            "engines": SHIPPED.engines,
            "platforms": ("cpu", "h200"),
            "tensor_parallel_size": 1,
        } | options
        config = Config(run_dir=tmp_path / "r", store=project.store(), **fields)
        return PerfSession(config, project)

    return make


def case(engine, denominator=None):
    """A question to that engine's dense server, over another's."""
    loads = [
        Load(server=study_of("cpu", name, 1, "auto").dense)
        for name in (engine, denominator)
        if name
    ]
    return Case(
        experiment="E9",
        metric="memory_bytes",
        numerator=loads[0],
        denominator=loads[1] if denominator else None,
    )


def test_engine_that_is_not_here_is_skipped_with_what_to_install(session):
    """Its own tests and those that compare it; the other engine's run."""
    here = session(engine_pythons={"vllm": sys.executable})

    assert here.skip_reason("cpu", case("vllm")) is None
    for asked in (case("sglang"), case("sglang", denominator="vllm")):
        reason = here.skip_reason("cpu", asked)
        assert reason.startswith("needs sglang: not installed: no ")
        assert "`perfgate engines install sglang-cpu`" in reason


def test_what_was_asked_for_is_never_skipped(session):
    """An engine named by --engine, or needed by all, must be there: else the tests fail."""
    assert (
        session(engines=("sglang",), engines_are_required=True).skip_reason(
            "cpu", case("sglang")
        )
        is None
    )
    assert session().skip_reason("cpu", case("sglang")) is None


def test_attached_server_is_not_asked_for_its_routing(session):
    """Nor is anything else asked that a server must be launched for."""
    server = ExternalServer(Address("http://127.0.0.1:1"))
    attached = {
        ("vllm", "mixtral-small"): server,
        ("vllm", "llama-small"): server,
    }
    here = session(
        external_urls=("vllm=http://127.0.0.1:1",), attached=attached
    )
    study = study_of("cpu", "vllm", 1, "auto")
    timed = study.value("E2", "itl_median_ms", study.moe, study.single_stream)

    assert here.skip_reason("cpu", timed) is None
    asked = study.value(
        "E8", "routing_shares", study.moe_routing, study.routing
    )
    assert "--attach launches none" in here.skip_reason("cpu", asked)


@pytest.mark.parametrize(
    ("selected", "expected"),
    [(("vllm",), []), (("sglang", "vllm"), [("sglang", "vllm")])],
)
def test_engines_are_judged_over_vllm(session, selected, expected):
    """Each other engine over it, on each platform; one engine alone is compared with nothing."""
    pairs = [
        (v.candidate.moe.engine, v.reference.moe.engine)
        for v in session(engines=selected).versus()
        if v.platform == "h200"
    ]

    assert expected == pairs


def test_what_cannot_be_opened_is_not_tried_again(session, monkeypatch):
    """A wait for GPUs that another session holds is waited once, and not by every test."""
    tried = []

    def refuse(*_):
        tried.append(1)
        raise NotLeased("waited 600 s", "GPU-0: pid 7", "wait for longer")

    monkeypatch.setattr(run_session, "open_session", refuse)
    here = session(external_urls=("vllm=http://127.0.0.1:1",))

    for _ in range(3):
        with pytest.raises(NotLeased):
            here.open(None)

    assert [1] == tried


def test_what_was_left_out_is_what_nobody_asked(session):
    """Cases that an earlier command of the run asked are not missing when not selected now."""
    here, asked = (
        session(),
        [case("vllm"), case("sglang"), case("vllm", "sglang")],
    )
    here.coverage.ids, here.cases = {each.id for each in asked}, (asked[0],)

    assert ["2 cases"] == [text[:7] for text in here.left_out()]
    assert ["1 case n"] == [text[:8] for text in here.left_out(asked[1:2])]
    assert () == here.left_out(asked[1:])
