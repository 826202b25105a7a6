"""What is known of a launch's GPUs while it is measured?

Looks from the first repetition on, and what each repetition then says about them. What
they do not tell is noted with the launch.
"""

from __future__ import annotations

import msgspec

from perfgate.errors import Failure
from perfgate.load.repetition import Repetition
from perfgate.machine import telemetry
from perfgate.machine.nvml import Gpus
from perfgate.results.recorder import Ledger


def watch(
    gpu_indices: tuple[int, ...], key: str, index: int, ledger: Ledger, sampled: bool
) -> telemetry.Telemetry | None:
    """Look at a server's GPUs from now on; None where it has none, or they cannot be looked at.

    Args:
        key: the server's. index: which launch of it.
        sampled: False counts their energy and looks at nothing else.
    """
    no_energy = "energy: no GPU of this server counts it"
    if not gpu_indices:
        ledger.amend_launch(key, index, {}, (no_energy,))
        return None
    try:
        gpus = Gpus(gpu_indices)
    except Failure as failure:
        ledger.amend_launch(key, index, {}, (f"telemetry: {failure}",))
        return None
    if None in gpus.joules():
        ledger.amend_launch(key, index, {}, (no_energy,))
    header = telemetry.Header(server=key, launch=index, gpus=gpu_indices)
    path = telemetry.series_path(ledger.run_dir, key, index) if sampled else None
    return telemetry.Telemetry(gpus, header, path, sampled).start()


def told(
    repetition: Repetition, watcher: telemetry.Telemetry, since: telemetry.Mark
) -> Repetition:
    """The repetition with its energy, what held the clocks down, and each GPU's summary."""
    gpus = watcher.since(since)
    used_j = telemetry.energy_j(gpus)
    energy: dict[str, float] = {}
    if used_j is not None and repetition.output_tokens:
        energy["energy_per_output_token_j"] = used_j / repetition.output_tokens
    invalid, notes = telemetry.throttled(gpus)
    return msgspec.structs.replace(
        repetition,
        values=repetition.values | energy,
        invalid=repetition.invalid + invalid,
        notes=repetition.notes
        + notes
        + ((watcher.failure,) if watcher.failure is not None else ()),
        gpus=gpus,
    )
