"""What libvirt lets the account vcpud do: a real libvirtd and a real polkit beside the package."""

import json
import subprocess
from pathlib import Path

import pytest

import nspawn

pytestmark = [pytest.mark.root, pytest.mark.timeout(600)]

CHECKOUT = Path(__file__).resolve().parents[2]
LIBVIRT = "qemu:///system"
RULES = "/etc/polkit-1/rules.d/50-vcpud.rules"


def _as_vcpud(machine: nspawn.Machine, *words: str) -> subprocess.CompletedProcess[str]:
    command = ("runuser", "-u", "vcpud", "--", "virsh", "--connect", LIBVIRT, *words)
    return machine.run(*command, check=False)


def _may_change(machine: nspawn.Machine) -> bool:
    """Whether the account gets a connection that is not read-only."""
    return _as_vcpud(machine, "list", "--all").returncode == 0


def _connected(machine: nspawn.Machine) -> bool:
    done = machine.run("vcpud", "status", "-o", "json", check=False)
    return done.returncode == 0 and json.loads(done.stdout).get("connected") is True


@pytest.fixture
def installed(libvirt_host: nspawn.Machine, package: Path) -> nspawn.Machine:
    """The package on a host with libvirt, connected to it."""
    libvirt_host.install(package)
    libvirt_host.wait("the connection", lambda: _connected(libvirt_host))
    return libvirt_host


def test_the_package_observes_and_may_change_only_what_was_asked_for_aloud(
    installed: nspawn.Machine,
) -> None:
    assert _as_vcpud(installed, "--readonly", "list", "--all").returncode == 0
    assert not _may_change(installed)

    said = installed.run("vcpud", "enable-enforce", "--yes").stdout
    assert "equals root" in said
    installed.wait("polkit to read the rule", lambda: _may_change(installed))

    pid = installed.show("vcpud.service", "MainPID")
    installed.run("vcpud", "disable-enforce")
    installed.wait("polkit to forget the rule", lambda: not _may_change(installed))
    # The connection that it had opened with that right is gone, too.
    assert installed.show("vcpud.service", "MainPID") != pid
    installed.wait("the connection", lambda: _connected(installed))


def test_with_fine_grained_access_control_it_may_change_domains_and_nothing_else(
    installed: nspawn.Machine,
) -> None:
    network = "/var/tmp/network.xml"  # noqa: S108  inside the machine
    installed.write(network, "<network><name>n</name></network>")
    shipped = installed.root / "usr/share/vcpud/polkit/fine-grained.rules"
    installed.write(RULES, shipped.read_text())
    checked = 'access_drivers = [ "polkit" ]\n'
    configuration = installed.root / "etc/libvirt/libvirtd.conf"
    configuration.write_text(configuration.read_text() + checked)
    installed.run("systemctl", "restart", "libvirtd.service")

    installed.wait("polkit to read the rules", lambda: _may_change(installed))
    refused = _as_vcpud(installed, "net-define", network)
    assert refused.returncode != 0
    assert "access denied" in refused.stderr
    installed.run("virsh", "--connect", LIBVIRT, "net-define", network)
    installed.wait("the connection", lambda: _connected(installed))
