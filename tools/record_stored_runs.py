"""Records baselines again from stored runs, for the cases that the study has today.

    python -m tools.record_stored_runs docs/runs/h200x1-20261128a
    python -m tools.record_stored_runs --unchanged --policy

A stored run lists the cases of its day. Its repetitions have every metric, so that
cases which came later can be accepted from it, too. Runs are accepted one by one in the
order of their time, by the rules of `perfgate accept`; launches that are recorded stay.
A launch that would replace recorded ones is left out and named: these are runs of
unchanged servers, so that a value that moved is noise. --unchanged takes every such run
under docs/runs. --policy writes what is not measured in recorded files again: gates and
floors by today's policy, arrivals by today's workloads, and no target effect but those
that a person gave a reason for.
"""

from __future__ import annotations

import argparse
import importlib
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from perfgate import formatting
from perfgate.accept.accept import accept
from perfgate.accept.choice import Choice
from perfgate.accept.proposal import Proposal, proposals
from perfgate.cases import Case, Load
from perfgate.engines.base import Build
from perfgate.judge.baseline_schema import BaselineFile, MetricBaseline
from perfgate.judge.baseline_store import PUBLISHED, Store
from perfgate.judge.measured_case import gate_mode
from perfgate.judge.observation import RunReader
from perfgate.judge.policy import policy_for
from perfgate.models.catalogue import register
from perfgate.results import schema as rundata
from perfgate.results.schema import Launch, Measurement, RunResults
from perfgate.study import (
    ServerChoices,
    Study,
    StudyFile,
    Versus,
    read_study,
    study_of,
)
from perfgate.study.selection import Subject, select
from perfgate.study.shipped import shipped

ROOT = Path(__file__).resolve().parent.parent
RUNS = ROOT / "docs" / "runs"
# Under docs/runs: runs in which nothing was injected.
UNCHANGED = ("h*-2*", "h200x1-planted/unchanged/*", "h100x1-pairs/unchanged")
Row = TypeVar("Row", Launch, Measurement)
Question = tuple[Sequence[Any], Callable[[Any], Iterable[Case]]]
REASON = "unchanged servers, recorded from the stored run"


def main(argv: Sequence[str] | None = None) -> None:
    """Write gates and floors again where that is asked, then accept the runs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="*", type=Path)
    parser.add_argument("--unchanged", action="store_true")
    parser.add_argument("--policy", action="store_true")
    parser.add_argument(
        "--base",
        action="store_true",
        help="of paired runs take the launches of the base build",
    )
    parser.add_argument("--baselines", type=Path, default=ROOT / "baselines")
    options = parser.parse_args(argv)
    file = read_study(shipped().study)
    register(file.models.values())
    if options.policy:
        for line in renew_policy(Store(options.baselines), file):
            print(line)
    folders = list(options.runs)
    if options.unchanged:
        for pattern in UNCHANGED:
            folders += sorted(RUNS.glob(pattern))
    build: Build = ""
    if options.base:
        build = "base"
    results = [one_build(rundata.load(folder), build) for folder in folders]
    for run in sorted(results, key=lambda run: run.run_id):
        cases = tuple(cases_of_run(run, file))
        # The verdicts of its day name cases that today's study may not ask.
        run = msgspec.structs.replace(
            run, cases=cases, verdicts=(), group_verdicts=()
        )
        for line in record(run, Store(options.baselines)):
            print(line)


def one_build(run: RunResults, build: Build = "") -> RunResults:
    """A paired run with one of its builds alone; any other run as it is.

    Args:
        build: "base" for the base build; "" for the candidate.
    """
    if run.mode != "paired":
        return run
    servers = {}
    names = {}
    for key, server in run.servers.items():
        if server.config.build == build:
            config = msgspec.structs.replace(server.config, build="")
            servers[config.key] = msgspec.structs.replace(server, config=config)
            names[key] = config.key
    return msgspec.structs.replace(
        run,
        mode="sequential",
        base_builds={},
        servers=servers,
        launches=_renamed(run.launches, names),
        measurements=_renamed(run.measurements, names),
    )


def _renamed(rows: Sequence[Row], names: Mapping[str, str]) -> tuple[Row, ...]:
    """The rows of these servers, by their new names."""
    return tuple(
        msgspec.structs.replace(row, server=names[row.server])
        for row in rows
        if row.server in names
    )


def cases_of_run(run: RunResults, file: StudyFile) -> Iterator[Case]:
    """The study's cases whose servers and workloads are those of the run."""
    ranks = set()
    formats = set()
    engines = set()
    stated = set()
    for server in run.servers.values():
        ranks.add(server.config.tensor_parallel_size)
        formats.add(server.config.load_format)
        stated.add(server.config.stated_routing)
        engines.add(server.config.engine)
    platform = "cpu"
    if run.hardware.gpus:
        platform = "gpu"
    load_format = max(formats)
    studies = []
    for engine in file.engines:
        if engine in engines:
            choices = ServerChoices(max(ranks), load_format, max(stated))
            for pair in _pairs_of_run(run, file):
                study = study_of(file, platform, engine, pair, choices)
                studies.append(study)
    for case in study_cases(studies):
        if all(_is_of_run(run, load) for load in case.loads):
            yield case


def _pairs_of_run(run: RunResults, file: StudyFile) -> Iterator[Subject]:
    """The pairs of which the run served a model."""
    served = {server.config.model for server in run.servers.values()}
    for pair in select(file, file.pairs, ()):
        if served & set(pair.models):
            yield pair


