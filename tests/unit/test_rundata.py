"""Can a run be read back as it was measured, and is what cannot be read told?"""

import datetime
import gzip
import json

import msgspec
import pytest

from fixtures import rundata
from fixtures.case import Case, Load
from fixtures.engines.types import ServerConfig
from fixtures.files import RunDataError, write_atomically
from fixtures.hardware import Gpu, Hardware
from fixtures.ledger import Ledger
from fixtures.load.measurement import Repetition, RequestRow
from fixtures.load.workload import Synthetic, Workload
from fixtures.rundata import (
    Launch,
    Measurement,
    RunResults,
    Server,
    VerdictRow,
    launch_values,
    load,
    save,
)
from fixtures.servers.launches import LaunchRecord, PhaseTime
from tests.unit import measured

MOE = ServerConfig(engine="vllm", model="mixtral-small", tensor_parallel_size=2, extra_args=("--enforce-eager",))
DENSE = msgspec.structs.replace(MOE, model="llama-small")
CLOSED = Workload(name="closed-c16", prompts=Synthetic(), num_prompts=48, max_concurrency=16)
CPU = Hardware(kind="cpu", name="A CPU", count=2, memory_bytes=24, isa="avx2", host_memory_bytes=24)
GPU = Hardware(
    kind="h200",
    name="NVIDIA H200",
    count=2,
    memory_bytes=150_754_820_096,
    isa="avx512",
    host_memory_bytes=512,
    driver="580.82",
    cuda="13.0",
    gpus=tuple(
        Gpu(index=i, uuid=f"GPU-{i}", name="NVIDIA H200", memory_total_bytes=150_754_820_096, mig=False,
            power_limit_w=700.0, sm_clock_max_mhz=1980)
        for i in (0, 1)
    ),
)  # fmt: skip


def repetition(index, value=None, invalid=()):
    """A repetition of one request whose throughput is `value`."""
    return Repetition(
        index=index,
        started_unix_s=1_775_000_000.5,
        duration_s=10.0,
        completed=1,
        failed=0,
        input_tokens=32,
        output_tokens=3,
        values={} if value is None else {"output_throughput": value},
        invalid=invalid,
        notes=("the client was 3 % busy",),
        server_values={"generation_tokens": 3.0},
        client_values={"busy": 0.03},
        requests=(
            RequestRow(
                scheduled_ms=0.0, sent_ms=0.1, ttft_ms=50.0, e2el_ms=70.25, output_tokens=3, itl_ms=(10.0, 10.25),
                error=None,
            ),
        ),
    )  # fmt: skip


def measurement(launch, *repetitions, server=MOE, error=None):
    """Those repetitions of the closed loop on that launch."""
    return Measurement(server=server.key, launch=launch, workload=CLOSED.name, repetitions=repetitions, error=error)


def launched(index=0, server=MOE, **more):
    """One launch of a server."""
    start = LaunchRecord(
        key=server.key,
        index=index,
        argv=("python", "-m", "server"),
        env={"A": "1"},
        pid=4711,
        log="logs/0.log",
        started_unix_s=1_775_000_000.0,
        ready_s=26.5,
        phases=(PhaseTime(name="loading weights", at_s=11.0, line="Loading"),),
    )
    return Launch(server=server.key, index=index, start=start, **more)


def run(**changes):
    """A run's results."""
    settings = {
        "run_id": "20260131-142233-4711",
        "suite_version": "0.1.0",
        "command": ("pytest", "-m", "cpu"),
        "started": "2026-01-31T14:22:33+00:00",
        "hardware": CPU,
    }
    return RunResults(**(settings | changes))


