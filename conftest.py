"""Loads the suite's one plugin; nothing else."""

import pytest

pytest.register_assert_rewrite("perfgate")
pytest_plugins = ["perfgate.plugin"]
