"""Launch runner: warm-up, repetitions in turns, probes, routing last, and what a death costs."""

import dataclasses
import types

import msgspec
import pytest

from perfgate.engines import registry as engines
from perfgate.engines.chosen import NOT_SEEN
from perfgate.engines.injection import NOTHING
from perfgate.load import measurement, saturation
from perfgate.load import warmup as warming
from perfgate.load.workload import Synthetic, Workload
from perfgate.results.recorder import LaunchEnd, Measured, Recorder
from perfgate.results.schema import Measurement
from perfgate.run import launch_runner as rounds
from perfgate.run.launch_runner import LaunchRunner
from perfgate.run.probes import accuracy, answers, stated_routing
from perfgate.run.probes import routing as probe
from perfgate.run.probes.answers import Answers
from perfgate.run.probes.probe import Figures
from perfgate.run.started_launch import start_launch
from perfgate.servers.launch_record import ServerDied
from perfgate.servers.log import LogLost
from perfgate.web import NoAnswer
from tests.support import builders as m

ONE, MANY = (
    Workload(name=f"at-{n}", num_prompts=64, max_concurrency=n) for n in (1, 32)
)
RATE = Workload(name="rate-2", num_prompts=8, request_rate=2.0)
TIMED = Workload(name="timed", num_prompts=2, max_concurrency=1, repetitions=2)
ASKED = Workload(
    name="routing",
    num_prompts=2,
    max_concurrency=1,
    repetitions=1,
    asks_routing=True,
)
GRADED = msgspec.structs.replace(
    ASKED, name="accuracy", asks_routing=False, graded=True
)


def test_every_workload_is_warmed_up_on_gpus():
    """Graphs and kernels are made for one size, so each workload's own sizes are sent."""
    assert [ONE, MANY, RATE] == warming.needing([ONE, MANY, RATE], "cuda")


def test_the_fastest_open_loop_warms_a_gpu_up_for_the_slower_ones():
    """Its batch passes through theirs; one with other prompts makes steps of its own."""
    slow = msgspec.structs.replace(RATE, name="rate-1", request_rate=1.0)
    other = msgspec.structs.replace(
        slow,
        name="long",
        prompts=Synthetic(input_len_tokens=512, output_len_tokens=8),
    )
    assert [RATE, ONE, other] == warming.needing(
        [slow, RATE, ONE, other], "cuda"
    )


def test_the_largest_batch_warms_a_cpu_up():
    """On a CPU, steps of every size run the same code; an idle server is not warmed up."""
    assert [MANY] == warming.needing([ONE, MANY, RATE], "cpu")
    assert [RATE] == warming.needing([RATE], "cpu")
    assert [] == warming.needing([], "cpu")


class FakeProbe:
    """A probe that notes when its figures are read, and when it is stopped."""

    def __init__(self, at):
        self.finish = lambda is_part: (
            at("memory")()
            or Figures(values={"memory_bytes": 1e9}, notes=("read",))
        )
        self.stop = at("memory no more")

    def start(self):
        """A note for the launch."""
        return Figures(notes=("started",))

    def before(self):
        """Nothing."""

    def after(self, repetition):
        """One figure, one note and one reason."""
        return Figures(values={"per_gb": 2.0}, notes=("noted",), invalid=())


class Asked:
    """A launch that records everything asked of its server; it dies at what `dies_at` names."""

    def __init__(
        self,
        tmp_path,
        monkeypatch,
        dies_at="",
        choices=None,
        stated="",
        launched_for="",
    ):
        self.order, self.dead = [], False
        config = msgspec.structs.replace(
            m.MOE_CPU, stated_routing=stated, routing=launched_for
        )
        engine = dataclasses.replace(
            engines.ENGINES[config.engine],
            read_choices=choices or (lambda url: {"max_num_seqs": "16"}),
        )
        monkeypatch.setitem(engines.ENGINES, config.engine, engine)
        log = tmp_path / "log"
        log.touch()
        record = (
            m.run({m.MOE_LOAD: {"output_throughput": [1.0]}}, ())
            .launches[0]
            .start
        )
        server = types.SimpleNamespace(
            url="http://x",
            served_model="",
            log=log,
            gpu_indices=(),
            notes=(),
            authorization="",
            death_reason="gone",
            note_life=lambda: None,
            alive=lambda: not self.dead,
            launch_record=lambda key: record,
        )

        def at(what, answer=None):
            def noted(*args, **more):
                self.order.append(what)
                self.dead = self.dead or what == dies_at
                return answer

            return noted

        monkeypatch.setattr(warming, "warm_up", at("warm-up"))
        monkeypatch.setattr(
            measurement,
            "measure",
            at("timed", m.repetition(0, {"output_throughput": 1.0})),
        )
        row = Measurement(
            server=config.key,
            launch=0,
            workload="routing",
            repetitions=(m.repetition(0, {"routing_shares": 0.5}),),
        )
        monkeypatch.setattr(probe, "measure", at("routing", row))
        monkeypatch.setattr(stated_routing, "confirm", at("stated"))
        graded = at("graded", m.repetition(0, {"accuracy": 0.5}))
        monkeypatch.setattr(accuracy, "measure", graded)
        answered = Answers(("0123456789ab",))
        monkeypatch.setattr(answers, "read", at("answers", answered))
        tell = types.SimpleNamespace(
            line=lambda text: None, step=lambda *args: None
        )
        death = ServerDied("measuring", "died", "look at the log")
        source = types.SimpleNamespace(
            probes=lambda *args: (FakeProbe(at),),
            settle=lambda *args: ("settled",),
            give_up=lambda server, during: death,
        )
        started = start_launch(config, server, 0, NOTHING)
        self.recorder = Recorder(
            m.run({}, (), machine=m.hardware("cpu")), tmp_path
        )
        self.recorder.add_launch(started.launch)
        self.runner = LaunchRunner(
            started, source, m.hardware("cpu"), 1.0, tell
        )

    def run(self, *workloads):
        """Measure these; returns the death, and by workload whether it has no error."""
        death = None
        for entry in self.runner.run(workloads):
            self.recorder.add(entry)
            if isinstance(entry, LaunchEnd):
                death = entry.death
        return death, {
            row.workload: row.failure is None
            for row in self.recorder.results.measurements
        }


