"""Whose ledger it is: commands that look at another hypervisor than the one it was written for."""

from __future__ import annotations

import json

import pytest

from unit.rim.machine import Machine
from vcpud.hypervisor.options import hypervisor_name
from vcpud.ledger import FileLedger
from vcpud.units import NS_PER_S

pytestmark = pytest.mark.sockets


@pytest.fixture
def astray(machine: Machine) -> Machine:
    """db was shrunk on one libvirt, and `uri` now names another, which has web alone."""
    machine.configure(policy={"name": "static"})
    machine.host.called = "qemu:///system"
    machine.changed(machine.db)
    machine.host.called = "qemu://other/system"
    machine.host.destroy(machine.db)
    return machine


def test_a_start_with_the_wrong_uri_forgets_nobody_and_says_so(astray: Machine) -> None:
    code, _, err = astray.vcpud("run")
    assert code == 5
    assert astray.ledger == {"db"}
    events = [json.loads(line) for line in err.splitlines() if line.startswith("{")]
    (told,) = (one for one in events if one["event"] == "original.elsewhere")
    assert "db of qemu:///system" in told["detail"]
    assert "not given back, still in the ledger: db (kept for db of qemu:///system" in err


def test_with_the_right_uri_again_it_is_given_back(astray: Machine) -> None:
    astray.vcpud("run")
    astray.host.called = "qemu:///system"
    astray.host.domains[astray.db.uuid] = astray.db
    assert astray.vcpud("restore")[:2] == (0, "given back: db\n")
    assert len(astray.db.online) == 4
    assert astray.ledger == set()


def test_a_restore_with_the_wrong_uri_says_what_to_set(astray: Machine) -> None:
    code, out, err = astray.vcpud("restore")
    assert (code, out) == (5, "")
    assert (
        "kept for db of qemu:///system, but vcpud is now configured for qemu://other/system: set `uri`"
        in err
    )
    assert astray.ledger == {"db"}
    _, text, _ = astray.vcpud("restore", "-o", "json")
    assert "qemu:///system" in json.loads(text)["elsewhere"]


def test_status_without_a_daemon_says_whose_it_is(astray: Machine) -> None:
    out = astray.vcpud("status")[1]
    assert f"db ({astray.db.uuid}): had 4 vCPUs on qemu:///system" in out


def test_what_an_original_is_of_outlives_the_process(astray: Machine) -> None:
    (original,) = FileLedger(astray.state).outstanding()
    assert original.hypervisor == "qemu:///system"


@pytest.mark.parametrize(
    ("uri", "name"),
    [
        ("qemu:///system", "qemu:///system"),
        ("qemu+unix:///system", "qemu:///system"),
        ("qemu:///session", "qemu:///session"),
        ("qemu+tls://kvm2/system", "qemu://kvm2/system"),
        ("xen:///system", "xen:///system"),
        ("an-alias", "an-alias"),
    ],
)
def test_one_libvirt_has_one_name_however_its_socket_is_reached(uri: str, name: str) -> None:
    assert hypervisor_name(uri) == name


# -------------------------------------------------------------------------- a ledger that is lost


def lose(machine: Machine) -> None:
    """db was shrunk, and its ledger is gone; what is left is the note that it carries."""
    machine.configure(policy={"name": "static"})
    machine.changed(machine.db)
    (machine.db.own_note,) = FileLedger(machine.state).outstanding()
    (machine.state / "originals.json").unlink()


def test_a_restore_without_a_ledger_goes_by_the_notes_of_the_domains(machine: Machine) -> None:
    lose(machine)
    assert "There is no ledger" in machine.vcpud("status")[1]
    assert machine.vcpud("restore", "db")[0] == 2
    assert machine.vcpud("restore")[:2] == (0, "given back: db\n")
    assert len(machine.db.online) == 4
    assert machine.ledger == set()
    assert "Nothing is left to give back" in machine.vcpud("status")[1]


def test_a_start_without_a_ledger_goes_by_the_notes_of_the_domains(machine: Machine) -> None:
    lose(machine)
    online: list[int] = []
    machine.clock.after(10 * NS_PER_S, lambda: online.append(len(machine.db.online)))
    code, _, err = machine.vcpud("run")
    assert (code, online) == (0, [4])
    assert "original.recovered" in err


def test_a_machine_that_was_never_changed_needs_no_hypervisor_to_give_back_nothing(
    machine: Machine,
) -> None:
    machine.host.connected = False
    code, out, err = machine.vcpud("restore")
    assert (code, out) == (0, "nothing to give back: nothing was changed\n")
    assert "there is no ledger" in err


def test_a_ledger_that_cannot_be_read_is_not_lost(machine: Machine) -> None:
    lose(machine)
    (machine.state / "originals.json").write_text("{")
    assert machine.vcpud("restore")[0] == 1
    assert FileLedger(machine.state).lost is False
    assert len(machine.db.online) == 1
