"""RunningServer: what a measurement may ask of a server, launched here or external."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from perfgate.servers.launch_record import LaunchRecord, ServerDied


class RunningServer(Protocol):
    """A server that answers requests.

    Implemented by `perfgate.servers.server.Server`, which this suite launched, and by
    `perfgate.servers.external.ExternalServer`, most of whose values are empty.
    """

    @property
    def url(self) -> str:
        """Base address, without a trailing slash."""

    @property
    def served_model(self) -> str:
        """Name under which it serves the model; "" for the name in the catalogue."""

    @property
    def log(self) -> Path | None:
        """Its log file; None if this suite cannot read one."""

    @property
    def gpu_indices(self) -> tuple[int, ...]:
        """NVML indices of its GPUs; empty on the CPU and where they are unknown."""

    @property
    def death_reason(self) -> str:
        """Why requests in flight fail once it is not alive."""

    @property
    def authorization(self) -> str:
        """Value of the header that it asks for; "" where it asks for none."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What cannot be read of this server, for the notes of its launch."""

    def pids(self) -> tuple[int, ...]:
        """Its processes; empty where they are unknown."""

    def alive(self) -> bool:
        """Whether it runs; cheap enough to call while requests are in flight."""

    def note_life(self) -> None:
        """Take note that it has just sent a token."""

    def survives(self) -> bool:
        """Whether it still serves after requests failed; may wait for its end."""

    def launch_record(self, key: str) -> LaunchRecord:
        """What is known of its launch.

        Args:
            key: of the server's configuration.
        """

    def death(self, activity: str) -> ServerDied:
        """The failure to raise when it died or hung during an activity."""
