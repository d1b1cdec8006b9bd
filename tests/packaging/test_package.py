"""The Debian package under a real systemd, from unpacking to purge, on a bare Debian 12."""

import json
import re
import subprocess
import time
from pathlib import Path

import pytest

import nspawn

pytestmark = [pytest.mark.root, pytest.mark.timeout(600)]

CHECKOUT = Path(__file__).resolve().parents[2]
READY_AT_MOST_S = 60.0
GIVEN_BACK_AT_MOST_S = 60.0
LOCK_MEMORY = 1 << 14
"""CAP_IPC_LOCK in the kernel's masks."""
STATE = "/var/lib/vcpud"
HOST = f"{STATE}/host.json"
STUCK = f"{STATE}/stuck"
EVERY_VCPU = {"db": [0, 1, 2, 3], "web": [0, 1, 2, 3]}
KEPT = f"backend: kept:{HOST}\n"
ENFORCED = 'domains:\n  "*":\n    mode: enforce\n'


def _host(machine: nspawn.Machine) -> dict[str, list[int]]:
    deadline_s = time.monotonic() + 1
    while True:
        try:
            online: dict[str, list[int]] = json.loads((machine.root / HOST[1:]).read_text())
        except json.JSONDecodeError:  # read while the backend was writing it
            assert time.monotonic() < deadline_s, "the host's file stays unreadable"
            time.sleep(0.01)
        else:
            return online


def _originals(machine: nspawn.Machine) -> set[str]:
    """Names of the domains that the ledger says are changed."""
    path = machine.root / f"{STATE}/originals.json"[1:]
    if not path.exists():
        return set()
    return {original["name"] for original in json.loads(path.read_text())["originals"]}


def _manage(machine: nspawn.Machine) -> None:
    """Give the daemon a host of two domains to change, and wait until it has."""
    machine.write(HOST, json.dumps(EVERY_VCPU))
    machine.run("chown", "vcpud:vcpud", HOST)
    machine.write("/etc/vcpud/conf.d/10-host.yaml", KEPT)
    machine.write("/etc/vcpud/conf.d/20-domains.yaml", ENFORCED)
    machine.run("systemctl", "restart", "vcpud.service")
    machine.wait(
        "both domains to be shrunk",
        lambda: max(len(online) for online in _host(machine).values()) == 1,
        timeout_s=60,
    )
    assert _originals(machine) == set(EVERY_VCPU)


def _remove(machine: nspawn.Machine, verb: str) -> tuple[subprocess.CompletedProcess[str], float]:
    began_s = time.monotonic()
    done = machine.run("dpkg", verb, "vcpud", check=False)
    return done, time.monotonic() - began_s


def _pid(machine: nspawn.Machine) -> str:
    return machine.show("vcpud.service", "MainPID")


def _is_active(machine: nspawn.Machine) -> bool:
    """Whether it runs and has said READY=1 (Type=notify)."""
    return machine.show("vcpud.service", "ActiveState") == "active"


def _newer(package: Path, scratch: Path, version: str) -> Path:
    """The same package under a higher version."""
    tree = scratch / version
    subprocess.run(("dpkg-deb", "--raw-extract", str(package), str(tree)), check=True)
    control = tree / "DEBIAN" / "control"
    control.write_text(re.sub(r"(?m)^Version: .*$", f"Version: {version}", control.read_text()))
    path = scratch / f"vcpud_{version}.deb"
    command = ("dpkg-deb", "--root-owner-group", "-Znone", "--build", str(tree), str(path))
    subprocess.run(command, check=True, capture_output=True)
    return path


