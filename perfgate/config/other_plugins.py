"""Other plugins: options of pytest's plugins that perf tests cannot be run with.

A perf test launches servers and judges a case once, in this very process. What repeats
tests, forks them or spreads them by itself is refused, with what to do instead.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from perfgate.config.option_values import BadOption

_ONCE = (
    "a case is judged once, by launches that the suite repeats itself where noise asks "
    "for it"
)
_LEAVE_OUT = "leave {option} out; of an ini file: -p no:{plugin}"


@dataclass(frozen=True)
class _Refused:
    """An option of a plugin.

    Attributes:
        option: on the command line.
        name: of its value, and of the ini value that has it as default.
        plugin: by which pytest knows it.
        reason: why it is refused.
    """

    option: str
    name: str
    plugin: str
    reason: str = _ONCE


_REFUSED = (
    _Refused("--reruns", "reruns", "rerunfailures"),
    _Refused("--retries", "retries", "pytest-retry"),
    _Refused("--force-flaky", "force_flaky", "flaky"),
    _Refused("--count", "count", "repeat"),
    _Refused(
        "--forked",
        "forked",
        "pytest_forked",
        "a server belongs to the process that launched it, and ends with it",
    ),
)


def refuse_other_plugins(pytest_config: Any) -> None:
    """Refuse what repeats or forks tests, and workers that -n does not count.

    Args:
        pytest_config: a `pytest.Config`; a plugin that is not installed has no option.

    Raises:
        BadOption: with what to do instead.
    """
    for refused in _REFUSED:
        value = _value(pytest_config, refused)
        # --count=1 is the plugin's default.
        if value > (refused.name == "count"):
            raise BadOption(
                tried=f"{refused.option} with perf tests",
                seen=refused.reason,
                remedy=_LEAVE_OUT.format(
                    option=refused.option, plugin=refused.plugin
                ),
            )
    _refuse_uncounted_workers(pytest_config)


def _value(pytest_config: Any, refused: _Refused) -> int:
    """The number of the option, else of the ini file; 0 where there is none."""
    value = getattr(pytest_config.option, refused.name, None)
    if value is None:
        value = _ini_value(pytest_config, refused.name)
    try:
        return int(value or 0)
    except (TypeError, ValueError):
        return 0


def _refuse_uncounted_workers(pytest_config: Any) -> None:
    """Refuse --tx without -n: how many workers share the devices is unknown then."""
    option = pytest_config.option
    is_worker = hasattr(pytest_config, "workerinput")
    workers = getattr(option, "tx", None)
    if is_worker or not workers or getattr(option, "numprocesses", None):
        return
    raise BadOption(
        tried=f"--tx {' --tx '.join(map(str, workers))}",
        seen="the devices are shared out among the workers of -n alone",
        remedy="write -n N in place of --tx and -d (on GPUs; on a CPU leave both out)",
    )


def worker_count(option: Any) -> int:
    """The workers of pytest-xdist: those of -n, at most --maxprocesses; 0 without them."""
    count = int(getattr(option, "numprocesses", None) or 0)
    most = int(getattr(option, "maxprocesses", None) or count)
    return min(count, most)


def time_limit(pytest_config: Any) -> str:
    """The time limit of pytest-timeout, as an option; "" where there is none.

    It takes the option, else the variable, else the value of the ini file. A conftest.py
    may have an option of this name without the plugin's marker.
    """
    markers = map(str, pytest_config.getini("markers"))
    if not any(line.startswith("timeout") for line in markers):
        return ""
    option = getattr(pytest_config.option, "timeout", None)
    places = [
        ("--timeout", option),
        ("PYTEST_TIMEOUT", os.environ.get("PYTEST_TIMEOUT")),
        ("--timeout", _ini_value(pytest_config, "timeout")),
    ]
    for name, value in places:
        if value is None:
            continue
        try:
            seconds = float(value or 0)
        except (TypeError, ValueError):
            return ""
        return f"{name}={seconds:g}" if seconds > 0 else ""
    return ""


def _ini_value(pytest_config: Any, name: str) -> Any:
    """A value of the ini file; None where no plugin declares it."""
    try:
        return pytest_config.getini(name)
    except (KeyError, ValueError):
        return None