def test_a_launch_without_its_log_is_refused(tmp_path, monkeypatch):
    """It says what the engine chose, by which launches are compared."""
    asked = Asked(tmp_path, monkeypatch)
    (tmp_path / "log").unlink()

    with pytest.raises(LogLost, match="no such file"):
        start_launch(m.MOE_CPU, asked.runner.server, 1, NOTHING)


def test_routing_is_asked_when_nothing_is_timed_any_more(tmp_path, monkeypatch):
    """After all repetitions, and after the server's memory was read and is no longer watched."""
    asked = Asked(tmp_path, monkeypatch)

    assert (None, {"timed": True, "routing": True}) == asked.run(ASKED, TIMED)
    assert [
        "warm-up",
        "timed",
        "timed",
        "memory",
        "memory no more",
        "answers",
        "routing",
    ] == asked.order
    assert asked.recorder.results.launches[-1].measured


def test_stated_routing_is_confirmed_before_anything_is_timed(
    tmp_path, monkeypatch
):
    """The fixed prompts are not sent: other experts are drawn for them each time."""
    asked = Asked(tmp_path, monkeypatch, stated="few")
    asked.run(ASKED, TIMED)

    assert ["stated", "warm-up", "timed"] == asked.order[:3]
    assert "answers" not in asked.order
    assert "routing" == asked.order[-1]


def test_server_that_is_launched_for_routing_alone_is_asked_nothing_else(
    tmp_path, monkeypatch
):
    """No warm-up either, and no memory: it has seen no load."""
    asked = Asked(tmp_path, monkeypatch, launched_for="returned")

    assert (None, {"routing": True}) == asked.run(ASKED)
    assert ["routing"] == asked.order


def test_a_timed_server_that_is_asked_for_routing_alone_says_what_it_is(
    tmp_path, monkeypatch
):
    """Its memory and answers are read without a load: other tests may need them."""
    asked = Asked(tmp_path, monkeypatch)

    assert (None, {"routing": True}) == asked.run(ASKED)
    assert ["memory", "memory no more", "answers", "routing"] == asked.order


def test_every_repetition_is_yielded_whole_before_the_next_one(
    tmp_path, monkeypatch
):
    """A killed session loses the current repetition alone; probe figures are in from the start."""
    asked = Asked(tmp_path, monkeypatch)
    sizes = []
    for entry in asked.runner.run([TIMED]):
        if isinstance(entry, Measured):
            sizes.append(
                (asked.order.count("timed"), len(entry.measurement.repetitions))
            )
            values = [
                repetition.values
                for repetition in entry.measurement.repetitions
            ]
            assert [2.0] * len(values) == [each["per_gb"] for each in values]

    assert [(1, 1), (2, 2)] == sizes


def test_choices_come_from_the_log_and_from_the_server(tmp_path, monkeypatch):
    """What the log does not say the server does; the rest is not seen."""
    launch = Asked(tmp_path, monkeypatch).recorder.results.launches[-1]

    assert "16" == launch.effective["max_num_seqs"]
    assert NOT_SEEN == launch.effective["moe_backend"]


def test_server_that_does_not_tell_its_choices_is_measured(
    tmp_path, monkeypatch
):
    """What is unknown is noted."""

    def refuse(url):
        raise NoAnswer("GET", "no route", "look")

    asked = Asked(tmp_path, monkeypatch, choices=refuse)
    launch = asked.recorder.results.launches[-1]

    assert ("choices of the engine: no route",) == launch.notes
    assert NOT_SEEN == launch.effective["max_num_seqs"]


def test_figures_of_the_launch_come_from_the_probes(tmp_path, monkeypatch):
    """Notes at the start, what the engine did not settle, and readings at the end."""
    asked = Asked(tmp_path, monkeypatch)
    asked.run(TIMED)

    launch = asked.recorder.results.launches[-1]
    assert ("started", "settled", "read") == launch.notes
    assert 1e9 == launch.values["memory_bytes"]
    assert "warm_up_s" in launch.values


