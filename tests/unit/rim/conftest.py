"""What the tests of the rim share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import structlog

import vcpud.backend
from unit.rim.machine import Entry, Machine


@pytest.fixture
def machine(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Any:
    made = Machine(tmp_path / "m", capsys)

    def entries(group: str) -> list[Entry]:
        assert group == vcpud.backend.GROUP
        return [Entry("fake", made.host)]

    monkeypatch.setattr(vcpud.backend, "entry_points", entries)
    yield made
    structlog.reset_defaults()
