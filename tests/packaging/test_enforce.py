"""The right to change domains: asked for aloud, installed whole, taken back only when nothing needs it."""

import io
import stat
from pathlib import Path

import pytest

from vcpud.cli import main
from vcpud.commands import enforce
from vcpud.ledger import FileLedger
from vcpud.model import Original

CHECKOUT = Path(__file__).resolve().parents[2]
UUID = "00000000-0000-0000-0000-000000000001"


@pytest.fixture
def rules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for polkit's rules, and no systemd to restart anything."""
    folder = tmp_path / "rules.d"
    folder.mkdir()
    monkeypatch.setattr(enforce, "RULES_DIR", folder)
    monkeypatch.setattr(enforce, "_BOOTED", tmp_path / "absent")
    return folder


def _run(tmp_path: Path, *arguments: str) -> int:
    folders = (f"--state-dir={tmp_path}/state", f"--runtime-dir={tmp_path}/run")
    return main([*arguments, *folders])


def _says(monkeypatch: pytest.MonkeyPatch, answer: str) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr("sys.stdin", Terminal(answer))


def test_the_rule_names_the_account_and_the_action(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["enable-enforce", "--print"]) == 0
    printed = capsys.readouterr().out
    assert 'action.id === "org.libvirt.unix.manage" && subject.user === "vcpud"' in printed


def test_the_example_in_deploy_is_what_the_command_installs() -> None:
    assert (CHECKOUT / "deploy/polkit/50-vcpud.rules").read_text() == enforce.rule()


def test_it_says_that_the_right_equals_root_and_installs_the_rule(
    rules: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run(tmp_path, "enable-enforce", "--yes") == 0
    assert "equals root" in capsys.readouterr().out
    installed = rules / enforce.RULE_NAME
    assert installed.read_text() == enforce.rule()
    assert stat.S_IMODE(installed.stat().st_mode) == 0o644
    assert list(rules.iterdir()) == [installed]


def test_a_yes_on_the_terminal_is_enough(
    rules: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _says(monkeypatch, "y\n")
    assert _run(tmp_path, "enable-enforce") == 0
    assert (rules / enforce.RULE_NAME).exists()


@pytest.mark.parametrize("answer", ["", "\n", "n\n", "yeah\n"])
def test_anything_but_yes_changes_nothing(
    answer: str, rules: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _says(monkeypatch, answer)
    assert _run(tmp_path, "enable-enforce") == 1
    assert list(rules.iterdir()) == []


def test_where_nobody_can_be_asked_it_wants_a_word_instead(
    rules: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    assert _run(tmp_path, "enable-enforce") == 2
    assert "--yes" in capsys.readouterr().err
    assert list(rules.iterdir()) == []


def test_a_second_time_changes_nothing(
    rules: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run(tmp_path, "enable-enforce", "--yes") == 0
    before = (rules / enforce.RULE_NAME).stat()
    assert _run(tmp_path, "enable-enforce") == 0
    assert (rules / enforce.RULE_NAME).stat().st_ino == before.st_ino
    assert "exists already" in capsys.readouterr().out


def test_a_host_without_polkit_is_told_of_the_other_way(
    rules: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rules.rmdir()
    assert _run(tmp_path, "enable-enforce", "--yes") == 1
    assert "group" in capsys.readouterr().err


def test_without_permission_it_says_who_must_run_it(
    rules: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def refuse(_target: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(enforce, "_install", refuse)
    assert _run(tmp_path, "enable-enforce", "--yes") == 1
    assert "as root" in capsys.readouterr().err
    assert list(rules.iterdir()) == []


@pytest.mark.parametrize("words", [("enable-enforce", "--yes"), ("disable-enforce",)])
def test_whoever_may_not_look_is_not_told_that_there_is_no_rule(
    rules: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: tuple[str, ...],
) -> None:
    def closed(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(type(rules), "lstat", closed)
    assert _run(tmp_path, *words) == 1
    assert "run this as root" in capsys.readouterr().err


def test_it_is_reversible(rules: Path, tmp_path: Path) -> None:
    assert _run(tmp_path, "enable-enforce", "--yes") == 0
    assert _run(tmp_path, "disable-enforce") == 0
    assert list(rules.iterdir()) == []
    assert _run(tmp_path, "disable-enforce") == 0


def test_the_right_stays_while_a_domain_is_not_given_back(
    rules: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run(tmp_path, "enable-enforce", "--yes") == 0
    FileLedger(tmp_path / "state").remember(
        Original(
            boot_id="b",
            uuid=UUID,
            name="db",
            incarnation="1@0",
            online=frozenset({0, 1}),
            live_vcpus=2,
        )
    )
    assert _run(tmp_path, "disable-enforce") == 5
    assert "db" in capsys.readouterr().err
    assert (rules / enforce.RULE_NAME).exists()


def test_a_vcpud_that_stays_paused_is_said(
    rules: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert _run(tmp_path, "enable-enforce", "--yes") == 0
    monkeypatch.setattr(enforce, "ask", lambda *_, **__: {"left": ["db"]})
    assert _run(tmp_path, "disable-enforce") == 5
    assert "vcpud stays paused until `vcpud resume`" in capsys.readouterr().err
    assert (rules / enforce.RULE_NAME).exists()
