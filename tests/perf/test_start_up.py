"""E12: How long does a server take to start?"""

from collections.abc import Iterator

import pytest

from perfgate.cases import Case
from perfgate.study import Study


def start(study: Study) -> Iterator[Case]:
    """Each model's time from launch to the first healthy answer, on GPUs.

    It is judged coarsely: a first start on a machine compiles, and takes two to three
    times as long as a later one.
    """
    if study.gpu_count == 0:
        return
    for server in study.models:
        yield study.value("E12", "ready_s", server, None)


@pytest.mark.perf(cases=start)
def test_start_up(check, case):
    """A server is ready as soon as before."""
    check(case)
