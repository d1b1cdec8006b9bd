"""The kill switch: a file that is there, is not there, or cannot be looked for."""

from __future__ import annotations

from pathlib import Path

from fakes.ports import ListInbox
from vcpud.killswitch import SwitchedInbox
from vcpud.requests import KillSwitch


def test_a_switch_that_cannot_be_looked_for_stays_as_it_was(tmp_path: Path) -> None:
    folder, away = tmp_path / "etc", tmp_path / "away"
    folder.mkdir()
    (folder / "disabled").touch()
    inbox = SwitchedInbox(ListInbox(), folder / "disabled", lambda: 0)

    def told() -> list[bool]:
        return [one.thrown for one in inbox.drain() if isinstance(one, KillSwitch)]

    assert told() == [True]
    folder.rename(away)
    folder.symlink_to(folder)  # a loop: neither there nor not there
    assert told() == []
    folder.unlink()
    assert told() == [False]
