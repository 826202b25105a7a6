"""Cases: a name by what is asked."""

import re

import msgspec
import pytest

from perfgate.cases import BadCase, Case, Load, checked
from perfgate.engines.base import ServerConfig
from perfgate.engines.registry import UnknownEngine
from perfgate.load.workload import Workload
from perfgate.models import catalogue
from perfgate.models.catalogue import UnknownModel

MOE = ServerConfig(engine="vllm", model="mixtral-small", tensor_parallel_size=2)
DENSE = ServerConfig(engine="vllm", model="llama-small", tensor_parallel_size=2)
CLOSED = Workload(name="closed-c16", num_prompts=48, max_concurrency=16)
SINGLE = Workload(name="single-stream", num_prompts=4, max_concurrency=1)


@pytest.mark.parametrize(
    ("of", "over", "expected"),
    [
        (
            Load(server=MOE, workload=CLOSED),
            None,
            "vllm-mixtral-small-tp2/closed-c16/itl_median_ms",
        ),
        (Load(server=MOE), None, "vllm-mixtral-small-tp2/launch/itl_median_ms"),
        (
            Load(server=MOE, workload=CLOSED),
            Load(server=DENSE, workload=CLOSED),
            "vllm-mixtral-small-tp2--over--vllm-llama-small-tp2/closed-c16/itl_median_ms",
        ),
        (
            Load(server=MOE, workload=CLOSED),
            Load(server=MOE, workload=SINGLE),
            "vllm-mixtral-small-tp2/closed-c16--over--single-stream/itl_median_ms",
        ),
        (
            Load(server=MOE, workload=CLOSED),
            Load(server=DENSE, workload=SINGLE),
            "vllm-mixtral-small-tp2--over--vllm-llama-small-tp2/closed-c16--over--single-stream/itl_median_ms",
        ),
    ],
)
def test_id_is_subject_workload_metric(of, over, expected):
    """The id names two servers or two workloads only where they differ."""
    case = Case(
        experiment="E1", metric="itl_median_ms", numerator=of, denominator=over
    )

    assert expected == case.id
    assert expected == f"{case.subject}/{case.workload}/{case.metric}"


def test_loads_to_measure():
    """The numerator comes first; an absolute needs one load alone."""
    of, over = (
        Load(server=MOE, workload=CLOSED),
        Load(server=DENSE, workload=CLOSED),
    )

    assert (of,) == Case(
        experiment="E1", metric="itl_median_ms", numerator=of
    ).loads
    assert (of, over) == Case(
        experiment="E1", metric="itl_median_ms", numerator=of, denominator=over
    ).loads


def test_cases_can_be_compared_and_kept_in_sets():
    """Equal questions are one question."""
    of = Load(server=MOE, workload=CLOSED)

    assert 1 == len(
        {
            Case(experiment="E1", metric="m", numerator=of),
            Case(experiment="E1", metric="m", numerator=of),
        }
    )


CASE = Case(
    experiment="E1",
    metric="itl_median_ms",
    numerator=Load(server=DENSE, workload=CLOSED),
)


@pytest.fixture
def known(monkeypatch):
    """A catalogue with the two models."""
    names = dict.fromkeys((MOE.model, DENSE.model))
    monkeypatch.setattr(catalogue, "CATALOGUE", names)


def served(**changes) -> Case:
    """The case of a server with these changes."""
    server = msgspec.structs.replace(DENSE, **changes)
    load = Load(server=server, workload=CLOSED)
    return msgspec.structs.replace(CASE, numerator=load)


def sent(**changes) -> Case:
    """The case of a workload with these changes."""
    workload = msgspec.structs.replace(CLOSED, **changes)
    load = Load(server=DENSE, workload=workload)
    return msgspec.structs.replace(CASE, numerator=load)


@pytest.mark.parametrize(
    ("case", "said"),
    [
        ("closed", "it is a str"),
        (msgspec.structs.replace(CASE, gate="soft"), "gate"),
        (msgspec.structs.replace(CASE, experiment=12), "experiment"),
        (msgspec.structs.replace(CASE, metric="a/b"), "the metric 'a/b'"),
        (msgspec.structs.replace(CASE, metric=""), "the name is empty"),
        (served(max_model_len="long"), "numerator.server.max_model_len"),
        (served(dtype="bf16"), "use one of float32, bfloat16, float16"),
        (served(device="gpu"), "device is 'gpu'"),
        (served(tensor_parallel_size=0), "less than one rank"),
        (served(variant="a/b"), "the server vllm-llama-small-tp2-a/b"),
        (sent(name="a--over--b"), "the workload a--over--b"),
        (sent(staggered="yes"), "numerator.workload.staggered"),
    ],
)
def test_what_no_run_could_hold_is_refused(known, case, said):
    """A run with it could not be read again, or its id would have other parts."""
    with pytest.raises(BadCase, match=re.escape(said)):
        checked(case)


def test_a_server_that_nothing_can_launch_is_refused(known):
    """An engine or a model that nobody has registered."""
    with pytest.raises(UnknownEngine):
        checked(served(engine="vlm"))
    with pytest.raises(UnknownModel):
        checked(served(model="lama-small"))


def test_a_case_is_as_it_is_read_again(known):
    """A list of arguments is a tuple then; nothing else changes."""
    assert CASE == checked(CASE)
    assert served(extra_args=("--x",)) == checked(served(extra_args=["--x"]))
