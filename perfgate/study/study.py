"""Which servers and workloads does the study ask about, on which machine?

The same questions are asked everywhere; what differs between platforms is which models fit, how long the prompts are,
and whether absolute values may be judged. On the CPU they may not: two shared cores are no yardstick, so there the gate
judges ratios and shapes within one session, and a move in either direction counts, because which of the two sides moved
cannot be told.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import msgspec

from perfgate.cases import Case, GateMode, Load
from perfgate.engines.base import RoutingProbe, ServerConfig
from perfgate.engines.registry import lookup
from perfgate.errors import Failure
from perfgate.load.workload import Synthetic, Workload
from perfgate.machine.hardware import GPU_KINDS
from perfgate.models import estimate

PLATFORMS = ("cpu", *GPU_KINDS)
# What a server of (engine, device) must be launched for to tell which experts tokens choose. On GPUs vLLM returns them
# itself (seen with 0.26 on an H200); on the CPU it refuses to, but every server is eager there, so that the timed one's
# routers can be asked. SGLang returns them on the CPU (0.5.23); 0.5.16, for GPUs, dies of it with Mixtral.
ROUTING: dict[tuple[str, str], RoutingProbe] = {
    ("vllm", "cpu"): "",
    ("vllm", "cuda"): "returned",
    ("sglang", "cpu"): "returned",
}
# (engine, device) -> why it cannot be run with its experts spread over the ranks.
_DIES = "starts on the CPU with its experts spread and dies at the first request: its kernel "
NO_EXPERT_PARALLELISM: dict[tuple[str, str], str] = {
    ("vllm", "cpu"): f"vLLM 0.32 {_DIES}reads beyond the rank's own (segmentation fault in cpu_fused_moe.cpp)",
    ("sglang", "cpu"): f"SGLang 0.5.23 {_DIES}counts those of other ranks (index -1 in fused_moe_native.py)",
}


@dataclass(frozen=True)
class Study:
    """The servers and workloads of one platform.

    Attributes:
        platform: "cpu", "h200", "h100" or "a100": the marker that selects it.
        closed: fixed concurrency, the steady state that is judged.
        dense_tp1: the dense server on one rank; None for an engine that is slow on the CPU.
        burst: the study's 100 prompts at once, for comparison with what was published; None on the CPU.
        single_stream: one request at a time.
        routing: what a server is sent that is asked where its tokens go.
        rates: open loop, lowest rate first.
        batches: fixed concurrency, smallest first: 1, 8, 32. For an engine that is slow on the CPU only the single
            stream and the closed load, which are sent anyway, and no rates.
        beside_base: a base build runs beside the candidate. Then each server's own values are judged everywhere, and
            ratios of servers only reported: both of their sides are judged already.
        beside_engines: others are selected too. A slow one is then not asked where its tokens go: no time for a launch.
        sweep: the batches at which the ratio of the models is held against its line, smallest first.
    """

    platform: str
    moe: ServerConfig
    dense: ServerConfig
    dense_tp1: ServerConfig | None
    closed: Workload
    single_stream: Workload
    routing: Workload
    rates: tuple[Workload, ...]
    batches: tuple[Workload, ...]
    sweep: tuple[Workload, ...]
    burst: Workload | None = None
    beside_base: bool = False
    beside_engines: bool = False

    @property
    def gpu_count(self) -> int:
        """GPUs that its largest server needs; 0 on the CPU."""
        return self.moe.gpu_count

    @property
    def absolute(self) -> GateMode:
        """Whether absolute values are judged here or only reported."""
        return "report" if self.platform == "cpu" and not self.beside_base else "hard"

    @property
    def models(self) -> tuple[ServerConfig, ServerConfig]:
        """The sparse and the dense server of the same size."""
        return self.moe, self.dense

    @property
    def moe_routing(self) -> ServerConfig | None:
        """The sparse server that is asked where its tokens go: the timed one, or another launched for it.

        None where that cannot be known: made-up weights make every router alike, so theirs says nothing. Beside a base
        build times are compared, and six more launches are too dear.
        """
        how = ROUTING.get((self.moe.engine, self.moe.device))
        slow = self.platform == "cpu" and lookup(self.moe.engine).slow_on_cpu
        too_dear = self.beside_base or (self.beside_engines and slow)
        if how is None or self.moe.load_format == "dummy" or too_dear:
            return None
        return msgspec.structs.replace(self.moe, routing=how)

    @property
    def moe_ep(self) -> ServerConfig | None:
        """The sparse server with its experts spread over the ranks whole; None on one rank."""
        if self.moe.tensor_parallel_size == 1:
            return None
        return msgspec.structs.replace(self.moe, expert_parallel=True)

    def value(self, experiment: str, metric: str, server: ServerConfig, workload: Workload | None) -> Case:
        """One server's own value: judged on GPUs, reported on the CPU."""
        load = Load(server=server, workload=workload)
        return Case(experiment=experiment, metric=metric, of=load, gate=self.absolute)

    def ratio(self, experiment: str, metric: str, of: Load, over: Load) -> Case:
        """One load over another of the same session: judged everywhere but beside a base build."""
        gate: GateMode = "report" if self.beside_base else "hard"
        return Case(experiment=experiment, metric=metric, of=of, over=over, gate=gate, two_sided=self.platform == "cpu")

    def shape(self, experiment: str, metric: str, of: Load, over: Load) -> Case:
        """A ratio that is judged only where absolute values are: on a CPU there are more of them than it can carry."""
        case = self.ratio(experiment, metric, of, over)
        return case if self.platform != "cpu" else msgspec.structs.replace(case, gate="report")


