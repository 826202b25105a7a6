"""The wheel, and an environment that has it and no checkout; made once a session."""

import pytest

from tests.support import outside


@pytest.fixture(scope="session")
def wheel(tmp_path_factory):
    """The wheel, built from a copy of the checkout."""
    pytest.importorskip("pip")
    return outside.build_wheel(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="session")
def installed(tmp_path_factory, wheel):
    """An environment that has the wheel and no checkout."""
    folder = tmp_path_factory.mktemp("installed")
    return outside.environment(folder / "env", wheel, folder / "fakes")
