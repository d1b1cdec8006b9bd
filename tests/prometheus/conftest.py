"""Debian's promtool and Prometheus, as `make prometheus-test` unpacks them."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
UNPACKED = CHECKOUT / "build" / "prometheus" / "usr" / "bin"


def program(name: str) -> str:
    """Where it is; skips where it is not, unless VCPUD_NOTHING_SKIPPED says that is a failure."""
    found = shutil.which(name, path=f"{UNPACKED}{os.pathsep}{os.environ.get('PATH', '')}")
    if found is None:
        reason = f"there is no {name}: make prometheus-test"
        if os.environ.get("VCPUD_NOTHING_SKIPPED"):
            pytest.fail(reason)
        pytest.skip(reason)
    return found


@pytest.fixture(scope="session")
def promtool() -> str:
    return program("promtool")


@pytest.fixture(scope="session")
def prometheus() -> str:
    return program("prometheus")
