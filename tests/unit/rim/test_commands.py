"""Whole commands in this process, on a fake host under simulated time: nothing but the libvirt is left out."""

from __future__ import annotations

import argparse
import fcntl
import json

import pytest

from unit.rim.machine import Machine
from vcpud import cli
from vcpud.errors import LedgerError
from vcpud.ledger import boot_id, read_hold, write_hold
from vcpud.lock import HostLock
from vcpud.model import SetOnline
from vcpud.units import NS_PER_MS, NS_PER_S

pytestmark = pytest.mark.sockets


def shrunk(machine: Machine) -> bool:
    return any(isinstance(one, SetOnline) and len(one.online) < 4 for one in machine.host.begun)


def test_the_daemon_shrinks_what_spins_and_gives_everything_back_at_its_stop(
    machine: Machine,
) -> None:
    code, _, err = machine.vcpud("run")
    assert code == 0
    assert shrunk(machine)
    assert machine.db.online == machine.web.online == frozenset(range(4))
    assert machine.ledger == set()
    events = [json.loads(line)["event"] for line in err.splitlines()]
    assert events[0] == "vcpud.started"
    assert events[-1] == "vcpud.stopped"
    assert machine.host.closed


def test_what_cannot_be_given_back_stays_in_the_ledger_and_is_named(machine: Machine) -> None:
    machine.clock.after(20 * NS_PER_S, lambda: setattr(machine.db, "hung", True))
    code, _, err = machine.vcpud("run")
    assert code == 5
    assert "not given back, still in the ledger: db" in err
    assert machine.ledger == {"db"}
    assert machine.web.online == frozenset(range(4))


def test_the_next_start_gives_back_what_a_killed_one_left(machine: Machine) -> None:
    machine.configure(policy={"name": "static"})
    machine.changed(machine.db)
    assert machine.vcpud("run")[0] == 0
    assert machine.host.begun == [SetOnline(uuid=machine.db.uuid, online=frozenset(range(4)))]
    assert machine.ledger == set()


def test_under_a_hold_the_next_start_takes_over_instead(machine: Machine) -> None:
    machine.configure(policy={"name": "static"})
    machine.changed(machine.db)
    write_hold(machine.state, 3600 * NS_PER_S)
    online: list[int] = []
    machine.clock.after(20 * NS_PER_S, lambda: online.append(len(machine.db.online)))
    assert machine.vcpud("run")[0] == 0
    assert online == [1]
    assert machine.db.online == frozenset(range(4))
    assert read_hold(machine.state) is None


def test_a_hold_that_has_run_out_takes_nothing_over(machine: Machine) -> None:
    machine.configure(policy={"name": "static"})
    machine.changed(machine.db)
    write_hold(machine.state, -NS_PER_S)
    online: list[int] = []
    machine.clock.after(20 * NS_PER_S, lambda: online.append(len(machine.db.online)))
    assert machine.vcpud("run")[0] == 0
    assert online == [4]


def test_on_stop_keep_leaves_the_counts_and_the_next_start_takes_over(machine: Machine) -> None:
    machine.configure(policy={"name": "static"}, on_stop="keep")
    machine.changed(machine.db)
    assert machine.vcpud("run")[0] == 0
    assert machine.host.begun == []
    assert machine.ledger == {"db"}


def test_an_unreadable_ledger_lets_nothing_be_changed(machine: Machine) -> None:
    (machine.state / "originals.json").write_text("{")
    code, _, err = machine.vcpud("run")
    assert code == 0
    assert machine.host.begun == []
    assert "cannot be read: check the vCPUs of every domain, then remove the file" in err
    code, _, err = machine.vcpud("restore")
    assert code == 1
    assert "cannot be read" in err
    with pytest.raises(LedgerError):
        machine.changed(machine.db)


def test_a_second_daemon_is_refused(machine: Machine) -> None:
    with HostLock(machine.run_dir):
        code, _, err = machine.vcpud("run")
    assert code == 1
    assert "another vcpud (process" in err


