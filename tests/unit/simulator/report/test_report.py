"""A report is one safe, complete file."""

from __future__ import annotations

import dataclasses
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from fakes.material import EVIL, S, domain, journal, material, result
from vcpud.errors import VcpudError
from vcpud_simulator.laboratory import report
from vcpud_simulator.laboratory.report.page import page
from vcpud_simulator.laboratory.report.tables import figure, gain_text, times


class Parts(HTMLParser):
    """The elements of a page, and its text outside of scripts and styles."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self._inside = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._inside = tag

    def handle_endtag(self, tag: str) -> None:  # noqa: ARG002 - of the base class
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside not in ("script", "style"):
            self.words += data


@pytest.fixture(scope="module")
def hostile() -> Parts:
    return Parts(report.html(material(names=(EVIL, "build"), reason=EVIL)))


def test_it_fetches_nothing_and_runs_no_script_but_its_own(hostile: Parts) -> None:
    tags = [tag for tag, _ in hostile.elements]
    assert tags.count("script") == 2
    assert not {"img", "iframe", "object", "embed", "form", "base", "audio", "video"} & set(tags)
    for tag, attributes in hostile.elements:
        assert not any(name.startswith("on") for name in attributes), tag
        assert "src" not in attributes, tag
        assert attributes.get("href", "data:,") == "data:,", tag
    [policy] = [
        attributes["content"] or ""
        for tag, attributes in hostile.elements
        if attributes.get("http-equiv") == "Content-Security-Policy"
    ]
    assert "default-src 'none'" in policy
    assert "script-src 'sha256-" in policy
    assert "script-src 'unsafe-inline'" not in policy


def test_hostile_words_are_shown_as_words(hostile: Parts) -> None:
    assert hostile.words.count("</script><script>alert(1)") > 8
    assert "{{7*7}}" in hostile.words
    assert "\u202e" not in hostile.words, "it would turn the text around"


def test_the_table_has_every_domain_and_compares_it_with_unmanaged() -> None:
    table = page(material()).summary
    assert [row.cells[0] for row in table.rows] == ["mail", "build"]
    assert table.rows[0].cells[1:4] == ("588", "2.00", "×294")  # noqa: RUF001
    assert all(len(row.cells) == len(table.heads) for row in table.rows)


def test_phases_are_summed_up_from_the_seconds_inside_them() -> None:
    table = page(material()).phases
    assert table is not None
    assert table.rows[0].cells == ("mail", "2.00", "588", "4.00", "1.00", "1.00", "0.00", "×294")  # noqa: RUF001


def test_decisions_are_listed_with_their_reasons_and_how_they_ended() -> None:
    [first, second] = page(material()).decisions.rows
    assert first.cells == (
        "mail",
        "23.0 s",
        "4 → 1 vCPUs, took 1.00 s",
        "lock wait",
        "helped (×32.2), kept: lock wait",  # noqa: RUF001
    )
    assert second.cells[0] == "build"


def test_guards_and_faults_of_the_policy_are_told() -> None:
    shown = page(material())
    assert shown.blocks.rows[0].cells == ("mail", "pace", "lock wait", "7")
    assert shown.errors == ("the policy failed in 3 cycles: ValueError: lock wait",)


def test_a_run_without_vcpud_says_so() -> None:
    bare = dataclasses.replace(material(), journal=None, baseline=None, phases=(), windows=())
    parts = Parts(report.html(bare))
    assert "Nobody decided anything" in parts.words
    assert [head.text for head in page(bare).summary.heads][:3] == [
        "Domain",
        "Iterations/s",
        "Active vCPUs",
    ]


def test_response_times_have_a_column_where_there_are_any() -> None:
    with_some = dataclasses.replace(
        result(("web", "batch")),
        domains={
            "web": domain(10, responses_ns={50: S // 1_000, 95: S // 100, 99: S}),
            "batch": domain(10),
        },
    )
    table = page(dataclasses.replace(material(), result=with_some, baseline=None)).summary
    assert table.heads[-1].text == "Response ms"
    assert [row.cells[-1] for row in table.rows] == ["1.00 / 10.0 / 1,000", "-"]


def test_of_many_domains_those_that_changed_are_drawn_and_all_are_in_the_table() -> None:
    names = tuple(f"d{number}" for number in range(30))
    made = result(names)
    calm = tuple(dataclasses.replace(one, active_vcpus=4) for one in made.timeline["d0"])
    timeline = {name: calm if name != "d17" else made.timeline[name] for name in names}
    shown = page(
        dataclasses.replace(
            material(),
            result=dataclasses.replace(made, timeline=timeline),
            journal=journal(("d17",), "x"),
        )
    )
    assert len(shown.summary.rows) == 30
    assert len(shown.legend) == 8
    assert "d17" in [name for name, _ in shown.legend]
    assert "8 of 30" in shown.legend_note


def test_a_figure_has_three_digits() -> None:
    assert [figure(value) for value in (None, 0, 0.01234, 1.234, 12.34, 1234567.8)] == [
        "-", "0.00", "0.012", "1.23", "12.3", "1,234,568",
    ]  # fmt: skip
    assert times(1.0, 0.0) == "-"


def test_a_gain_is_told_in_a_form_that_can_be_read() -> None:
    assert [gain_text(gain) for gain in (-0.05, 0.25, 31.2, 5e8)] == [
        "-5%", "+25%", "×32.2", "more than ×1,000",  # noqa: RUF001
    ]  # fmt: skip


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    made = material()
    report.write(path, scenario=made.scenario, result=made.result)
    whole = path.read_text()
    assert whole.rstrip().endswith("</html>")
    broken = dataclasses.replace(made.result, timeline={})
    with pytest.raises(KeyError):
        report.write(path, scenario=made.scenario, result=broken)
    assert path.read_text() == whole
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_is_not_there_is_an_error_of_the_system(tmp_path: Path) -> None:
    made = material()
    with pytest.raises(FileNotFoundError):
        report.write(tmp_path / "no" / "r.html", scenario=made.scenario, result=made.result)


def test_without_jinja2_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(VcpudError, match=r"pip install 'vcpud\[laboratory\]'"):
        report.html(material())
