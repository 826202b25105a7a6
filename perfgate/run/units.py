"""Units: the smallest groups of cases that must share a machine, listed for a fleet.

A ratio of two servers means nothing across two machines. So servers that a case
compares are of one unit, with everything that is measured of them. A unit bears the
name of a platform and of its first server, which is in no other: "h200:vllm-mixtral".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import msgspec

import perfgate
from perfgate.cases import Case
from perfgate.engines.base import ServerConfig
from perfgate.errors import Failure
from perfgate.files import write_atomically
from perfgate.machine.hardware import Hardware
from perfgate.models import catalogue, weights

# Of the tests that start servers themselves: which ones is not known before they run.
OWN_SERVERS = "own-servers"

Selected = tuple[str, Case]  # platform, case
ServerOn = tuple[str, str]  # platform, key of the server


class UnknownUnit(Failure):
    """No selected case is of the unit that was named."""


class Unit(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True
):
    """Cases that must be measured on one machine, in one session.

    Attributes:
        servers: keys of the servers, in the order of the cases.
        gpu_count: GPUs of the largest server; 0 on the CPU.
        gpu: the product that its platform asks for; None for any.
        lacks: what this machine lacks to measure it; empty where it can.
    """

    name: str
    servers: tuple[str, ...]
    cases: int
    gpu_count: int
    gpu: str | None = None
    lacks: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """For people: the first server, and how many others share its machine."""
        others = len(self.servers) - 1
        if others < 1:
            return self.name
        return f"{self.name} and {others} more"


class UnitList(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True
):
    """The units that a command selects, as one machine sees them.

    Attributes:
        kind: of the machine: "h200", "cpu". machine: its description.
    """

    version: str
    kind: str
    machine: str
    units: tuple[Unit, ...]

    def find(self, name: str) -> Unit | None:
        """The unit of that name; None if this machine does not select it."""
        for unit in self.units:
            if unit.name == name:
                return unit
        return None


def names_of(selected: Iterable[Selected]) -> dict[ServerOn, str]:
    """Server on a platform -> name of its unit, in the order of the cases."""
    names: dict[ServerOn, str] = {}
    for platform, case in selected:
        servers = [(platform, load.server.key) for load in case.loads]
        known = [names[server] for server in servers if server in names]
        name = (known or [":".join(servers[0])])[0]
        for server in servers:
            names.setdefault(server, name)
        # What was apart before belongs together now.
        for server, earlier in names.items():
            if earlier in known:
                names[server] = name
    return names


def name_of(names: Mapping[ServerOn, str], platform: str, case: Case) -> str:
    """The unit of a case."""
    return names[platform, case.numerator.server.key]


def units_of(
    selected: Sequence[Selected],
    gpus: Mapping[str, str | None],
    lacks: Callable[[str, Case], str | None],
    missing_weights: Callable[[ServerConfig], str | None],
) -> tuple[Unit, ...]:
    """The units of some cases, as this machine sees them.

    Args:
        gpus: platform -> the GPU product that it asks for.
        lacks: what a case of a platform requires and this machine lacks.
        missing_weights: why a server's weights cannot be had here.
    """
    names = names_of(selected)
    grouped: dict[str, list[Selected]] = {}
    for platform, case in selected:
        name = name_of(names, platform, case)
        grouped.setdefault(name, []).append((platform, case))
    units = []
    for name, rows in grouped.items():
        servers = _servers(rows)
        reasons = [lacks(platform, case) for platform, case in rows]
        reasons += map(missing_weights, servers.values())
        units.append(
            Unit(
                name=name,
                servers=tuple(servers),
                cases=len(rows),
                gpu_count=max(row.gpu_count for row in servers.values()),
                gpu=gpus[rows[0][0]],
                lacks=tuple(dict.fromkeys(filter(None, reasons))),
            )
        )
    return tuple(units)


def _servers(rows: Iterable[Selected]) -> dict[str, ServerConfig]:
    servers = {}
    for _, case in rows:
        for load in case.loads:
            servers[load.server.key] = load.server
    return servers


def own_servers(
    tests: Sequence[str], gpu_count: int, gpu: str | None
) -> list[Unit]:
    """The unit of the tests that start servers themselves; none without such tests."""
    if not tests:
        return []
    unit = Unit(
        name=OWN_SERVERS,
        servers=(),
        cases=len(tests),
        gpu_count=gpu_count,
        gpu=gpu,
    )
    return [unit]


def weights_finder(
    load_format: str, model_dirs: Mapping[str, str], allow_download: bool
) -> Callable[[ServerConfig], str | None]:
    """What says why a published model cannot be had on this machine.

    The suite makes the others itself.
    """

    def missing(server: ServerConfig) -> str | None:
        model = catalogue.lookup(server.model)
        if model.hub_id is None or load_format == "dummy":
            return None
        try:
            weights.locate(
                model, load_format, model_dirs, allow_download, lambda _: None
            )
        except Failure as failure:
            return f"{failure.seen}; {failure.remedy}"
        return None

    return missing


def write(path: Path, hardware: Hardware, units: Sequence[Unit]) -> None:
    """Write the list as JSON.

    Raises:
        RunDataError: it cannot be written.
    """
    listed = UnitList(
        version=perfgate.__version__,
        kind=hardware.kind,
        machine=hardware.description,
        units=tuple(units),
    )
    write_atomically(path, msgspec.json.encode(listed))


def read(content: bytes) -> UnitList:
    """The list that `write` wrote.

    Raises:
        msgspec.DecodeError: it is of another version, or damaged.
    """
    return msgspec.json.decode(content, type=UnitList)
