"""Loads the suite's one plugin; nothing else."""

import pytest

pytest.register_assert_rewrite("fixtures")
pytest_plugins = ["fixtures.plugin"]
