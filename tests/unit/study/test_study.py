"""The study on each platform: questions, servers, workloads."""

import dataclasses

import msgspec
import pytest

from perfgate.cases import Case, Load
from perfgate.engines.registry import ENGINES
from perfgate.models.catalogue import CATALOGUE
from perfgate.study import Versus, servers_of
from perfgate.study import study_of as study_in
from perfgate.study.selection import Subject
from perfgate.study.study import AmbiguousServer
from tests.perf.test_builds import batches
from tests.perf.test_expert_parallel import ep_over_tp
from tests.support.studies import GPU_PLATFORMS, PLATFORMS, SHIPPED, study_of

ANY_ENGINE = pytest.mark.parametrize("engine", ["vllm", "sglang"])
ANY_PLATFORM = pytest.mark.parametrize("platform", PLATFORMS)


def study(platform, tensor_parallel_size=2, engine="vllm", load_format="auto"):
    """The study as most tests need it."""
    return study_of(platform, engine, tensor_parallel_size, load_format)


def workloads(of):
    """All of a study's workloads."""
    return [
        of.closed,
        of.single_stream,
        of.routing,
        *of.rates,
        *of.batches,
        *of.sweep,
        *([of.burst] if of.burst else []),
    ]


@ANY_PLATFORM
@ANY_ENGINE
def test_only_the_model_differs(platform, engine):
    """The sparse and the dense server differ in the model, the third in its ranks.

    So a ratio has one reason.
    """
    asked = study(platform, engine=engine)
    moe, dense, alone = asked.moe, asked.dense, asked.dense_tp1

    differing = {
        name
        for name in moe.__struct_fields__
        if getattr(moe, name) != getattr(dense, name)
    }
    assert {"model"} == differing
    if (engine, platform) == ("sglang", "cpu"):  # asked less: it is slow there
        assert alone is None
    else:
        differing = {
            name
            for name in dense.__struct_fields__
            if getattr(dense, name) != getattr(alone, name)
        }
        assert {"tensor_parallel_size"} == differing
        assert (engine, 1) == (alone.engine, alone.tensor_parallel_size)
    assert (
        CATALOGUE[moe.model].architecture.is_moe,
        CATALOGUE[dense.model].architecture.is_moe,
    ) == (True, False)
    assert (moe, dense) == asked.models


@ANY_PLATFORM
def test_requests_fit_the_context(platform):
    """No prompt with its answer is longer than the servers' context or than the model's."""
    asked = study(platform)
    longest = max(
        w.prompts.input_len_tokens + w.prompts.output_len_tokens
        for w in workloads(asked)
    )

    for server in (asked.moe, asked.dense):
        assert (
            longest
            <= server.max_model_len
            <= CATALOGUE[server.model].architecture.max_position_embeddings
        )


@ANY_PLATFORM
def test_workload_names_are_slugs_and_name_one_thing(platform):
    """A name is a file of the baseline store: the same name never stands for two loads."""
    by_name = {}
    for workload in workloads(study(platform)):
        assert workload.name.replace("-", "").isalnum()
        assert workload.fingerprint() == by_name.setdefault(
            workload.name, workload.fingerprint()
        )


@ANY_PLATFORM
def test_sweeps_are_ordered(platform):
    """Batches are 1, 8 and 32 at once; rates rise; a closed loop fills its slots more than once.

    Not the CPU's largest: its requests are of one length, so that they come and
    go in waves, one like the other.
    """
    asked = study(platform)

    assert [1, 8, 32] == [
        workload.max_concurrency for workload in asked.batches
    ]
    assert sorted(workload.request_rate for workload in asked.rates) == [
        w.request_rate for w in asked.rates
    ]
    waves = {
        w.name: w.num_prompts / w.max_concurrency
        for w in (asked.closed, asked.single_stream, *asked.batches)
    }
    assert (["batch-32"] if platform == "cpu" else []) == [
        name for name, number in waves.items() if number < 2
    ]
    assert 1 <= min(waves.values())
    assert 1 == len({w.prompts for w in asked.batches})


@ANY_PLATFORM
def test_ratio_is_asked_from_one_stream_to_many(platform):
    """On GPUs at seven batches; on the CPU at those that are measured anyway."""
    asked = study(platform)
    batches = [workload.max_concurrency for workload in asked.sweep]

    assert (
        [1, 8, 16, 32] if platform == "cpu" else [1, 2, 4, 8, 16, 32, 64]
    ) == batches
    if platform == "cpu":
        assert set(asked.sweep) <= {
            asked.closed,
            asked.single_stream,
            *asked.batches,
        }


