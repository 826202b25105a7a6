"""Usage errors: refused once, before anything is started, with the remedy."""

from __future__ import annotations

import pytest

pytest_plugins = ["pytester"]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--tp", "0"], "--tp 0*the minimum is 1"),
        (["--launches", "0"], "--launches 0*the minimum is 1"),
        (["--stall-timeout", "0"], "--stall-timeout 0*the minimum is 1"),
        (["--resume"], "--run-dir=DIR --resume"),
        (["--baselines=nowhere"], "no such folder*mkdir nowhere"),
        (
            ["--model-dir", "mixtral-8x7b=nowhere"],
            "--model-dir mixtral-8x7b=nowhere*there is no folder",
        ),
        (["--model-dir", "nosuch=."], "'nosuch'*the catalogue has*"),
        (["--engine-python", "foo=/bin/sh"], "no engine foo*use one of"),
        (
            ["--engine-python", "fake=/nowhere"],
            "/nowhere is not an executable file",
        ),
        (
            ["--inject-delay", "mixtral-small"],
            "write --inject-delay MODEL=VALUE",
        ),
        (
            ["--inject-delay", "mixtral-small=-5"],
            "'-5' is not a delay in milliseconds",
        ),
        (["--inject-delay", "nosuch=5"], "'nosuch'*the catalogue has*"),
        (["--attach", "fake"], "ENGINE=URL"),
        (
            ["--against-engine", "fake=/nowhere"],
            "--against-engine*/nowhere is not an executable file",
        ),
        (["--against-delta", "0.02"], "--target-effect*no pairs to judge"),
        (
            ["--against-engine", "fake=/bin/sh", "--against-delta", "2"],
            "--target-effect 2*0.02 for 2 %",
        ),
        (["--attach", "fake=http://127.0.0.1:9"], "127.0.0.1:9"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_refused_at_once(project, pytester, options, told):
    """No test runs, nothing is written, and the message names option and remedy."""
    result = project("-m", "cpu", *options)

    assert pytest.ExitCode.USAGE_ERROR == result.ret, result.stdout.str()
    shown = " ".join(result.stderr.str().split())
    assert "ERROR: " in shown
    for part in told.split("*"):
        assert part in shown
    assert "Traceback" not in shown
    assert "INTERNALERROR" not in result.stdout.str()
    assert not (pytester.path / "runs").exists()
