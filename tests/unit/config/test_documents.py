"""Reading YAML files: what is refused, and that hostile files only ever produce mistakes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vcpud.documents import Document, Origin, merge, parse, read


def parsed(text: str) -> Document:
    document = Document()
    parse(text, "f", document)
    return document


def mistakes(text: str) -> list[str]:
    return [str(mistake) for mistake in parsed(text).mistakes]


def owned(path: Path, text: str | bytes, mode: int = 0o600) -> Path:
    raw = text.encode() if isinstance(text, str) else text
    path.write_bytes(raw)
    path.chmod(mode)
    return path


ME = {os.geteuid()}


def test_values_carry_the_file_and_line_of_their_key() -> None:
    document = parsed("a:\n  b: 1\n  c: [x, y]\n")
    assert document.data == {"a": {"b": 1, "c": ["x", "y"]}}
    assert document.origins[("a", "b")] == Origin("f", 2)
    assert document.origins[("a", "c", "1")] == Origin("f", 3)
    assert document.origin(("a", "b", "unknown")) == Origin("f", 2)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("off", "off"),
        ("no", "no"),
        ("True", True),
        ("~", None),
        ("", None),
        ("12", 12),
        ("1.5", 1.5),
        ("'12'", "12"),
        ("1:30", "1:30"),
        ("2026-01-01", "2026-01-01"),
        ("1" * 400, "1" * 400),
        ("1e999", float("inf")),
    ],
)
def test_plain_words_are_read_as_yaml_1_2_reads_them(text: str, value: object) -> None:
    assert parsed(f"k: {text}").data["k"] == value


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: 1\nb: 2\na: 3\n", "f:3: a: written twice, first in line 1"),
        ("a: &x 1\nb: *x\n", "f:1: a: anchors and aliases are not allowed here"),
        ("a: !!python/object:os.system 1\n", "f:1: a: the tag"),
        ("<<: {a: 1}\n[1]: 2\n", "f:2: "),
        ("- 1\n", "f:1: expected keys and values"),
        ("a: 1\n---\nb: 2\n", "f:2: more than one document"),
        ("? {a: 1}\n: 2\n", "f:1: a key must be a plain word"),
        ("a: [1, 2\n", "f:2: not YAML"),
        ("a: \x07\n", "f: not YAML"),
        ("[" * 3000, "f:"),
        ("a: " + "[" * 20 + "]" * 20, "nested more than"),
        ("a:\n\t- b\n", "f:2: not YAML"),
    ],
)
def test_what_a_configuration_has_no_use_for_is_a_mistake(text: str, expected: str) -> None:
    assert expected in mistakes(text)[0]


def test_a_repeated_section_keeps_the_first_and_is_reported_once() -> None:
    document = parsed("a:\n  b: 1\na:\n  b: 2\n  c: 3\n")
    assert document.data == {"a": {"b": 1}}
    assert [str(one) for one in document.mistakes] == ["f:3: a: written twice, first in line 1"]


def test_an_exponential_bomb_is_refused_at_its_first_anchor() -> None:
    text = "a: &a [x,x]\n" + "".join(
        f"{chr(98 + n)}: &{chr(98 + n)} [*{chr(97 + n)},*{chr(97 + n)}]\n" for n in range(20)
    )
    assert len(mistakes(text)) == 1


@given(
    st.text(alphabet=st.sampled_from("ab:-[]{}&*!|>#%@`\"'\\ \n\t,?0~<=é\x00\x85"), max_size=60)
)
def test_no_text_does_anything_but_list_mistakes(text: str) -> None:
    document = parsed(text)
    assert isinstance(document.data, dict)
    assert all(str(mistake) for mistake in document.mistakes)


@given(st.binary(max_size=80))
def test_no_bytes_do_anything_but_list_mistakes(raw: bytes) -> None:
    document = parsed(raw.decode(errors="replace"))
    assert isinstance(document.data, dict)


def test_a_later_file_overrides_scalars_replaces_lists_and_merges_mappings() -> None:
    base, later = Document(), Document()
    parse("s: 1\nl: [a, b]\nm: {x: {p: 1}, y: {p: 2}}\n", "base", base)
    parse("s: 2\nl: [c]\nm: {x: {q: 3}}\n", "later", later)
    merged = merge(base, later)
    assert merged.data == {"s": 2, "l": ["c"], "m": {"y": {"p": 2}, "x": {"p": 1, "q": 3}}}
    assert merged.origins[("s",)] == Origin("later", 1)
    assert merged.origins[("m", "x", "p")] == Origin("base", 3)
    assert merged.origins[("m", "x", "q")] == Origin("later", 3)
    assert ("l", "1") not in merged.origins


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_a_file_that_others_may_write_is_not_believed(tmp_path: Path, mode: int) -> None:
    path = owned(tmp_path / "f.yaml", "a: 1", mode)
    document = read(path, ME)
    assert "is writable for group or others" in str(document.mistakes[0])
    assert document.data == {}


def test_a_file_of_somebody_else_is_not_believed(tmp_path: Path) -> None:
    path = owned(tmp_path / "f.yaml", "a: 1")
    assert "is owned by user" in str(read(path, {os.geteuid() + 1}).mistakes[0])


def test_a_file_in_a_folder_that_others_may_write_is_not_believed(tmp_path: Path) -> None:
    path = owned(tmp_path / "f.yaml", "a: 1")
    tmp_path.chmod(0o770)
    assert "its folder" in str(read(path, ME).mistakes[0])


def test_a_link_is_as_safe_as_where_it_ends(tmp_path: Path) -> None:
    safe, unsafe = tmp_path / "safe", tmp_path / "unsafe"
    for folder in (safe, unsafe):
        folder.mkdir(mode=0o700)
    owned(unsafe / "f.yaml", "a: 1")
    (safe / "f.yaml").symlink_to(unsafe / "f.yaml")
    assert read(safe / "f.yaml", ME).data == {"a": 1}
    unsafe.chmod(0o777)
    assert "its folder" in str(read(safe / "f.yaml", ME).mistakes[0])


def test_links_that_go_round_or_nowhere_are_mistakes(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    (tmp_path / "round.yaml").symlink_to(tmp_path / "round.yaml")
    (tmp_path / "nowhere.yaml").symlink_to(tmp_path / "absent")
    for name in ("round.yaml", "nowhere.yaml"):
        assert len(read(tmp_path / name, ME).mistakes) == 1


@pytest.mark.timeout(5)
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    os.mkfifo(tmp_path / "f.yaml", 0o600)
    assert "is not a regular file" in str(read(tmp_path / "f.yaml", ME).mistakes[0])


def test_size_and_encoding_are_bounded(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    big = owned(tmp_path / "big.yaml", "#" * 300_000)
    odd = owned(tmp_path / "odd.yaml", b"a: \xff\xfe")
    assert "is larger than" in str(read(big, ME).mistakes[0])
    assert "is not UTF-8" in str(read(odd, ME).mistakes[0])
