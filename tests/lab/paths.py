"""Where the lab finds its sources and where it may write."""

from __future__ import annotations

import os
from pathlib import Path

LAB = Path(__file__).resolve().parent
CHECKOUT = LAB.parent.parent
GUEST = LAB / "guest"
LOCK_HISTOGRAM_SCRIPT = CHECKOUT / "deploy" / "guest" / "vcpud-lock-histogram"
PRESETS = CHECKOUT / "policies" / "presets"
BUILD = CHECKOUT / "build"


def image_cache() -> Path:
    """Return the directory that holds finished guest images."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "vcpud-lab"
