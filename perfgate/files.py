"""Files: replace a file atomically, so that no reader finds half of one."""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path

from perfgate.errors import Failure, describe_error

# A temporary file is readable by its owner only, and CI collects files as another user.
PUBLIC_MODE = 0o644


class RunDataError(Failure):
    """A file of a run cannot be read or written."""


def write_atomically(path: Path, content: str | bytes) -> None:
    """Replace the file at `path`; its folder is made if needed.

    Raises:
        RunDataError: the disk is full or the folder cannot be written; the old file is
            untouched.

    """
    if isinstance(content, str):
        content = content.encode()
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
            temporary = Path(file.name)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(PUBLIC_MODE)
        temporary.replace(path)
    except OSError as error:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
        raise RunDataError(
            tried=f"writing {path}",
            seen=describe_error(error),
            remedy=_remedy(error),
        ) from error


def _remedy(error: OSError) -> str:
    remedy = "free space on the disk, or choose another folder with --run-dir"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        remedy = "choose a folder that can be written with --run-dir"
    return f"{remedy}; files that were written before are unchanged"
