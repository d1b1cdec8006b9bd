"""The units under a real systemd: what they promise, seen happening."""

import json
import re
import subprocess
from pathlib import Path

import pytest

import nspawn

pytestmark = [pytest.mark.root, pytest.mark.timeout(600)]

CHECKOUT = Path(__file__).resolve().parents[2]
UNIT_PATHS = tuple(
    f"/usr/lib/systemd/system/{name}"
    for name in (
        "vcpud.service",
        "vcpud-restore.service",
        "vcpud-deadman.service",
        "vcpud-deadman.path",
    )
)
EXPOSURE_AT_MOST = "20"
"""In tenths, as systemd-analyze takes it: 2.0 of 10."""


def _pid(machine: nspawn.Machine) -> str:
    return machine.show("vcpud.service", "MainPID")


def _is(machine: nspawn.Machine, unit: str, *states: str) -> bool:
    return machine.show(unit, "ActiveState") in states


def _notified(machine: nspawn.Machine, message: str) -> bool:
    """Whether systemd took ``message`` from the daemon; it says so at its debug level."""
    said = machine.journal("_PID=1", "UNIT=vcpud.service").splitlines()
    return any("Got notification" in line and message in line for line in said)


def _said(machine: nspawn.Machine) -> str:
    return machine.journal("_SYSTEMD_UNIT=vcpud.service")


def _get(machine: nspawn.Machine, path: str) -> str:
    program = (
        "import sys, urllib.request as r; "
        "print(r.urlopen('http://127.0.0.1:9756' + sys.argv[1], timeout=5).read().decode())"
    )
    return machine.run("python3", "-c", program, path).stdout


def _metric(machine: nspawn.Machine, name: str) -> str:
    found = re.search(rf"^{name}(?:\{{[^}}]*\}})? (\S+)$", _get(machine, "/metrics"), re.MULTILINE)
    assert found is not None, f"no metric {name}"
    return found[1]


def _override(machine: nspawn.Machine, *lines: str) -> None:
    text = "\n".join(lines) + "\n"
    machine.write("/etc/systemd/system/vcpud.service.d/60-test.conf", text)
    machine.run("systemctl", "daemon-reload")


def _start(machine: nspawn.Machine) -> None:
    done = machine.run("systemctl", "start", "vcpud.service", check=False)
    assert done.returncode == 0, f"{done.stderr}{machine.story()}"


def test_systemd_finds_nothing_to_complain_about_in_the_units(machine: nspawn.Machine) -> None:
    done = machine.run(
        "systemd-analyze", "verify", "--man=no", "--recursive-errors=yes", *UNIT_PATHS
    )
    assert done.stdout + done.stderr == ""


