"""One booted systemd with vcpud installed, for all tests that need it."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import nspawn

CHECKOUT = Path(__file__).resolve().parents[2]
UNITS = ("vcpud.service", "vcpud-deadman.path", "vcpud-deadman.service", "vcpud-restore.service")


@pytest.fixture(scope="session")
def stage() -> Iterator[Path]:
    """What `make install` puts under DESTDIR.

    Skips where no systemd can be booted, unless VCPUD_NOTHING_SKIPPED says that this is a failure.
    """
    reason = nspawn.missing()
    if reason is not None:
        if os.environ.get("VCPUD_NOTHING_SKIPPED"):
            pytest.fail(reason)
        pytest.skip(reason)
    with tempfile.TemporaryDirectory(prefix="vcpud-systemd-") as scratch:
        done = subprocess.run(
            ("make", "install", f"DESTDIR={scratch}/stage", "PREFIX=/usr"),
            check=False,
            cwd=CHECKOUT,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, f"{done.stdout}{done.stderr}"
        yield Path(scratch) / "stage"


@pytest.fixture(scope="session")
def booted(stage: Path) -> Iterator[nspawn.Machine]:
    """A running machine in which the stage is installed as a package would be."""
    root = stage.parent / "root"
    for source in (nspawn.cached_root(), f"{stage}/."):
        subprocess.run(("cp", "-a", str(source), str(root)), check=True)
    machine = nspawn.Machine(root)
    try:
        machine.run("systemctl", "log-level", "debug")
        machine.run("systemd-sysusers")
        machine.run("systemd-tmpfiles", "--create", "vcpud.conf")
        yield machine
    finally:
        machine.close()


@pytest.fixture
def machine(booted: nspawn.Machine) -> nspawn.Machine:
    """The machine with vcpud stopped, as installed, and no trace of an earlier test."""
    booted.run("systemctl", "stop", *UNITS)
    booted.run("systemctl", "reset-failed", *UNITS, check=False)
    booted.run("sh", "-c", "rm -rf /etc/systemd/system/vcpud* /var/lib/vcpud/* /run/vcpud/*")
    booted.run("sh", "-c", "rm -rf /etc/vcpud/conf.d/*")
    shutil.copyfile(CHECKOUT / "deploy" / "vcpud.yaml", booted.root / "etc/vcpud/vcpud.yaml")
    booted.run("systemctl", "daemon-reload")
    booted.mark()
    return booted
