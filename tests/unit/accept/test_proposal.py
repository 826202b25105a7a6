"""A proposal: one metric before and after, with notes and objections. Nothing is written."""

import datetime

import msgspec
import pytest

from perfgate.accept.accept import accept
from perfgate.accept.choice import Choice
from perfgate.accept.proposal import merged, proposals
from perfgate.cases import Case, Load
from perfgate.judge import answer_shift
from perfgate.judge.baseline_store import Store
from perfgate.load.repetition import OTHERS_SHARE
from perfgate.results import schema
from perfgate.results.answer import Answer
from perfgate.results.facts import SETTINGS
from tests.support import builders as m


def run(number, *throughputs, **how):
    """A run of that day with these launches."""
    values = {m.MOE_LOAD: {"output_throughput": throughputs}}
    return m.run(
        values, [m.THROUGHPUT], run_id=f"202606{number:02}-120000-1", **how
    )


@pytest.fixture
def store(tmp_path):
    """An empty store."""
    return Store(tmp_path / "baselines")


@pytest.fixture
def recorded(tmp_path, store):
    """The store after six runs were accepted."""
    folders = []
    for number, factor in enumerate(m.QUIET, 1):
        folder = tmp_path / f"run-{number}"
        schema.save(run(number, 1000.0 * factor), folder)
        folders.append(folder)
    accept(folders, store, Choice(), env={})
    return store


def test_the_first_run_has_nothing_before(store, tmp_path):
    """Its launches become the baseline; the store stays as it is."""
    (proposal,) = proposals([run(1, 990.0, 1010.0)], store, Choice())

    assert None is proposal.old is proposal.old_value
    assert (990.0, 1010.0) == tuple(
        sample.value for sample in proposal.new.launches
    )
    assert () == proposal.objections
    assert not store.path(m.THROUGHPUT, "h200x2").exists()


def test_launches_that_pass_join_the_recorded_ones(recorded):
    """Seven launches then; the noise is that of all of them."""
    (proposal,) = proposals([run(7, 1001.0)], recorded, Choice())

    assert 6 == len(proposal.old.launches)
    assert 7 == len(proposal.new.launches)
    assert 1000.0 == pytest.approx(proposal.old_value, rel=0.01)
    assert proposal.noise.established


def test_a_value_that_moved_needs_a_reason(recorded):
    """Without one it is an objection, with the remedy."""
    slower = run(7, 800.0, 801.0, 802.0)

    (bare,) = proposals([slower], recorded, Choice())
    (reasoned,) = proposals([slower], recorded, Choice(reason="safer"))

    (objection,) = bare.objections
    assert "--reason" in objection
    assert () == reasoned.objections
    assert 3 == len(reasoned.new.launches)


def test_another_identity_is_an_objection_until_replaced(recorded):
    """Launches of another server do not become its baseline unseen."""
    other = run(7, 1000.0)
    servers = {
        key: msgspec.structs.replace(
            server,
            config=msgspec.structs.replace(server.config, max_model_len=99),
        )
        for key, server in other.servers.items()
    }
    load = msgspec.structs.replace(m.MOE_LOAD, server=servers[m.MOE.key].config)
    case = msgspec.structs.replace(m.THROUGHPUT, numerator=load)
    other = msgspec.structs.replace(other, servers=servers, cases=(case,))

    (proposal,) = proposals([other], recorded, Choice())
    (replaced,) = proposals([other], recorded, Choice(replace=True))

    assert any("--replace" in line for line in proposal.objections)
    assert () == replaced.objections


def choosing(results, backend):
    """The run with another backend, chosen by the engine."""
    launches = tuple(
        msgspec.structs.replace(launch, effective={"moe_backend": backend})
        for launch in results.launches
    )
    return msgspec.structs.replace(results, launches=launches)


@pytest.fixture
def triton(recorded, tmp_path):
    """The store after a seventh run, whose engine reported a backend."""
    schema.save(choosing(run(7, 1000.0), "TRITON"), tmp_path / "run-7")
    accept([tmp_path / "run-7"], recorded, Choice(), env={})
    return recorded


def test_another_choice_of_the_engine_joins_and_is_said(triton):
    """Its launches pass; the file then has the choice of the newest run."""
    other = choosing(run(8, 1001.0), "CUTLASS")

    (proposal,) = proposals([other], triton, Choice())
    file, lost = merged(triton.file(proposal.path), [proposal])

    assert () == proposal.objections
    assert (
        "the engine chose otherwise: moe_backend TRITON -> CUTLASS"
        in proposal.notes
    )
    assert 8 == len(proposal.new.launches)
    assert ({"moe_backend": "CUTLASS"}, []) == (file.chosen, lost)


def test_runs_whose_engines_chose_otherwise_pool_and_it_is_said(store):
    """They are the same configuration."""
    first = choosing(run(1, 1000.0), "TRITON")
    second = choosing(run(2, 1001.0), "CUTLASS")

    (proposal,) = proposals([first, second], store, Choice())

    assert () == proposal.objections
    (note,) = [line for line in proposal.notes if "chose" in line]
    assert note.endswith("moe_backend TRITON -> CUTLASS")
    assert "20260601-120000-1 to 20260602-120000-1" in note


