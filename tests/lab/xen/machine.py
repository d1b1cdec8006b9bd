"""The machine Xen runs on: one QEMU process, booted once, saved at dom0's being ready, and resumed from there.

Problem: to boot Xen and a Debian dom0 under an emulator takes minutes, and every run wants them fresh.
Approach: the emulator's own saved state, in the disk's overlay. dom0 says "lab: ready" on its console and waits for a
word there; between the two nothing of the host is in use, so the machine can be saved. A run works on a copy, and on
a second disk that dom0 has not looked at yet: vcpud need not be copied into it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from lab.bench import leave_note
from lab.daemon import SCRATCH_PARENT, SCRATCH_PREFIX, account
from lab.image import cached, output
from lab.stage import say
from lab.xen.domain import PCPUS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    from lab.xen.image import Dom0Image

MEMORY_MIB = 2560
TREE_MIB = 128
"""Of the second disk: empty in the saved machine, with vcpud on it when it is resumed."""
XEN_COMMAND_LINE = (
    "dom0_mem=1024M,max:1024M dom0_max_vcpus=1 dom0_vcpus_pin=0 com1=115200,8n1 console=com1 "
    "noreboot xpti=no spec-ctrl=no pv-l1tf=no"
)
DOM0_COMMAND_LINE = "console=hvc0 root=/dev/vda rw quiet mitigations=off systemd.show_status=false"
READY = "lab: ready"
BOOT_S = 400.0
RESUME_S = 60.0
_SNAPSHOT = "ready"
_DISK = "disk.qcow2"
_NEEDED_BYTES = 1_500_000_000
_CALL_S = 120.0


class MachineError(Exception):
    """The machine does not do what it is there for; the message holds the end of its console."""


class Machine:
    """A running QEMU with Xen in it, its console, and the directory it shares with dom0."""

    def __init__(
        self, image: Dom0Image, scheduler: str, disk: Path, tree: Path, root: Path
    ) -> None:
        """Lay out the scratch directory; nothing runs yet.

        Args:
            image: What to boot.
            scheduler: As Xen's command line names it.
            disk: Overlay of the image's disk, which the machine writes to.
            tree: A second disk, only read, of ``TREE_MIB``.
            root: Scratch directory, removed by whoever made it.
        """
        self._image = image
        self._scheduler = scheduler
        self._disk = disk
        self._tree = tree
        self._root = root
        self._account = account()
        self.job = root / "job"
        self.job.mkdir()
        self._log = root / "console.log"
        self._log.touch()
        for path in (root, self.job, disk, self._log):
            self._hand_over(path)
        self._process: subprocess.Popen[bytes] | None = None
        self._monitor: socket.socket | None = None
        self._answers = b""

    def __enter__(self) -> Self:
        """Return the machine."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End QEMU."""
        self.stop()

    def _hand_over(self, path: Path) -> None:
        if self._account.drop:
            os.chown(path, self._account.uid, self._account.gid)

    def _command(self, *more: str) -> list[str]:
        image = self._image
        run_as = ["-runas", "nobody"] if self._account.drop else []
        console = (
            f"socket,id=console,path={self._root}/console,server=on,wait=off,logfile={self._log}"
        )
        return [
            "qemu-system-x86_64", "-accel", "tcg,thread=multi", "-machine", "pc", "-cpu", "Nehalem",
            "-smp", str(PCPUS), "-m", str(MEMORY_MIB), "-nodefaults", "-display", "none", "-no-reboot",
            "-kernel", str(image.xen), "-append", f"{XEN_COMMAND_LINE} sched={self._scheduler}",
            "-initrd", f"{image.kernel} {DOM0_COMMAND_LINE},{image.initrd}",
            "-chardev", console, "-serial", "chardev:console",
            "-qmp", f"unix:{self._root}/monitor,server=on,wait=off",
            "-drive", f"file={self._disk},if=virtio,format=qcow2,cache=unsafe",
            "-drive", f"file={self._tree},if=virtio,format=raw,readonly=on",
            "-fsdev", f"local,id=job,path={self.job},security_model=none,multidevs=remap",
            "-device", "virtio-9p-pci,fsdev=job,mount_tag=job",
            *run_as, *more,
        ]  # fmt: skip

    def start(self, *, resume: bool) -> None:
        """Start QEMU: from the beginning, or from the state saved in the disk.

        Raises:
            MachineError: It ended at once.
        """
        more = ["-loadvm", _SNAPSHOT] if resume else []
        with (self._root / "qemu.log").open("ab") as stream:
            self._process = subprocess.Popen(
                self._command(*more), stdin=subprocess.DEVNULL, stdout=stream, stderr=stream
            )
        self._monitor = self._connected("monitor", RESUME_S)
        self._monitor.settimeout(_CALL_S)
        self._answer()  # the greeting
        self._execute("qmp_capabilities")

    def _connected(self, name: str, within_s: float) -> socket.socket:
        deadline_s = time.monotonic() + within_s
        while True:
            self.require_alive()
            found = socket.socket(socket.AF_UNIX)
            try:
                found.connect(str(self._root / name))
            except OSError:
                found.close()
                if time.monotonic() > deadline_s:
                    raise MachineError(f"QEMU opened no {name}: {self.last_words()}") from None
                time.sleep(0.05)
            else:
                return found

    def _answer(self) -> dict[str, Any]:
        assert self._monitor is not None
        while True:
            while b"\n" not in self._answers:
                found = self._monitor.recv(65536)
                if not found:
                    raise MachineError(f"QEMU has ended: {self.last_words()}")
                self._answers += found
            line, self._answers = self._answers.split(b"\n", 1)
            document: dict[str, Any] = json.loads(line)
            if "event" not in document:
                return document

    def _execute(self, command: str, **arguments: str) -> Any:
        assert self._monitor is not None
        request = {"execute": command, "arguments": arguments}
        self._monitor.sendall(json.dumps(request).encode() + b"\n")
        answer = self._answer()
        if "return" not in answer:
            raise MachineError(f"{command}: {answer.get('error')}")
        return answer["return"]

    @property
    def pid(self) -> int:
        """Of QEMU."""
        assert self._process is not None
        return self._process.pid

    def monitor(self, command: str) -> str:
        """Return what QEMU's monitor answers to a command for people."""
        told = self._execute("human-monitor-command", **{"command-line": command})
        return str(told).strip()

    def save(self) -> None:
        """Save the whole machine into its disk, and end it."""
        said = self.monitor(f"savevm {_SNAPSHOT}")
        if said:
            raise MachineError(f"savevm: {said}")
        self._execute("quit")
        if self._process is not None:
            self._process.wait(_CALL_S)  # it closes the disk in order
        self.stop()

    @property
    def alive(self) -> bool:
        """Whether QEMU runs."""
        return self._process is not None and self._process.poll() is None

    def require_alive(self) -> None:
        """Raise ``MachineError`` unless QEMU runs."""
        if not self.alive:
            raise MachineError(f"QEMU has ended: {self.last_words()}")

    def last_words(self) -> str:
        """Return the end of what QEMU and the console have said."""
        said = [(self._root / "qemu.log"), self._log]
        return "\n".join(
            path.read_text(errors="replace")[-1500:] for path in said if path.exists()
        ).strip()

    def wait_for(self, words: str, within_s: float) -> None:
        """Wait until the console has said ``words``.

        Raises:
            MachineError: It has not in time, or QEMU has ended.
        """
        deadline_s = time.monotonic() + within_s
        while words not in self._log.read_text(errors="replace"):
            self.require_alive()
            if time.monotonic() > deadline_s:
                raise MachineError(f"no {words!r} within {within_s:g} s: {self.last_words()}")
            time.sleep(0.2)

    def begin_job(self) -> None:
        """Say the word dom0 waits for: it does ``start`` in the shared directory."""
        with self._connected("console", RESUME_S) as console:
            console.sendall(b"\n")
            time.sleep(1.0)  # what was sent when the other end hangs up is dropped

    def stop(self) -> None:
        """End QEMU."""
        if self._monitor is not None:
            self._monitor.close()
            self._monitor = None
        if self._process is not None:
            if self.alive:
                self._process.kill()
            self._process.wait()


