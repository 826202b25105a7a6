"""What did the user choose for this session?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from perfgate.engines import injection
from perfgate.engines.base import ServerConfig
from perfgate.engines.injection import Injection
from perfgate.judge.baseline_store import Store
from perfgate.results.schema import new_run_id
from perfgate.servers.external import AttachedServer


@dataclass(frozen=True)
class Settings:
    """What the user chose for this session.

    Attributes:
        store: the baselines to judge by.
        engine_pythons: engine -> Python. model_dirs: model -> folder.
        injections: model -> what is changed in its servers, to see the gate fire.
        gpu_indices: GPUs that servers may use, by NVML index.
        silence_timeout_s: a server that says nothing for so long hangs.
        attached: (engine, model) -> a server that somebody else runs; it is measured
            instead of one of ours.
        against: engine -> Python of the base build, which is launched in turn with
            ours; empty: no base build.
        against_delta: the loss that these pairs are to catch; None: the policy's.
        launches: of every server, before anything is decided.
        telemetry: whether GPUs are looked at while they are measured.
        began_unix_s: when the session began; None for when its campaign is opened.
        run_id: of the run that the session makes.
    """

    run_dir: Path
    store: Store
    gate: str = "advisory"
    engine_pythons: Mapping[str, str] = field(default_factory=dict)
    model_dirs: Mapping[str, str] = field(default_factory=dict)
    allow_download: bool = False
    injections: Mapping[str, Injection] = field(default_factory=dict)
    gpu_indices: tuple[int, ...] = ()
    silence_timeout_s: float = 120.0
    attached: Mapping[tuple[str, str], AttachedServer] = field(default_factory=dict)
    against: Mapping[str, str] = field(default_factory=dict)
    against_delta: float | None = None
    launches: int = 1
    telemetry: bool = True
    began_unix_s: float | None = None
    run_id: str = field(default_factory=new_run_id)

    def injection(self, config: ServerConfig) -> Injection:
        """What is injected into its launches: into the candidate's, not the base build's."""
        return (
            injection.NOTHING
            if config.build
            else self.injections.get(config.model, injection.NOTHING)
        )

    def recorded_injection(self, config: ServerConfig) -> dict[str, float | str]:
        """The same, as its launches note it."""
        return self.injection(config).record()
