"""Lock file headers: fields are read, missing ones are named."""

import pytest

from perfgate.engines import lock_file
from perfgate.engines.lock_file import BadLock


@pytest.mark.parametrize(
    ("python", "allowed"),
    [
        ("3.10.2", False),
        ("3.13.0", True),
        ("3.13.1rc1", True),
        ("3.14.0rc1", False),
    ],
)
def test_header_is_read(tmp_path, python, allowed):
    """The first two numbers of a version decide; pins and hashes are not taken for one another."""
    path = tmp_path / "some.txt"
    path.write_text(
        "# Some engine.\n# requires-python: >=3.11,<3.14\n# torch: 2.13.0+cpu\n"
        "msgspec==0.22.0 \\\n    --hash=sha256:00 \\\n    --hash=sha256:01\nsix==1.17.0\n"
    )

    lock = lock_file.read(path)

    assert ("2.13.0+cpu", 2, "python3.13") == (
        lock.torch,
        lock.packages,
        lock.newest_python(),
    )
    assert allowed == lock.allows(python)


@pytest.mark.parametrize(
    "header",
    [
        "",
        "# torch: 2.13.0+cpu\n",
        "# requires-python: often\n# torch: 2.13.0+cpu\n",
    ],
)
def test_header_that_lacks_a_line(tmp_path, header):
    """The message names the file and the command that makes it anew."""
    path = tmp_path / "some.txt"
    path.write_text(f"{header}six==1.17.0\n")

    with pytest.raises(BadLock, match=r"some\.txt") as error:
        lock_file.read(path)
    assert "`make locks`" in error.value.remedy
