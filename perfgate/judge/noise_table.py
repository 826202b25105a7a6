"""Noise table: launch-to-launch variation by metric and kind of load, learned from a whole store.

One baseline has a handful of launches, and their standard deviation says little. All
baselines together say how much a metric varies under a kind of load. The table keeps
that as a prior (empirical Bayes): a typical variance, and the degrees of freedom with
which it counts beside the launches of one series. `perfgate noise --update` makes the
file anew from the recorded launches (`perfgate.judge.noise_learning`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal

import msgspec

from perfgate.errors import NOT_JSON, Failure
from perfgate.files import write_atomically
from perfgate.load.metrics import family_of
from perfgate.load.workload import Arrivals

FILE = "noise.json"
# "gpu" is any number of them: it counts where the other two have too few launches.
Platform = Literal["one-gpu", "several-gpus", "gpu", "cpu"]
# Of several rows of a server: their mean, and one beside the others
# (`perfgate.judge.contrast`).
ContrastName = Literal["shift", "outlier"]
WIDER: Mapping[Platform, Platform] = {"one-gpu": "gpu", "several-gpus": "gpu"}


class BadNoiseTable(Failure):
    """A noise table that cannot be read; names the file and the field."""


class Spread(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True
):
    """A variance and how well it is known.

    Attributes:
        cv: standard deviation of the logarithms.
        degrees_of_freedom: the weight with which it counts beside measured variances.
    """

    cv: float
    degrees_of_freedom: float


class GroupNoise(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    omit_defaults=True,
):
    """What the store says about one metric under one kind of load.

    Attributes:
        launches: between launches of one machine.
        machines: between machines of one kind; None where too few were recorded.
        series: how many series (one baseline on one machine) it was learned from.
    """

    launches: Spread
    machines: Spread | None = None
    series: int


class NoiseTable(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True
):
    """The whole table.

    Attributes:
        learned: ISO day on which it was made.
        launches: recorded values that it was made from.
        groups: `group_name` -> noise.
    """

    schema: Literal[1] = 1
    learned: str
    launches: int
    groups: dict[str, GroupNoise]

    def find(
        self, platform: Platform, metric: str, arrivals: Arrivals | None
    ) -> GroupNoise | None:
        """The noise of the metric under that load, else that of its family, else None.

        Of GPUs that of as many (one, several) counts first.
        """
        return self._first(names_of(platform, metric, arrivals, False))

    def find_ratio(
        self,
        platform: Platform,
        metric: str,
        above: Arrivals | None,
        below: Arrivals | None,
    ) -> GroupNoise | None:
        """The noise of a ratio: its own, else that of two loads, else its family's.

        The family comes last: ratios of two loads of one launch are in it, and vary less
        than those of two servers.

        Args:
            above, below: how the requests of both of its loads arrive.
        """
        own = self._first(narrow_names(platform, metric, above, True))
        if own is not None:
            return own
        loads = []
        for arrivals in (above, below):
            group = self.find(platform, metric, arrivals)
            if group is not None:
                loads.append(group)
        if loads:
            return _of_two(loads[0], loads[-1])
        return self._first(family_names(platform, metric, above, True))

    def find_contrast(
        self,
        platform: Platform,
        contrast: ContrastName,
        metric: str,
        arrivals: Arrivals | None = None,
    ) -> GroupNoise | None:
        """The noise of a contrast; arguments as of `contrast_names`."""
        names = contrast_names(platform, contrast, metric, arrivals)
        return self._first(names)

    def _first(self, names: Iterable[str]) -> GroupNoise | None:
        """The first of these groups that was learned."""
        for name in names:
            if name in self.groups:
                return self.groups[name]
        return None


def _of_two(above: GroupNoise, below: GroupNoise) -> GroupNoise:
    """The noise of a ratio of two loads that vary independently."""
    # Where one of them is unknown, it is that of the other.
    numerator = above.machines or below.machines
    denominator = below.machines or above.machines
    machines = None
    if numerator is not None and denominator is not None:
        machines = _added(numerator, denominator)
    return GroupNoise(
        launches=_added(above.launches, below.launches),
        machines=machines,
        series=min(above.series, below.series),
    )


def _added(above: Spread, below: Spread) -> Spread:
    """The spread of a difference of logarithms, known as well as the lesser known one."""
    return Spread(
        cv=math.hypot(above.cv, below.cv),
        degrees_of_freedom=min(
            above.degrees_of_freedom, below.degrees_of_freedom
        ),
    )


def _places(platform: Platform) -> list[Platform]:
    """The platform, then the wider one that it is part of."""
    places = [platform]
    if platform in WIDER:
        places.append(WIDER[platform])
    return places


def names_of(
    platform: Platform, metric: str, arrivals: Arrivals | None, is_ratio: bool
) -> list[str]:
    """Names of the groups that a metric belongs to, the narrowest first."""
    return [
        *narrow_names(platform, metric, arrivals, is_ratio),
        *family_names(platform, metric, arrivals, is_ratio),
    ]


def narrow_names(
    platform: Platform, metric: str, arrivals: Arrivals | None, is_ratio: bool
) -> list[str]:
    """Names of the groups of this metric under this load; none without a load."""
    if arrivals is None:
        return []
    names = []
    for place in _places(platform):
        names.append(group_name(place, metric, arrivals, is_ratio))
    return names


def family_names(
    platform: Platform, metric: str, arrivals: Arrivals | None, is_ratio: bool
) -> list[str]:
    """Names of the groups of the metric's family.

    The TTFT of a long prompt is the device's work, and that of a short one the server's
    Python: they are not of one family.
    """
    if arrivals == "prefill" and family_of(metric) == "ttft":
        return []
    names = []
    for place in _places(platform):
        names.append(family_name(place, metric, is_ratio))
    return names


def contrast_names(
    platform: Platform,
    contrast: ContrastName,
    metric: str,
    arrivals: Arrivals | None = None,
) -> list[str]:
    """Names of the groups that a contrast belongs to, the narrowest first.

    Args:
        metric: of a shift the kind of its rows ("decode_speed").
    """
    parts = [metric]
    if contrast == "outlier":
        parts = [family_of(metric)]
        if arrivals is not None:
            parts = [f"{metric}/{arrivals}", *parts]
    names = []
    for part in parts:
        for place in _places(platform):
            names.append(f"{place}/{part}/{contrast}")
    return names


def group_name(
    platform: Platform, metric: str, arrivals: Arrivals, is_ratio: bool
) -> str:
    """Key of one metric under one kind of load: "one-gpu/itl_median_ms/closed"."""
    name = f"{platform}/{metric}/{arrivals}"
    if is_ratio:
        name += "/ratio"
    return name


def family_name(platform: Platform, metric: str, is_ratio: bool) -> str:
    """Key of a family under any load: "one-gpu/itl"."""
    name = f"{platform}/{family_of(metric)}"
    if is_ratio:
        name += "/ratio"
    return name


def platform_of(hardware_label: str) -> Platform:
    """The platform by the label of the hardware, "h200x2" or "cpu-..."."""
    if hardware_label.startswith("cpu"):
        return "cpu"
    _, _, count = hardware_label.rpartition("x")
    if count == "1":
        return "one-gpu"
    return "several-gpus"


def read(path: Path) -> NoiseTable | None:
    """Read a table; None where there is no such file.

    Raises:
        BadNoiseTable: it cannot be read, or a field is wrong.
    """
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _bad(path, f"{type(error).__name__}: {error}") from error
    try:
        table = msgspec.json.decode(raw, type=NoiseTable)
    except NOT_JSON as error:
        raise _bad(path, str(error)) from error
    for name, group in table.groups.items():
        for spread in (group.launches, group.machines):
            if spread is None:
                continue
            is_good = spread.cv > 0 and spread.degrees_of_freedom > 0
            if not is_good:
                raise _bad(path, f"groups.{name}: {spread} must be above 0")
    return table


def write(path: Path, table: NoiseTable) -> None:
    """Write a table as JSON with sorted keys."""
    encoded = msgspec.json.encode(table, order="deterministic")
    write_atomically(
        path, msgspec.json.format(encoded, indent=1).decode() + "\n"
    )


def _bad(path: Path, problem: str) -> BadNoiseTable:
    return BadNoiseTable(
        tried=f"reading the noise table {path}",
        seen=problem,
        remedy="make it again: `perfgate noise --update`",
    )