def test_a_loss_by_another_choice_needs_a_reason(triton):
    """The engine's choice excuses nothing."""
    slower = choosing(run(8, 520.0, 521.0, 522.0), "CUTLASS")

    (bare,) = proposals([slower], triton, Choice())
    (reasoned,) = proposals([slower], triton, Choice(reason="safer"))

    assert "--reason" in bare.objections[0]
    assert () == reasoned.objections
    assert {"moe_backend": "CUTLASS"} == reasoned.chosen


def test_a_known_loss_keeps_the_choices_of_the_baseline(triton):
    """So the cause is named as long as the loss is accepted."""
    slower = choosing(run(8, 520.0, 521.0, 522.0), "CUTLASS")
    choice = Choice(reason="upstream", known_until=datetime.date(2027, 1, 1))

    (proposal,) = proposals([slower], triton, choice)

    assert {"moe_backend": "TRITON"} == proposal.chosen
    assert not any("chose" in note for note in proposal.notes)


ANSWER = Answer(tokens=("a",), logprobs=(-1.0,), others=({"b": -3.0},))
OTHER_ANSWER = Answer(tokens=("b",), logprobs=(-1.0,), others=({"a": -3.0},))


def launched(number, metric, **of_launch):
    """A run whose only launch says this of itself."""
    load = Load(server=m.MOE)
    case = Case(experiment="E1", metric=metric, numerator=load)
    results = m.run(
        {load: {metric: [3.0]}}, [case], run_id=f"202606{number:02}-120000-1"
    )
    (launch,) = results.launches
    launch = msgspec.structs.replace(launch, **of_launch)
    return msgspec.structs.replace(results, launches=(launch,))


@pytest.mark.parametrize(
    ("metric", "field", "before", "now"),
    [
        (SETTINGS, "settings", {"chunk": "8192"}, {"chunk": "64"}),
        (
            answer_shift.METRIC,
            "answer_tokens",
            (ANSWER,) * 4,
            (OTHER_ANSWER,) * 4,
        ),
    ],
)
def test_what_is_judged_as_a_whole_cannot_pass_until_a_day(
    store, tmp_path, metric, field, before, now
):
    """The judge would not let it pass: it had been written, and promised."""
    schema.save(launched(1, metric, **{field: before}), tmp_path / "run")
    accept([tmp_path / "run"], store, Choice(), env={})
    choice = Choice(reason="meant", known_until=datetime.date(2027, 1, 1))

    (changed,) = proposals([launched(2, metric, **{field: now})], store, choice)
    (same,) = proposals([launched(2, metric, **{field: before})], store, choice)

    (objection,) = changed.objections
    assert "no size that could pass until a day" in objection
    assert None is changed.new.known
    assert "it is not a regression" in same.objections[0]


def test_runs_of_different_things_do_not_pool(store):
    """The fields that differ are named."""
    first, second = run(1, 1000.0), run(2, 1000.0)
    dummy = msgspec.structs.replace(m.MOE, load_format="dummy")
    load = msgspec.structs.replace(m.MOE_LOAD, server=dummy)
    case = msgspec.structs.replace(m.THROUGHPUT, numerator=load)
    server = msgspec.structs.replace(second.servers[m.MOE.key], config=dummy)
    second = msgspec.structs.replace(
        second, cases=(case,), servers={m.MOE.key: server}
    )

    (proposal,) = proposals([first, second], store, Choice())

    (objection,) = proposal.objections
    assert "weights: dummy now, auto" in objection


def test_an_invalid_run_is_marked(store):
    """No launch of it counts; nothing invalid is written."""
    (proposal,) = proposals([run(1, None)], store, Choice())

    assert proposal.is_invalid
    assert "--only" in proposal.objections[0]


def test_report_only_is_a_decision_of_a_person(store):
    """With its reason in the file; so it never fails a run."""
    choice = Choice(report_only=True, reason="too noisy here")

    (proposal,) = proposals([run(1, 1000.0)], store, choice)

    assert ("report", "too noisy here") == (
        proposal.new.gate,
        proposal.new.reason,
    )


def test_launches_of_uncertain_repetitions_need_a_reason(recorded):
    """Repetitions from 700 to 1,300 tok/s: recorded, they would widen other thresholds."""
    uneven = run(7, 1000.0)
    rows = []
    for number in range(9):
        rows.append(m.repetition(number, 700.0 + 75.0 * number))
    measurement = m.measurement(0, *rows, server=m.MOE, workload=m.CLOSED)
    uneven = msgspec.structs.replace(uneven, measurements=(measurement,))

    (proposal,) = proposals([uneven], recorded, Choice())
    (with_reason,) = proposals(
        [uneven], recorded, Choice(reason="no other host")
    )

    assert any("uncertain by" in text for text in proposal.objections)
    assert () == with_reason.objections


def test_times_beside_a_neighbour_are_noted(recorded):
    """Of a host with GPUs: it made them longer, perhaps, and they would hide a loss."""
    rows = []
    for number in range(3):
        values = {OTHERS_SHARE: 0.06}
        rows.append(m.repetition(number, 1000.0, client_values=values))
    measurement = m.measurement(0, *rows, server=m.MOE, workload=m.CLOSED)
    beside = run(7, 1000.0)
    hardware = msgspec.structs.replace(beside.hardware, cpu_count=64)
    beside = msgspec.structs.replace(
        beside, measurements=(measurement,), hardware=hardware
    )

    (proposal,) = proposals([beside], recorded, Choice())

    told = "others used 3.8 of the host's 64 cores meanwhile"
    assert told in proposal.notes
    assert () == proposal.objections
