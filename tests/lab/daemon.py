"""A private libvirtd of the lab's own, as an unprivileged user, that no other libvirt on the host can see.

Problem: the lab needs a real libvirtd, and must never touch one a user relies on.
Approach: libvirtd in session mode with every XDG directory and HOME inside a scratch directory. Run as root the lab
drops to another user first, because a root libvirtd is the system's. Serial consoles are written by QEMU itself, so
that no virtlogd is needed either.
"""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import libvirt

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lab.image import GuestImage

SCRATCH_PARENT = Path("/tmp")  # noqa: S108  short, because a socket's path ends at 108 bytes; mkdtemp makes it private
SCRATCH_PREFIX = "vl-"
_START_S = 20.0
_STOP_S = 10.0

_LIBVIRTD_CONF = """\
# Only the session's own unix socket.
listen_tls = 0
listen_tcp = 0
keepalive_interval = 5
"""

_QEMU_CONF = """\
stdio_handler = "file"
security_driver = "none"
cgroup_controllers = [ ]
"""

_OWN_NAMESPACE = () if os.geteuid() == 0 else ("--map-current-user", "--keep-caps")
_NAMED = (
    *("unshare", "--uts", *_OWN_NAMESPACE, "--"),
    *("sh", "-c", 'hostname vcpud-lab-elsewhere && exec "$@"', "sh"),
)
"""Runs a command under another host name: libvirt does not migrate from a host to itself."""