def test_answers_are_read_once_after_all_that_is_timed(tmp_path, monkeypatch):
    """A launch that is sent more load later has answered already."""
    asked = Asked(tmp_path, monkeypatch)
    asked.run(TIMED)
    asked.run(MANY)

    launch = asked.recorder.results.launches[-1]
    assert ("0123456789ab",) == launch.answers
    assert 1 == asked.order.count("answers")
    assert asked.order.index("answers") > asked.order.index("memory no more")


def test_a_soak_comes_after_all_other_loads(tmp_path, monkeypatch):
    """It is sent for its time, and then measured like any load."""
    asked = Asked(tmp_path, monkeypatch)
    soaked = msgspec.structs.replace(
        TIMED, name="soaked", soak_minutes=1e-6, repetitions=1
    )

    death, measured = asked.run(soaked, TIMED)

    assert (None, {"timed": True, "soaked": True}) == (death, measured)
    rows = asked.recorder.results.measurements
    assert ["timed", "soaked"] == [row.workload for row in rows]
    # Twice for its own repetitions, at least once as a soak, once to be measured.
    assert 4 <= asked.order.count("timed")


def test_a_ramp_is_measured_as_one_repetition(tmp_path, monkeypatch):
    """Not as one load of its first size."""
    asked = Asked(tmp_path, monkeypatch)
    ramps = []
    monkeypatch.setattr(
        saturation,
        "measure",
        lambda target, workload, index, **_: (
            ramps.append(workload) or m.repetition(index, 1.0)
        ),
    )
    ramp = msgspec.structs.replace(TIMED, name="ramp", doubles_to=8)

    asked.run(ramp)

    assert [ramp, ramp] == ramps
    assert 0 == asked.order.count("timed")


def test_a_server_that_died_is_not_asked_for_answers(tmp_path, monkeypatch):
    """It would only wait for the connection to fail."""
    asked = Asked(tmp_path, monkeypatch, dies_at="timed")
    asked.run(TIMED)

    assert "answers" not in asked.order


def test_probes_are_stopped_when_nobody_consumes_any_more(
    tmp_path, monkeypatch
):
    """A failed write ends the measurement, and no thread goes on."""
    asked = Asked(tmp_path, monkeypatch)
    entries = asked.runner.run([TIMED])
    next(entries)
    entries.close()

    assert ["warm-up", "memory no more"] == asked.order


@pytest.mark.parametrize(
    ("dies_at", "kept"),
    [
        ("routing", {"timed": True, "routing": False}),
        ("timed", {"timed": False, "routing": False}),
    ],
)
def test_death_costs_what_it_met(tmp_path, monkeypatch, dies_at, kept):
    """What was timed before the server died of the routing counts stays; the rest is in error."""
    death, whole = Asked(tmp_path, monkeypatch, dies_at).run(TIMED, ASKED)

    assert death is not None
    assert kept == whole


@pytest.mark.parametrize(
    ("dies_at", "kept"),
    [
        ("", {"timed": True, "accuracy": True, "routing": True}),
        ("graded", {"timed": True, "accuracy": False, "routing": False}),
        ("answers", {"timed": True, "accuracy": False, "routing": False}),
        ("timed", {"timed": False, "accuracy": False, "routing": False}),
    ],
)
def test_a_server_that_dies_of_questions_is_dead(
    tmp_path, monkeypatch, dies_at, kept
):
    """Whoever launched it launches it again, and no question is lost without a word."""
    asked = Asked(tmp_path, monkeypatch, dies_at)

    death, whole = asked.run(TIMED, GRADED, ASKED)

    assert (dies_at == "", kept) == (death is None, whole)
    assert 1 >= asked.order.count("graded")


def test_failed_requests_are_not_measured_away():
    """A repetition that stalled is replaced.

    One in which requests failed is the server's fault, and ends its load.
    """
    workload = Workload(
        name="closed", num_prompts=8, max_concurrency=4, repetitions=3
    )
    stalled = m.repetition(0, 1.0, ("all streams fell silent",))
    failed = msgspec.structs.replace(
        m.repetition(1, 1.0, ("3 of 8 requests failed: HTTP 503",)), failed=3
    )

    assert [True, False] == [
        rounds.wants_more(workload, taken)
        for taken in ([stalled], [stalled, failed])
    ]


@pytest.mark.parametrize(("device", "wants"), [("cuda", False), ("cpu", True)])
def test_a_load_that_is_known_is_not_repeated_on_gpus(
    tmp_path, monkeypatch, device, wants
):
    """Shared CPU cores differ from minute to minute, so that every repetition counts."""
    runner = Asked(tmp_path, monkeypatch).runner
    config = msgspec.structs.replace(runner._config, device=device)
    monkeypatch.setattr(runner, "_config", config)
    monkeypatch.setattr(rounds, "is_known", lambda workload, taken: True)
    taken = [m.repetition(0, 1.0)]

    assert wants == runner._wants_more(TIMED, taken)
    assert wants == runner._is_unfinished(TIMED, taken)