def test_a_restore_without_a_daemon_works_from_the_ledger(machine: Machine) -> None:
    machine.changed(machine.db)
    machine.changed(machine.web)
    code, out, _ = machine.vcpud("restore")
    assert (code, out) == (0, "given back: db, web\n")
    assert machine.db.online == machine.web.online == frozenset(range(4))
    assert machine.ledger == set()
    assert machine.vcpud("restore")[1] == "nothing to give back: nothing was changed\n"


def test_a_restore_of_one_domain_leaves_the_others(machine: Machine) -> None:
    machine.changed(machine.db)
    machine.changed(machine.web)
    code, _, err = machine.vcpud("restore", "dbb")
    assert code == 2
    assert "the ledger holds no domain 'dbb'; did you mean 'db'?" in err
    assert machine.vcpud("restore", "db")[:2] == (0, "given back: db\n")
    assert machine.ledger == {"web"}
    assert machine.web.online == frozenset({0})


def test_a_restore_waits_until_an_old_unplug_will_not_come_any_more(machine: Machine) -> None:
    machine.unplug_given_up(machine.db)
    assert "and its guest may still carry out an unplug" in machine.vcpud("status")[1]
    assert machine.vcpud("restore", "--timeout", "20s")[:2] == (0, "given back: db\n")
    assert machine.ledger == set()


def test_a_restore_that_may_not_wait_so_long_says_what_may_still_come(machine: Machine) -> None:
    machine.unplug_given_up(machine.db)
    machine.changed(machine.web)
    code, out, _ = machine.vcpud("restore", "--timeout", "5s")
    assert code == 0, "everything is as it was"
    assert out.splitlines()[0] == "given back: web"
    assert "still in the ledger: db: the guest may still carry out an unplug" in out
    assert machine.ledger == {"db"}
    _, text, _ = machine.vcpud("restore", "--timeout", "5s", "-o", "json")
    assert json.loads(text) == {
        "given_back": [],
        "gone": [],
        "left": [],
        "unplug_pending": ["db"],
        "elsewhere": "",
    }


def test_an_unplug_that_comes_while_a_restore_waits_is_plugged_back(machine: Machine) -> None:
    machine.unplug_given_up(machine.db)
    machine.clock.after(3 * NS_PER_S, lambda: setattr(machine.db, "online", frozenset(range(3))))
    assert machine.vcpud("restore")[:2] == (0, "given back: db\n")
    assert machine.db.online == frozenset(range(4))
    assert machine.ledger == set()


def test_a_restore_names_what_it_could_not_do(machine: Machine) -> None:
    machine.changed(machine.db)
    machine.changed(machine.web)
    machine.web.hung = True
    code, out, err = machine.vcpud("restore", "--timeout", "20s")
    assert code == 5
    assert out == "given back: db\n"
    assert "not given back, still in the ledger: web" in err


def test_a_restore_that_reaches_no_hypervisor_names_it_and_keeps_the_ledger(
    machine: Machine,
) -> None:
    machine.changed(machine.db)
    machine.host.connected = False
    code, out, err = machine.vcpud("restore")
    assert (code, out) == (4, "")
    assert "the hypervisor did not answer" in err
    assert "(backend fake)" in err
    assert "the ledger keeps db; start the hypervisor, and run `vcpud restore` again" in err
    assert machine.ledger == {"db"}


def test_a_restore_never_applies_the_original_of_another_life(machine: Machine) -> None:
    machine.changed(machine.db)
    machine.db.incarnation = "2@7"
    code, out, _ = machine.vcpud("restore")
    assert code == 0
    assert "gone or restarted, so nothing to give back: db" in out
    assert machine.host.begun == []


def test_a_restore_by_the_defaults_forgets_nobody_it_does_not_find(machine: Machine) -> None:
    """A broken configuration may have named another libvirt, where the domains are."""
    machine.changed(machine.db)
    machine.changed(machine.web)
    machine.host.destroy(machine.db)
    machine.configure(periode="2s")
    folders = ("--state-dir", str(machine.state), "--runtime-dir", str(machine.run_dir))
    code, out, err = machine.vcpud("--backend", "fake", *folders, "restore", "--timeout", "5s")
    assert (code, out) == (5, "given back: web\n")
    assert "gives everything back nevertheless" in err
    assert machine.ledger == {"db"}


