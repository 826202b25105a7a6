"""Identity, choices and context of a load, as flat text fields.

Two values are compared only where the identities are equal: that is what a person fixed.
Where the engine chose otherwise, the value decides and the choice is named as the cause.
Where contexts differ, the difference is printed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from perfgate.cases import Load
from perfgate.engines.base import ServerConfig
from perfgate.engines.chosen import EITHER, NOT_SEEN
from perfgate.judge import answers, packages
from perfgate.judge.packages import SIDES
from perfgate.machine.hardware import Hardware
from perfgate.results.schema import RunResults


def ratio_fields(loads: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """The fields of a case: of its one load, or of numerator and denominator with a prefix."""
    if len(loads) == 1:
        return dict(loads[0])
    fields = {}
    for prefix, load_fields in zip(SIDES, loads, strict=True):
        for name, value in load_fields.items():
            fields[prefix + name] = value
    return fields


def without_side(name: str) -> str:
    """Name of a field without the side of the ratio that it is of."""
    for prefix in SIDES:
        name = name.removeprefix(prefix)
    return name


def identity(results: RunResults, load: Load) -> dict[str, str]:
    """What must be equal for two values of a metric to be compared; flat, every value a string."""
    server = load.server
    fields = _hardware_fields(results.hardware, server.gpu_count)
    fields |= _server_fields(server)
    if load.workload is not None:
        fields["workload"] = load.workload.fingerprint()
    return fields


def _hardware_fields(hardware: Hardware, gpu_count: int) -> dict[str, str]:
    name = f"cpu {hardware.isa}"
    mig = False
    if gpu_count:
        name = hardware.name
        mig = any(gpu.mig for gpu in hardware.gpus)
    return {
        "hardware": hardware.label(gpu_count),
        "hardware_name": name,
        "gpu_count": str(gpu_count),
        "mig": str(mig).lower(),
    }


def _server_fields(server: ServerConfig) -> dict[str, str]:
    variables = [f"{name}={value}" for name, value in sorted(server.extra_env)]
    fields = {
        "engine": server.engine,
        "model": server.model,
        "weights": server.load_format,
        "dtype": server.dtype,
        "tensor_parallel_size": str(server.tensor_parallel_size),
        "expert_parallel": str(server.expert_parallel).lower(),
        "max_model_len": str(server.max_model_len),
        "server_args": " ".join(server.extra_args),
        "server_env": " ".join(variables),
    }
    fields |= layout_and_precision(server)
    if server.prefix_caching:
        fields["prefix_caching"] = "true"
    if server.variant:
        fields["variant"] = server.variant
    if server.routing:
        fields["routing"] = server.routing
    if server.held:
        fields["held"] = "true"
    if server.instructions:
        fields["instructions"] = "true"
    if server.stated_routing:
        fields["stated_routing"] = server.stated_routing
    return fields


def layout_and_precision(server: ServerConfig) -> dict[str, str]:
    """Fields of servers that use them; older baselines have none of these."""
    fields = {}
    if server.data_parallel_size > 1:
        fields["data_parallel_size"] = str(server.data_parallel_size)
    if server.data_parallel_attention:
        fields["data_parallel_attention"] = "true"
    if server.quantization:
        fields["quantization"] = server.quantization
    if server.kv_cache_dtype != "auto":
        fields["kv_cache_dtype"] = server.kv_cache_dtype
    return fields


def chosen(results: RunResults, load: Load) -> dict[str, str]:
    """What the engine chose by itself: backends, graphs, chunk size.

    Where launches differ, all that they chose: "A or B".
    """
    choices: dict[str, set[str]] = defaultdict(set)
    for launch in results.launches:
        if launch.server != load.server.key:
            continue
        for name, value in (launch.effective | launch.settings).items():
            choices[name].add(value)
    fields = {}
    for name, values in sorted(choices.items()):
        known = values - {NOT_SEEN}
        fields[name] = EITHER.join(sorted(known)) or NOT_SEEN
    return fields


def context(results: RunResults, load: Load) -> dict[str, str]:
    """What may differ between two compared values, and is printed when it does."""
    fields = {"suite": results.suite_version}
    fields |= _machine_fields(results.hardware)
    server = results.servers.get(load.server.key)
    if server is None:
        return fields
    hashes = _answers(results, load.server.key)
    if hashes:
        fields[answers.FIELD] = hashes
    fields |= server.versions
    environment = results.environments.get(server.python, {})
    fields |= packages.fields(environment, server.versions)
    for name, value in server.environment.items():
        fields[f"${name}"] = value
    return fields


def _machine_fields(hardware: Hardware) -> dict[str, str]:
    fields = {"machine": hardware.name, "cores_or_gpus": str(hardware.count)}
    if hardware.driver:
        fields["driver"] = hardware.driver
    if hardware.cuda:
        fields["cuda"] = hardware.cuda
    limits = [f"{limit_w:g}" for limit_w in hardware.power_limits_w]
    if limits:
        fields["power_limit_w"] = EITHER.join(limits)
    if hardware.cpu_quota_cores is not None:
        fields["cpu_quota_cores"] = f"{hardware.cpu_quota_cores:g}"
    return fields


def _answers(results: RunResults, key: str) -> str:
    """What the launches of a server answered to the fixed prompts."""
    launches = []
    for launch in results.launches:
        if launch.server == key:
            launches.append(launch.answers)
    return answers.joined(launches)
