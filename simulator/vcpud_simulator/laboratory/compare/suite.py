"""Which scenarios are compared: vcpud's own, somebody's files, or freshly drawn ones."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Final

from vcpud.errors import UsageError
from vcpud_simulator.laboratory.compare.drawn import draw
from vcpud_simulator.laboratory.reading import read_scenario, scenario_names
from vcpud_simulator.scenario import Scenario

PREFIX: Final = "compare_"
QUICK: Final = "quick"
_DRAWN: Final = "drawn:"


def keys(suite: str | None, *, quick: bool = False) -> tuple[str, ...]:
    """The scenarios of a suite.

    Args:
        suite: A folder of YAML files, a file, the name of one of vcpud's scenarios (without the
            prefix too), a part of such names, or None for all of vcpud's own comparisons.
        quick: Only those tagged for the short form.

    Raises:
        UsageError: There are none.
        ConfigError: One cannot be read.
    """
    own = [name for name in scenario_names() if name.startswith(PREFIX)]
    if suite is None:
        found = own
    elif Path(suite).is_dir():
        found = sorted(str(path) for path in Path(suite).glob("*.yaml"))
    elif "/" in suite or suite.endswith(".yaml") or suite in scenario_names():
        found = [suite]
    else:
        found = [name for name in own if suite in name.removeprefix(PREFIX)]
    if not found:
        raise UsageError(f"there are no scenarios called {suite!r}")
    scenarios = {key: load(key) for key in found}
    if quick and suite is None:
        found = [key for key in found if QUICK in scenarios[key].tags]
    return tuple(found)


def drawn_keys(count: int, seed: int) -> tuple[str, ...]:
    """Fresh scenarios."""
    return tuple(f"{_DRAWN}{seed}:{number}" for number in range(count))


@lru_cache(maxsize=1_024)
def load(key: str) -> Scenario:
    """The scenario of a key, in any process.

    Raises:
        ConfigError: It cannot be read.
    """
    if key.startswith(_DRAWN):
        seed, number = key.removeprefix(_DRAWN).split(":")
        return draw(int(seed), int(number))
    return read_scenario(key)
