"""Suite coverage: which perf tests of the suite a session left out.

Pytest does not report every way of leaving tests out (-k, --lf, a path). So this module
subtracts what was selected from the whole suite.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path

from perfgate import formatting


class SuiteCoverage:
    """The files that were read and the cases that they ask, of one suite.

    Args:
        suite: folders or files of its perf tests; empty where the user names others.
        root: paths are shown relative to it.

    Attributes:
        files: files whose tests were collected.
        ids: of every case on the selected platforms, and of every test that starts its
            servers itself.
    """

    def __init__(self, suite: Iterable[Path], root: Path) -> None:
        self.suite = tuple(suite)
        self.files: set[Path] = set()
        self.ids: set[str] = set()
        self._root = root

    def left_out(self, selected: Collection[str]) -> tuple[str, ...]:
        """A line for each file that was not read, and one for the other cases.

        Args:
            selected: ids that were selected, now or by an earlier command of the run.
        """
        lines = []
        unread = self._test_files() - self.files
        for path in sorted(unread):
            if path.is_relative_to(self._root):
                path = path.relative_to(self._root)
            lines.append(str(path))
        unselected = self.ids.difference(selected)
        if unselected:
            cases = formatting.count(len(unselected), "case")
            lines.append(f"{cases} not selected (-k, -m, --lf, or a test id)")
        return tuple(lines)

    def _test_files(self) -> set[Path]:
        files: set[Path] = set()
        for path in self.suite:
            if path.is_dir():
                files |= set(path.rglob("test_*.py"))
            elif path.is_file():
                files.add(path)
        return files