class DaemonError(Exception):
    """The private libvirtd does not run; the message holds the end of its log."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """The unprivileged user libvirtd, QEMU and vcpud run as.

    Attributes:
        uid: User.
        gid: Group.
        groups: Supplementary groups; the owner group of /dev/kvm where it has one.
        drop: Whether the lab runs as root and must change to this user.
    """

    uid: int
    gid: int
    groups: tuple[int, ...]
    drop: bool

    def command(self, *arguments: str) -> list[str]:
        """Return ``arguments`` as a command line that runs as this user."""
        if not self.drop:
            return list(arguments)
        groups = f"--groups={','.join(map(str, self.groups))}" if self.groups else "--clear-groups"
        drop = [
            "setpriv",
            f"--reuid={self.uid}",
            f"--regid={self.gid}",
            groups,
            "--no-new-privs",
            "--",
        ]
        return [*drop, *arguments]


def account() -> Account:
    """Return this user, or the one to drop to when the lab runs as root (LAB_USER, else nobody)."""
    if os.geteuid() != 0:
        return Account(uid=os.geteuid(), gid=os.getegid(), groups=(), drop=False)
    entry = pwd.getpwnam(os.environ.get("LAB_USER", "nobody"))
    groups: tuple[int, ...] = ()
    with contextlib.suppress(KeyError):
        groups = (grp.getgrnam("kvm").gr_gid,)
    return Account(uid=entry.pw_uid, gid=entry.pw_gid, groups=groups, drop=True)


def _signal_if_alive(
    process: subprocess.Popen[bytes], number: signal.Signals, wait_s: float
) -> None:
    if process.poll() is None:
        process.send_signal(number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(wait_s)


class PrivateLibvirt:
    """A running libvirtd, its scratch directory, and the environment in which it is ``qemu:///session``."""

    def __init__(self, image: GuestImage, *, apart: bool = False) -> None:
        """Lay out the scratch directory, copy ``image`` where the user can read it, and start libvirtd.

        Args:
            image: What its guests boot.
            apart: Have it pass for another host, so that guests can be migrated to it.
        """
        self.account = account()
        self._apart = apart
        self.root = Path(tempfile.mkdtemp(prefix=SCRATCH_PREFIX, dir=SCRATCH_PARENT))
        self.root.chmod(0o755)
        self.folders = {
            name: self.root / name
            for name in ("run", "config", "cache", "data", "home", "log", "image")
        }
        for folder in self.folders.values():
            folder.mkdir(mode=0o700)
        configuration = self.folders["config"] / "libvirt"
        configuration.mkdir()
        (configuration / "qemu.conf").write_text(_QEMU_CONF)
        self._libvirtd_conf = configuration / "libvirtd.conf"
        identity = f'host_uuid = "{uuid.uuid4()}"\n' if apart else ""
        self._libvirtd_conf.write_text(_LIBVIRTD_CONF + identity)
        self.kernel = self.folders["image"] / "kernel"
        self.initramfs = self.folders["image"] / "initramfs"
        shutil.copyfile(image.kernel, self.kernel)
        shutil.copyfile(image.initramfs, self.initramfs)
        self.hand_over(self.root)
        self.log = self.folders["log"] / "libvirtd.log"
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def socket(self) -> Path:
        """The daemon's socket; it serves read-only and read-write connections alike."""
        return self.folders["run"] / "libvirt" / "libvirt-sock"

    @property
    def uri(self) -> str:
        """A URI that reaches this daemon and no other, whatever the environment."""
        return f"qemu+unix:///session?socket={self.socket}"

    @property
    def environment(self) -> Mapping[str, str]:
        """The variables that make every libvirt client of the daemon's user stay inside the scratch directory."""
        folders = self.folders
        return {
            "HOME": str(folders["home"]),
            "XDG_RUNTIME_DIR": str(folders["run"]),
            "XDG_CONFIG_HOME": str(folders["config"]),
            "XDG_CACHE_HOME": str(folders["cache"]),
            "XDG_DATA_HOME": str(folders["data"]),
            "XDG_STATE_HOME": str(folders["data"]),
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "LC_ALL": "C.UTF-8",
        }

    @property
    def pid(self) -> int:
        """Process id of libvirtd, 0 when it does not run."""
        return (
            self._process.pid if self._process is not None and self._process.poll() is None else 0
        )

    def hand_over(self, path: Path) -> None:
        """Give ``path`` and everything below it to the daemon's user."""
        if self.account.drop:
            for found in (path, *path.rglob("*")):
                os.chown(found, self.account.uid, self.account.gid, follow_symlinks=False)

    def popen(
        self, arguments: Sequence[str], log: Path, extra: Mapping[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        """Start a program as the daemon's user, its output appended to ``log``."""
        return self._popen(self.account.command(*arguments), log, extra)

    def _popen(
        self, command: Sequence[str], log: Path, extra: Mapping[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        with log.open("ab") as stream:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                env={**self.environment, **(extra or {})},
                cwd=self.root,
                start_new_session=True,
            )

    def start(self) -> None:
        """Start libvirtd and wait until its socket answers.

        Raises:
            DaemonError: It ended, or did not open its socket in time.
        """
        command = self.account.command("libvirtd", "--config", str(self._libvirtd_conf))
        self._process = self._popen([*(_NAMED if self._apart else ()), *command], self.log)
        deadline_s = time.monotonic() + _START_S
        while not self.socket.exists():
            if self._process.poll() is not None or time.monotonic() > deadline_s:
                message = f"libvirtd did not start: {self.log.read_text(errors='replace')[-800:]}"
                raise DaemonError(message)
            time.sleep(0.05)

    def connect(self) -> libvirt.virConnect:
        """Return a connection of one's own to it; a libvirtd that nobody can reach is removed."""
        try:
            return libvirt.open(self.uri)
        except libvirt.libvirtError:
            self.stop()
            self.remove()
            raise

    def stop(self) -> None:
        """Stop libvirtd; its domains go on running, as they do on a real host."""
        if self._process is not None:
            _signal_if_alive(self._process, signal.SIGTERM, _STOP_S)
            _signal_if_alive(self._process, signal.SIGKILL, _STOP_S)
        self.socket.unlink(missing_ok=True)

    def remove(self) -> None:
        """Remove the scratch directory."""
        shutil.rmtree(self.root, ignore_errors=True)
