from __future__ import annotations

from pathlib import Path

import pytest

from unit.simulator.compare.made_up import SCENARIO


@pytest.fixture
def key(tmp_path: Path) -> str:
    path = tmp_path / "pair.yaml"
    path.write_text(SCENARIO)
    return str(path)
