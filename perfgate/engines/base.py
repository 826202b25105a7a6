"""Engine interface: server configuration (tensor parallel size, ...), launch plan, adapters.

The values that an engine's module and the code that launches it exchange.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from perfgate.engines.secret_values import revealed, revealed_arguments
from perfgate.errors import Failure
from perfgate.models.stated_routing import StatedRouting

if TYPE_CHECKING:  # starting an engine needs no numpy
    import numpy as np
    import numpy.typing as npt

# How a server that is launched to report the experts of its tokens does so: "returned"
# by the engine itself. "" for a server that is timed.
RoutingProbe = Literal["", "returned"]
# The program of an engine that is held in one process (inside/perfgate_held.py).
HELD = "perfgate_held"
# What runs another program in valgrind (inside/perfgate_instructions.py).
IN_VALGRIND = "perfgate_instructions"
# Side of a server in launches in pairs; "" where it is launched by itself.
Build = Literal["", "base", "candidate"]


class ServerConfig(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True
):
    """One way of serving one model; hashable, so that it is launched once per session.

    Attributes:
        engine: family name, "vllm" or "sglang".
        model: name in the catalogue of `perfgate.models`.
        tensor_parallel_size: ranks that split each matrix.
        data_parallel_size: copies of the attention, each on as many ranks as
            `tensor_parallel_size`; of the whole model where it is dense.
        data_parallel_attention: whether the copies share the experts; in vLLM those of
            a sparse model always do.
        expert_parallel: whether experts lie whole on the ranks, on all of them.
        device: "cpu" or "cuda".
        quantization: method by which the engine quantizes the weights or reads
            quantized ones; "" for the one in the model's config.json, or none.
        kv_cache_dtype: number format of the KV cache; "auto" is that of `dtype`.
        routing: how a server that is launched to report the experts of its tokens does
            so; it is never timed. "" for all other servers. A timed server in eager
            mode can report them too, after its load.
        stated_routing: how the tokens of a sparse model with made-up weights are told
            to choose their experts: "uniform", "skewed" or "few". "" leaves it to the
            model's routers.
        load_format: "auto" reads the weights, "dummy" makes some up in the engine.
        prefix_caching: whether the engine keeps prompts in its prefix cache.
        extra_args: appended to the engine's command line, with *** for secrets.
        extra_env: (name, value) pairs set for the engine alone, with *** for secrets.
        variant: appended to the key, for servers that would have the same one: "eager".
        held: whether the engine is held in one process, whose one thread does all of a
            step, and is asked for batches instead of requests.
        instructions: whether a held engine runs in valgrind, which counts its
            instructions; nothing else is asked of it.
        build: which side of launches in pairs it is: "base", or "candidate" where the
            same server is screened by launches of its own; else "".

    """

    engine: str
    model: str
    tensor_parallel_size: int = 1
    data_parallel_size: int = 1
    data_parallel_attention: bool = False
    expert_parallel: bool = False
    device: str = "cpu"
    max_model_len: int = 4096
    dtype: str = "bfloat16"
    quantization: str = ""
    kv_cache_dtype: str = "auto"
    load_format: str = "auto"
    prefix_caching: bool = False
    extra_args: tuple[str, ...] = ()
    extra_env: tuple[tuple[str, str], ...] = ()
    build: Build = ""
    routing: RoutingProbe = ""
    stated_routing: StatedRouting = ""
    variant: str = ""
    held: bool = False
    instructions: bool = False

    def variables(self) -> dict[str, str]:
        """`extra_env` as the engine gets it, with the secrets."""
        return revealed(self.extra_env)

    def arguments(self) -> tuple[str, ...]:
        """`extra_args` as the engine gets them, with the secrets."""
        return revealed_arguments(self.extra_args)

    @property
    def key(self) -> str:
        """Slug of file names and messages: "vllm-mixtral-8x7b-tp2-ep".

        A stated routing is part of it, and "-routing" if the server is launched for
        that. A quantization is part of it unless the model's name ends with it:
        "llama-3.1-8b-fp8".
        """
        parts = [self.engine, self.model, f"tp{self.tensor_parallel_size}"]
        if self.data_parallel_size > 1:
            parts.append(f"dp{self.data_parallel_size}")
        if self.data_parallel_attention:
            parts.append("dpa")
        if self.expert_parallel:
            parts.append("ep")
        parts += self._cache_words()
        if self.stated_routing:
            parts.append(self.stated_routing)
        if self.variant:
            parts.append(self.variant)
        parts += self._launch_words()
        return "-".join(parts)

    def _launch_words(self) -> list[str]:
        """Words of the key for a launch that is made for one purpose."""
        words: list[str] = []
        if self.held:
            words.append("held")
        if self.instructions:
            words.append("instructions")
        if self.routing:
            words.append("routing")
        if self.build:
            words.append(self.build)
        return words

    def _cache_words(self) -> list[str]:
        """Words of the key for quantized weights, another KV cache, and prefix caching."""
        words = []
        if self.quantization and not self.model.endswith(self.quantization):
            words.append(self.quantization)
        if self.kv_cache_dtype != "auto":
            words.append(f"kv-{self.kv_cache_dtype}")
        if self.prefix_caching:
            words.append("prefix")
        return words

    @property
    def ranks(self) -> int:
        """Processes that each hold a part of the model: one a GPU."""
        return self.tensor_parallel_size * self.data_parallel_size

    @property
    def gpu_count(self) -> int:
        """GPUs that it needs; 0 on the CPU."""
        return self.ranks if self.device == "cuda" else 0

    @property
    def base(self) -> ServerConfig:
        """The same server of the base build."""
        return msgspec.structs.replace(self, build="base")

    @property
    def candidate(self) -> ServerConfig:
        """The same server, launched in pairs after a screen."""
        return msgspec.structs.replace(self, build="candidate")


@dataclass(frozen=True)
class LogPhase:
    """A step of an engine's start-up and the regular expression of its log line."""

    name: str
    pattern: str


