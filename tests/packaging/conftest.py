"""The package, and one booted systemd with it installed, for all tests that need them."""

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
LIBVIRT = ("libvirt-daemon-system", "polkitd")
PLUGINS = "usr/local/lib/vcpud/plugins"


@pytest.fixture(scope="session")
def able(request: pytest.FixtureRequest) -> Iterator[None]:
    """Skips where no systemd can be booted, unless VCPUD_NOTHING_SKIPPED says that it must be."""
    reason = nspawn.missing()
    if reason is not None:
        if os.environ.get("VCPUD_NOTHING_SKIPPED"):
            pytest.fail(reason)
        pytest.skip(reason)
    wanted = {name for item in request.session.items for name in getattr(item, "fixturenames", ())}
    if "libvirt_host" not in wanted:
        yield
        return
    # The tests mostly wait; the larger root is made meanwhile.
    making = nspawn.begin_root(*LIBVIRT)
    yield
    making.communicate()


@pytest.fixture(scope="session")
def stage(able: None, tmp_path_factory: pytest.TempPathFactory) -> Path:  # noqa: ARG001
    """What `make install` puts under DESTDIR."""
    folder = tmp_path_factory.mktemp("stage")
    done = subprocess.run(
        ("make", "install", f"DESTDIR={folder}", "PREFIX=/usr"),
        check=False,
        cwd=CHECKOUT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, f"{done.stdout}{done.stderr}"
    return folder


@pytest.fixture(scope="session")
def package(able: None) -> Path:  # noqa: ARG001
    """The Debian package of this checkout: the one in build/ where it is of this very commit.

    VCPUD_PACKAGE names another one.
    """
    if given := os.environ.get("VCPUD_PACKAGE"):
        return Path(given)
    commit = _git("rev-parse", "--short=12", "HEAD").strip()
    changed = _git("status", "--porcelain", "--untracked-files=no")
    for found in (CHECKOUT / "build").glob("vcpud_*.deb"):
        if commit and not changed and f"Built from {commit}." in _changelog(found):
            return found
    done = subprocess.run(
        ("make", "--silent", "deb"),
        check=False,
        cwd=CHECKOUT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, f"{done.stdout}{done.stderr}"
    return CHECKOUT / done.stdout.splitlines()[-1]


def _git(*arguments: str) -> str:
    done = subprocess.run(
        ("git", *arguments), check=False, cwd=CHECKOUT, capture_output=True, text=True
    )
    return done.stdout if done.returncode == 0 else ""


def _changelog(package: Path) -> str:
    unpack = f"dpkg-deb --fsys-tarfile {package} | tar -xO ./usr/share/doc/vcpud/changelog.gz"
    command = ("sh", "-c", f"{unpack} | gunzip")
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def bare(able: None) -> Iterator[nspawn.Machine]:  # noqa: ARG001
    """A bare Debian 12 with the dependencies, booted, and a host for vcpud to manage."""
    yield from _booted()


@pytest.fixture
def libvirt_host(able: None) -> Iterator[nspawn.Machine]:  # noqa: ARG001
    """The same with libvirt's daemon and polkit, as on a host of guests."""
    yield from _booted(*LIBVIRT)


@pytest.fixture(scope="session")
def booted(package: Path) -> Iterator[nspawn.Machine]:
    """A running machine on which the package is installed."""
    for machine in _booted():
        machine.install(package)
        machine.run("systemctl", "log-level", "debug")
        yield machine


def _booted(*packages: str) -> Iterator[nspawn.Machine]:
    with tempfile.TemporaryDirectory(prefix="vcpud-systemd-") as scratch:
        machine = nspawn.Machine(nspawn.cached_root(*packages), Path(scratch))
        try:
            plugins = machine.root / PLUGINS
            plugins.parent.mkdir(parents=True)
            shutil.copytree(CHECKOUT / "tests/packaging/plugins", plugins)
            shutil.copytree(CHECKOUT / "tests/fakes", plugins / "fakes")
            yield machine
        finally:
            machine.close()


@pytest.fixture
def machine(booted: nspawn.Machine) -> nspawn.Machine:
    """The machine with vcpud stopped, as installed, and no trace of an earlier test."""
    booted.run("systemctl", "stop", *UNITS)
    booted.run("systemctl", "reset-failed", *UNITS, check=False)
    booted.run("sh", "-c", "rm -rf /etc/systemd/system/vcpud*.d /var/lib/vcpud/* /run/vcpud/*")
    booted.run("sh", "-c", "rm -rf /etc/vcpud/conf.d/*")
    shutil.copyfile(CHECKOUT / "deploy" / "vcpud.yaml", booted.root / "etc/vcpud/vcpud.yaml")
    booted.run("systemctl", "daemon-reload")
    booted.mark()
    return booted