@dataclass(frozen=True)
class Versus:
    """The studies of two engines on one platform: the same models, prompts and limits; `of` is judged over `over`."""

    of: Study
    over: Study

    @property
    def platform(self) -> str:
        """The marker that selects it."""
        return self.of.platform

    @property
    def models(self) -> tuple[tuple[ServerConfig, ServerConfig], ...]:
        """The sparse, then the dense model, as each engine serves it."""
        return tuple(zip(self.of.models, self.over.models, strict=True))

    def ratio(self, metric: str, servers: tuple[ServerConfig, ServerConfig], workload: Workload) -> Case:
        """One engine over the other under the same workload."""
        of, over = (Load(server=server, workload=workload) for server in servers)
        return self.of.ratio("E9", metric, of, over)


Mark = Callable[[Callable[..., None]], Callable[..., None]]


def asks(question: Callable[[Study], Iterable[Case]]) -> Mark:
    """Attach to a perf test the cases that it asks on each platform; the plugin makes one test of each."""
    return _attach("asks", question)


def asks_both(question: Callable[[Versus], Iterable[Case]]) -> Mark:
    """Attach to a perf test the cases that compare two engines; there are none where one engine is selected."""
    return _attach("asks_both", question)


def _attach(name: str, question: Callable[..., Iterable[Case]]) -> Mark:
    def mark(function: Callable[..., None]) -> Callable[..., None]:
        setattr(function, name, question)
        return function

    return mark


def study_of(platform: str, engine: str, tensor_parallel_size: int, load_format: str) -> Study:
    """The study on one platform.

    Args:
        platform: "cpu", "h200", "h100" or "a100".
        engine: "vllm" or "sglang".
        tensor_parallel_size: of the two servers that are compared; the study's is 2.
        load_format: "auto" for real weights, "dummy" for made-up ones.

    """
    if platform == "cpu":
        return _cpu(engine, tensor_parallel_size)
    return _gpu(platform, engine, tensor_parallel_size, load_format)


class AmbiguousServer(Failure):
    """Two different servers under one key."""


def _workload(name: str, lengths: tuple[int, int], num_prompts: int, **how: float | int | None) -> Workload:
    prompts = Synthetic(input_len_tokens=lengths[0], output_len_tokens=lengths[1])
    workload = Workload(name=name, prompts=prompts, num_prompts=num_prompts)
    return msgspec.structs.replace(workload, **how)


def _routing(num_prompts: int) -> Workload:
    """Many prompts, since the request is what is drawn again; short answers, since a prompt stays what it is."""
    return _workload("routing", (32, 2), num_prompts, max_concurrency=1, repetitions=1, asks_routing=True)