def test_routing_is_asked_of_a_server_of_its_own_where_it_changes_the_launch():
    """It differs from the timed one in the routing alone.

    It is left out for made-up weights, or if the engine cannot report it.
    """
    timed, asked = study("h200").moe, study("h200").moe_routing

    assert ["routing"] == [
        n
        for n in timed.__struct_fields__
        if getattr(timed, n) != getattr(asked, n)
    ]
    assert ("vllm-mixtral-8x7b-tp2-routing", "returned") == (
        asked.key,
        asked.routing,
    )
    assert study("h200", load_format="dummy").moe_routing is None
    assert study("h200", engine="sglang").moe_routing is None


def test_timed_server_is_asked_where_hooks_need_no_other_launch():
    """Every vLLM server on the CPU is eager; the workload says that it alone is not timed."""
    asked = study("cpu")

    assert asked.moe == asked.moe_routing
    assert "--enforce-eager" in asked.moe.extra_args
    assert [True, False, False] == [
        w.asks_routing
        for w in (asked.routing, asked.closed, asked.single_stream)
    ]


def test_slow_engine_is_asked_for_its_routing_where_it_is_alone():
    """With another engine the launch would exceed the run's minutes; a fast engine is asked."""
    servers = {
        "sglang": ("sglang-mixtral-small-tp2-routing", None),
        "vllm": ("vllm-mixtral-small-tp2",) * 2,
    }
    for engine, (by_itself, with_others) in servers.items():
        alone = study("cpu", engine=engine)
        asked = dataclasses.replace(alone, has_other_engines=True).moe_routing

        assert by_itself == alone.moe_routing.key
        assert with_others == (asked and asked.key)


@pytest.mark.parametrize("engine", ["vllm", "sglang"])
def test_experts_are_not_spread_on_the_cpu(engine):
    """Both engines fail there; it is skipped, and the reason has the engine and the error."""
    assert (
        "dies at the first request"
        in ENGINES[engine].no_expert_parallelism["cpu"]
    )
    assert "cuda" not in ENGINES[engine].no_expert_parallelism


def test_expert_parallelism_needs_ranks():
    """One rank has nobody to spread the experts over; the key says which it is."""
    assert () == study("h200", tensor_parallel_size=1).spread_and_split
    ((spread, split),) = study("h200").spread_and_split
    assert "vllm-mixtral-8x7b-tp2-ep" == spread.key
    assert study("h200").moe == split


@pytest.mark.parametrize(
    ("load_format", "stated", "alone"),
    [("auto", None, "hard"), ("dummy", None, "hard"), ("dummy", "", "report")],
)
def test_spread_experts_of_made_up_routers_are_judged_under_load_alone(
    load_format, stated, alone
):
    """Routers alike in every layer send one stream's token to one rank or to two, by chance.

    Nothing is judged by that; where the routing is stated, both are.
    """
    asked = study_of(
        "h200", "vllm", load_format=load_format, stated_routing=stated
    )
    cases = {case.workload: case.gate for case in ep_over_tp(asked)}

    assert {"steady-c32": "hard", "single-stream": alone} == cases
    assert [] == list(
        ep_over_tp(
            study("h200", tensor_parallel_size=1, load_format=load_format)
        )
    )


def test_absolute_values_are_a_yardstick_on_gpus_alone():
    """On a shared CPU absolutes are judged coarsely, and ratios in both directions."""
    for platform in GPU_PLATFORMS:
        asked = study(platform)
        loads = [
            Load(server=server, workload=asked.closed)
            for server in asked.models
        ]
        ratio = asked.ratio("E1", "itl_median_ms", *loads)

        assert ("hard", 2) == (asked.absolute, asked.gpu_count)
        assert asked.is_yardstick
        assert ("hard", False) == (ratio.gate, ratio.two_sided)

    asked = study("cpu")
    loads = [
        Load(server=server, workload=asked.closed) for server in asked.models
    ]
    ratio = asked.ratio("E1", "itl_median_ms", *loads)

    assert ("hard", 0, None) == (asked.absolute, asked.gpu_count, asked.burst)
    assert not asked.is_yardstick
    assert ("hard", True) == (ratio.gate, ratio.two_sided)
    assert tuple(loads) == ratio.loads