def test_a_restore_does_not_race_a_daemon_that_does_not_answer(machine: Machine) -> None:
    machine.changed(machine.db)
    with HostLock(machine.run_dir):
        code, _, err = machine.vcpud("restore")
    assert code == 1
    assert "only one may run" in err
    assert machine.ledger == {"db"}


def test_the_deadman_restores_when_nobody_took_over(machine: Machine) -> None:
    machine.changed(machine.db)
    write_hold(machine.state, 50 * NS_PER_MS)
    code, out, _ = machine.vcpud("deadman")
    assert code == 0
    assert "no vcpud has taken over" in out
    assert machine.db.online == frozenset(range(4))
    assert not (machine.state / "hold").exists()


def test_the_deadman_leaves_a_running_daemon_alone(machine: Machine) -> None:
    machine.changed(machine.db)
    write_hold(machine.state, 50 * NS_PER_MS)
    with HostLock(machine.run_dir):
        code, out, _ = machine.vcpud("deadman")
    assert (code, out) == (0, "the hold is over, and a vcpud runs\n")
    assert machine.db.online == frozenset({0})
    assert not (machine.state / "hold").exists()


def test_the_deadman_tries_again_after_a_failure(machine: Machine) -> None:
    machine.changed(machine.db)
    machine.db.hung = True
    write_hold(machine.state, 50 * NS_PER_MS)
    assert machine.vcpud("deadman")[0] == 5
    assert (machine.state / "hold").exists()


@pytest.mark.parametrize(
    "content",
    [b"{", b"", b"[]", b'{"boot_id": "another", "deadline_wall_ns": 99999999999999999999}'],
)
def test_a_hold_of_another_boot_or_without_sense_is_cleared_away(
    machine: Machine, content: bytes
) -> None:
    (machine.state / "hold").write_bytes(content)
    assert machine.vcpud("deadman")[:2] == (0, "no hold is in force\n")
    assert not (machine.state / "hold").exists()


def test_a_clock_set_back_does_not_stretch_a_hold(machine: Machine) -> None:
    note = write_hold(machine.state, 400 * 86_400 * NS_PER_S)
    assert note.boot_id == boot_id()
    assert note.left_ns() == 0


def test_status_without_a_daemon_says_what_the_ledger_holds(machine: Machine) -> None:
    machine.changed(machine.db)
    code, out, err = machine.vcpud("status")
    assert code == 4
    assert "vcpud does not run." in out
    assert f"db ({machine.db.uuid}): had 4 vCPUs" in out
    assert "nobody listens" in err
    code, out, _ = machine.vcpud("status", "-o", "json")
    assert code == 4
    document = json.loads(out)
    assert document["running"] is False
    assert document["outstanding"][0]["online"] == [0, 1, 2, 3]


def test_looking_at_the_ledger_moves_nothing_aside(machine: Machine) -> None:
    (machine.state / "originals.json").write_text("{")
    assert "cannot be understood" in machine.vcpud("status")[1]
    assert (machine.state / "originals.json").read_text() == "{"


def test_status_with_a_backend_looks_for_itself(machine: Machine) -> None:
    code, out, _ = machine.vcpud("status", "--backend", "fake")
    assert code == 0
    assert "STOPPING" not in out
    assert "overcommit 4" in out
    code, out, _ = machine.vcpud("status", "db", "-o", "json", "--backend", "fake")
    (domain,) = json.loads(out)["domains"]
    assert (domain["name"], domain["active_vcpus"]) == ("db", 4)
    code, _, err = machine.vcpud("status", "dd", "--backend", "fake")
    assert code == 2
    assert "there is no domain 'dd'; there are: db, web" in err
    assert machine.host.begun == []
    assert not machine.host.writable


