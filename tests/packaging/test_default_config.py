"""The configuration that `make install` puts on a host."""

import re
from pathlib import Path

import pytest
import yaml

from vcpud import config
from vcpud.model import Mode, Uuid

CHECKOUT = Path(__file__).resolve().parents[2]
SHIPPED = CHECKOUT / "deploy" / "vcpud.yaml"
EXAMPLES = {
    "defaults.max_vcpus",
    "libvirt.uri",
    "metrics.tls_certificate",
    "metrics.tls_client_ca",
    "metrics.tls_key",
    "recording.directory",
    "xen.ignore_host",
}
"""Keys whose default is to be absent."""


@pytest.fixture
def uncommented(tmp_path: Path) -> Path:
    """The shipped file with every commented key in force."""
    key = re.compile(r'^( *)# ((?: *)["\w*.-]+:(?: |$))', re.MULTILINE)
    path = tmp_path / "vcpud.yaml"
    path.write_text(key.sub(r"\1\2", SHIPPED.read_text()).replace("# deny", "deny"))
    path.chmod(0o644)
    return path


def test_it_observes_every_domain_and_enforces_none() -> None:
    settings = config.load(SHIPPED, explicit=True)
    assert settings.terms.terms(Uuid("x"), "any", None).mode is Mode.OBSERVE
    assert settings.terms.selectors == ()


def test_it_changes_nothing_against_the_built_in_defaults(tmp_path: Path) -> None:
    built_in = config.load(tmp_path / "absent.yaml")
    shipped = config.load(SHIPPED, explicit=True)
    assert shipped.loop == built_in.loop
    assert shipped.listen == built_in.listen
    assert shipped.terms.default == built_in.terms.default


def test_every_key_it_mentions_is_known(uncommented: Path) -> None:
    settings = config.load(uncommented, explicit=True)
    assert [selector.pattern for selector in settings.terms.selectors][-1] == "build-*"
    assert settings.terms.denied == ("router-*",)


def test_every_value_it_gives_as_a_default_is_the_default(
    uncommented: Path, tmp_path: Path
) -> None:
    built_in = {
        ".".join(line.key): line.value for line in config.load(tmp_path / "absent.yaml").effective
    }
    shown = {
        ".".join(line.key): line.value
        for line in config.load(uncommented, explicit=True).effective
        if line.origin != "default" and line.key[0] not in {"domains", "deny"}
    }
    differing = {key for key, value in shown.items() if built_in.get(key) != value}
    assert differing <= EXAMPLES | {
        "defaults.mode",
        "defaults.min_vcpus",
        "defaults.guest_signals",
    }


def test_it_mentions_every_section(uncommented: Path, tmp_path: Path) -> None:
    written = yaml.safe_load(uncommented.read_text())
    sections = {line.key[0] for line in config.load(tmp_path / "absent.yaml").effective}
    assert sections - set(written) <= {"backend", "state_dir", "runtime_dir"}
