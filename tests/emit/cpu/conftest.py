"""Units are built where nothing was built before, and without taking time to make them fast."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="session", autouse=True)
def _quickly_built(tmp_path_factory: pytest.TempPathFactory) -> object:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEQC_CACHE", str(tmp_path_factory.mktemp("units")))
        patch.setenv("SEQC_CXXFLAGS", "-O1")
        yield
