"""Which code a result comes from: what every result carries, and what a cached one is filed under."""

from __future__ import annotations

import hashlib
import importlib.util
import subprocess
from collections.abc import Iterator
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path

from vcpud import policy
from vcpud.version import version
from vcpud_simulator.engine import Engine

PACKAGES = ("vcpud", "vcpud_policies", "vcpud_simulator")
HERE = Path(__file__).resolve()
"""This file in its checkout, also where it is reached through the mirror that is compiled."""


def _sources() -> Iterator[tuple[str, Path]]:
    """Every source file and its name; policies plug in, so a site's own code decides as well."""
    plugged = {entry.module.partition(".")[0] for entry in entry_points(group=policy.GROUP)}
    for package in sorted({*PACKAGES, *plugged}):
        spec = importlib.util.find_spec(package)
        if spec is None:
            continue
        for place in spec.submodule_search_locations or ():
            for path in sorted(Path(place).rglob("*.py")):
                yield f"{package}/{path.relative_to(place)}", path
        if not spec.submodule_search_locations and spec.origin is not None:
            yield package, Path(spec.origin)


@cache
def code_digest() -> str:
    """Hash of every source file that could change a result, committed or not."""
    digest = hashlib.sha256()
    for name, path in _sources():
        digest.update(f"{name}\0".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def compiled() -> bool:
    """Whether the simulator's hot modules are extension modules, as for `make study`."""
    spec = importlib.util.find_spec(Engine.__module__)
    return spec is not None and not str(spec.origin).endswith(".py")


@cache
def commit() -> str:
    """The commit of the checkout that runs, marked when files differ from it; else the version."""

    def git(*words: str) -> str:
        done = subprocess.run(  # noqa: S603 - fixed words
            ["git", "-C", str(HERE.parent), *words],  # noqa: S607 - the user's git
            check=False,
            capture_output=True,
            text=True,
        )
        return done.stdout.strip() if done.returncode == 0 else ""

    try:
        if not git("ls-files", str(HERE)):
            return version()
        return git("rev-parse", "HEAD") + ("-dirty" if git("status", "--porcelain") else "")
    except FileNotFoundError:
        return version()
