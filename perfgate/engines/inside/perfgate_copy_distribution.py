"""Copies a distribution of the interpreter that runs it into a folder: NAME FOLDER.

Run by the suite with the engine's Python; it imports the standard library alone. Files
are linked where both folders are on one disk. Scripts outside the packages are left out.
"""

import importlib.metadata
import os
import shutil
import sys
from pathlib import Path


def copy(name: str, target: Path) -> None:
    """Link or copy the files of a distribution, without its scripts."""
    distribution = importlib.metadata.distribution(name)
    files = distribution.files or []
    inside = [file for file in files if ".." not in file.parts]
    if not any(file.suffix == ".py" or ".so" in file.name for file in inside):
        sys.exit(f"{name} has no files of its own: it is an editable checkout")
    for file in inside:
        source = Path(str(distribution.locate_file(file)))
        if not source.is_file():
            continue
        place = target / file
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(source, place)
        except OSError:
            shutil.copy2(source, place)


if __name__ == "__main__":
    sys.path.pop(0)  # the folder of this file, whose plugins nobody installed
    copy(sys.argv[1], Path(sys.argv[2]))
