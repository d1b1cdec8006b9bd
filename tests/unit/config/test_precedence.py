"""Which of several statements wins, what is written back, and odd files beside the main one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vcpud import config
from vcpud.commands.serve import effective_text
from vcpud.errors import ConfigError
from vcpud.model import Mode
from vcpud.settings import Settings
from vcpud.terms import Wishes


@pytest.fixture
def etc(tmp_path: Path) -> Path:
    tmp_path.chmod(0o700)
    return tmp_path


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(mode=0o700, exist_ok=True)
    path.write_text(text)
    path.chmod(0o600)
    return path


def load(folder: Path, text: str, **more: str) -> Settings:
    for name, content in more.items():
        write(folder / "conf.d" / f"{name}.yaml", content)
    return config.load(write(folder / "vcpud.yaml", text), explicit=True)


def refused(folder: Path, text: str, **more: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(folder, text, **more)
    return [line.replace(f"{folder}/", "") for line in str(caught.value).splitlines()]


def test_exact_names_come_before_globs_and_later_files_before_earlier(etc: Path) -> None:
    uuid = "AAAAAAAA-bbbb-cccc-dddd-eeeeeeeeeeee"
    found = load(
        etc,
        f'domains:\n  "*": {{}}\n  "we*": {{}}\n  web: {{}}\n  {uuid}: {{}}\n',
        a='domains:\n  "w*": {}\n',
    )
    patterns = [selector.pattern for selector in found.terms.selectors]
    assert patterns == ["web", uuid.lower(), "w*", "*", "we*"]


def test_a_domain_inherits_what_it_does_not_say(etc: Path) -> None:
    found = load(
        etc, "defaults: {min_vcpus: 2, guest_signals: true}\ndomains: {db: {mode: enforce}}\n"
    )
    terms = found.terms.terms("u", "db", None)
    assert (terms.mode, terms.min_vcpus, terms.guest_signals) == (Mode.ENFORCE, 2, True)
    assert found.terms.terms("u", "other", None).mode is Mode.OBSERVE


@pytest.mark.parametrize(
    ("wishes", "bounds"),
    [
        (Wishes(min_vcpus=1), (2, 4)),
        (Wishes(min_vcpus=3), (3, 4)),
        (Wishes(max_vcpus=8), (2, 4)),
        (Wishes(max_vcpus=3), (2, 3)),
        (Wishes(max_vcpus=1), (2, 2)),
        (Wishes(min_vcpus=8), (8, 8)),
    ],
)
def test_who_owns_a_domains_metadata_lowers_no_floor_and_raises_no_ceiling_but_by_a_floor(
    etc: Path, wishes: Wishes, bounds: tuple[int, int]
) -> None:
    book = load(etc, "domains: {db: {mode: enforce, min_vcpus: 2, max_vcpus: 4}}").terms
    terms = book.terms("uuid", "db", wishes)
    assert (terms.min_vcpus, terms.max_vcpus) == bounds


def test_off_is_a_mode_and_not_a_boolean(etc: Path) -> None:
    assert load(etc, "defaults: {mode: off}").terms.default.mode is Mode.OFF


def test_bounds_that_only_clash_when_merged_name_the_file_that_clashes(etc: Path) -> None:
    lines = refused(etc, "defaults: {max_vcpus: 4}\n", a="domains:\n  db: {min_vcpus: 8}\n")
    assert lines == ["conf.d/a.yaml:2: domains.db: min_vcpus 8 is more than max_vcpus 4"]


def test_a_mistake_that_a_later_file_overrules_is_still_a_mistake(etc: Path) -> None:
    lines = refused(etc, "period: soon\n", a="period: 1s\n")
    assert len(lines) == 1
    assert lines[0].startswith("vcpud.yaml:1: period: expected a duration")


def test_a_wrongly_named_drop_in_is_pointed_out_and_an_editors_is_not(etc: Path) -> None:
    write(etc / "conf.d" / ".hidden.yaml", "nonsense: 1")
    write(etc / "conf.d" / "a.yaml~", "nonsense: 1")
    load(etc, "")
    write(etc / "conf.d" / "b.yml", "")
    assert refused(etc, "") == [
        "conf.d/b.yml: would be ignored: rename it so that its name ends in .yaml"
    ]


def test_a_drop_in_folder_that_others_may_write_is_not_believed(etc: Path) -> None:
    write(etc / "conf.d" / "a.yaml", "period: 2s")
    (etc / "conf.d").chmod(0o777)
    assert "conf.d: is writable for group or others" in refused(etc, "")[0]


def test_the_default_file_must_belong_to_root(etc: Path) -> None:
    path = write(etc / "vcpud.yaml", "")
    if os.geteuid() == 0:
        os.chown(path, 1234, -1)
    with pytest.raises(ConfigError, match="is owned by user"):
        config.load(path)


def test_durations_of_the_libvirt_section_arrive_in_the_backends_unit(etc: Path) -> None:
    found = load(etc, "libvirt: {call_deadline: 1500ms, workers: 3}")
    assert found.backend_options == {"call_deadline_ns": 1_500_000_000, "workers": 3}


def test_the_effective_configuration_is_read_back_as_the_same(etc: Path) -> None:
    first = load(
        etc,
        "period: 1500ms\ndomains:\n  'we ''b*': {mode: off, min_vcpus: 2}\n  a.b: {}\n"
        "deny: ['x: y', z]\nlimits: {grow_cooldown: 90s}\nlibvirt: {uri: 'qemu:///session'}\n",
    )
    text = effective_text(first)
    assert f"{etc}/vcpud.yaml:1" in text
    second = load(etc, text)
    assert second.loop.limits == first.loop.limits
    assert second.loop.period_ns == first.loop.period_ns
    assert second.terms == first.terms
    assert second.backend_options == first.backend_options
    assert second.digest == first.digest


words = st.sampled_from(
    [
        "period",
        "domains",
        "policy",
        "limits",
        "name",
        "mode",
        "off",
        "deny",
        "1s",
        "*",
        "db",
        "log",
    ]
)
leaves = words | st.integers() | st.floats() | st.booleans() | st.none() | st.text(max_size=5)
trees = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=4),
    max_leaves=12,
)


@given(data=st.dictionaries(words, trees, max_size=6))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_no_shape_of_data_gives_anything_but_settings_or_mistakes(
    etc: Path, data: dict[str, object]
) -> None:
    path = write(etc / "vcpud.yaml", yaml.safe_dump(data))
    try:
        found = config.load(path, explicit=True)
    except ConfigError as error:
        mistakes = str(error).splitlines()
    else:
        mistakes = []
        assert isinstance(found, Settings)
    assert all(mistakes)