def test_lintian_finds_no_error(package: Path) -> None:
    command = ("lintian", "--allow-root", "--fail-on", "error", "--tag-display-limit", "0")
    done = subprocess.run(
        (*command, str(package)), check=False, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_it_brings_its_python_packages_and_leaves_those_of_the_system_alone(
    machine: nspawn.Machine,
) -> None:
    files = machine.run("dpkg", "--listfiles", "vcpud").stdout.splitlines()
    python = {path for path in files if path.endswith(".py")}
    assert {path for path in python if not path.startswith("/usr/lib/vcpud/")} == set()
    assert "/usr/lib/vcpud/pydantic/__init__.py" in python
    where = (
        "import sys; sys.argv = ['']; exec(open('/usr/bin/vcpud').read().partition('if __')[0]); "
    )
    program = f"{where}import libvirt, pydantic, yaml; print(libvirt.__file__, pydantic.__file__)"
    used = machine.run("python3", "-I", "-c", program).stdout.split()
    assert used == [
        "/usr/lib/python3/dist-packages/libvirt.py",
        "/usr/lib/vcpud/pydantic/__init__.py",
    ]


def test_from_unpacking_to_a_ready_service_that_observes_takes_less_than_a_minute(
    bare: nspawn.Machine, package: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bare.write(HOST, json.dumps(EVERY_VCPU))
    bare.write("/etc/vcpud/conf.d/10-host.yaml", KEPT)
    began_s = time.monotonic()
    bare.install(package)
    bare.wait("READY", lambda: _is_active(bare))
    ready_s = time.monotonic() - began_s
    with capsys.disabled():
        print(f"\nfrom unpacking the package to READY: {ready_s:.1f} s")  # noqa: T201
    assert ready_s <= READY_AT_MOST_S
    for unit in ("vcpud.service", "vcpud-deadman.path"):
        assert bare.run("systemctl", "is-enabled", unit).stdout.strip() == "enabled"
    bare.wait(
        "a look at the domains",
        lambda: json.loads(bare.run("vcpud", "status", "-o", "json").stdout)["domains"] != [],
    )
    domains = json.loads(bare.run("vcpud", "status", "-o", "json").stdout)["domains"]
    assert {domain["name"]: domain["mode"] for domain in domains} == dict.fromkeys(
        EVERY_VCPU, "observe"
    )
    assert _originals(bare) == set()
    assert bare.run("systemctl", "--failed", "--quiet").stdout == ""


def test_what_is_removed_is_given_back_and_what_is_purged_leaves_nothing(
    bare: nspawn.Machine, package: Path
) -> None:
    before = _everything(bare)
    bare.install(package)
    _manage(bare)
    ledger = bare.root / f"{STATE}/originals.json"[1:]
    changed = ledger.read_text()

    done, took_s = _remove(bare, "--remove")
    assert done.returncode == 0, done.stderr
    assert took_s <= GIVEN_BACK_AT_MOST_S
    assert _host(bare) == EVERY_VCPU
    assert _originals(bare) == set()
    assert bare.run("sh", "-c", "command -v vcpud", check=False).returncode != 0

    ledger.write_text(changed)
    done, _ = _remove(bare, "--purge")
    assert done.returncode != 0
    assert "db" in done.stderr
    assert "web" in done.stderr
    assert ledger.read_text() == changed

    bare.run("env", "VCPUD_FORCE_PURGE=1", "dpkg", "--purge", "vcpud")
    assert _everything(bare) == before
    assert bare.run("systemctl", "--failed", "--quiet").stdout == ""


def _everything(machine: nspawn.Machine) -> set[str]:
    """Every file with a name of ours, except what only remembers that there was a package."""
    found = machine.run(
        *("find", "/etc", "/usr", "/var", "/run", "-xdev", "-name", "*vcpud*"),
        *("-not", "-path", "/usr/local/*", "-not", "-path", "/var/log/*"),
    )
    return set(found.stdout.splitlines())


def test_domains_that_could_not_be_given_back_are_once_it_is_installed_again(
    bare: nspawn.Machine, package: Path
) -> None:
    bare.install(package)
    _manage(bare)
    bare.write(STUCK, "")
    done, took_s = _remove(bare, "--purge")
    assert done.returncode != 0
    assert took_s <= GIVEN_BACK_AT_MOST_S
    assert "not everything could be given back" in done.stderr
    assert _originals(bare) == set(EVERY_VCPU)

    (bare.root / STUCK[1:]).unlink()
    bare.write("/etc/vcpud/conf.d/20-domains.yaml", "")
    bare.install(package)
    bare.wait("everything to be given back", lambda: _host(bare) == EVERY_VCPU)
    bare.wait("the ledger to be empty", lambda: _originals(bare) == set())


def test_what_is_installed_again_after_a_removal_runs(
    bare: nspawn.Machine, package: Path, tmp_path: Path
) -> None:
    bare.write(HOST, json.dumps(EVERY_VCPU))
    bare.write("/etc/vcpud/conf.d/10-host.yaml", KEPT)
    bare.install(package)
    bare.wait("READY", lambda: _is_active(bare))
    bare.run("dpkg", "--remove", "vcpud")
    bare.install(package)
    bare.wait("READY again", lambda: _is_active(bare))
    # Only of that removal: who stops it afterwards finds it stopped after an upgrade.
    bare.run("systemctl", "stop", "vcpud.service")
    bare.install(_newer(package, tmp_path, "90.4"))
    assert bare.show("vcpud.service", "ActiveState") == "inactive"


def test_an_upgrade_keeps_every_count(
    machine: nspawn.Machine, package: Path, tmp_path: Path
) -> None:
    _manage(machine)
    pid, host = _pid(machine), machine.root / HOST[1:]
    parked, written_ns = _host(machine), host.stat().st_mtime_ns
    machine.install(_newer(package, tmp_path, "90.1"))
    machine.wait("the new daemon", lambda: _is_active(machine))
    assert _pid(machine) != pid
    machine.wait("the hold to end", lambda: not (machine.root / f"{STATE}/hold"[1:]).exists())
    assert (_host(machine), host.stat().st_mtime_ns) == (parked, written_ns)
    assert _originals(machine) == set(EVERY_VCPU)
    machine.run("systemctl", "stop", "vcpud.service")
    assert _host(machine) == EVERY_VCPU


def test_an_upgrade_does_not_stop_a_daemon_whose_configuration_it_would_refuse(
    machine: nspawn.Machine, package: Path, tmp_path: Path
) -> None:
    machine.run("systemctl", "start", "vcpud.service")
    pid = _pid(machine)
    machine.write("/etc/vcpud/conf.d/broken.yaml", "periode: 2s\n")
    said = machine.install(_newer(package, tmp_path, "90.2"))
    assert "periode" in said
    assert "not restarted" in said
    assert _pid(machine) == pid


def test_an_upgrade_leaves_a_stopped_service_stopped(
    machine: nspawn.Machine, package: Path, tmp_path: Path
) -> None:
    machine.install(_newer(package, tmp_path, "90.3"))
    assert machine.show("vcpud.service", "ActiveState") == "inactive"


def test_a_stop_gives_everything_back(machine: nspawn.Machine) -> None:
    _manage(machine)
    machine.run("systemctl", "stop", "vcpud.service")
    assert _host(machine) == EVERY_VCPU
    assert _originals(machine) == set()


def test_what_a_killed_daemon_left_is_given_back_by_the_next(machine: nspawn.Machine) -> None:
    restored_at = machine.show("vcpud-restore.service", "ExecMainStartTimestampMonotonic")
    _manage(machine)
    pid = _pid(machine)
    # The next one starts under a configuration that changes nothing.
    machine.write("/etc/vcpud/conf.d/20-domains.yaml", "")
    machine.run("kill", "-KILL", pid)
    machine.wait("the restart", lambda: machine.show("vcpud.service", "NRestarts") != "0")
    machine.wait("everything to be given back", lambda: _host(machine) == EVERY_VCPU)
    machine.wait("the ledger to be empty", lambda: _originals(machine) == set())
    assert _is_active(machine)
    assert _pid(machine) != pid
    # It is for a daemon that has failed for good.
    assert restored_at == machine.show("vcpud-restore.service", "ExecMainStartTimestampMonotonic")


def test_what_a_hanging_daemon_left_is_given_back_by_the_next(machine: nspawn.Machine) -> None:
    machine.write(
        "/etc/systemd/system/vcpud.service.d/60-test.conf",
        "[Service]\nWatchdogSec=3\nTimeoutAbortSec=3\n",
    )
    machine.run("systemctl", "daemon-reload")
    _manage(machine)
    machine.write("/etc/vcpud/conf.d/20-domains.yaml", "")
    machine.run("kill", "-STOP", _pid(machine))
    machine.wait("the restart", lambda: machine.show("vcpud.service", "NRestarts") != "0")
    machine.wait("everything to be given back", lambda: _host(machine) == EVERY_VCPU)
    assert "Watchdog timeout" in machine.story()
    assert _is_active(machine)


def test_the_restore_unit_gives_back_what_a_daemon_that_failed_for_good_left(
    machine: nspawn.Machine,
) -> None:
    machine.write("/etc/systemd/system/vcpud.service.d/60-test.conf", "[Service]\nRestart=no\n")
    machine.run("systemctl", "daemon-reload")
    _manage(machine)
    machine.run("kill", "-KILL", _pid(machine))
    machine.wait("everything to be given back", lambda: _host(machine) == EVERY_VCPU)
    machine.wait("the ledger to be empty", lambda: _originals(machine) == set())
    assert machine.show("vcpud.service", "ActiveState") == "failed"
    assert machine.show("vcpud-restore.service", "Result") == "success"


def test_a_hold_that_nobody_takes_over_is_given_back(machine: nspawn.Machine) -> None:
    _manage(machine)
    machine.run("vcpud", "hold", "4s")
    machine.run("systemctl", "stop", "vcpud.service")
    assert _host(machine) != EVERY_VCPU
    machine.wait("everything to be given back", lambda: _host(machine) == EVERY_VCPU)
    deadman = "vcpud-deadman.service"
    machine.wait("its end", lambda: machine.show(deadman, "ActiveState") == "inactive")
    assert machine.show(deadman, "Result") == "success"
    assert not (machine.root / f"{STATE}/hold"[1:]).exists()
    assert machine.show("vcpud-deadman.path", "ActiveState") == "active"


def test_a_reload_to_observing_gives_everything_back(machine: nspawn.Machine) -> None:
    _manage(machine)
    pid = _pid(machine)
    machine.write("/etc/vcpud/conf.d/20-domains.yaml", "")
    machine.run("systemctl", "reload", "vcpud.service")
    machine.wait("everything to be given back", lambda: _host(machine) == EVERY_VCPU)
    assert _pid(machine) == pid


def test_the_simulated_host_is_in_the_package_and_is_managed(machine: nspawn.Machine) -> None:
    machine.write("/etc/vcpud/conf.d/10-host.yaml", "backend: simulated\n")
    machine.run("systemctl", "start", "vcpud.service")
    machine.wait("a domain to be changed", lambda: _originals(machine) != set(), timeout_s=60)
    machine.run("systemctl", "stop", "vcpud.service")
    assert machine.show("vcpud.service", "Result") == "success"
    assert _originals(machine) == set()


def test_on_a_xen_host_the_drop_in_makes_it_root_without_other_rights(
    machine: nspawn.Machine,
) -> None:
    shipped = machine.root / "usr/share/vcpud/systemd/xen.conf"
    for unit in ("vcpud.service", "vcpud-restore.service", "vcpud-deadman.service"):
        machine.write(f"/etc/systemd/system/{unit}.d/60-xen.conf", shipped.read_text())
    machine.run("systemctl", "daemon-reload")
    machine.run("systemd-analyze", "verify", "--man=no", "/usr/lib/systemd/system/vcpud.service")
    _manage(machine)
    status = machine.run("cat", f"/proc/{_pid(machine)}/status").stdout
    assert re.search(r"^Uid:\t0\t0\t0\t", status, re.MULTILINE)
    effective = re.search(r"^CapEff:\t(\w+)$", status, re.MULTILINE)
    assert effective is not None
    # A container may have been given less.
    assert int(effective[1], 16) & ~LOCK_MEMORY == 0
    machine.run("systemctl", "stop", "vcpud.service")
    assert _host(machine) == EVERY_VCPU
