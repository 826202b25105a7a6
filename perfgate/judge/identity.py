"""What must be equal for two values to be compared at all, and what is only told where it differs?"""

from __future__ import annotations

from collections import defaultdict

from perfgate.cases import Load
from perfgate.results.schema import RunResults


def identity(results: RunResults, load: Load) -> dict[str, str]:
    """What must be equal for two values of a metric to be compared at all; flat, every value a string."""
    server, hardware = load.server, results.hardware
    gpu_count = server.gpu_count
    fields = {
        "hardware": hardware.label(gpu_count),
        "hardware_name": hardware.name if gpu_count else f"cpu {hardware.isa}",
        "gpu_count": str(gpu_count),
        "mig": str(gpu_count > 0 and any(gpu.mig for gpu in hardware.gpus)).lower(),
        "engine": server.engine,
        "model": server.model,
        "weights": server.load_format,
        "dtype": server.dtype,
        "tensor_parallel_size": str(server.tensor_parallel_size),
        "expert_parallel": str(server.expert_parallel).lower(),
        "max_model_len": str(server.max_model_len),
        "server_args": " ".join(server.extra_args),
        "server_env": " ".join(
            f"{name}={value}" for name, value in sorted(server.extra_env)
        ),
    }
    if server.variant:
        fields["variant"] = server.variant
    if server.routing:
        fields["routing"] = server.routing
    if load.workload is not None:
        fields["workload"] = load.workload.fingerprint()
    return fields | _effective(results, server.key)


def _effective(results: RunResults, key: str) -> dict[str, str]:
    """What the engine chose itself; where launches differ in it, all that they chose, which nothing recorded equals."""
    found: dict[str, set[str]] = defaultdict(set)
    for launch in results.launches:
        if launch.server == key:
            for field, value in launch.effective.items():
                found[field].add(value)
    return {field: " or ".join(sorted(found[field])) for field in sorted(found)}


def context(results: RunResults, load: Load) -> dict[str, str]:
    """What may differ between two compared values, and is printed when it does."""
    hardware, server = results.hardware, results.servers.get(load.server.key)
    fields = {
        "suite": results.suite_version,
        "machine": hardware.name,
        "cores_or_gpus": str(hardware.count),
    }
    fields |= {
        name: value
        for name, value in (("driver", hardware.driver), ("cuda", hardware.cuda))
        if value
    }
    if hardware.gpus and hardware.gpus[0].power_limit_w is not None:
        fields["power_limit_w"] = f"{hardware.gpus[0].power_limit_w:g}"
    if server is None:
        return fields
    return (
        fields
        | server.versions
        | {f"${name}": value for name, value in server.environment.items()}
    )
