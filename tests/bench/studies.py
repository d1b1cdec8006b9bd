"""The last whole study of this checkout."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

PATH = Path(__file__).parents[2] / "build" / "study" / "study.json"


def whole_study() -> dict[str, Any] | None:
    """What it found, or None where there was none, or only a part or the rest of one."""
    if not PATH.exists():
        return None
    study: dict[str, Any] = json.loads(PATH.read_text())
    return study if study.get("plan") == "full" and not study.get("resumed") else None
