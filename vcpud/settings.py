"""The configuration once it is known to be right: what the rest of the daemon is given."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from vcpud.requests import LoopSettings
from vcpud.terms import TermsBook

CONFIG_PATH = Path("/etc/vcpud/vcpud.yaml")
STATE_DIR = Path("/var/lib/vcpud")
RUNTIME_DIR = Path("/run/vcpud")
KILL_SWITCH = Path("/etc/vcpud/disabled")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """Files of the metrics' TLS.

    Attributes:
        certificate: The server's certificate and what leads to its root, PEM.
        key: Its private key.
        client_ca: Who must have signed a client's certificate; None asks clients for none.
    """

    certificate: Path
    key: Path
    client_ca: Path | None = None


@dataclass(frozen=True, slots=True)
class Listen:
    """Where the metrics are served, and whether over TLS."""

    host: str
    port: int
    tls: Tls | None = None

    @property
    def exposed(self) -> bool:
        """Whether strangers on the network may read the names and loads of domains."""
        here = self.host in ("localhost", "::1") or self.host.startswith("127.")
        return not here and (self.tls is None or self.tls.client_ca is None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recordings:
    """Where the daemon records what it sees and decides, and how much of it is kept.

    Attributes:
        directory: Where the files go.
        max_file_bytes: A file of this size is closed and the next begun.
        max_files: The oldest beyond so many are deleted.
    """

    directory: Path
    max_file_bytes: int
    max_files: int


@dataclass(frozen=True, slots=True)
class EffectiveLine:
    """One setting in force: its key, its value as YAML, and where it was written.

    Attributes:
        key: Words from the top; list positions as decimal words.
        value: As YAML would have it on one line.
        origin: `file:line`, or "default".
    """

    key: tuple[str, ...]
    value: str
    origin: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything that was configured; immutable, so that a reload is all or nothing.

    Attributes:
        loop: For the control loop.
        terms: What may be done with which domain.
        backend: `NAME` or `NAME:ARGUMENT`.
        backend_options: The backend's own section, only keys that were written; durations in
            nanoseconds under `KEY_ns`.
        listen: Where metrics and health are served, or None for nowhere.
        recordings: Where everything is recorded, or None for nowhere.
        log_format: json, text, or auto: text on a terminal.
        log_level: debug, info, warning or error.
        state_dir: What must outlive a reboot: the ledger, the hold.
        runtime_dir: Lock and control socket.
        kill_switch: While this file exists nothing is decided, and everything is given back.
        socket_group: Members may use the control socket beside root.
        files: What was read, in order.
        digest: Short hash of the settings in force.
        effective: Every setting with its origin, for `check-config --print`.
    """

    loop: LoopSettings
    terms: TermsBook
    backend: str = "libvirt"
    backend_options: dict[str, Any]
    listen: Listen | None
    recordings: Recordings | None = None
    log_format: Literal["auto", "json", "text"] = "auto"
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    state_dir: Path = STATE_DIR
    runtime_dir: Path = RUNTIME_DIR
    kill_switch: Path = KILL_SWITCH
    socket_group: str = "vcpud"
    files: tuple[str, ...] = ()
    digest: str = ""
    effective: tuple[EffectiveLine, ...] = ()