def _state_key(image: Dom0Image, scheduler: str) -> str:
    version = output("qemu-system-x86_64", "--version")
    facts = (
        image.manifest["key"], scheduler, version, XEN_COMMAND_LINE, DOM0_COMMAND_LINE,
        str(PCPUS), str(MEMORY_MIB), Path(__file__).read_text(),
    )  # fmt: skip
    return hashlib.sha256("\0".join(facts).encode()).hexdigest()[:16]


def _boot(image: Dom0Image, scheduler: str, target: Path) -> None:
    """Boot to a ready dom0 and leave its saved state in ``target``."""
    began_s = time.monotonic()
    with scratch() as root:
        disk = root / _DISK
        output(
            "qemu-img",
            "create",
            "-q",
            "-f",
            "qcow2",
            "-F",
            "raw",
            "-b",
            str(image.disk),
            str(disk),
        )
        tree = root / "tree"
        with tree.open("wb") as stream:
            stream.truncate(TREE_MIB << 20)
        with Machine(image, scheduler, disk, tree, root) as machine:
            machine.start(resume=False)
            machine.wait_for(READY, BOOT_S)
            say(f"Xen with sched={scheduler} booted in {time.monotonic() - began_s:.0f} s")
            machine.save()
        shutil.move(disk, target / _DISK)


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """Yield a scratch directory with a short path, and remove it."""
    root = Path(tempfile.mkdtemp(prefix=SCRATCH_PREFIX, dir=SCRATCH_PARENT))
    root.chmod(0o711)
    leave_note(root)
    try:
        yield root
    finally:
        shutil.rmtree(root, ignore_errors=True)


@contextlib.contextmanager
def ready_machine(image: Dom0Image, scheduler: str, tree: Path) -> Iterator[Machine]:
    """Yield a machine whose dom0 is ready for a job, booted only where no saved state is cached.

    Args:
        image: What it boots.
        scheduler: As Xen's command line names it.
        tree: Its second disk.

    Raises:
        MachineError: It does not come up.
    """
    folder = cached(
        f"xen-state-{scheduler}",
        _state_key(image, scheduler),
        _NEEDED_BYTES,
        lambda target, _scratch: _boot(image, scheduler, target),
    )
    with scratch() as root:
        disk = root / _DISK
        output("cp", "--sparse=always", "--reflink=auto", str(folder / _DISK), str(disk))
        with Machine(image, scheduler, disk, tree, root) as machine:
            machine.start(resume=True)
            yield machine
