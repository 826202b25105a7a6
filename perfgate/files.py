"""Files: replace a file atomically, and read JSON of which nothing is lost.

A reader never finds half of a file, and waits for no pipe or device. A file that cannot
be read in full is refused.
"""

from __future__ import annotations

import errno
import gzip
import itertools
import json
import os
import re
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from perfgate.errors import Failure, describe_error

# A temporary file is readable by its owner only, and CI collects files as another user.
PUBLIC_MODE = 0o644
# Ten times the largest run that was seen; more is no run, or is packed to do harm.
MOST_BYTES = 512 * 2**20
TEMPORARY = ".perfgate-"  # how names of temporary files begin


class RunDataError(Failure):
    """A file of a run cannot be read or written."""


def write_atomically(path: Path, content: str | bytes) -> None:
    """Replace the file at `path`; its folder is made if needed.

    Raises:
        RunDataError: the disk is full, the folder cannot be written, or something else
            than a file has that name; what was there is untouched.

    """
    if isinstance(content, str):
        content = content.encode()
    try:
        _refuse_other(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        _replace(path, content)
    except OSError as error:
        raise RunDataError(
            tried=f"writing {path}",
            seen=describe_error(error),
            remedy=_remedy(error),
        ) from error


def append(path: Path, content: bytes, create: bool = True) -> None:
    """Append to a file; it is on the disk at the return.

    Args:
        create: whether the file is made where there is none.

    Raises:
        OSError: it cannot be written; a part of the content may be there.
    """
    flags = os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC
    if create:
        flags |= os.O_CREAT
    with open(os.open(path, flags, PUBLIC_MODE), "ab") as file:  # noqa: PTH123
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def free_name(wanted: str, is_taken: Callable[[str], bool]) -> str:
    """The name, with the first number from 2 on that makes it free where it is taken."""
    free = wanted
    for number in itertools.count(2):
        if not is_taken(free):
            break
        free = f"{wanted}-{number}"
    return free


def _refuse_other(path: Path) -> None:
    """Refuse a device, a pipe or a folder: a file in its place would end what uses it.

    Raises:
        OSError: there is such a thing.
    """
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "not a regular file", str(path))


def _remedy(error: OSError) -> str:
    remedy = "free space on the disk, or choose another folder"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        remedy = "make the folder writable, or choose another one"
    elif error.errno == errno.EINVAL:
        remedy = "choose another name"
    return f"{remedy}; files that were written before are unchanged"


def _replace(path: Path, content: bytes) -> None:
    """Write a temporary file in the same folder, and rename it; nothing is left of it."""
    with tempfile.NamedTemporaryFile(
        dir=path.parent, prefix=TEMPORARY, delete=False
    ) as file:
        temporary = Path(file.name)
        try:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
            temporary.chmod(PUBLIC_MODE)
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def remove_temporary(folder: Path) -> None:
    """Remove what killed writers left in a folder that no other writer uses."""
    for path in folder.glob(f"{TEMPORARY}*"):
        path.unlink(missing_ok=True)


class RepeatedKey(ValueError):
    """A JSON object has a key twice: readers keep one of the values, and lose the other."""


def read_bounded(path: Path) -> bytes:
    """Content of a regular file; of one that is packed (.gz) the unpacked content.

    Raises:
        OSError: it cannot be read, is no regular file, or is too large.
        EOFError, zlib.error: it is not packed properly.
    """
    content = read_start(path, MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        size = f"larger than {MOST_BYTES // 2**20} MiB"
        raise OSError(errno.EFBIG, size, str(path))
    return content


def read_start(path: Path, most_bytes: int) -> bytes:
    """As many bytes from the start of a regular file, unpacked where it is packed (.gz).

    Raises:
        OSError: it cannot be read, or is no regular file.
        EOFError, zlib.error: it is not packed properly.
    """
    # A pipe without a writer would block.
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
    with open(os.open(path, flags), "rb") as file:  # noqa: PTH123
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        if path.suffix != ".gz":
            return file.read(most_bytes)
        with gzip.GzipFile(fileobj=file) as packed:
            return packed.read(most_bytes)


def is_named(path: Path) -> bool:
    """Whether there is such a name, though it may be a link to nothing."""
    return os.path.lexists(path)


def refuse_repeated_keys(content: bytes) -> None:
    """Refuse JSON that has a key twice in one object.

    Args:
        content: valid JSON.

    Raises:
        RepeatedKey: with the key.
    """
    # Decoding drops repeated keys: most files are settled by two counts.
    try:
        decoded = msgspec.json.encode(msgspec.json.decode(content))
    except msgspec.ValidationError:  # a number that is too large
        decoded = b""
    if _count_keys(content) != _count_keys(decoded):
        json.loads(
            content,
            object_pairs_hook=_without_repeated,
            parse_int=float,
            parse_float=str,
        )


def _count_keys(content: bytes) -> int:
    return len(re.findall(rb'"\s*:', content))


def _without_repeated(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        names = [name for name, _ in pairs]
        repeated = next(name for name in names if names.count(name) > 1)
        raise RepeatedKey(f"{repeated}: it stands there twice")
    return fields
