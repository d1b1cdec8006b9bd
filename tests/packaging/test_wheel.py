"""`pip install` of the wheel, into an environment of its own."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

pytestmark = [pytest.mark.process, pytest.mark.slow]

CHECKOUT = Path(__file__).resolve().parents[2]
PINS = CHECKOUT / "requirements" / "dev.txt"


def _pip(*arguments: str) -> None:
    done = subprocess.run(
        (sys.executable, "-m", "pip", *arguments),
        check=False,
        cwd=CHECKOUT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    _pip("wheel", "-qq", "--no-deps", "--no-build-isolation", f"--wheel-dir={folder}", ".")
    (found,) = folder.glob("vcpud-*.whl")
    return found


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh environment with the wheel and what it needs, in the versions of the pins."""
    folder = tmp_path_factory.mktemp("environment") / "venv"
    subprocess.run((sys.executable, "-m", "venv", "--without-pip", str(folder)), check=True)
    into = ("--python", str(folder / "bin" / "python3"), "install", "-qq", "--no-compile")
    _pip(*into, f"--build-constraint={PINS}", f"--constraint={PINS}", str(wheel))
    return folder


def _run(environment: Path, *arguments: str) -> str:
    done = subprocess.run(
        (str(environment / "bin" / "vcpud"), *arguments),
        check=False,
        cwd=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_it_holds_every_file_that_is_read_at_run_time(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    assert "vcpud/commands/50-vcpud.rules" in names
    assert any(name.endswith(".yaml") and "scenarios" in name for name in names)
    assert {"vcpud/py.typed", "vcpud_policies/py.typed", "vcpud_simulator/py.typed"} <= names


def test_the_program_runs_and_knows_its_policies_and_backends(environment: Path) -> None:
    assert _run(environment, "version").startswith("vcpud ")
    assert "org.libvirt.unix.manage" in _run(environment, "enable-enforce", "--print")
    changes = _run(environment, "dry-run", "--backend=simulated", "--cycles=3")
    assert "nothing was changed" in changes
