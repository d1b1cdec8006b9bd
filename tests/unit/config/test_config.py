"""The configuration: every mistake of every file at once, with file, line and key."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vcpud import config
from vcpud.errors import ConfigError
from vcpud.hypervisor.options import LibvirtOptions, read_options
from vcpud.model import Mode
from vcpud.units import NS_PER_S
from vcpud_policies.spin_feedback import SpinFeedback

GOOD = """
period: 2s
policy: {name: spin_feedback, spin_high: 0.2}
libvirt: {uri: "qemu:///session", agent_period: 7s}
defaults: {mode: observe}
domains:
  web-*: {mode: enforce, min_vcpus: 2}
deny: [db-*]
limits: {shrink_cooldown: 9s}
"""


def written(folder: Path, text: str, name: str = "vcpud.yaml") -> Path:
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    path.chmod(0o644)
    path.parent.chmod(0o755)
    return path


def mistakes(path: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        config.load(path, explicit=True)
    return str(caught.value)


def test_a_right_file_becomes_settings(tmp_path: Path) -> None:
    found = config.load(written(tmp_path, GOOD), explicit=True)
    assert found.loop.period_ns == 2 * NS_PER_S
    assert found.loop.policy == SpinFeedback(spin_high=0.2)
    assert found.loop.limits.shrink_cooldown_ns == 9 * NS_PER_S
    understood = read_options(found.backend_options, "", LibvirtOptions)
    assert (understood.uri, understood.agent_period_ns) == ("qemu:///session", 7 * NS_PER_S)
    assert found.terms.terms("u", "web-1", None).mode is Mode.ENFORCE
    assert found.terms.terms("u", "web-1", None).min_vcpus == 2
    assert found.terms.terms("u", "db-1", None).mode is Mode.OFF
    assert found.terms.terms("u", "other", None).mode is Mode.OBSERVE


def test_without_any_file_everything_is_observed_and_nothing_enforced() -> None:
    found = config.defaults()
    assert found.terms.terms("u", "n", None).mode is Mode.OBSERVE
    assert found.listen is not None
    assert found.listen.host == "127.0.0.1"


def test_all_mistakes_of_all_files_are_listed_with_file_line_and_key(tmp_path: Path) -> None:
    main = written(
        tmp_path, "perod: 1s\npolicy:\n  name: spin_feedbak\nlimits: {max_step_vcpus: x}\n"
    )
    extra = written(tmp_path / "conf.d", "defaults:\n  mode: enforced\n", "10-x.yaml")
    told = mistakes(main)
    for wanted in (
        f"{main}:1: perod: there is no such key; did you mean 'period'?",
        f"{main}:3: policy.name: there is no policy 'spin_feedbak'; did you mean 'spin_feedback'?",
        f"{main}:4: limits.max_step_vcpus",
        f"{extra}:2: defaults.mode",
    ):
        assert wanted in told


def test_later_files_win_and_domains_are_merged(tmp_path: Path) -> None:
    main = written(tmp_path, "period: 1s\ndomains: {a: {mode: enforce}}\n")
    written(tmp_path / "conf.d", "period: 3s\n", "20.yaml")
    written(tmp_path / "conf.d", "period: 2s\ndomains: {b: {mode: enforce}}\n", "10.yaml")
    found = config.load(main, explicit=True)
    assert found.loop.period_ns == 3 * NS_PER_S
    assert {found.terms.terms("u", name, None).mode for name in "ab"} == {Mode.ENFORCE}


@pytest.mark.parametrize("mode", [0o664, 0o646])
def test_a_file_others_may_write_is_refused(tmp_path: Path, mode: int) -> None:
    path = written(tmp_path, "period: 1s\n")
    path.chmod(mode)
    assert "writ" in mistakes(path)


@pytest.mark.parametrize(
    "text",
    [
        "period: 1s\nperiod: 2s\n",
        "a: &x 1\nb: *x\n",
        "period: !!python/object:os.system 1\n",
        "period: 1\n",
        "period: -1s\n",
        "period: 1h\n",
        "- list\n",
        "{",
        "\x00",
        "period: 1s\n---\nperiod: 2s\n",
        "defaults: {min_vcpus: 4, max_vcpus: 2}\n",
        "metrics: {listen: nowhere}\n",
        "libvirt: {workers: 0}\n",
        "state_dir: relative\n",
        "a: " + "{a: " * 50 + "1" + "}" * 50,
    ],
)
def test_what_makes_no_sense_is_refused_with_its_place(tmp_path: Path, text: str) -> None:
    assert "vcpud.yaml" in mistakes(written(tmp_path, text))


def test_a_file_that_was_named_must_exist(tmp_path: Path) -> None:
    assert "missing.yaml" in mistakes(tmp_path / "missing.yaml")


def test_the_effective_settings_say_where_each_was_written(tmp_path: Path) -> None:
    path = written(tmp_path, GOOD)
    lines = {".".join(line.key): line for line in config.load(path, explicit=True).effective}
    assert lines["period"].origin == f"{path}:2"
    assert lines["on_stop"].origin == "default"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.text() | st.binary().map(lambda raw: raw.decode("latin-1")))
def test_no_text_whatever_gives_anything_but_settings_or_a_list_of_mistakes(
    tmp_path: Path, text: str
) -> None:
    path = tmp_path / "any.yaml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    path.chmod(0o600)
    try:
        config.load(path, explicit=True)
    except ConfigError as error:
        assert "any.yaml" in str(error)  # noqa: PT017 - either end is right