@dataclass(frozen=True)
class Remedy:
    """A known signature of a failed start, as a regular expression, and its remedy."""

    pattern: str
    text: str


@dataclass(frozen=True)
class LaunchPlan:
    """Everything needed to start one server process.

    Attributes:
        env: set on top of the inherited environment.
        gpu_indices: NVML indices of the GPUs that the server may use; empty on the CPU.
        late_imports: modules that the server imports while it runs, for one that is
            prepared.
        waits: whether it is prepared only (`perfgate.servers.prepared`).
    """

    key: str
    argv: tuple[str, ...]
    env: tuple[tuple[str, str], ...]
    host: str
    port: int
    health_path: str
    phases: tuple[LogPhase, ...]
    remedies: tuple[Remedy, ...]
    startup_timeout_s: float
    gpu_indices: tuple[int, ...] = ()
    late_imports: tuple[str, ...] = ()
    waits: bool = False

    @property
    def url(self) -> str:
        """Base address, without a trailing slash."""
        return f"http://{self.host}:{self.port}"


@dataclass(frozen=True)
class LaunchRequest:
    """What an engine's module turns into a `LaunchPlan`.

    Attributes:
        weights: folder or hub id of the model.
        offline: whether the engine must not contact the hub.
        cores: cores that a CPU server may use, in order.
        gpu_indices: NVML indices of its GPUs; empty on the CPU.
        gpu_uuids: their UUIDs, where indices are not safe.
        expert_chances: by expert, the stated probability that a token chooses it; empty
            where the model's routers choose.
    """

    config: ServerConfig
    python: Path
    weights: str
    offline: bool
    host: str
    port: int
    startup_timeout_s: float
    cores: tuple[int, ...] = ()
    gpu_indices: tuple[int, ...] = ()
    gpu_uuids: tuple[str, ...] = ()

    @property
    def visible_gpus(self) -> tuple[str, ...]:
        """How the engine is told its GPUs."""
        return self.gpu_uuids or tuple(map(str, self.gpu_indices))

    expert_chances: tuple[float, ...] = ()


