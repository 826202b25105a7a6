"""What a session refuses before it leases anything."""

import pytest

from perfgate.config.config import Config
from perfgate.config.option_values import BadOption
from perfgate.judge.baseline_store import Store
from perfgate.progress import Progress
from perfgate.results import schema
from perfgate.run.open_session import PlannedTests, open_session
from tests.support import builders as m


def test_another_ceiling_does_not_resume_a_run(tmp_path):
    """A run is judged by one ceiling; the message names both, and how to judge it anew."""
    schema.save(m.bare_run(fail_over={"all": 0.05}), tmp_path)

    def resume(**fail_over):
        config = Config(
            run_dir=tmp_path,
            store=Store(tmp_path),
            resume=True,
            fail_over=fail_over,
        )
        planned = PlannedTests()
        tell = Progress(lambda text: None, rewritable=False)
        open_session(config, m.hardware("cpu"), planned, tell)

    with pytest.raises(BadOption) as caught:
        resume(all=0.03)

    for words in ("--fail-over 5%", "--fail-over 3%", "perfgate judge"):
        assert words in str(caught.value)
