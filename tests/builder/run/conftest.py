"""An object store to build into, for every test of a run that wants one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.support.object_store import Store


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    pytest.importorskip("s3fs", reason="the extra 's3' is not installed")
    from tests.support.object_store import Store  # noqa: PLC0415

    made = Store()
    for name, value in made.environment.items():
        monkeypatch.setenv(name, value)
    yield made
    made.stop()
