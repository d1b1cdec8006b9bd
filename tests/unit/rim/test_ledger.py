"""Originals survive everything, or nothing is changed."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from vcpud.errors import LedgerError
from vcpud.ledger import FileLedger, clear_hold, read_hold, write_hold
from vcpud.model import Original
from vcpud.units import NS_PER_S

ORIGINAL = Original(
    boot_id="b",
    uuid="u",
    name="web",
    incarnation="1@2",
    online=frozenset({0, 1, 2, 3}),
    live_vcpus=4,
)


def test_what_is_remembered_is_there_for_the_next_process(tmp_path: Path) -> None:
    FileLedger(tmp_path).remember(ORIGINAL)
    assert FileLedger(tmp_path).outstanding() == (ORIGINAL,)


def test_a_second_original_of_the_same_life_changes_nothing(tmp_path: Path) -> None:
    ledger = FileLedger(tmp_path)
    ledger.remember(ORIGINAL)
    ledger.remember(replace(ORIGINAL, online=frozenset({0})))
    assert ledger.outstanding() == (ORIGINAL,)


@pytest.mark.parametrize(("first", "second"), [("1:?", "1:2"), ("1:2", "1:?")])
def test_a_second_original_of_a_life_whose_process_was_not_always_readable_changes_nothing(
    tmp_path: Path, first: str, second: str
) -> None:
    ledger = FileLedger(tmp_path)
    ledger.remember(replace(ORIGINAL, incarnation=first))
    ledger.remember(replace(ORIGINAL, incarnation=second, online=frozenset({0})))
    assert ledger.outstanding() == (replace(ORIGINAL, incarnation=first),)


def test_an_unplug_whose_end_nobody_has_seen_is_there_for_the_next_process(tmp_path: Path) -> None:
    ledger = FileLedger(tmp_path)
    ledger.remember(ORIGINAL)
    ledger.amend(replace(ORIGINAL, unplug_from=4))
    assert FileLedger(tmp_path).outstanding() == (replace(ORIGINAL, unplug_from=4),)


def test_an_entry_of_before_unplugs_were_noted_is_read(tmp_path: Path) -> None:
    FileLedger(tmp_path).remember(ORIGINAL)
    path = tmp_path / "originals.json"
    document = json.loads(path.read_text())
    del document["originals"][0]["unplug_from"]
    path.write_text(json.dumps(document))
    assert FileLedger(tmp_path).outstanding() == (ORIGINAL,)


def test_an_entry_of_before_hypervisors_were_told_apart_is_read(tmp_path: Path) -> None:
    FileLedger(tmp_path).remember(replace(ORIGINAL, hypervisor="qemu:///system"))
    path = tmp_path / "originals.json"
    document = json.loads(path.read_text())
    del document["originals"][0]["hypervisor"]
    path.write_text(json.dumps(document))
    assert FileLedger(tmp_path).outstanding() == (ORIGINAL,)


def test_an_original_of_another_hypervisor_is_not_overwritten_by_a_namesake(
    tmp_path: Path,
) -> None:
    there = replace(ORIGINAL, hypervisor="qemu:///session")
    ledger = FileLedger(tmp_path)
    ledger.remember(there)
    with pytest.raises(LedgerError, match="'web' of qemu:///session"):
        ledger.remember(replace(ORIGINAL, incarnation="3@4", hypervisor="qemu:///system"))
    assert FileLedger(tmp_path).outstanding() == (there,)


def test_what_is_forgotten_is_gone_for_the_next_process_too(tmp_path: Path) -> None:
    ledger = FileLedger(tmp_path)
    ledger.remember(ORIGINAL)
    ledger.forget("u")
    assert FileLedger(tmp_path).outstanding() == ()


def test_however_many_are_forgotten_together_the_disk_is_waited_for_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = FileLedger(tmp_path)
    for uuid in "abcd":
        ledger.remember(replace(ORIGINAL, uuid=uuid))
    synced: list[int] = []
    monkeypatch.setattr("vcpud.ledger.os.fsync", synced.append)
    ledger.forget("a", "b", "c", "of nobody")
    assert [one.uuid for one in FileLedger(tmp_path).outstanding()] == ["d"]
    ledger.forget("a", "of nobody")
    assert len(synced) == 2, "the file and its folder"


@pytest.mark.parametrize("content", ["", "{", "\x00" * 100, "[]"])
def test_a_ledger_that_cannot_be_read_is_kept_aside_and_forbids_every_change(
    tmp_path: Path, content: str
) -> None:
    (tmp_path / "originals.json").write_text(content)
    ledger = FileLedger(tmp_path)
    assert ledger.fault
    with pytest.raises(LedgerError):
        ledger.remember(ORIGINAL)
    kept = [path.read_text() for path in tmp_path.iterdir() if "unreadable" in path.name]
    assert kept == [content]
    assert FileLedger(tmp_path).fault, "also for the next process, until an operator has looked"


def test_a_ledger_of_a_newer_vcpud_stays_where_it_is_and_forbids_every_change(
    tmp_path: Path,
) -> None:
    path = tmp_path / "originals.json"
    path.write_text('{"schema": 99}')
    with pytest.raises(LedgerError):
        FileLedger(tmp_path).remember(ORIGINAL)
    assert path.read_text() == '{"schema": 99}'


def _no_room() -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (16, 16))


@pytest.mark.process
def test_without_room_on_the_disk_nothing_is_remembered_and_nothing_old_is_lost(
    tmp_path: Path,
) -> None:
    FileLedger(tmp_path).remember(ORIGINAL)
    program = (
        "import sys; from pathlib import Path; from dataclasses import replace\n"
        "from vcpud.ledger import FileLedger; from vcpud.errors import LedgerError\n"
        "ledger = FileLedger(Path(sys.argv[1])); old = ledger.outstanding()[0]\n"
        "try: ledger.remember(replace(old, uuid='other'))\n"
        "except LedgerError: sys.exit(42)\n"
    )
    done = subprocess.run(
        [sys.executable, "-B", "-c", program, str(tmp_path)],
        check=False,
        preexec_fn=_no_room,
    )
    assert done.returncode == 42
    assert FileLedger(tmp_path).outstanding() == (ORIGINAL,)


@pytest.mark.process
def test_a_process_killed_at_any_moment_leaves_a_whole_ledger(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from vcpud.ledger import FileLedger\n"
        "from vcpud.model import Original\n"
        "ledger = FileLedger(Path(sys.argv[1])); print('go', flush=True)\n"
        "for n in range(10**9):\n"
        "    o = Original(boot_id='b', uuid=f'u{n % 7}', name='n' * 500, incarnation='i',\n"
        "                 online=frozenset(range(4)), live_vcpus=4)\n"
        "    ledger.remember(o); ledger.forget(f'u{(n + 3) % 7}')\n"
    )
    for round_ in range(5):
        process = subprocess.Popen(
            [sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE
        )
        assert process.stdout is not None
        assert process.stdout.readline() == b"go\n"
        process.stdout.read(0)
        os.sched_yield()
        for _ in range(200 * (round_ + 1)):
            FileLedger(tmp_path, read_only=True)
        process.kill()
        process.wait()
        process.stdout.close()
        assert FileLedger(tmp_path).fault is None


def test_a_link_laid_in_the_way_leads_nowhere(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("as it was")
    folder = tmp_path / "state"
    folder.mkdir()
    (folder / "originals.json.new").symlink_to(victim)
    with pytest.raises(LedgerError, match="cannot be written"):
        FileLedger(folder).remember(ORIGINAL)
    assert victim.read_text() == "as it was"


def test_what_root_writes_in_the_daemons_folder_is_the_daemons(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if os.geteuid() == 0:
        os.chown(tmp_path, 65534, 65534)
    owner = tmp_path.stat()
    given: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(os, "fchown", lambda _fd, uid, gid: given.append((uid, gid)))
    FileLedger(tmp_path).remember(ORIGINAL)
    assert given == [(owner.st_uid, owner.st_gid)]


def test_a_hold_is_noted_and_runs_out(tmp_path: Path) -> None:
    assert read_hold(tmp_path) is None
    write_hold(tmp_path, 60 * NS_PER_S)
    note = read_hold(tmp_path)
    assert note is not None
    assert 0 < note.left_ns() <= 60 * NS_PER_S
    clear_hold(tmp_path)
    assert read_hold(tmp_path) is None


def test_what_is_owed_is_amended_in_one_step_and_read_back(tmp_path: Path) -> None:
    ledger = FileLedger(tmp_path)
    ledger.remember(ORIGINAL)
    less = replace(ORIGINAL, online=frozenset({0, 1}))
    ledger.amend(less)
    ledger.remember(ORIGINAL)
    assert FileLedger(tmp_path).outstanding() == (less,)