def _is_of_run(run: RunResults, load: Load) -> bool:
    """Whether the run has this very server and workload."""
    server = run.servers.get(load.server.key)
    if server is None or server.config != load.server:
        return False
    if load.workload is None:
        return True
    workload = run.workloads.get(load.workload.name)
    if workload is None:
        return False
    return workload.fingerprint() == load.workload.fingerprint()


def study_cases(studies: Sequence[Study]) -> Iterator[Case]:
    """What the perf tests of the shipped study ask of these studies, each once."""
    cases: dict[str, Case] = {}
    for subjects, question in _questions(studies):
        for subject in subjects:
            for case in question(subject):
                cases.setdefault(case.id, case)
    yield from cases.values()


def _questions(studies: Sequence[Study]) -> Iterator[Question]:
    """Each question, and the studies or pairs of engines that it is asked of."""
    pairs = list(_pairs_of_engines(studies))
    for path in sorted(shipped().tests.glob("test_*.py")):
        module = importlib.import_module(f"tests.perf.{path.stem}")
        for function in vars(module).values():
            for mark in getattr(function, "pytestmark", ()):
                if "cases" in mark.kwargs:
                    yield studies, mark.kwargs["cases"]
                if "engines" in mark.kwargs:
                    yield pairs, mark.kwargs["engines"]


def _pairs_of_engines(studies: Sequence[Study]) -> Iterator[Versus]:
    """For each pair of models, every other engine and the first one."""
    first: dict[str, Study] = {}
    for study in studies:
        reference = first.setdefault(study.pair, study)
        if study.model.engine != reference.model.engine:
            yield Versus(candidate=study, reference=reference)


def record(run: RunResults, store: Store) -> Iterator[str]:
    """Accept what the run adds to the store; yields a line about what was done."""
    chosen = []
    reader = RunReader(run)
    for proposal in proposals([run], store, Choice()):
        if proposal.is_recorded or proposal.is_invalid:
            continue
        if reader.cut_off(proposal.case):
            continue
        lost = _lost_launches(proposal)
        if lost:
            yield f"{run.run_id} {proposal.case.id}: left out, {lost} would go"
        else:
            chosen.append(proposal)
    for reason, group in _by_objection(chosen).items():
        ids = tuple(proposal.case.id for proposal in group)
        choice = Choice(only=ids, reason=reason)
        with tempfile.TemporaryDirectory() as folder:
            rundata.save(run, Path(folder))
            accept([Path(folder)], store, choice, env={})
    yield f"{run.run_id}: {len(chosen)} cases"


def _by_objection(
    chosen: Iterable[Proposal],
) -> dict[str | None, list[Proposal]]:
    """Proposals by the reason that accepting them takes; None where it takes none."""
    groups: dict[str | None, list[Proposal]] = {}
    for proposal in chosen:
        reason = None
        if proposal.objections:
            reason = REASON
        groups.setdefault(reason, []).append(proposal)
    return groups


def _lost_launches(proposal: Proposal) -> int:
    """Recorded launches that accepting the proposal would drop."""
    if proposal.old is None:
        return 0
    recorded = {(row.run, row.launch) for row in proposal.old.launches}
    kept = {(row.run, row.launch) for row in proposal.new.launches}
    return len(recorded - kept)


def renew_policy(store: Store, file: StudyFile) -> Iterator[str]:
    """Write what is not measured again; yields a line for each kind of machine."""
    for folder in sorted(store.root.iterdir()):
        if folder.name == PUBLISHED or not folder.is_dir():
            continue
        changed = 0
        for case in study_cases(_studies_on(folder.name, file)):
            path = store.path(case, folder.name)
            old = store.file(path)
            if old is None or case.metric not in old.metrics:
                continue
            new = _with_policy(case, old, folder.name)
            if new != old:
                changed += 1
                store.write(path, new)
        yield f"{folder.name}: {formatting.count(changed, 'metric')} written again"


def _with_policy(case: Case, file: BaselineFile, label: str) -> BaselineFile:
    """The file with one metric by today's policy, and with its arrivals."""
    metric = _renewed(case, file.metrics[case.metric], label)
    arrivals = file.arrivals
    if case.numerator.workload is not None:
        arrivals = case.numerator.workload.arrivals
    return msgspec.structs.replace(
        file, metrics=file.metrics | {case.metric: metric}, arrivals=arrivals
    )


def _studies_on(label: str, file: StudyFile) -> list[Study]:
    """The study of each engine on one kind of machine."""
    studies = []
    for engine in file.engines:
        if label.startswith("cpu"):
            studies.append(study_of(file, "cpu", engine))
        else:
            ranks = int(label.rpartition("x")[2])
            # By made-up routers, as the first ones were recorded, and as stated now.
            for stated in ("", None):
                choices = ServerChoices(ranks, "dummy", stated)
                for pair in select(file, _gpu_pairs(file), ()):
                    study = study_of(file, "gpu", engine, pair, choices)
                    studies.append(study)
    return studies


def _gpu_pairs(file: StudyFile) -> list[str]:
    """The pairs whose models have weights on a hub."""
    names = []
    for name, pair in file.pairs.items():
        if file.models[pair.model].hub_id:
            names.append(name)
    return names


def _renewed(case: Case, metric: MetricBaseline, label: str) -> MetricBaseline:
    """The metric by today's policy; what a person gave a reason for stays."""
    policy = policy_for(label, case.metric, case.is_ratio)
    gate = gate_mode(case, policy)
    if metric.reason and (metric.gate == gate or case.is_ratio):
        return metric
    floor = policy.floor
    if case.is_ratio:
        floor = 0.0
    return msgspec.structs.replace(
        metric, gate=gate, floor=floor, target_effect=None, reason=None
    )


if __name__ == "__main__":
    main()
