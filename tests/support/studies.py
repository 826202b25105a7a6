"""The shipped study, for tests: its models are in the catalogue once this is imported."""

from __future__ import annotations

from perfgate.models.catalogue import register
from perfgate.models.stated_routing import StatedRouting
from perfgate.study import ServerChoices, Study, read_study
from perfgate.study import study_of as study_in
from perfgate.study.shipped import shipped

SHIPPED = read_study(shipped().study)
PLATFORMS = tuple(SHIPPED.platforms)
GPU_PLATFORMS = tuple(
    name for name in PLATFORMS if SHIPPED.device_of(name) == "cuda"
)
register(SHIPPED.models.values())


def study_of(
    platform: str,
    engine: str,
    tensor_parallel_size: int = 2,
    load_format: str = "auto",
    stated_routing: StatedRouting | None = None,
) -> Study:
    """The shipped study on one platform with one engine."""
    choices = ServerChoices(tensor_parallel_size, load_format, stated_routing)
    return study_in(SHIPPED, platform, engine, choices=choices)
