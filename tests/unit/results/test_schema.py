"""Schema of results: a run survives a round trip; unreadable files are errors."""

import datetime
import gzip
import json
import math

import msgspec
import pytest

from perfgate.cases import Case, Load
from perfgate.files import RunDataError
from perfgate.load.repetition import RequestRow
from perfgate.results import schema as rundata
from perfgate.results.schema import Server, load, save
from perfgate.results.verdict import Outcome, Verdict
from perfgate.servers.launch_record import PhaseTime
from tests.support.builders import (
    CLOSED,
    DENSE_CPU,
    DIED,
    MOE_CPU,
    bare_run,
    hardware,
    launched,
    measurement,
    repetition,
)


def whole_run():
    """A run in which every field holds something."""
    case = Case(
        experiment="E1",
        metric="output_throughput",
        numerator=Load(server=MOE_CPU, workload=CLOSED),
        denominator=Load(server=DENSE_CPU, workload=CLOSED),
        two_sided=True,
    )
    start = msgspec.structs.replace(
        launched().start,
        env={"A": "1"},
        phases=(PhaseTime(name="loading weights", at_s=11.0, line="Loading"),),
    )
    request = RequestRow(
        scheduled_ms=0.0,
        sent_ms=0.1,
        ttft_ms=50.0,
        e2el_ms=70.25,
        output_tokens=3,
        itl_ms=(10.0, 10.25),
        error=None,
    )
    said = {"generation_tokens": 3.0}
    good = repetition(
        0,
        208.4,
        notes=("3 % busy",),
        requests=(request,),
        server_values=said,
        client_values=said,
    )
    return bare_run(
        finished="2026-01-31T14:32:33+00:00",
        complete=True,
        hardware=hardware(),
        servers={
            MOE_CPU.key: Server(
                config=MOE_CPU,
                python="/env/bin/python",
                versions={"vllm": "0.26.0"},
            )
        },
        workloads={CLOSED.name: CLOSED},
        launches=(
            launched(
                start=start,
                values={"memory_bytes": 4e9},
                notes=("n",),
                effective={"a": "b"},
                injected={"d": 1.0},
            ),
        ),
        measurements=(
            measurement(
                0, good, repetition(1, invalid=("2 failed",)), failure=DIED
            ),
        ),
        cases=(case,),
        verdicts=(
            Verdict(
                case=case.id,
                test="tests/perf/test_x.py::test_y",
                experiment="E1",
                metric="output_throughput",
                outcome=Outcome.REGRESSED,
                gate="hard",
                summary="it is slower",
                value=0.3,
                baseline=0.4,
                change=-0.25,
                launches=3,
            ),
        ),
        skipped={"tests/perf/test_x.py::test_z": "needs 2x H200"},
    )


def test_run_is_read_back_whole(tmp_path):
    """What was written is what is read, by the folder's name and by the file's."""
    results = whole_run()

    path = save(results, tmp_path / "runs" / "a")

    assert tmp_path / "runs" / "a" / "results.json" == path
    assert results == load(path.parent)
    assert results == load(path)


def test_even_gaps_are_read_back(tmp_path):
    """Their burstiness is infinite, for which JSON has no number."""
    even = msgspec.structs.replace(
        CLOSED, max_concurrency=None, request_rate=2.0, burstiness=math.inf
    )
    results = msgspec.structs.replace(
        whole_run(), workloads={CLOSED.name: even}
    )

    read_back = load(save(results, tmp_path))

    assert results == read_back
    assert math.inf == read_back.workloads[CLOSED.name].burstiness


def test_file_is_the_same_for_the_same_run(tmp_path):
    """Keys are ordered, however the dictionaries were filled, and the text ends with a newline."""
    one = rundata.to_json({"b": 1, "a": {"d": 1, "c": 2}})

    assert one == rundata.to_json({"a": {"c": 2, "d": 1}, "b": 1})
    assert one.endswith("}\n")


