"""SGLang's profiler: every server has it, and the request names the folder."""

from pathlib import Path

from perfgate.engines import sglang_profiler
from tests.support.plans import fake_plan


def test_plan_stays_as_it_is():
    """It needs no argument."""
    plan = fake_plan(port=1)

    assert plan == sglang_profiler.switched_on(plan, {}, Path("/t"))


def test_request_names_the_folder(monkeypatch):
    """Without stacks and shapes, which would lengthen steps."""
    asked = []
    monkeypatch.setattr(
        sglang_profiler.web,
        "post",
        lambda url, body=None, **_: asked.append((url, body)),
    )

    sglang_profiler.start("http://h:1", Path("/t"))
    sglang_profiler.stop("http://h:1")

    (start, body), stop = asked
    assert "http://h:1/start_profile" == start
    assert "/t" == body["output_dir"]
    assert not body["with_stack"]
    assert ("http://h:1/stop_profile", None) == stop