def whole_run():
    """A run in which every field holds something."""
    case = Case(
        experiment="E1",
        metric="output_throughput",
        of=Load(server=MOE, workload=CLOSED),
        over=Load(server=DENSE, workload=CLOSED),
        two_sided=True,
    )
    return run(
        finished="2026-01-31T14:32:33+00:00",
        complete=True,
        hardware=GPU,
        servers={MOE.key: Server(config=MOE, python="/env/bin/python", versions={"vllm": "0.26.0"})},
        workloads={CLOSED.name: CLOSED},
        launches=(launched(values={"memory_bytes": 4e9}, notes=("n",), effective={"a": "b"}, planted={"d": 1.0}),),
        measurements=(measurement(0, repetition(0, 208.4), repetition(1, invalid=("2 failed",)), error="died"),),
        cases=(case,),
        verdicts=(
            VerdictRow(
                case=case.id, test="tests/perf/test_x.py::test_y", experiment="E1", metric="output_throughput",
                outcome="regressed", gate="hard", message="it is slower", value=0.3, baseline=0.4, change=-0.25,
                launches=3,
            ),
        ),
        skipped={"tests/perf/test_x.py::test_z": "needs 2x H200"},
    )  # fmt: skip


def test_run_is_read_back_whole(tmp_path):
    """What was written is what is read, by the folder's name and by the file's."""
    results = whole_run()

    path = save(results, tmp_path / "runs" / "a")

    assert tmp_path / "runs" / "a" / "results.json" == path
    assert results == load(path.parent)
    assert results == load(path)


def test_file_is_the_same_for_the_same_run(tmp_path):
    """Keys are ordered, however the dictionaries were filled, and the text ends with a newline."""
    one = rundata.to_json({"b": 1, "a": {"d": 1, "c": 2}})

    assert one == rundata.to_json({"a": {"c": 2, "d": 1}, "b": 1})
    assert one.endswith("}\n")


def test_only_results_are_left_after_many_writes(tmp_path):
    """Each write replaces the file and leaves no temporary one."""
    for complete in (False, True):
        save(run(complete=complete), tmp_path)

    assert ["results.json"] == [path.name for path in tmp_path.iterdir()]
    assert load(tmp_path).complete