@pytest.mark.parametrize(
    ("judged", "gate"),
    [("all", "hard"), ("coarse", "hard"), ("ratios", "report")],
)
def test_value_of_a_server(judged, gate):
    """A value is an absolute of one load; without a workload it is the server's own."""
    asked = dataclasses.replace(study("cpu"), judged=judged)

    case = asked.value("E7", "memory_bytes", asked.moe, None)

    assert (
        Case(
            experiment="E7",
            metric="memory_bytes",
            numerator=Load(server=asked.moe),
            gate=gate,
        )
        == case
    )


def test_gpu_needed_follows_the_ranks():
    """With one rank the study needs one GPU."""
    assert 1 == study("h200", tensor_parallel_size=1).gpu_count


def test_weights_are_chosen_on_gpus():
    """Made-up weights can be asked for where the real ones weigh 93 GB.

    The small models always have their own.
    """
    assert "dummy" == study("h200", load_format="dummy").moe.load_format
    assert "auto" == study("cpu", load_format="dummy").moe.load_format


@pytest.mark.parametrize(
    ("engine", "arguments"), [("vllm", ("--enforce-eager",)), ("sglang", ())]
)
def test_vllm_is_eager_on_the_cpu(engine, arguments):
    """An argument of one engine is not given to the other."""
    assert arguments == study("cpu", engine=engine).moe.extra_args


def test_engine_that_is_slow_on_the_cpu_is_asked_less():
    """There it has the two loads that compare engines, as the other engine has them.

    On GPUs it has all.
    """
    fast, slow = study("cpu"), study("cpu", engine="sglang")

    assert ((), (fast.single_stream, fast.closed)) == (slow.rates, slow.batches)
    assert (fast.closed, fast.single_stream) == (
        slow.closed,
        slow.single_stream,
    )
    assert workloads(study("h200")) == workloads(study("h200", engine="sglang"))


@ANY_PLATFORM
def test_engines_are_compared_in_nothing_else(platform):
    """One engine's server over the other's differs in the engine and its own arguments.

    The load is the same.
    """
    versus = Versus(
        candidate=study(platform, engine="sglang"), reference=study(platform)
    )

    for servers in versus.models:
        case = versus.ratio(
            "output_throughput", servers, versus.candidate.closed
        )
        of, over = servers
        differing = {
            name
            for name in of.__struct_fields__
            if getattr(of, name) != getattr(over, name)
        }
        assert differing <= {"engine", "extra_args"}
        assert ("E9", platform == "cpu", case.numerator.workload) == (
            case.experiment,
            case.two_sided,
            case.denominator.workload,
        )


def test_servers_of_cases():
    """Each server is listed once, in order of first mention, with each of its workloads once."""
    asked = study("cpu")
    moe, dense = (
        Load(server=server, workload=asked.closed) for server in asked.models
    )
    cases = [
        asked.value("E7", "memory_bytes", asked.dense, None),
        asked.ratio("E1", "itl_median_ms", moe, dense),
        asked.ratio("E1", "output_throughput", moe, dense),
        asked.value("E2", "itl_median_ms", asked.moe, asked.single_stream),
    ]

    assert [
        ("vllm-llama-small-tp2", (asked.dense, (asked.closed,))),
        (
            "vllm-mixtral-small-tp2",
            (asked.moe, (asked.closed, asked.single_stream)),
        ),
    ] == list(servers_of(cases).items())


def test_one_rank_needs_no_third_server():
    """With one rank the dense server and its one-rank twin are the same server, launched once."""
    asked = study("cpu", tensor_parallel_size=1)
    cases = [
        asked.value("E3", "itl_median_ms", server, asked.closed)
        for server in (asked.dense, asked.dense_tp1)
    ]

    assert ["vllm-llama-small-tp1"] == list(servers_of(cases))


def test_a_variant_joins_the_key():
    """Two servers of one shape that differ in an argument have two names; both can be asked."""
    asked = study("cpu")
    eager = msgspec.structs.replace(
        asked.dense, extra_args=("--x",), variant="eager"
    )
    cases = [
        asked.value("E7", "memory_bytes", server, None)
        for server in (asked.dense, eager)
    ]

    assert ["vllm-llama-small-tp2", "vllm-llama-small-tp2-eager"] == list(
        servers_of(cases)
    )
    unnamed = msgspec.structs.replace(eager, variant="")
    with pytest.raises(AmbiguousServer, match='variant="eager"'):
        servers_of([cases[0], asked.value("E7", "memory_bytes", unnamed, None)])