def test_only_results_are_left_after_many_writes(tmp_path):
    """Each write replaces the file and leaves no temporary one."""
    for complete in (False, True):
        save(bare_run(complete=complete), tmp_path)

    assert ["results.json"] == [path.name for path in tmp_path.iterdir()]
    assert load(tmp_path).complete


@pytest.mark.parametrize(
    ("spoil", "seen"),
    [
        (lambda text: "no JSON", "malformed"),
        (lambda text: text[: len(text) // 2], "truncated|malformed"),
        (lambda text: "", "truncated|malformed"),
        (
            lambda text: edited(text, lambda run: run.pop("hardware")),
            "missing required field `hardware`",
        ),
        (
            lambda text: edited(text, lambda run: run.update(schema=3)),
            r"`\$\.schema`",
        ),
        (
            lambda text: edited(text, lambda run: run.update(colour="red")),
            "unknown field `colour`",
        ),
        (
            lambda text: edited(
                text, lambda run: run["launches"][0]["start"].update(pid="many")
            ),
            r"`\$\.launches\[0\]\.start\.pid`",
        ),
        (
            lambda text: edited(
                text,
                lambda run: run["workloads"]["closed-c32"].update(
                    num_prompts=0
                ),
            ),
            "num_prompts and repetitions must be at least 1",
        ),
    ],
    ids=[
        "no-json",
        "cut-short",
        "empty",
        "lacking",
        "other-schema",
        "unknown",
        "wrong-type",
        "senseless",
    ],
)
def test_unreadable_results_name_file_and_field(tmp_path, spoil, seen):
    """A truncated, edited or foreign file is an error with its path and the field."""
    path = save(whole_run(), tmp_path)
    path.write_text(spoil(path.read_text()))

    with pytest.raises(RunDataError, match=seen) as error:
        load(tmp_path)
    assert f"reading {path}" == error.value.tried
    assert "another version" in error.value.remedy


def edited(text, edit):
    """The JSON text after an edit of its object."""
    value = json.loads(text)
    edit(value)
    return json.dumps(value)


def test_text_that_is_not_utf8_is_told(tmp_path):
    """A file that holds anything is an error of the run, not a crash."""
    path = save(whole_run(), tmp_path)
    path.write_bytes(path.read_bytes().replace(b"A", b"\xff"))

    with pytest.raises(RunDataError, match=r"results\.json"):
        load(tmp_path)


@pytest.mark.parametrize("name", ["nowhere", "empty"])
def test_folder_without_a_run_is_told(tmp_path, name):
    """The message names what was asked for and says what a run directory is."""
    (tmp_path / "empty").mkdir()

    with pytest.raises(RunDataError, match=name) as error:
        load(tmp_path / name)
    assert "results.json" in error.value.remedy


def test_folder_that_cannot_be_written_is_told(tmp_path):
    """Where no folder can be made, the error names the file and another place as the remedy."""
    (tmp_path / "file").touch()

    with pytest.raises(RunDataError, match=r"file/run/results\.json") as error:
        save(bare_run(), tmp_path / "file" / "run")
    assert "choose another folder" in error.value.remedy


def test_run_id_sorts_by_time():
    """Date, time and process, in this order."""
    early = rundata.new_run_id(
        datetime.datetime(2026, 1, 31, 14, 22, 33, tzinfo=datetime.UTC)
    )
    late = rundata.new_run_id(
        datetime.datetime(2026, 2, 1, 9, 0, 0, tzinfo=datetime.UTC)
    )

    assert early.startswith("20260131-142233-")
    assert early < late


def test_a_packed_run_is_read_as_it_was(tmp_path):
    """results.json.gz, by its folder or by name; where both are there, the plain one counts."""
    results = bare_run()
    plain = save(results, tmp_path)
    packed = tmp_path / "results.json.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    assert results == load(packed)
    plain.unlink()
    assert results == load(tmp_path)
    packed.write_bytes(packed.read_bytes()[:-9])
    with pytest.raises(RunDataError, match=r"results\.json\.gz"):
        load(tmp_path)