def test_a_dry_run_says_what_it_would_do_and_does_nothing(machine: Machine) -> None:
    code, out, _ = machine.vcpud("dry-run", "--cycles", "15")
    assert code == 0
    assert "db: would go from 4 to 1 active vCPUs (guest_agent): contention" in out
    assert "nothing was changed" in out
    assert machine.host.begun == []
    assert list(machine.state.iterdir()) == []
    code, out, _ = machine.vcpud("dry-run", "--cycles", "15", "-o", "json")
    assert {json.loads(line)["domain"] for line in out.splitlines()} == {"db", "web"}


@pytest.mark.parametrize(
    "words",
    [
        ["dry-run", "--cycles", "3"],
        ["dry-run", "--cycles", "3", "-o", "json"],
        ["status", "--backend", "fake"],
        ["list", "--backend", "fake"],
        ["explain", "db", "--backend", "fake"],
    ],
)
def test_a_look_of_its_own_at_a_hypervisor_that_does_not_answer_is_exit_4(
    machine: Machine, words: list[str]
) -> None:
    machine.host.connected = False
    code, out, err = machine.vcpud(*words)
    assert (code, out) == (4, "")
    assert "the hypervisor did not answer" in err


def test_a_recording_of_a_hypervisor_that_does_not_answer_is_exit_4(machine: Machine) -> None:
    machine.host.connected = False
    code, _, err = machine.vcpud("record", str(machine.folder / "into"), "--for", "3s")
    assert code == 4
    assert "the hypervisor did not answer" in err


def test_who_asks_in_json_is_told_the_mistakes_of_a_configuration_in_json(
    machine: Machine,
) -> None:
    machine.configure(perriod="1s", on_stop="never")
    code, out, err = machine.vcpud("check-config", "-o", "json")
    document = json.loads(out)
    assert code == 3
    assert document["valid"] is False
    assert [line for line in document["mistakes"] if "perriod" in line]
    assert len(document["mistakes"]) == 2
    assert "2 mistakes" in err


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["explode"],
        ["pause", "--for", "5"],
        ["pause", "--for", "0s"],
        ["hold"],
        ["hold", "soon"],
        ["release"],
        ["dry-run", "--cycles", "0"],
        ["dry-run", "--cycles", "9" * 5000],
        ["status", "-o", "xml"],
        ["run", "--backend", "nonsense"],
    ],
)
def test_wrong_usage_is_exit_2(machine: Machine, words: list[str]) -> None:
    code, _, err = machine.vcpud(*words)
    assert code == 2
    assert err


@pytest.mark.parametrize("verb", ["pause", "resume", "reload", "hold 5s", "release db"])
def test_without_a_daemon_requests_are_exit_4(machine: Machine, verb: str) -> None:
    code, _, err = machine.vcpud(*verb.split())
    assert code == 4
    assert "vcpud does not run" in err


def test_every_command_explains_itself(machine: Machine) -> None:
    code, out, _ = machine.vcpud("--help")
    assert code == 0
    assert "exit codes: 0 ok" in out
    assert "examples:" in out
    for verb in ("run", "dry-run", "check-config", "status", "pause", "resume", "restore"):
        assert machine.vcpud(verb, "--help")[0] == 0
    assert machine.vcpud("version")[1].startswith("vcpud ")


def subcommands(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    (one,) = (one for one in parser._actions if isinstance(one, argparse._SubParsersAction))
    return dict(one.choices)


def test_a_command_that_is_named_first_is_the_same_as_among_all() -> None:
    every = subcommands(cli._parser())
    for words in cli.MODULES.values():
        for word in words:
            alone = subcommands(cli._parser(word))
            assert tuple(alone) == words
            assert alone[word].format_help() == every[word].format_help()


def test_a_folder_that_cannot_be_made_is_a_clear_message(machine: Machine) -> None:
    machine.run_dir.rmdir()
    machine.run_dir.write_text("a file")
    code, _, err = machine.vcpud("run")
    assert code == 1
    assert str(machine.run_dir) in err


def test_the_lock_is_free_again_after_everything(machine: Machine) -> None:
    machine.vcpud("run")
    with (machine.run_dir / "lock").open() as stream:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