@pytest.mark.parametrize(
    ("spoil", "seen"),
    [
        (lambda text: "no JSON", "malformed"),
        (lambda text: text[: len(text) // 2], "truncated"),
        (lambda text: "", "truncated"),
        (lambda text: edited(text, lambda run: run.pop("hardware")), "missing required field `hardware`"),
        (lambda text: edited(text, lambda run: run.update(schema=2)), r"`\$\.schema`"),
        (lambda text: edited(text, lambda run: run.update(colour="red")), "unknown field `colour`"),
        (
            lambda text: edited(text, lambda run: run["launches"][0]["start"].update(pid="many")),
            r"`\$\.launches\[0\]\.start\.pid`",
        ),
        (
            lambda text: edited(text, lambda run: run["workloads"]["closed-c16"].update(num_prompts=0)),
            "num_prompts and repetitions must be at least 1",
        ),
    ],
    ids=["no-json", "cut-short", "empty", "lacking", "other-schema", "unknown", "wrong-type", "senseless"],
)
def test_unreadable_results_name_file_and_field(tmp_path, spoil, seen):
    """A file that was cut short, edited or written by another version is an error with its path and the field."""
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
    """A place where no folder can be made is an error that names the file and another place as the remedy."""
    (tmp_path / "file").touch()

    with pytest.raises(RunDataError, match=r"file/run/results\.json") as error:
        save(run(), tmp_path / "file" / "run")
    assert "--run-dir" in error.value.remedy


def test_failed_write_leaves_the_old_file(tmp_path):
    """What cannot be replaced stays as it was, and no temporary file stays beside it."""
    target = tmp_path / "results.json"
    (target / "inside").mkdir(parents=True)

    with pytest.raises(RunDataError):
        write_atomically(target, "new")
    assert [target] == list(tmp_path.iterdir())
    assert [target / "inside"] == list(target.iterdir())


def test_run_id_sorts_by_time():
    """Date, time and process, in this order."""
    early = rundata.new_run_id(datetime.datetime(2026, 1, 31, 14, 22, 33, tzinfo=datetime.UTC))
    late = rundata.new_run_id(datetime.datetime(2026, 2, 1, 9, 0, 0, tzinfo=datetime.UTC))

    assert early.startswith("20260131-142233-")
    assert early < late


@pytest.mark.parametrize(
    ("values", "median"),
    [([200.0, 210.0, 190.0], 200.0), ([200.0, 210.0], 205.0), ([200.0], 200.0)],
)
def test_launch_counts_with_its_median(values, median):
    """One number for each launch: the median of its repetitions, which are kept beside it."""
    row = measurement(0, *(repetition(i, value) for i, value in enumerate(values)))

    (found,) = launch_values(run(measurements=(row,)), Load(server=MOE, workload=CLOSED), "output_throughput")

    assert (0, median, tuple(values), ()) == (found.launch, found.value, found.repetition_values, found.invalid)


def test_invalid_repetitions_do_not_count():
    """They take no part in the median and their reasons are told."""
    row = measurement(0, repetition(0, 1.0, ("2 requests failed",)), repetition(1, 200.0), repetition(2, 220.0))

    (found,) = launch_values(run(measurements=(row,)), Load(server=MOE, workload=CLOSED), "output_throughput")

    # (200 + 220) / 2
    assert (210.0, ("2 requests failed",)) == (found.value, found.invalid)


@pytest.mark.parametrize(
    ("row", "metric", "reasons"),
    [
        (
            measurement(0, repetition(0, 1.0, ("late",)), repetition(1, 1.0, ("2 failed", "late"))),
            "output_throughput",
            ("late", "2 failed", "late"),
        ),
        (measurement(0, error="the server died"), "output_throughput", ("the server died",)),
        (
            measurement(0, repetition(0, 200.0)),
            "ttft_p99_ms",
            ("ttft_p99_ms could not be computed from this workload",),
        ),
    ],
    ids=["all-invalid", "died", "no-such-metric"],
)
def test_launch_without_a_value_says_why(row, metric, reasons):
    """None stands for no value, never without a reason."""
    (found,) = launch_values(run(measurements=(row,)), Load(server=MOE, workload=CLOSED), metric)

    assert (None, reasons) == (found.value, found.invalid)


def test_launches_are_in_order_and_of_one_server():
    """Rows come in the order of the launches, and those of another server or workload are left out."""
    rows = (
        measurement(2, repetition(0, 220.0)),
        measurement(0, repetition(0, 200.0)),
        measurement(0, repetition(0, 550.0), server=DENSE),
        msgspec.structs.replace(measurement(1, repetition(0, 13.0)), workload="single-stream"),
    )

    found = launch_values(run(measurements=rows), Load(server=MOE, workload=CLOSED), "output_throughput")

    assert [(0, 200.0), (2, 220.0)] == [(value.launch, value.value) for value in found]


def test_values_of_the_server_itself():
    """Without a workload the value is the launch's own; a launch that lacks it is left out."""
    launches = (
        launched(0, values={"memory_bytes": 4e9}),
        launched(1),
        launched(0, server=DENSE, values={"memory_bytes": 1e9}),
    )

    (found,) = launch_values(run(launches=launches), Load(server=MOE), "memory_bytes")

    assert (0, 4e9, (4e9,)) == (found.launch, found.value, found.repetition_values)


CUDA = msgspec.structs.replace(MOE, device="cuda")


@pytest.mark.parametrize(
    ("server", "workload", "changed"),
    [
        (msgspec.structs.replace(CUDA, model="llama-small"), CLOSED, {"model"}),
        (msgspec.structs.replace(CUDA, engine="sglang"), CLOSED, {"engine"}),
        (msgspec.structs.replace(CUDA, tensor_parallel_size=1), CLOSED,
         {"tensor_parallel_size", "gpu_count", "hardware"}),
        (msgspec.structs.replace(CUDA, expert_parallel=True), CLOSED, {"expert_parallel"}),
        (msgspec.structs.replace(CUDA, device="cpu"), CLOSED, {"gpu_count", "hardware", "hardware_name"}),
        (msgspec.structs.replace(CUDA, dtype="float16"), CLOSED, {"dtype"}),
        (msgspec.structs.replace(CUDA, load_format="dummy"), CLOSED, {"weights"}),
        (msgspec.structs.replace(CUDA, max_model_len=512), CLOSED, {"max_model_len"}),
        (msgspec.structs.replace(CUDA, extra_args=()), CLOSED, {"server_args"}),
        (msgspec.structs.replace(CUDA, extra_env=(("A", "1"),)), CLOSED, {"server_env"}),
        (CUDA, msgspec.structs.replace(CLOSED, num_prompts=49), {"workload"}),
        (CUDA, msgspec.structs.replace(CLOSED, name="another", repetitions=5), set()),
    ],
)  # fmt: skip
def test_identity_holds_what_must_be_equal(server, workload, changed):
    """Each setting of the server and each property of the load is in the identity; names and repeats are not."""
    results = run(hardware=GPU)
    before = rundata.identity(results, Load(server=CUDA, workload=CLOSED))
    after = rundata.identity(results, Load(server=server, workload=workload))

    assert changed == {name for name in before if before[name] != after[name]}
    assert before.keys() == after.keys()


def test_every_setting_of_a_server_is_in_the_identity():
    """A setting that is added to the configuration must be added to the identity too, or runs mix that may not."""
    given = {"engine", "model", "dtype", "tensor_parallel_size", "expert_parallel", "max_model_len"}
    renamed = {"device", "load_format", "extra_args", "extra_env", "routing", "build"}

    assert given | renamed == set(ServerConfig.__struct_fields__)
    assert given <= rundata.identity(run(), Load(server=MOE)).keys()


def test_identity_of_the_server_itself():
    """Without a workload there is none in the identity; what the engine chose is."""
    found = rundata.identity(run(launches=(launched(effective={"graphs": "off"}),)), Load(server=MOE))

    assert "workload" not in found
    assert ("off", "cpu-a-cpu-avx2-x2", "0") == (found["graphs"], found["hardware"], found["gpu_count"])
    assert all(isinstance(value, str) for value in found.values())


def test_context_holds_what_may_differ():
    """Versions, driver and power limit are shown when they change, and keep nobody from comparing."""
    server = Server(config=MOE, python="/env/bin/python", versions={"vllm": "0.26.0"})

    assert {
        "suite": "0.1.0",
        "machine": "NVIDIA H200",
        "cores_or_gpus": "2",
        "driver": "580.82",
        "cuda": "13.0",
        "power_limit_w": "700",
        "vllm": "0.26.0",
    } == rundata.context(run(hardware=GPU, servers={MOE.key: server}), Load(server=MOE))
    assert {"suite": "0.1.0", "machine": "A CPU", "cores_or_gpus": "2"} == rundata.context(run(), Load(server=MOE))


def test_a_packed_run_is_read_as_it_was(tmp_path):
    """results.json.gz, by its folder or by name; where both are there, the plain one counts."""
    results = run()
    plain = save(results, tmp_path)
    packed = tmp_path / "results.json.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    assert results == load(packed)
    plain.unlink()
    assert results == load(tmp_path)
    packed.write_bytes(packed.read_bytes()[:-9])
    with pytest.raises(RunDataError, match=r"results\.json\.gz"):
        load(tmp_path)


def test_a_measurement_is_a_line_of_its_own(tmp_path):
    """Most of a large run does not change with each repetition: it is encoded once, and the file is the same."""
    row = Measurement(server="s", launch=0, workload="w", repetitions=(measured.repetition(0, {"itl_median_ms": 8.0}),))
    other = msgspec.structs.replace(row, launch=1)
    ledger = Ledger(run(measurements=(row, other)), tmp_path)
    again = msgspec.structs.replace(other, error="died")
    ledger.put_measurement(again)

    assert (row, again) == load(tmp_path).measurements
    text = (tmp_path / "results.json").read_text()
    assert 2 == sum('"workload":"w"' in line for line in text.splitlines())
    assert text == save(ledger.results, tmp_path / "plain").read_text()
