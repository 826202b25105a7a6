"""Text files of what is sent: UTF-8, with errors that name the line and what to do."""

from __future__ import annotations

import codecs
from pathlib import Path

from perfgate.errors import Failure, describe_error


class UnusableWorkload(Failure):
    """The workload cannot be sent as declared."""


def bytes_of(path: str, remedy: str, may_end_early: bool = False) -> bytes:
    """The content of a file in UTF-8, without a byte order mark.

    Args:
        remedy: what to do if it cannot be read.
        may_end_early: whether a character that the end cuts in two is left out.

    Raises:
        UnusableWorkload: it cannot be read, or has another encoding.
    """
    try:
        data = Path(path).read_bytes().removeprefix(codecs.BOM_UTF8)
        data.decode()
    except OSError as error:
        raise UnusableWorkload(
            tried=f"read {path}", seen=describe_error(error), remedy=remedy
        ) from error
    except UnicodeDecodeError as error:
        if may_end_early and error.reason == "unexpected end of data":
            return data[: error.start]
        line = data.count(b"\n", 0, error.start) + 1
        raise UnusableWorkload(
            tried=f"read {path}",
            seen=f"line {line} is not UTF-8: {error.reason}",
            remedy=f"convert it, for example: iconv -f LATIN1 -t UTF-8 {path}",
        ) from error
    return data
