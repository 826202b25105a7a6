"""Hub cache: the snapshot of a model that refs/main names, and downloads that stopped.

The layout is that of huggingface_hub: ``models--OWNER--NAME`` holds ``refs/main`` (the
name of a revision), ``snapshots/REVISION`` (links) and ``blobs`` (the files).
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from perfgate import locations

_UNFINISHED = ".incomplete"


@dataclass(frozen=True)
class CachedModel:
    """What the cache holds of one model.

    Attributes:
        folder: of the model in the cache; it may not exist.
        snapshot: of the revision that refs/main names; without refs/main the newest.
            None where there is none.
        others: snapshots of other revisions.
        unfinished: names of blobs whose download stopped, with their bytes.
    """

    folder: Path
    snapshot: Path | None
    others: tuple[Path, ...]
    unfinished: tuple[tuple[str, int], ...]


def cache_dir() -> Path:
    """The Hugging Face cache, by the environment variables of huggingface_hub."""
    for variable in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        cache = os.environ.get(variable)
        if cache is not None:
            return _expanded(cache)
    home = os.environ.get("HF_HOME")
    if home is not None:
        return _expanded(home) / "hub"
    caches = os.environ.get("XDG_CACHE_HOME")
    if caches:
        return _expanded(caches) / "huggingface" / "hub"
    return locations.home() / ".cache" / "huggingface" / "hub"


def _expanded(path: str) -> Path:
    """The path with the home folder for "~" and the values of variables, as the hub has it."""
    return Path(os.path.expandvars(locations.expanded(path)))


def find(hub_id: str) -> CachedModel:
    """What the cache holds of a model."""
    folder = cache_dir() / f"models--{hub_id.replace('/', '--')}"
    snapshots = _newest_first(folder / "snapshots")
    chosen = None
    main = _main_revision(folder)
    if main is None and snapshots:
        chosen = snapshots[0]
    for snapshot in snapshots:
        if snapshot.name == main:
            chosen = snapshot
    others = tuple(path for path in snapshots if path != chosen)
    return CachedModel(folder, chosen, others, _unfinished(folder / "blobs"))


def config_file(hub_id: str) -> Path | None:
    """The config.json of a model, with or without weights; None where there is none."""
    cached = find(hub_id)
    snapshots = cached.others
    if cached.snapshot is not None:
        snapshots = (cached.snapshot,)
    for snapshot in snapshots:
        if (snapshot / "config.json").is_file():
            return snapshot / "config.json"
    return None


def _main_revision(folder: Path) -> str | None:
    """The revision of the branch main, as the last download of it noted."""
    try:
        return (folder / "refs" / "main").read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return None


def _newest_first(folder: Path) -> list[Path]:
    snapshots = []
    for path in folder.glob("*"):
        if path.is_dir():
            snapshots.append((path.stat().st_mtime, path))
    return [path for _, path in sorted(snapshots, reverse=True)]


def _unfinished(blobs: Path) -> tuple[tuple[str, int], ...]:
    rows = []
    for path in sorted(blobs.glob(f"*{_UNFINISHED}")):
        rows.append((path.name, path.stat().st_size))
    return tuple(rows)
