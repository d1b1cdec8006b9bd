"""One vcpud per host, and a ledger that no change of `state_dir` orphans."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from fakes.host import BOOT_ID
from unit.rim.machine import Machine
from vcpud.errors import VcpudError
from vcpud.ledger import FileLedger, write_hold
from vcpud.lock import HostLock, ledger_folder, locked
from vcpud.model import Original
from vcpud.units import NS_PER_MS, NS_PER_S

ORIGINAL = Original(
    boot_id=BOOT_ID, uuid="u", name="web", incarnation="1@2", online=frozenset({0}), live_vcpus=4
)


def test_one_vcpud_runs_on_a_host(tmp_path: Path) -> None:
    assert not locked(tmp_path)
    with HostLock(tmp_path):
        assert locked(tmp_path)
        with pytest.raises(VcpudError, match=f"process {os.getpid()}.*only one may run"):
            HostLock(tmp_path)
    assert not locked(tmp_path)


def test_the_ledger_is_in_the_state_folder(tmp_path: Path) -> None:
    state, run_dir = tmp_path / "state", tmp_path / "run"
    assert ledger_folder(state, run_dir) == state
    with HostLock(run_dir) as lock:
        lock.keep(state)
    assert ledger_folder(state, run_dir) == state


def test_a_ledger_that_owes_something_stays_in_charge_until_it_is_empty(tmp_path: Path) -> None:
    old, new, run_dir = tmp_path / "old", tmp_path / "new", tmp_path / "run"
    with HostLock(run_dir) as lock:
        lock.keep(old)
    FileLedger(old).remember(ORIGINAL)
    with HostLock(run_dir):
        assert ledger_folder(new, run_dir) == old
    FileLedger(old).forget("u")
    assert ledger_folder(new, run_dir) == new


def test_a_ledger_that_cannot_be_understood_stays_in_charge_too(tmp_path: Path) -> None:
    old, run_dir = tmp_path / "old", tmp_path / "run"
    with HostLock(run_dir) as lock:
        lock.keep(old)
    old.mkdir()
    (old / "originals.json").write_text("{")
    assert ledger_folder(tmp_path / "new", run_dir) == old


@pytest.mark.parametrize(
    "content", [b"", b"12\n", b"12\nrelative/path\n", b"\xff\n\xfe", b"1\n\n"]
)
def test_a_lock_that_names_no_folder_leaves_it_to_the_configuration(
    tmp_path: Path, content: bytes
) -> None:
    (tmp_path / "lock").write_bytes(content)
    assert ledger_folder(tmp_path / "state", tmp_path) == tmp_path / "state"


# ----------------------------------------------------------------------------- whole commands


def moved(machine: Machine) -> Path:
    """A daemon has run, db is shrunk as if it had been killed, and `state_dir` is another folder."""
    machine.configure(policy={"name": "static"})
    machine.vcpud("run")
    machine.changed(machine.db)
    elsewhere = machine.folder / "elsewhere"
    machine.configure(policy={"name": "static"}, state_dir=str(elsewhere))
    return elsewhere


@pytest.mark.sockets
def test_a_start_after_state_dir_was_changed_gives_back_what_is_owed(machine: Machine) -> None:
    elsewhere = moved(machine)
    machine.clock.stop_at(machine.clock.now_ns() + 20 * NS_PER_S)
    code, _, err = machine.vcpud("run")
    assert code == 0
    assert len(machine.db.online) == 4
    assert machine.ledger == set()
    assert "ledger.stays" in {json.loads(line)["event"] for line in err.splitlines()}
    assert ledger_folder(elsewhere, machine.run_dir) == elsewhere, "from now on"


@pytest.mark.sockets
def test_so_does_a_restore_and_status_names_it(machine: Machine) -> None:
    moved(machine)
    assert f"db ({machine.db.uuid}): had 4 vCPUs" in machine.vcpud("status")[1]
    assert machine.vcpud("restore")[:2] == (0, "given back: db\n")
    assert machine.ledger == set()


@pytest.mark.sockets
def test_what_a_reload_cannot_move_the_next_start_takes_over_where_it_is(machine: Machine) -> None:
    elsewhere = machine.folder / "elsewhere"
    # One that leaves what it takes over as it is: another tries whether there is room for more.
    lasting = {"on_stop": "keep", "policy": {"name": "spin_feedback"}}
    keep = {"state_dir": str(elsewhere), **lasting}
    machine.configure(**lasting)
    after = machine.clock.after
    after(20 * NS_PER_S, lambda: machine.configure(**keep))
    answers: list[tuple[int, str, str]] = []
    after(21 * NS_PER_S, lambda: answers.append(machine.vcpud("reload")))
    assert machine.vcpud("run")[0] == 0
    assert [code for code, _, _ in answers] == [0]
    assert machine.ledger == {"db", "web"}
    assert not elsewhere.exists()
    machine.clock.stop_at(machine.clock.now_ns() + 5 * NS_PER_S)
    assert machine.vcpud("run")[0] == 0
    assert len(machine.db.online) == 1, "taken over"
    assert machine.vcpud("restore")[0] == 0
    assert machine.ledger == set()


@pytest.mark.sockets
def test_a_hold_is_where_the_ledger_is(machine: Machine) -> None:
    moved(machine)
    write_hold(machine.state, 50 * NS_PER_MS)
    assert "no vcpud has taken over" in machine.vcpud("deadman")[1]
    assert len(machine.db.online) == 4
    assert not (machine.state / "hold").exists()
