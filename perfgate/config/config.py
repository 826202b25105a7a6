"""Config: what one session, or one worker of it, is to do; frozen.

`perfgate.config.parsing` makes it of pytest's options.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from perfgate.config.options import Explain, LoadFormat, PairsFor, PrepareNext
from perfgate.engines import injection
from perfgate.engines.base import ServerConfig
from perfgate.engines.injection import Injection
from perfgate.engines.registry import ENGINES
from perfgate.judge.baseline_store import Store
from perfgate.judge.paired import PAIRS
from perfgate.machine.leases import LEASES
from perfgate.models.stated_routing import StatedRouting
from perfgate.results.gates import Gate
from perfgate.results.schema import new_run_id
from perfgate.servers.external import ExternalServer
from perfgate.study.selection import Subject


@dataclass(frozen=True)
class Config:
    """The configuration of one session, or of one worker of it.

    Attributes:
        run_dir: folder of the run's data, or of this worker's part of it.
        store: the baselines to judge against.
        gate: what fails the run: "advisory", "required" or "strict", see
            `perfgate.judge.verdict.is_red`.
        fail_over: ceilings in place of the policy's, as in `RunResults.fail_over`.
        platforms: selected by -m, in the study's order; without one nothing is
            measured.
        markers: every marker that -m names.
        hardware_kind: kind of machine that --hardware requires; None for any.
        engines: engines under test.
        engines_are_required: whether --engine names them. A missing engine then
            fails its tests, instead of skipping them.
        engine_pythons: engine -> path of its Python, or a name to find on PATH.
        model_dirs: model -> folder of its weights.
        datasets: name of a data set -> its file.
        allow_truncated_dataset: whether a file that is cut off may be used.
        study: --study, as given; None for the project's own.
        subjects: pairs and single models that --pair and --model name; empty for
            those of each platform.
        tensor_parallel_size: of the compared servers; None is the study's.
        load_format: "auto" for real weights, "dummy" for random ones on GPUs.
        stated_routings: with which the sparse model is served, too.
        deep: loads of the platform that take long, by name.
        accuracy: file of questions whose answers are graded; None for none.
        counts_instructions: whether held engines are launched in valgrind, too.
        soak_minutes: for so long the closed load is kept up before its second
            measurement; 0 for none.
        allow_download: whether an engine may download weights.
        injections: model -> the change injected in its servers.
        external_urls: ENGINE=URL of external servers, as given.
        attached: (engine, model) -> external server to measure instead of a
            launch; empty in a session that only collects.
        base_builds: engine -> Python of its base build; empty for no A/B
            comparison.
        pairs: "all": base builds judge every case. "suspect": baselines judge
            first, and base builds only the cases that they do not clear.
        target_effect: the loss, as a fraction, that an A/B comparison must
            detect; None is the baseline's, or the policy's.
        explain: whether red loads are profiled: "pairs" where a base build is named,
            "red" always, "no" never.
        launches: of each server, or of each build, before the first verdict.
        silence_timeout_s: a server that sends no token for this long hangs.
        lease_wait_s: longest wait for devices that another session holds.
        leases_dir: folder of the lock files of devices.
        prepare_next: whether the next server imports its engine while one starts:
            "yes", "no", or "auto", where that was measured.
        telemetry: whether GPU telemetry is recorded during the load.
        resume: whether to continue the run in `run_dir`.
        plan: whether to show the plan and launch nothing.
        units: file to list the units in, and launch nothing; None for none.
        unit: name of the one unit that is selected; "" for all.
        collect_only: whether to collect tests and run none.
        arguments: of pytest, as they were given, without what is secret.
        verbose: whether to show every verdict.
        history: file of the history.
        runs: folder of earlier runs.
        writes_report: whether to write the report and its exports.
        proposes_baselines: whether to write proposed baselines next to the run.
        worker: name of this pytest-xdist worker; None in the controller and
            without -n.
        session: of a worker: id of its controller's session.
        worker_count: of -n, 0 without it.
        gpu_indices: GPUs leased for this session, by NVML index; empty before.
        gpu_uuids: the same by UUID, where CUDA may number them otherwise than NVML.
        run_id: of the run that the session makes.
        began_unix_s: start of the session; None is the start of its campaign.
    """

    run_dir: Path
    store: Store
    gate: Gate = "advisory"
    fail_over: Mapping[str, float] = field(default_factory=dict)
    platforms: tuple[str, ...] = ()
    markers: frozenset[str] = frozenset()
    hardware_kind: str | None = None
    engines: tuple[str, ...] = ()
    engines_are_required: bool = False
    engine_pythons: Mapping[str, str] = field(default_factory=dict)
    model_dirs: Mapping[str, str] = field(default_factory=dict)
    datasets: Mapping[str, str] = field(default_factory=dict)
    allow_truncated_dataset: bool = False
    study: str | None = None
    subjects: tuple[Subject, ...] = ()
    tensor_parallel_size: int | None = None
    load_format: LoadFormat = "auto"
    stated_routings: tuple[StatedRouting, ...] = ()
    deep: tuple[str, ...] = ()
    accuracy: Path | None = None
    soak_minutes: float = 0.0
    counts_instructions: bool = False
    allow_download: bool = False
    injections: Mapping[str, Injection] = field(default_factory=dict)
    external_urls: tuple[str, ...] = ()
    attached: Mapping[tuple[str, str], ExternalServer] = field(
        default_factory=dict
    )
    base_builds: Mapping[str, str] = field(default_factory=dict)
    pairs: PairsFor = "all"
    target_effect: float | None = None
    explain: Explain = "pairs"
    launches: int = 1
    silence_timeout_s: float = 120.0
    lease_wait_s: float = 600.0
    leases_dir: Path = LEASES
    prepare_next: PrepareNext = "auto"
    telemetry: bool = True
    resume: bool = False
    plan: bool = False
    units: Path | None = None
    unit: str = ""
    collect_only: bool = False
    arguments: tuple[str, ...] = ()
    verbose: bool = False
    history: Path = Path("runs/history.sqlite3")
    runs: Path = Path("runs")
    writes_report: bool = True
    proposes_baselines: bool = False
    worker: str | None = None
    session: str = ""
    worker_count: int = 0
    gpu_indices: tuple[int, ...] = ()
    gpu_uuids: tuple[str, ...] = ()
    run_id: str = field(default_factory=new_run_id)
    began_unix_s: float | None = None

    @property
    def runs_tests(self) -> bool:
        """Whether tests are run: neither --plan nor --units nor --collect-only."""
        return not (self.plan or self.units or self.collect_only)

    @property
    def duel_launches(self) -> int:
        """Launches of each build that are alive at once for a first verdict of a duel."""
        # Imported here: collecting tests judges nothing.
        from perfgate.judge.duel import first_launches

        return first_launches(self.launches)

    @property
    def is_paired(self) -> bool:
        """Whether base builds judge every case, so that no baseline counts."""
        return bool(self.base_builds) and self.pairs != "suspect"

    @property
    def pair_count(self) -> int:
        """Launches of each build in pairs, before anything is judged."""
        if self.pairs == "one":
            return 1
        return max(PAIRS, self.launches)

    @property
    def is_screened(self) -> bool:
        """Whether baselines judge first, and base builds the suspect cases then."""
        return bool(self.base_builds) and self.pairs == "suspect"

    def prepares(self, server: ServerConfig) -> bool:
        """Whether this server imports its engine while the one before it starts."""
        if self.prepare_next == "auto":
            return server.device in ENGINES[server.engine].prepared_on
        return self.prepare_next == "yes"

    def injection(self, server: ServerConfig) -> Injection:
        """The change injected in a server; none in a base build, the reference."""
        if server.build == "base":
            return injection.NOTHING
        return self.injections.get(server.model, injection.NOTHING)

    def recorded_injection(
        self, server: ServerConfig
    ) -> dict[str, float | str]:
        """The injected change, as a launch records it."""
        return self.injection(server).record()