@pytest.mark.parametrize(
    ("platform", "load_format", "stated", "expected"),
    [
        ("h200", "dummy", None, ("uniform", "")),
        ("h200", "dummy", "few", ("few", "")),
        ("h200", "dummy", "", ("", "")),
        ("h200", "auto", None, ("", "")),
        ("h200", "auto", "few", ("", "")),
        ("cpu", "auto", None, ("", "")),
        ("cpu", "auto", "skewed", ("skewed", "")),
    ],
)
def test_routing_is_stated_for_made_up_weights_alone(
    platform, load_format, stated, expected
):
    """Real weights route by themselves, and a dense model routes nothing.

    The study states it on GPUs; the CPU's small models have weights of the suite.
    """
    servers = study_of(
        platform, "vllm", load_format=load_format, stated_routing=stated
    ).models

    assert expected == tuple(server.stated_routing for server in servers)


def test_a_stated_routing_is_another_server():
    """Its values are compared with those of no other routing."""
    keys = []
    for stated in ("", "uniform", "few"):
        asked = study_of(
            "h200", "vllm", load_format="dummy", stated_routing=stated
        )
        keys += [
            asked.moe.key,
            asked.spread_and_split[0][0].key,
            asked.dense.key,
        ]

    assert [
        "vllm-mixtral-8x7b-tp2",
        "vllm-mixtral-8x7b-tp2-ep",
        "vllm-llama-3.1-8b-tp2",
        "vllm-mixtral-8x7b-tp2-uniform",
        "vllm-mixtral-8x7b-tp2-ep-uniform",
        "vllm-llama-3.1-8b-tp2",
        "vllm-mixtral-8x7b-tp2-few",
        "vllm-mixtral-8x7b-tp2-ep-few",
        "vllm-llama-3.1-8b-tp2",
    ] == keys


def test_held_servers_are_tiny_and_alone():
    """On the CPU the tiny pair is held in one process, on one rank whatever --tp says."""
    asked = study("cpu", engine="vllm")

    assert ["mixtral-tiny", "llama-tiny"] == [row.model for row in asked.held]
    assert {(1, True)} == {(row.ranks, row.held) for row in asked.held}
    assert ["prefill", "decode"] == [
        workload.name for workload in asked.held_workloads
    ]


@pytest.mark.parametrize(
    ("engine", "others", "expected"),
    [("vllm", True, 2), ("sglang", False, 2), ("sglang", True, 0)],
)
def test_a_slow_engine_is_timed_in_turns_only_alone(engine, others, expected):
    """Both engines together take ten minutes."""
    asked = study("cpu", engine=engine)
    asked = dataclasses.replace(asked, has_other_engines=others)

    assert expected == len(asked.timed_in_turns)


def test_instructions_are_counted_where_they_are_asked_for():
    """Of the held servers, each launched in valgrind."""
    asked = study("cpu", engine="vllm")
    counting = dataclasses.replace(asked, counts_instructions=True)

    assert () == asked.in_valgrind
    assert [True, True] == [row.instructions for row in counting.in_valgrind]
    assert [row.model for row in asked.held] == [
        row.model for row in counting.in_valgrind
    ]


def test_a_second_pair_does_not_ask_the_held_servers_again():
    """They are asked once a platform, with its first pair."""
    subject = Subject("large", ("mixtral-8x7b", "llama-3.1-8b"))

    assert () == study_in(SHIPPED, "cpu", "vllm", subject).held


def test_gpus_hold_the_models_that_are_measured():
    """Each on one rank; without a base build there is nothing to compare them with."""
    asked = study_in(SHIPPED, "h200", "vllm")
    named = dataclasses.replace(asked, names_base_build=True)

    assert [row.model for row in asked.models] == [
        row.model for row in asked.held
    ]
    assert {(1, True)} == {(row.ranks, row.held) for row in asked.held}
    assert ((), ()) == (asked.timed_in_turns, asked.counted)
    assert asked.held == named.timed_in_turns
    assert () == study_in(SHIPPED, "h200", "sglang").held


def test_a_gpu_is_asked_for_elapsed_time_alone():
    """Its thread waits for it without working; a core is asked for both times."""
    on_gpu = study_in(SHIPPED, "h200", "vllm")
    on_gpu = dataclasses.replace(on_gpu, names_base_build=True)

    assert {"batch_active_ms"} == {row.metric for row in batches(on_gpu)}
    assert {"batch_cpu_ms", "batch_active_ms"} == {
        row.metric for row in batches(study("cpu"))
    }