@pytest.mark.parametrize(
    "unit", ["vcpud.service", "vcpud-restore.service", "vcpud-deadman.service"]
)
def test_the_exposure_of_every_service_is_low(machine: nspawn.Machine, unit: str) -> None:
    command = ("systemd-analyze", "security", f"--threshold={EXPOSURE_AT_MOST}", "--no-pager")
    done = machine.run(*command, unit, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_it_becomes_ready_and_stays_so_while_libvirt_is_out_of_reach(
    machine: nspawn.Machine,
) -> None:
    _start(machine)
    assert _is(machine, "vcpud.service", "active")
    machine.wait("systemd to hear READY=1", lambda: _notified(machine, "READY=1"))
    machine.wait(
        "the status to say so",
        lambda: "not connected" in machine.show("vcpud.service", "StatusText"),
    )
    assert "libvirt" in _said(machine)
    assert machine.show("vcpud.service", "NRestarts") == "0"


def test_it_runs_as_its_own_user_without_any_capability(machine: nspawn.Machine) -> None:
    _start(machine)
    status = machine.run("cat", f"/proc/{_pid(machine)}/status").stdout
    user = machine.run("id", "-u", "vcpud").stdout.strip()
    assert user != "0"
    assert re.search(rf"^Uid:\t{user}\t{user}\t{user}\t", status, re.MULTILINE)
    for kind in ("Prm", "Eff", "Bnd", "Amb"):
        assert re.search(rf"^Cap{kind}:\t0+$", status, re.MULTILINE)
    assert re.search(r"^NoNewPrivs:\t1$", status, re.MULTILINE)
    assert re.search(r"^Seccomp:\t2$", status, re.MULTILINE)


def test_metrics_are_served_on_the_loopback(machine: nspawn.Machine) -> None:
    _start(machine)
    machine.wait("the first cycle", lambda: "vcpud_up" in _get(machine, "/metrics"))
    assert _metric(machine, "vcpud_libvirt_connected") == "0.0"


def test_it_connects_when_there_is_a_libvirt(machine: nspawn.Machine) -> None:
    machine.write("/etc/vcpud/conf.d/test.yaml", "libvirt:\n  uri: test:///default\n")
    _start(machine)
    machine.wait("the connection", lambda: _metric(machine, "vcpud_libvirt_connected") == "1.0")


def test_status_answers_root_over_the_socket(machine: nspawn.Machine) -> None:
    _start(machine)
    status = json.loads(machine.run("vcpud", "status", "-o", "json").stdout)
    assert status


def test_a_reload_takes_a_new_configuration_into_force(machine: nspawn.Machine) -> None:
    _start(machine)
    before, pid = _get(machine, "/metrics"), _pid(machine)
    machine.write("/etc/vcpud/conf.d/test.yaml", "period: 2s\n")
    machine.run("systemctl", "reload", "vcpud.service")

    def digest(text: str) -> list[str]:
        return re.findall(r"^vcpud_config_info\{.*$", text, re.MULTILINE)

    assert digest(before)
    machine.wait("the new digest", lambda: digest(_get(machine, "/metrics")) != digest(before))
    assert _metric(machine, "vcpud_config_last_reload_successful") == "1.0"
    assert _pid(machine) == pid
    machine.wait("systemd to hear RELOADING=1", lambda: _notified(machine, "RELOADING=1"))


def test_a_reload_of_a_broken_configuration_leaves_the_old_one_in_force(
    machine: nspawn.Machine,
) -> None:
    _start(machine)
    pid = _pid(machine)
    machine.write("/etc/vcpud/conf.d/broken.yaml", "periode: 2s\n")
    machine.run("systemctl", "reload", "vcpud.service")
    machine.wait(
        "the refusal", lambda: _metric(machine, "vcpud_config_last_reload_successful") == "0.0"
    )
    assert "broken.yaml" in _said(machine)
    assert "periode" in _said(machine)
    assert _is(machine, "vcpud.service", "active")
    assert _pid(machine) == pid


def test_a_broken_configuration_does_not_start_and_is_named(machine: nspawn.Machine) -> None:
    machine.write("/etc/vcpud/conf.d/broken.yaml", "periode: 2s\n")
    done = machine.run("systemctl", "start", "vcpud.service", check=False)
    assert done.returncode != 0
    assert "broken.yaml" in _said(machine)
    assert "periode" in _said(machine)


def test_a_healthy_daemon_keeps_its_watchdog_content(machine: nspawn.Machine) -> None:
    _override(machine, "[Service]", "WatchdogSec=3")
    _start(machine)
    pid = _pid(machine)
    machine.wait("signs of life", lambda: _notified(machine, "WATCHDOG=1"))
    machine.run("sleep", "7")
    assert _pid(machine) == pid
    assert _is(machine, "vcpud.service", "active")


def test_the_restore_works_also_while_the_configuration_is_broken(
    machine: nspawn.Machine,
) -> None:
    _start(machine)
    machine.write("/etc/vcpud/conf.d/broken.yaml", "periode: 2s\n")
    machine.run("systemctl", "kill", "--signal=KILL", "vcpud.service")
    machine.run("systemctl", "stop", "vcpud.service")
    done = machine.run("systemctl", "start", "vcpud-restore.service", check=False)
    assert done.returncode == 0, machine.story()


def test_a_restore_that_reaches_no_libvirt_is_tried_again(machine: nspawn.Machine) -> None:
    quick = ("[Service]", "ExecStart=", "ExecStart=/usr/bin/vcpud restore --timeout 1s")
    machine.write(
        "/etc/systemd/system/vcpud-restore.service.d/60-test.conf",
        "\n".join((*quick, "RestartSec=1", "")),
    )
    machine.run("systemctl", "daemon-reload")
    original = {
        "boot_id": machine.run("cat", "/proc/sys/kernel/random/boot_id").stdout.strip(),
        "uuid": "11111111-1111-1111-1111-111111111111",
        "name": "db",
        "incarnation": "1:1",
        "online": [0, 1],
        "live_vcpus": 2,
        "weight": None,
        "schema": 1,
    }
    machine.write(
        "/var/lib/vcpud/originals.json", json.dumps({"schema": 1, "originals": [original]})
    )
    done = machine.run("systemctl", "start", "vcpud-restore.service", check=False)
    assert done.returncode != 0
    machine.wait(
        "another try", lambda: machine.show("vcpud-restore.service", "NRestarts") not in ("", "0")
    )
    machine.run("systemctl", "stop", "vcpud-restore.service")


def test_a_stop_is_announced_and_done_in_time(machine: nspawn.Machine) -> None:
    _start(machine)
    machine.run("systemctl", "stop", "vcpud.service")
    assert machine.show("vcpud.service", "ActiveState") == "inactive"
    assert machine.show("vcpud.service", "Result") == "success"
    machine.wait("systemd to hear STOPPING=1", lambda: _notified(machine, "STOPPING=1"))


def test_a_second_daemon_is_refused(machine: nspawn.Machine) -> None:
    _start(machine)
    done = machine.run("vcpud", "run", check=False)
    assert done.returncode == 1
    assert "only one may run on a host" in done.stderr
    assert _is(machine, "vcpud.service", "active")


def test_a_daemon_that_takes_over_ends_the_hold(machine: nspawn.Machine) -> None:
    _start(machine)
    machine.run("vcpud", "hold", "60s")
    machine.run("systemctl", "restart", "vcpud.service")
    machine.wait(
        "the deadman to let go", lambda: _is(machine, "vcpud-deadman.service", "inactive")
    )
    assert machine.run("test", "-e", "/var/lib/vcpud/hold", check=False).returncode == 1
    assert _is(machine, "vcpud.service", "active")


def test_a_restore_by_hand_leaves_nothing_that_the_daemon_cannot_use(
    machine: nspawn.Machine,
) -> None:
    _start(machine)
    machine.run("systemctl", "kill", "--signal=KILL", "vcpud.service")
    machine.run("systemctl", "stop", "vcpud.service")
    # That the daemon was killed starts a restore of systemd's own, which holds the lock while it lasts.
    machine.wait(
        "the restore after the failure",
        lambda: machine.show("vcpud-restore.service", "ActiveState") != "activating",
    )
    machine.run("vcpud", "restore")
    _start(machine)
    owners = machine.run("find", "/var/lib/vcpud", "/run/vcpud", "!", "-user", "vcpud").stdout
    assert owners == ""


def test_uninstalling_leaves_configuration_only(stage: Path, tmp_path: Path) -> None:
    copy = tmp_path / "stage"
    subprocess.run(("cp", "-a", str(stage), str(copy)), check=True)
    command = ("make", "uninstall", f"DESTDIR={copy}", "PREFIX=/usr")
    subprocess.run(command, check=True, cwd=CHECKOUT, capture_output=True)
    left = {str(path.relative_to(copy)) for path in copy.rglob("*") if not path.is_dir()}
    assert left == {"etc/vcpud/vcpud.yaml"}
