"""Fuzz of files: damaged runs and baselines, and what the readers and commands make of them.

A damaged file is refused by a `Failure` that names it, or read with nothing dropped. No
command ends in an exception of Python.
"""

from __future__ import annotations

import gzip
import json
import random
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
from click.testing import CliRunner

from perfgate.cli.main import main
from perfgate.errors import Failure
from perfgate.judge.baseline_schema import read_recorded, to_text
from perfgate.judge.baseline_store import Store
from perfgate.results.schema import RunResults, load, save
from tests.support import builders as m
from tests.support import damaged_files as damage
from tests.support.baseline_files import recorded_file
from tests.support.judged_runs import judged

OUTCOMES = ("PASSED", "REGRESSED", "NO_BASELINE", "INVALID")
# Of the commands that take longest, one in so many.
REPORT_EVERY = 10
KINDS = (*damage.DAMAGE, *damage.LINKS)


@dataclass
class Tally:
    """What became of damaged files, by kind of damage, and what should not have."""

    refused: Counter[str] = field(default_factory=Counter)
    read: Counter[str] = field(default_factory=Counter)
    broken: list[str] = field(default_factory=list)


def whole_run() -> RunResults:
    """A run of every kind of load, with verdicts."""
    return judged(*OUTCOMES)


def fuzz_results(folder: Path, count: int, seed: int) -> Tally:
    """Damage a run's file so often, and read, judge, accept, show and list it."""
    run_dir = folder / "runs" / "r"
    path = save(whole_run(), run_dir)
    content = path.read_bytes()
    tally = Tally()
    kinds = (*KINDS, "packed")
    for number, kind, text in _damaged(content, count, seed, kinds):
        name = f"{kind}, seed {seed}, number {number}"
        for file in (path, path.with_name(f"{path.name}.gz")):
            damage.unlink(file)
        _put(path, kind, text)
        read = _read(lambda: load(run_dir), run_dir, name, tally, kind)
        if read is not None and kind != "packed":
            _compare(text, read, name, tally)
        _command(folder, tally, name, "judge", str(run_dir))
        _command(folder, tally, name, "accept", "--dry-run", str(run_dir))
        if number % REPORT_EVERY == 0 or read is not None:
            _command(folder, tally, name, "report", str(run_dir))
        _command(folder, tally, name, "history", "--runs", str(run_dir.parent))
        history = folder / "runs" / "history.sqlite3"
        history.unlink(missing_ok=True)
    return tally


def fuzz_baselines(folder: Path, count: int, seed: int) -> Tally:
    """Damage a baseline file so often, and read it, and judge and accept against it."""
    run_dir = folder / "runs" / "r"
    save(
        m.run({m.MOE_LOAD: {"output_throughput": [990.0]}}, [m.THROUGHPUT]),
        run_dir,
    )
    path = Store(folder / "baselines").path(m.THROUGHPUT, "h200x2")
    path.parent.mkdir(parents=True)
    content = to_text(recorded_file()).encode()
    tally = Tally()
    for number, kind, text in _damaged(content, count, seed, KINDS):
        name = f"{kind}, seed {seed}, number {number}"
        damage.unlink(path)
        _put(path, kind, text)
        read = _read(lambda: read_recorded(path), path, name, tally, kind)
        if read is not None:
            _compare(text, read, name, tally)
        _command(folder, tally, name, "judge", str(run_dir))
        _command(folder, tally, name, "accept", "--dry-run", str(run_dir))
        if number % REPORT_EVERY == 0:
            _command(folder, tally, name, "report", str(run_dir))
    return tally


def _damaged(
    content: bytes, count: int, seed: int, kinds: Sequence[str]
) -> Iterator[tuple[int, str, bytes]]:
    """(number, kind, content) of so many damaged files; every kind in turn."""
    draw = random.Random(seed)
    for number in range(count):
        kind = kinds[number % len(kinds)]
        text = b""
        if kind in damage.DAMAGE:
            text = damage.DAMAGE[kind](content, draw)
        elif kind == "packed":
            text = damage.pack(content, draw)
        yield number, kind, text


def _put(path: Path, kind: str, text: bytes) -> None:
    if kind in damage.LINKS:
        damage.link(path, kind)
    elif kind == "packed":
        path.with_name(f"{path.name}.gz").write_bytes(text)
    else:
        path.write_bytes(text)


def _read(
    read: Callable[[], Any], path: Path, name: str, tally: Tally, kind: str
) -> Any:
    """What was read; None where it was refused, by a failure that names the file."""
    try:
        value = read()
    except Failure as failure:
        tally.refused[kind] += 1
        if str(path) not in str(failure) or not failure.remedy:
            tally.broken.append(f"{name}: the file is not named: {failure}")
        return None
    except BaseException as error:  # noqa: BLE001
        tally.broken.append(f"{name}: {error!r}")
        return None
    tally.read[kind] += 1
    return value


def _compare(text: bytes, read: Any, name: str, tally: Tally) -> None:
    """Whether everything in the file is in what was read of it."""
    tree = json.loads(text.decode("utf-8-sig"))
    again = json.loads(msgspec.json.encode(read))
    if not damage.is_part(again, tree):
        tally.broken.append(f"{name}: half read")


def _command(folder: Path, tally: Tally, name: str, *words: str) -> None:
    """Run a command in the folder; it may fail, but only with a message."""
    options: dict[str, tuple[str, ...]] = {
        "judge": ("--baselines", str(folder / "baselines")),
        "accept": ("--baselines", str(folder / "baselines")),
        "report": ("--out", str(folder / "pages")),
    }
    (folder / "baselines").mkdir(exist_ok=True)
    arguments = [*words, *options.get(words[0], ())]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = CliRunner().invoke(main, arguments, env={"CI": ""})
    error = result.exception
    if error is not None and not isinstance(error, SystemExit):
        tally.broken.append(f"{name}: {words[0]}: {error!r}")
    for word in ("Traceback", "Error (try again", "Error: '"):
        if word in result.output:
            tally.broken.append(f"{name}: {words[0]}: {result.output[:400]!r}")


def pack_bomb(path: Path, size_bytes: int) -> None:
    """A packed file of a few kilobytes that unpacks to so many bytes."""
    with gzip.open(path, "wb") as packed:
        block = b" " * 2**20
        for _ in range(size_bytes // len(block)):
            packed.write(block)