@dataclass(frozen=True)
class LaunchFacts:
    """What a ready server logged about itself.

    Attributes:
        values: numbers by metric name, bytes and tokens.
        effective: what the engine chose, such as its attention backend. A change is
            named as the cause of a verdict.
        settings: others, such as the size of a prefill chunk, by which two engines are
            compared as well.
        facts: what is worth reading and explains no speed, such as whether a start found
            a compile cache.
    """

    values: dict[str, float]
    effective: dict[str, str]
    settings: dict[str, str] = field(default_factory=dict)
    facts: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class RoutingRequest:
    """One completion for whose tokens the chosen experts are read.

    Attributes:
        layers: sparse layers of the model.
        top_k: experts that a token chooses in each layer.
    """

    config: ServerConfig
    url: str
    prompt_token_ids: tuple[int, ...]
    output_len_tokens: int
    layers: int
    experts: int
    top_k: int
    timeout_s: float = 120.0

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of the answer: (tokens, layers, top_k).

        The last output token is never fed back, so it chooses nothing.
        """
        tokens = len(self.prompt_token_ids) + self.output_len_tokens - 1
        return tokens, self.layers, self.top_k

    @property
    def body(self) -> dict[str, Any]:
        """Body of the completion request."""
        return {
            "model": self.config.model,
            "prompt": list(self.prompt_token_ids),
            "max_tokens": self.output_len_tokens,
            "ignore_eos": True,
            "temperature": 0,
        }


def program(config: ServerConfig, server: str) -> list[str]:
    """Words after the Python: the engine's own server, or what holds the engine.

    Args:
        server: the module of the engine's server.
    """
    if config.instructions:
        return ["-m", IN_VALGRIND, HELD, config.engine]
    if config.held:
        return ["-m", HELD, config.engine]
    return ["-m", server]


class InjectionFailed(Failure):
    """A delay that not every rank confirmed."""


@dataclass(frozen=True)
class MetricNames:
    """What an engine's /metrics calls the figures that the suite reads.

    Attributes:
        counters: the suite's name -> the engine's counter.
        means: the suite's name -> the engine's histogram in seconds, without ``_sum``
            and ``_count``.
        late: names of the suite that the page has only once they have counted
            something.
    """

    counters: Mapping[str, str] = field(default_factory=dict)
    means: Mapping[str, str] = field(default_factory=dict)
    late: tuple[str, ...] = ()


@dataclass(frozen=True)
class Profiler:
    """An engine's own profiler.

    Attributes:
        switched_on: the plan of a server that can be profiled, by the versions of its
            environment and the folder of its traces.
        start: called with the address of a server and the folder of its traces.
        stop: called with the address; returns once every rank has written its trace.
    """

    switched_on: Callable[[LaunchPlan, Mapping[str, str], Path], LaunchPlan]
    start: Callable[[str, Path], None]
    stop: Callable[[str], None]


@dataclass(frozen=True)
class Engine:
    """What differs between engines; one value of this class for each engine's module.

    Attributes:
        read_choices: address of a server -> what it says it chose beyond what it logs.
        settle: called with the address of a server that is warmed up; does what its
            engine advises before a measurement.
        tested: distribution -> versions with which the suite was tested.
        metrics: names on its /metrics page.
        compiles: regular expression of its log lines that show a compilation.
        bench_backend: what `sglang.bench_serving` calls it.
        cpu_arguments: given to every CPU server, and part of its identity.
        honours_seed: a request's seed makes sampling repeatable; the suite itself
            sends temperature 0.
        slow_on_cpu: it has no kernels for most CPUs; the study measures less of it
            there, so that the run stays short.
        cpu_note: why a comparison with another engine on the CPU says little; empty if
            it says as much as on GPUs.
        help_arguments: arguments with which the server's command lists all options.
        held_on: devices on which `plan` knows how to hold it in one process
            (`ServerConfig.held`).
        prepared_on: devices on which the next server imports the engine early, unless
            `--prepare-next no`; where it was measured.
        routing_probes: device -> how a server reports the experts of its tokens ("" if
            the timed server can); without an entry it cannot.
        copies_share_experts: data parallel copies of a sparse model always share its
            experts.
        no_expert_parallelism: device -> why expert parallelism is impossible there.
        routed_experts: experts by token, layer and choice; None for an engine that does
            not report them.
        stated_draws: of each rank of the server at an address, how often a token of a
            layer got stated experts since the start; None for an engine that cannot be
            told how to route.
        profiler: its own one; None for an engine without.
    """

    name: str
    plan: Callable[[LaunchRequest], LaunchPlan]
    read_log: Callable[[ServerConfig, Iterator[str]], LaunchFacts]
    weights_bytes_per_rank: Callable[[str], tuple[float, ...]]
    inject_delay: Callable[[str, float], None]
    read_choices: Callable[[str], dict[str, str]] = lambda _url: {}
    settle: Callable[[str], None] = lambda _url: None
    tested: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    metrics: MetricNames = field(default_factory=MetricNames)
    compiles: str = r"(?!)"
    bench_backend: str = "vllm"
    cpu_arguments: tuple[str, ...] = ()
    honours_seed: bool = True
    slow_on_cpu: bool = False
    cpu_note: str = ""
    help_arguments: tuple[str, ...] = ("--help",)
    held_on: frozenset[str] = frozenset()
    prepared_on: frozenset[str] = frozenset()
    copies_share_experts: bool = False
    routing_probes: Mapping[str, RoutingProbe] = field(default_factory=dict)
    no_expert_parallelism: Mapping[str, str] = field(default_factory=dict)
    routed_experts: Callable[[RoutingRequest], npt.NDArray[np.int64]] | None = (
        None
    )
    stated_draws: Callable[[str], tuple[int, ...]] | None = None
    profiler: Profiler | None = None
