"""Which scenarios are compared: vcpud's own, somebody's files, or freshly drawn ones."""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path
from typing import Final

from vcpud.errors import UsageError
from vcpud_simulator.laboratory.compare.drawn import draw
from vcpud_simulator.laboratory.reading import read_scenario, scenario_names
from vcpud_simulator.scenario import Scenario

PREFIX: Final = "compare_"
QUICK: Final = "quick"
_DRAWN: Final = re.compile(r"drawn_(-?[0-9]{1,18})_([0-9]{1,18})")
"""The name of a drawn scenario: seed and number."""


def keys(*suites: str, quick: bool = False) -> tuple[str, ...]:
    """The scenarios of some suites, each once.

    Args:
        suites: Each a folder of YAML files, a file, the name of one of vcpud's scenarios (without
            the prefix too), a part of such names, or the name of a drawn scenario; none for all of
            vcpud's own comparisons.
        quick: Only those tagged for the short form, where no suite is named.

    Raises:
        UsageError: There are none.
        ConfigError: One cannot be read.
    """
    found = [key for suite in suites or ("",) for key in _keys(suite)]
    scenarios = {key: load(key) for key in found}
    if quick and not suites:
        return tuple(key for key in scenarios if QUICK in scenarios[key].tags)
    return tuple(scenarios)


def _keys(suite: str) -> list[str]:
    own = [name for name in scenario_names() if name.startswith(PREFIX)]
    if suite and Path(suite).is_dir():
        found = sorted(str(path) for path in Path(suite).glob("*.yaml"))
    elif "/" in suite or suite.endswith(".yaml") or suite in scenario_names() or is_drawn(suite):
        found = [suite]
    else:
        found = [name for name in own if suite in name.removeprefix(PREFIX)]
    if not found:
        raise UsageError(
            f"there are no scenarios called {suite!r}; `vcpud simulate --list` names those there are"
        )
    return found


def drawn_keys(count: int, seed: int) -> tuple[str, ...]:
    """Fresh scenarios."""
    return tuple(f"drawn_{seed}_{number}" for number in range(count))


def is_drawn(key: str) -> bool:
    """Whether it is the name of a drawn scenario, and not of one that somebody has written."""
    return _DRAWN.fullmatch(key) is not None


@lru_cache(maxsize=1_024)
def load(key: str) -> Scenario:
    """The scenario of a key, in any process.

    Args:
        key: The path of a file, the name of one of vcpud's scenarios, or `drawn_SEED_NUMBER`, as
            comparisons name what they have drawn.

    Raises:
        ConfigError: It cannot be read.
    """
    if name := _DRAWN.fullmatch(key):
        return draw(int(name[1]), int(name[2]))
    return read_scenario(key)