def _cpu(engine: str, tensor_parallel_size: int) -> Study:
    """Small enough for a few minutes on two cores; see `perfgate.models` for the sizes of the models."""
    moe = ServerConfig(
        engine=engine,
        model="mixtral-small",
        tensor_parallel_size=tensor_parallel_size,
        device="cpu",
        max_model_len=1024,
        dtype="float32",
        extra_args=lookup(engine).cpu_arguments,
    )
    dense = msgspec.structs.replace(moe, model="llama-small")
    lengths = (32, 32)
    single_stream = _workload("single-stream", lengths, 3, max_concurrency=1)
    closed = _workload("closed-c16", lengths, 32, max_concurrency=16, warm_up_prompts=16)
    batch_8 = _workload("batch-8", lengths, 16, max_concurrency=8, repetitions=1)
    # One wave: all requests are of one length, so that a second one would be as the first.
    batch_32 = _workload("batch-32", lengths, 32, max_concurrency=32, warm_up_prompts=32, repetitions=2)
    if lookup(engine).slow_on_cpu:
        return Study(
            platform="cpu",
            moe=moe,
            dense=dense,
            dense_tp1=None,
            closed=closed,
            single_stream=single_stream,
            rates=(),
            batches=(single_stream, closed),
            sweep=(single_stream, closed),
            routing=_routing(64),
        )
    return Study(
        platform="cpu",
        moe=moe,
        dense=dense,
        dense_tp1=msgspec.structs.replace(dense, tensor_parallel_size=1),
        closed=closed,
        single_stream=single_stream,
        routing=_routing(64),
        # At 4 requests a second the sparse model is about 60 % busy.
        rates=tuple(
            _workload(f"rate-{n}", lengths, 4 * n, request_rate=float(n), warm_up_prompts=4, repetitions=2)
            for n in (2, 4)
        ),
        batches=(single_stream, batch_8, batch_32),
        # What is measured anyway: on two cores there is no time for more.
        sweep=(single_stream, batch_8, closed, batch_32),
    )


def _gpu(platform: str, engine: str, tensor_parallel_size: int, load_format: str) -> Study:
    """The study's own loads; its bursts held about 80 tokens in and 128 out, its sweeps 64 out."""
    moe = ServerConfig(
        engine=engine,
        model="mixtral-8x7b",
        tensor_parallel_size=tensor_parallel_size,
        device="cuda",
        max_model_len=4096,
        dtype="bfloat16",
        load_format=load_format,
    )
    dense = msgspec.structs.replace(moe, model="llama-3.1-8b")
    sweep = {
        batch: _workload(f"batch-{batch}", (128, 64), 8 * batch, max_concurrency=batch) for batch in estimate.BATCHES
    }
    return Study(
        platform=platform,
        moe=moe,
        dense=dense,
        dense_tp1=msgspec.structs.replace(dense, tensor_parallel_size=1),
        closed=_workload("closed-c32", (128, 128), 256, max_concurrency=32),
        # Bursts last 1 to 4 s, and those of one launch differ by 1.6 to 4 % on an H200: more than launches do.
        burst=_workload("burst-100", (80, 128), 100, repetitions=9),
        single_stream=_workload("single-stream", (128, 64), 8, max_concurrency=1),
        routing=_routing(256),
        # One repetition each: 100 requests at 1 a second take 100 s, and their 12,700 gaps give a steady median.
        rates=tuple(
            _workload(f"rate-{rate}", (80, 128), 100, request_rate=float(rate), repetitions=1) for rate in (1, 2, 4, 8)
        ),
        batches=tuple(sweep[batch] for batch in (1, 8, 32)),
        sweep=tuple(sweep.values()),
    )


def servers_of(cases: Iterable[Case]) -> dict[str, tuple[ServerConfig, tuple[Workload, ...]]]:
    """Every server that the cases need, by key, with the workloads to be sent to it, in order of first mention."""
    found: dict[str, tuple[ServerConfig, tuple[Workload, ...]]] = {}
    for case in cases:
        for load in case.loads:
            config, workloads = found.get(load.server.key, (load.server, ()))
            if config != load.server:
                raise AmbiguousServer(
                    tried=f"planning the launch of {load.server.key}",
                    seen=f"two configurations have this key: {config} and {load.server}",
                    remedy="give them different keys, or baselines of one would be compared with the other's",
                )
            if load.workload is not None and load.workload not in workloads:
                workloads = (*workloads, load.workload)
            found[load.server.key] = (config, workloads)
    return found
