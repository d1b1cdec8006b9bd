"""Whatever a file holds, it is read as a scenario without fault or refused with its mistakes."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from vcpud.errors import ConfigError
from vcpud_simulator.reading import read_scenario, scenario_names
from vcpud_simulator.scenario import faults

SHIPPED = [
    (Path(__file__).resolve().parents[3] / "simulator/scenarios" / f"{name}.yaml").read_text()
    for name in scenario_names()[:8]
]
WORDS = (
    "0", "-1", "1e9", "10000000000000000000000000000000000000001", ".inf", "3s", "-3s", "0s", "1h",
    "null", "true", "[]", "{}", "[[[[[[[[[[[[[[]]]]]]]]]]]]]]", "&a", "*a", "!!x", "'", '"', "phased",
    "{kind: phased, phases: [{workload: {kind: phased, phases: []}}]}", "\t", "\x00", "é", "...",
    "---", "kind", "domains", "guest: {hz: x}", "lies: [absurd]", "missing: [run, run]",
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(
    text=st.sampled_from(SHIPPED),
    cuts=st.lists(
        st.tuples(st.floats(0, 1), st.floats(0, 0.02), st.sampled_from(WORDS)), max_size=4
    ),
)
def test_a_file_with_anything_in_it(text: str, cuts: list[tuple[float, float, str]]) -> None:
    for where, size, word in cuts:
        at = int(where * len(text))
        text = text[:at] + word + text[at + int(size * len(text)) :]
    _read_or_refuse(text)


@settings(max_examples=150, deadline=None)
@given(data=st.data(), text=st.sampled_from(SHIPPED))
def test_a_file_with_any_value_replaced(data: st.DataObject, text: str) -> None:
    values = list(re.finditer(r"(?<=: )[^ {}\[\],\n]+", text))
    found = data.draw(st.sampled_from(values))
    word = data.draw(st.sampled_from(WORDS) | st.integers().map(str) | st.floats().map(str))
    _read_or_refuse(text[: found.start()] + word + text[found.end() :])


def _read_or_refuse(text: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "any.yaml"
        path.write_text(text)
        try:
            scenario = read_scenario(path)
        except ConfigError as error:
            lines = str(error).splitlines()
            assert lines
            assert all(line.startswith(str(path)) for line in lines)
        else:
            assert faults(scenario) == ()
