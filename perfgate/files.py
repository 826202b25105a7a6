"""How is a file replaced whole or not at all?"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from perfgate.errors import Failure


class RunDataError(Failure):
    """A run directory that cannot be read or written."""


def write_atomically(path: Path, content: str | bytes) -> None:
    """Replace a file whole or not at all.

    Raises:
        RunDataError: the disk is full or the folder cannot be written; the old file is
            untouched.

    """
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
            temporary = Path(file.name)
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(
            0o644
        )  # a temporary file is its owner's alone; CI collects these as another user
        temporary.replace(path)
    except OSError as error:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
        raise RunDataError(
            tried=f"writing {path}",
            seen=f"{type(error).__name__}: {error}",
            remedy=(
                "make room or choose another place with --run-dir; what was written "
                "before is still there"
            ),
        ) from error
