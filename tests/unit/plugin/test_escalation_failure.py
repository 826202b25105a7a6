"""A further launch that fails: the case keeps what was measured, as INCONCLUSIVE."""

from perfgate.results.schema import load
from tests.support.projects import record

pytest_plugins = ["pytester"]
RATIO = "test_reference_over_model_throughput"


def test_case_is_inconclusive(project, pytester, monkeypatch):
    """The second launch exits at its start: the verdict stands, and the test fails."""
    selection = ("-m", "cpu", "-k", RATIO)
    record(project, pytester, *selection)
    speeds = pytester.path / "itl_s"
    speeds.write_text("0.02\nno number")
    monkeypatch.setenv(
        "FAKE_MISBEHAVIOUR", f"mixtral-small: --itl-s-in-turn {speeds}"
    )

    result = project(*selection, "--run-dir", "run")

    results = load(pytester.path / "run")
    assert 1 == result.ret
    assert ["INCONCLUSIVE"] == [row.outcome for row in results.verdicts]
    assert (
        "One launch does not decide this, and a further launch failed "
        "(exited with status 1"
    ) in results.verdicts[0].details[-1]
    assert ["fake-mixtral-small-tp2"] == list(results.failures)
