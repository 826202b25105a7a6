"""Schema of a study file: models, pairs, servers, workloads, platforms.

Every table of study.toml is one of these structs; `reader` turns the file into a
`StudyFile` and checks that the names in it refer to each other.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from perfgate.models.stated_routing import StatedRouting

SCHEMA = 1
JudgedValues = Literal["all", "coarse", "ratios"]
Dtype = Literal["bfloat16", "float16", "float32"]
CacheDtype = Literal["auto", "fp8", "fp8_e4m3", "fp8_e5m2"]
Size = Annotated[int, msgspec.Meta(ge=1)]


class ModelServer(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True
):
    """``[models.NAME.server]``: what replaces a key of the platform's server table.

    Attributes:
        extra_args, extra_env: of an engine that is named here they replace the
            server table's.
    """

    tensor_parallel_size: Size | None = None
    data_parallel_size: Size | None = None
    data_parallel_attention: bool | None = None
    expert_parallel: bool | None = None
    max_model_len: Size | None = None
    extra_args: dict[str, tuple[str, ...]] | None = None
    extra_env: dict[str, dict[str, str]] | None = None


class ModelTable(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True
):
    """``[models.NAME]``: a model, its shape and the source of its weights.

    Attributes:
        hub_id: "owner/name" on the Hugging Face hub. Without it and without `folder`
            the suite makes seeded random weights of this shape.
        folder: of its weights and config.json; relative paths count from the study
            file.
            config: its config.json, as the path of the file or of its folder, or as a table
            of the fields that matter. Models that the suite makes get it back. It may be
            left out where `folder`, or the hub's cache, holds a config.json.
        served: false for a model that only `perfgate estimate` knows.
        quantization, dtype, kv_cache_dtype: its precision, in place of the platform's
            server table.
        server: what else replaces keys of that table.
    """

    hub_id: str | None = None
    folder: str | None = None
    config: dict[str, Any] | str | None = None
    served: bool = True
    quantization: str | None = None
    dtype: Dtype | None = None
    kv_cache_dtype: CacheDtype | None = None
    server: ModelServer = ModelServer()


class PairTable(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True
):
    """``[pairs.NAME]``: a model, and the reference that it is compared with.

    The file may name them `sparse` and `dense` as well.
    """

    model: str
    reference: str


class ServerTable(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True
):
    """``[servers.NAME]``: the server of each model of a pair.

    Attributes:
        device: "cuda" or "cpu".
        tensor_parallel_size: ranks; ``--tp`` replaces it.
        stated_routing: how the tokens of a sparse model with made-up weights are told
            to choose their experts; "" leaves it to the model's routers. Real weights
            always route by themselves.
        data_parallel_size, data_parallel_attention, expert_parallel, quantization,
        kv_cache_dtype: see `perfgate.engines.base.ServerConfig`; what spreads experts
            has no effect on a dense model.
        extra_args: engine -> arguments appended to its command line.
        extra_env: engine -> (variable -> value) set for it alone.
    """

    device: Literal["cpu", "cuda"] = "cuda"
    tensor_parallel_size: Size = 2
    data_parallel_size: Size = 1
    data_parallel_attention: bool = False
    expert_parallel: bool = False
    max_model_len: Size = 4096
    dtype: Dtype = "bfloat16"
    stated_routing: StatedRouting = ""
    quantization: str = ""
    kv_cache_dtype: CacheDtype = "auto"
    extra_args: dict[str, tuple[str, ...]] = {}
    extra_env: dict[str, dict[str, str]] = {}


class JudgedTable(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True
):
    """``[judged]``: which metrics can fail a run, on every platform.

    Attributes:
        only: metrics, or families of them; all others are report-only. Without it all
            are judged.
        report_only: metrics, or families of them, that never fail a run.
    """

    only: tuple[str, ...] | None = None
    report_only: tuple[str, ...] = ()


class DeepTable(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True
):
    """``[platforms.NAME.deep.LOAD]``: sent with ``--deep LOAD`` alone, as it takes long.

    Attributes:
        workloads: names of workloads of the platform's set.
        judged: metrics that are judged under each of them.
        report_only: metrics that are reported.
        prefix_caching: whether a server of its own keeps prompts in its prefix cache.
        extra_args: engine -> arguments of a server of its own. With any, an engine that
            is not named has no such server.
        variant: of the server's name, where it has arguments of its own.
    """

    workloads: tuple[str, ...]
    judged: tuple[str, ...]
    report_only: tuple[str, ...] = ()
    prefix_caching: bool = False
    extra_args: dict[str, tuple[str, ...]] = {}
    variant: str = ""


class DatasetTable(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True
):
    """``[datasets.NAME]``: conversations whose prompts are sent; see ``--dataset``.

    Attributes:
        file: a ShareGPT JSON file, or prompts that `perfgate prompts` drew; a relative
            path counts from the study file. ``--dataset`` replaces it.
        tokenizer: its tokenizer.json or the folder of that; "words" takes each word as
            a token. Without it the model's own is used, and "words" for models that
            the suite makes.
        allow_truncated: whether a file that is cut off may be used.
    """

    file: str | None = None
    tokenizer: str | None = None
    allow_truncated: bool = False


class WorkloadTable(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True
):
    """``[workloads.SET.NAME]``: prompts and arrivals; see `perfgate.load.workload.Workload`.

    Attributes:
        input_quantiles, output_quantiles: lengths that are drawn, in place of the two
            fixed ones; see `perfgate.load.lengths`.
        dataset: name of a data set whose prompts are sent, in place of lengths.
        without_dataset: the workload that is sent where that data set is not given.
        staggered: whether a closed loop's slots free up one after the other.
        request_rate: requests per second, Poisson arrivals; without it all are sent at
            once.
        max_concurrency: most requests in flight.
        client_processes: processes of the client that send, 1 to 64; without it one,
            and more where one is too busy.
        asks_routing: the server returns the experts of each token, and is not timed.
        judged: metrics that are judged under this workload, of each model and as the
            ratio of a pair; for workloads without a role.
        shared_prefix_tokens: how many leading tokens are the same in all prompts.
        turns: prompts of a conversation, of which each begins with the one before;
            `input_len_tokens` is then the length of the first.
        turn_len_tokens: by how much each further prompt is longer.
        slo_ms: limits for goodput: of "ttft", "tpot" and "e2el".
        doubles_to, speculative: see `perfgate.load.workload.Workload`.
    """

    num_prompts: int
    input_len_tokens: int | None = None
    output_len_tokens: int | None = None
    shared_prefix_tokens: int = 0
    turns: int | None = None
    turn_len_tokens: int = 0
    slo_ms: dict[Literal["ttft", "tpot", "e2el"], float] = {}
    doubles_to: Size | None = None
    speculative: bool = False
    input_range_ratio: float = 0.0
    output_range_ratio: float = 0.0
    input_quantiles: tuple[int, ...] | None = None
    output_quantiles: tuple[int, ...] | None = None
    dataset: str | None = None
    without_dataset: str | None = None
    staggered: bool = False
    request_rate: float | None = None
    burstiness: float = 1.0
    max_concurrency: int | None = None
    repetitions: int = 3
    seed: int = 0
    warm_up_prompts: int | None = None
    client_processes: int | None = None
    asks_routing: bool = False
    judged: tuple[str, ...] = ()


class Roles(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True
):
    """``[platforms.NAME.roles]``: the workloads that the questions send, by name.

    Attributes:
        closed: fixed concurrency, the steady state that is judged.
        single_stream: one request at a time.
        routing: sent to a server that returns the experts of its tokens.
        burst: many prompts at once; None for none.
        rates: open loop, lowest rate first.
        batches: fixed concurrency, smallest first.
        sweep: batches at which the ratio of the models is compared with that of the
            bytes read.
        dense_alone: whether the dense model is served on one rank, too: the reference,
            or the model itself where it is measured alone.
        prefill: one long prompt at a time, shortest first.
        long_answers: closed loops with long answers.
        mixed: closed loops with lengths of a distribution.
        conversations: open loops with prompts of a data set, beside `rates`.
    """

    closed: str
    single_stream: str
    routing: str
    burst: str | None = None
    rates: tuple[str, ...] = ()
    batches: tuple[str, ...]
    sweep: tuple[str, ...]
    dense_alone: bool = True
    prefill: tuple[str, ...] = ()
    long_answers: tuple[str, ...] = ()
    mixed: tuple[str, ...] = ()
    conversations: tuple[str, ...] = ()


class SlowRoles(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True
):
    """``[platforms.NAME.slow_engines]``: roles of an engine that is slow on this device."""

    rates: tuple[str, ...] | None = None
    batches: tuple[str, ...] | None = None
    sweep: tuple[str, ...] | None = None
    dense_alone: bool | None = None
    prefill: tuple[str, ...] | None = None
    long_answers: tuple[str, ...] | None = None
    mixed: tuple[str, ...] | None = None
    conversations: tuple[str, ...] | None = None


class HeldTable(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True
):
    """``[platforms.NAME.held]``: models that are served by an engine held in one process.

    Attributes:
        pair: name of a pair of models that fit into the caches of a core; "" holds the
            models that are measured.
        workloads: name of a workload set; each of its workloads is one batch.
        counted: whether the work of a batch is counted, too, and not only its time.
    """

    pair: str = ""
    workloads: str
    counted: bool = True


class PlatformTable(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True
):
    """``[platforms.NAME]``: a marker for ``-m``, with its server, models and workloads.

    Attributes:
        about: one line for ``pytest --markers``.
        gpu: product that it asserts, as in a baseline's folder ("h200"); None takes any
            GPU.
        server, workloads: names of a server table and a workload set.
        pairs: names of pairs. The file may name one as `pair`.
        models: names of models that are measured alone.
        judged: "all"; "coarse" or "ratios" where a ratio that moves in either direction
            is a regression. Absolute values are then judged against the wide thresholds
            of CPUs ("coarse"), or only reported ("ratios").
        report_only: metrics, or families of them, that never fail a run here.
        roles: the workloads of the set that the questions send.
        slow_engines: replaces some of them for an engine without kernels for this
            device.
        held: what is asked of an engine that is held in one process; None for nothing.
        deep: loads that an option asks for, by name.
    """

    about: str
    gpu: str | None = None
    server: str
    pairs: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    workloads: str
    judged: JudgedValues = "all"
    report_only: tuple[str, ...] = ()
    roles: Roles
    slow_engines: SlowRoles = SlowRoles()
    held: HeldTable | None = None
    deep: dict[str, DeepTable] = {}


class ClaimTable(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True
):
    """``[[claims]]``: a published statement about a pair.

    Attributes:
        holds: whether the arithmetic agrees.
        arithmetic: the computed figure; ``{name}`` is replaced by a quantity of
            `perfgate.models.estimate.quantities`.
    """

    pair: str
    claim: str
    holds: bool
    arithmetic: str
