"""Identity: everything that two comparable values must share; choices and context besides."""

import msgspec
import pytest

from perfgate.cases import Load
from perfgate.engines.base import ServerConfig
from perfgate.judge.identity import chosen, context, identity
from perfgate.results.schema import Server
from tests.support.builders import CLOSED, MOE_CPU, bare_run, hardware, launched

CUDA = msgspec.structs.replace(MOE_CPU, device="cuda")


@pytest.mark.parametrize(
    ("server", "workload", "changed"),
    [
        (msgspec.structs.replace(CUDA, model="llama-small"), CLOSED, {"model"}),
        (msgspec.structs.replace(CUDA, engine="sglang"), CLOSED, {"engine"}),
        (
            msgspec.structs.replace(CUDA, tensor_parallel_size=1),
            CLOSED,
            {"tensor_parallel_size", "gpu_count", "hardware"},
        ),
        (
            msgspec.structs.replace(CUDA, expert_parallel=True),
            CLOSED,
            {"expert_parallel"},
        ),
        (
            msgspec.structs.replace(CUDA, device="cpu"),
            CLOSED,
            {"gpu_count", "hardware", "hardware_name"},
        ),
        (msgspec.structs.replace(CUDA, dtype="float16"), CLOSED, {"dtype"}),
        (
            msgspec.structs.replace(CUDA, load_format="dummy"),
            CLOSED,
            {"weights"},
        ),
        (
            msgspec.structs.replace(CUDA, max_model_len=512),
            CLOSED,
            {"max_model_len"},
        ),
        (
            msgspec.structs.replace(CUDA, extra_args=("--enforce-eager",)),
            CLOSED,
            {"server_args"},
        ),
        (
            msgspec.structs.replace(CUDA, extra_env=(("A", "1"),)),
            CLOSED,
            {"server_env"},
        ),
        (CUDA, msgspec.structs.replace(CLOSED, num_prompts=49), {"workload"}),
        (
            CUDA,
            msgspec.structs.replace(CLOSED, name="another", repetitions=5),
            set(),
        ),
    ],
)
def test_identity_holds_what_must_be_equal(server, workload, changed):
    """Each setting of server and load is in the identity; names and repetitions are not."""
    results = bare_run(hardware=hardware())
    before = identity(results, Load(server=CUDA, workload=CLOSED))
    after = identity(results, Load(server=server, workload=workload))

    assert changed == {name for name in before if before[name] != after[name]}
    assert before.keys() == after.keys()


@pytest.mark.parametrize("field", ["routing", "stated_routing", "variant"])
def test_what_most_servers_lack_is_in_the_identity_of_the_others(field):
    """Baselines that were recorded before such a field existed stay comparable."""
    results = bare_run(hardware=hardware())
    server = msgspec.structs.replace(CUDA, **{field: "few"})
    before = identity(results, Load(server=CUDA, workload=CLOSED))
    after = identity(results, Load(server=server, workload=CLOSED))

    assert before | {field: "few"} == after


def test_every_setting_of_a_server_is_in_the_identity():
    """A setting added to the configuration is in the identity too.

    Otherwise runs mix that must not.
    """
    given = {
        "engine",
        "model",
        "dtype",
        "tensor_parallel_size",
        "expert_parallel",
        "max_model_len",
    }
    where_set = {
        "data_parallel_size": 2,
        "data_parallel_attention": True,
        "quantization": "fp8",
        "kv_cache_dtype": "fp8",
        "held": True,
        "instructions": True,
        "prefix_caching": True,
    }
    renamed = {
        "device",
        "load_format",
        "extra_args",
        "extra_env",
        "routing",
        "stated_routing",
        "build",
        "variant",
    }

    assert given | renamed | where_set.keys() == set(
        ServerConfig.__struct_fields__
    )
    plain = identity(bare_run(), Load(server=MOE_CPU)).keys()
    assert given <= plain
    # Baselines from before these settings stay comparable.
    assert plain.isdisjoint(where_set)
    for name, value in where_set.items():
        server = msgspec.structs.replace(MOE_CPU, **{name: value})
        fields = identity(bare_run(), Load(server=server))
        assert str(value).lower() == fields[name]


def test_identity_of_the_server_itself():
    """Without a workload there is none in the identity, nor is what the engine chose."""
    found = identity(
        bare_run(launches=(launched(effective={"graphs": "off"}),)),
        Load(server=MOE_CPU),
    )

    assert "workload" not in found
    assert "graphs" not in found
    assert ("cpu-some-cpu-avx2-x2", "0") == (
        found["hardware"],
        found["gpu_count"],
    )
    assert all(isinstance(value, str) for value in found.values())


def test_choices_are_what_the_server_reports():
    """Backends and other settings, of this server alone."""
    own = msgspec.structs.replace(
        launched(effective={"graphs": "off"}),
        settings={"chunked_prefill_tokens": "512"},
    )
    other = msgspec.structs.replace(
        launched(effective={"graphs": "on"}), server="another"
    )

    assert {"graphs": "off", "chunked_prefill_tokens": "512"} == chosen(
        bare_run(launches=(own, other)), Load(server=MOE_CPU)
    )


def test_launches_that_chose_differently_have_all_choices():
    """A second launch on another backend counts."""
    names = ("FLASH_ATTN", "FLASH_ATTN", "TRITON_ATTN")
    rows = tuple(
        msgspec.structs.replace(
            launched(n), effective={"attention_backend": name}
        )
        for n, name in enumerate(names)
    )

    same, other = (
        chosen(bare_run(launches=rows[:n]), Load(server=MOE_CPU))
        for n in (2, 3)
    )

    assert "FLASH_ATTN" == same["attention_backend"]
    assert "FLASH_ATTN or TRITON_ATTN" == other["attention_backend"]


def test_context_holds_what_may_differ():
    """Versions, driver and power limit are shown when they change, and prevent no comparison."""
    shell = {"NCCL_P2P_DISABLE": "1"}
    server = Server(
        config=MOE_CPU,
        python="/env/bin/python",
        versions={"vllm": "0.26.0"},
        environment=shell,
    )

    assert {
        "suite": "0.1.0",
        "machine": "NVIDIA H200",
        "cores_or_gpus": "2",
        "driver": "580.1",
        "cuda": "13.0",
        "power_limit_w": "700",
        "vllm": "0.26.0",
        "$NCCL_P2P_DISABLE": "1",
    } == context(
        bare_run(hardware=hardware(), servers={MOE_CPU.key: server}),
        Load(server=MOE_CPU),
    )
    assert {
        "suite": "0.1.0",
        "machine": "some CPU",
        "cores_or_gpus": "2",
    } == context(bare_run(), Load(server=MOE_CPU))


def test_power_limits_of_all_gpus_are_context():
    """One GPU that may take less slows a server on both."""
    machine = hardware()
    first, second = machine.gpus
    second = msgspec.structs.replace(second, power_limit_w=450.0)
    run = bare_run(
        hardware=msgspec.structs.replace(machine, gpus=(first, second))
    )

    told = context(run, Load(server=MOE_CPU))
    assert "450 or 700" == told["power_limit_w"]


def test_answers_of_the_launches_are_context():
    """Short hashes, and none where no launch has any: a run of before is read alike."""
    load = Load(server=MOE_CPU)
    software = Server(config=MOE_CPU, python="3.12", versions={})
    row = launched(answers=("0123456789ab", "ba9876543210"))
    run = bare_run(servers={MOE_CPU.key: software}, launches=(row,))
    without = bare_run(servers=run.servers, launches=(launched(),))

    assert "012345 ba9876" == context(run, load)["answers"]
    assert "answers" not in context(without, load)
