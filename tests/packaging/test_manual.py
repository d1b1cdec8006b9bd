"""Man pages and completion: what the code knows, an operator finds."""

import argparse
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from vcpud import cli, config, policy

pytestmark = pytest.mark.process

CHECKOUT = Path(__file__).resolve().parents[2]
GENERATOR = CHECKOUT / "deploy" / "man" / "generate.py"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with everything that is generated."""
    folder = tmp_path_factory.mktemp("man")
    _generate(folder)
    return folder


def _generate(folder: Path, **environment: str) -> None:
    subprocess.run(
        (sys.executable, str(GENERATOR), str(folder)),
        check=True,
        env={**os.environ, "SOURCE_DATE_EPOCH": "1700000000", **environment},
    )


def _plain(page: Path) -> str:
    """A page without its escapes."""
    return re.sub(r"\\f[BIR]|\\&|\\,|\\/", "", page.read_text()).replace("\\-", "-")


def _subparsers() -> dict[str, argparse.ArgumentParser]:
    found = [one for one in cli._parser()._actions if isinstance(one, argparse._SubParsersAction)]
    return dict(found[0].choices)


def test_every_command_and_option_is_in_the_manual_of_the_program(made: Path) -> None:
    page = _plain(made / "vcpud.1")
    for name, command in _subparsers().items():
        assert f".SS vcpud {name}" in page
        for action in command._actions:
            if action.help != argparse.SUPPRESS and action.dest != "help":
                assert all(option in page for option in action.option_strings)


def test_every_exit_code_is_explained(made: Path) -> None:
    page = (made / "vcpud.1").read_text()
    section = page.partition(".SH EXIT STATUS")[2].partition(".SH ")[0]
    assert re.findall(r"^\.B (\d)$", section, re.MULTILINE) == ["0", "1", "2", "3", "4", "5"]


def test_every_key_in_force_is_in_the_manual_of_the_configuration(
    made: Path, tmp_path: Path
) -> None:
    page = _plain(made / "vcpud.yaml.5")
    shown = set(re.findall(r"^\.TP\n(\S+) \(", page, re.MULTILINE))
    for line in config.load(tmp_path / "absent.yaml").effective:
        key = ".".join(line.key)
        option = line.key[-1] if line.key[0] == "policy" else key
        if line.value not in {"{}", "[]"}:
            assert {key, option} & shown, key


def test_every_key_says_what_it_is_for(made: Path) -> None:
    page = (made / "vcpud.yaml.5").read_text().partition(".SH KEYS")[2].partition(".SH POL")[0]
    silent = re.findall(r"^\\fB(\S+)\\fR \(.*\)\n\\&$", page, re.MULTILINE)
    assert silent == []


def test_every_installed_policy_is_in_the_manual_of_the_configuration(made: Path) -> None:
    page = _plain(made / "vcpud.yaml.5")
    for name in policy.names():
        assert f".SS {name}\n" in page


def test_the_same_sources_give_the_same_pages_on_any_terminal(made: Path, tmp_path: Path) -> None:
    _generate(tmp_path, COLUMNS="40", TERM="dumb", TZ="Pacific/Auckland")
    for page in made.iterdir():
        assert (tmp_path / page.name).read_text() == page.read_text()


def _completed(made: Path, folder: Path, *words: str) -> set[str]:
    """What bash offers for the last word."""
    script = (
        f"source {made}/vcpud.bash; COMP_WORDS=({' '.join(words)}); COMP_CWORD={len(words) - 1}; "
        f'_shtab_vcpud; printf "%s\\n" "${{COMPREPLY[@]}}"'
    )
    done = subprocess.run(
        ("bash", "--norc", "-c", script),
        check=True,
        capture_output=True,
        text=True,
        env={"PATH": f"{folder}:{os.environ['PATH']}"},
    )
    return set(done.stdout.split())


def test_bash_completes_commands_and_options(made: Path, tmp_path: Path) -> None:
    assert _completed(made, tmp_path, "vcpud", "che") == {"check-config"}
    assert "--yes" in _completed(made, tmp_path, "vcpud", "enable-enforce", "--")


def test_bash_completes_the_names_of_domains(made: Path, tmp_path: Path) -> None:
    stand_in = tmp_path / "vcpud"
    stand_in.write_text('#!/bin/sh\necho \'[\n  {\n    "name": "db",\n    "uuid": "x"\n  }\n]\'\n')
    stand_in.chmod(0o755)
    assert _completed(made, tmp_path, "vcpud", "release", "d") == {"db"}
