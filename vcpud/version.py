"""Which vcpud this is."""

from __future__ import annotations

from functools import cache
from importlib import metadata


@cache
def version() -> str:
    """The installed version, or "unknown" where vcpud runs without having been installed."""
    try:
        return metadata.version("vcpud")
    except metadata.PackageNotFoundError:
        return "unknown"
