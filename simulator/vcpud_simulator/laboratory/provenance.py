"""Which code a result comes from: what every result carries, and what a cached one is filed under."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import subprocess
from collections.abc import Iterable, Iterator
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


def _reached(roots: Iterable[str]) -> Iterator[tuple[str, Path]]:
    """Modules and all that they import, in functions too, of vcpud's and of the roots' packages."""
    waiting, seen = set(roots), set[str]()
    tops = {*PACKAGES, *(root.partition(".")[0] for root in roots)}
    while waiting:
        module = waiting.pop()
        seen.add(module)
        path = _source(module) if module.partition(".")[0] in tops else None
        if path is not None:
            yield module, path
            # Whoever imports a module runs the packages that it is in.
            waiting |= ({module.rpartition(".")[0]} - {""} | _imports(module, path)) - seen


@cache
def _place(top: str) -> Path | None:
    """The folder of a package, the file of a module that is in none."""
    spec = importlib.util.find_spec(top)
    if spec is None or spec.origin is None:
        return None
    origin = Path(spec.origin)
    return origin.parent if spec.submodule_search_locations else origin


def _source(module: str) -> Path | None:
    """The file of a module, found by its name: one that is compiled would name another."""
    top, *rest = module.split(".")
    place = _place(top)
    if place is None or place.is_file():
        return None if rest else place
    found = place.joinpath(*rest)
    choices = (found / "__init__.py", found.with_name(f"{found.name}.py"))
    return next((path for path in choices if path.is_file()), None)


@cache
def _imports(module: str, path: Path) -> frozenset[str]:
    """Names in a file's imports, each of a module or of something in one."""
    here = module.split(".")
    if path.name != "__init__.py":
        here.pop()
    found = set[str]()
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            found |= {one.name for one in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = here[: len(here) - node.level + 1] if node.level else []
            base = ".".join([*above, *filter(None, [node.module])])
            found |= {base, *(f"{base}.{one.name}" for one in node.names)}
    return frozenset(found)


@cache
def code_digest(*roots: str) -> str:
    """Hash of every source file that could change a result, committed or not.

    Args:
        roots: Modules that make the result: only they count, and what they import. None of them
            where that is not known.
    """
    digest = hashlib.sha256()
    for name, path in sorted(_reached(roots)) if roots else _sources():
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
