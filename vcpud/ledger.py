"""What is written down before anything is changed: originals, and the hold.

Everything here must survive SIGKILL and power loss at any point: a file is replaced whole
(temporary file, fsync, rename, fsync of the folder) or not at all. What cannot be read is moved
aside and never deleted; while it lies there, nothing may be changed.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vcpud.errors import LedgerError
from vcpud.model import Original, Uuid, same_run
from vcpud.units import NS_PER_S

if TYPE_CHECKING:
    from pathlib import Path

SCHEMA = 1
HOLD_NAME = "hold"
"""In the state folder; `vcpud-deadman.path` watches for it."""
_NAME = "originals.json"
_ASIDE = f"{_NAME}.unreadable-"
_MAX_BYTES = 16 * 1024 * 1024
_BOOT_ID = "/proc/sys/kernel/random/boot_id"


def boot_id() -> str:
    """This boot of the host, or "" where the kernel does not tell."""
    try:
        with open(_BOOT_ID, encoding="ascii") as stream:  # noqa: PTH123  one short line
            return stream.read().strip()
    except OSError:
        return ""


class FileLedger:
    """The `Ledger` port over `originals.json` in the state folder."""

    def __init__(self, state_dir: Path, *, read_only: bool = False) -> None:
        """Read what is outstanding; a ledger that cannot be believed shows in `fault`.

        Args:
            state_dir: Where it is.
            read_only: Only look: what cannot be understood is left where it is.
        """
        self._folder = state_dir
        self._read_only = read_only
        self._path = state_dir / _NAME
        self._originals: dict[Uuid, Original] = {}
        self._unreadable: str | None = None
        self._lost = False
        self._load()

    @property
    def lost(self) -> bool:
        """There was no file: vcpud has never changed anything here, or what it wrote is lost.

        An empty ledger is a file, too, and says that nobody is owed anything.
        """
        return self._lost and self.fault is None

    @property
    def fault(self) -> str | None:
        """Why nothing may be changed, or None; an operator ends it by removing the file."""
        if self._unreadable is not None:
            return self._unreadable
        with contextlib.suppress(OSError):
            for name in sorted(os.listdir(self._folder)):  # noqa: PTH208  names only
                if name.startswith(_ASIDE):
                    return (
                        f"{self._folder / name} holds originals that cannot be read: check the "
                        "vCPUs of every domain, then remove the file"
                    )
        return None

    def remember(self, *originals: Original) -> None:
        if fault := self.fault:
            raise LedgerError(fault)
        fresh = {one.uuid: one for one in originals if not self._knows(one)}
        if fresh:
            self._replace(self._originals | fresh)

    def _knows(self, original: Original) -> bool:
        """Whether what the domain had is written down.

        Raises:
            LedgerError: What its namesake of another hypervisor had is, and must not be lost.
        """
        known = self._originals.get(original.uuid)
        if known is None or _same_life(known, original):
            return known is not None
        if known.hypervisor not in ("", original.hypervisor):
            raise LedgerError(
                f"{self._path} holds what another domain of this UUID had: {known.name!r:.40} of "
                f"{known.hypervisor}, which has to get it back first"
            )
        return False

    def amend(self, original: Original) -> None:
        if fault := self.fault:
            raise LedgerError(fault)
        if self._originals.get(original.uuid) != original:
            self._replace({**self._originals, original.uuid: original})

    def forget(self, *uuids: Uuid) -> None:
        done = self._originals.keys() & frozenset(uuids)
        if done:
            if fault := self.fault:
                raise LedgerError(fault)
            self._replace({key: kept for key, kept in self._originals.items() if key not in done})

    def outstanding(self) -> tuple[Original, ...]:
        return tuple(self._originals.values())

    def _replace(self, originals: dict[Uuid, Original]) -> None:
        document = {
            "schema": SCHEMA,
            "originals": [_to_json(original) for original in originals.values()],
        }
        replace_file(self._path, json.dumps(document, indent=1))
        self._originals = originals

    def _load(self) -> None:
        try:
            with self._path.open("rb") as stream:
                raw = stream.read(_MAX_BYTES + 1)
        except FileNotFoundError:
            self._lost = True
            return
        except OSError as error:
            self._unreadable = f"{self._path} cannot be read: {error.strerror}"
            return
        try:
            document = json.loads(raw)
            schema = document["schema"]
            if schema == SCHEMA:
                found = [_from_json(entry) for entry in document["originals"]]
                self._originals = {original.uuid: original for original in found}
                return
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            self._set_aside()
            return
        self._unreadable = (
            f"{self._path} was written by another version of vcpud (schema {schema!r:.20}, "
            f"this one reads {SCHEMA}): restore with that version first"
        )

    def _set_aside(self) -> None:
        if self._read_only:
            self._unreadable = f"{self._path} cannot be understood"
            return
        aside = self._folder / f"{_ASIDE}{time.time_ns()}"
        try:
            self._path.rename(aside)
            _sync_folder(self._folder)
        except OSError as error:
            self._unreadable = (
                f"{self._path} cannot be understood, nor moved aside: {error.strerror}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldNote:
    """A promise that a new vcpud takes over before the deadline.

    Attributes:
        boot_id: The boot it was made in; void after a reboot.
        deadline_wall_ns: Wall clock, for people and as the only one that outlives the process.
    """

    boot_id: str
    deadline_wall_ns: int

    def left_ns(self) -> int:
        """Time left; a clock that was set back cannot stretch it beyond a day."""
        left = self.deadline_wall_ns - time.time_ns()
        return left if left < 86_400 * NS_PER_S else 0


def write_hold(state_dir: Path, duration_ns: int) -> HoldNote:
    """Note that the next stop may keep the counts for this long.

    Raises:
        LedgerError: It could not be made durable.
    """
    note = HoldNote(boot_id=boot_id(), deadline_wall_ns=time.time_ns() + duration_ns)
    document = {
        "schema": SCHEMA,
        "boot_id": note.boot_id,
        "deadline_wall_ns": note.deadline_wall_ns,
    }
    replace_file(state_dir / HOLD_NAME, json.dumps(document))
    return note


def read_hold(state_dir: Path) -> HoldNote | None:
    """The hold in force in this boot, run out or not; what cannot be read is no hold."""
    try:
        document = json.loads((state_dir / HOLD_NAME).read_bytes()[:_MAX_BYTES])
        note = HoldNote(
            boot_id=str(document["boot_id"]), deadline_wall_ns=int(document["deadline_wall_ns"])
        )
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None
    return note if note.boot_id == boot_id() else None


def clear_hold(state_dir: Path) -> None:
    """End the hold, whatever it says.

    Raises:
        LedgerError: It is there and cannot be removed.
    """
    try:
        (state_dir / HOLD_NAME).unlink(missing_ok=True)
    except OSError as error:
        raise LedgerError(
            f"{state_dir / HOLD_NAME} cannot be removed: {error.strerror}"
        ) from error


def replace_file(path: Path, text: str) -> None:
    """Have the file hold this text, durably, or leave it as it was.

    Raises:
        LedgerError: It could not be made durable.
    """
    fresh = path.with_name(f"{path.name}.new")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = os.open(
            fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600
        )
        with open(fd, "wb", buffering=0) as stream:  # noqa: PTH123  a descriptor, not a path
            hand_over(fd, path.parent)
            left = memoryview(text.encode())
            while left:
                left = left[stream.write(left) :]
            os.fsync(fd)
        fresh.rename(path)
        _sync_folder(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            fresh.unlink(missing_ok=True)
        raise LedgerError(f"{path} cannot be written: {error.strerror}") from error


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def hand_over(fd: int, folder: Path) -> None:
    """What root writes on the daemon's behalf (`vcpud restore`) must stay the daemon's own."""
    if os.geteuid() == 0:
        owner = folder.stat()
        if owner.st_uid != 0:
            os.fchown(fd, owner.st_uid, owner.st_gid)


def _same_life(one: Original, other: Original) -> bool:
    return one.boot_id == other.boot_id and same_run(one.incarnation, other.incarnation)


def _to_json(original: Original) -> dict[str, Any]:
    return {
        "boot_id": original.boot_id,
        "uuid": original.uuid,
        "name": original.name,
        "incarnation": original.incarnation,
        "online": None if original.online is None else sorted(original.online),
        "live_vcpus": original.live_vcpus,
        "weight": original.weight,
        "unplug_from": original.unplug_from,
        "hypervisor": original.hypervisor,
        "schema": original.schema,
    }


def _from_json(entry: dict[str, Any]) -> Original:
    """One entry.

    Raises:
        ValueError: A field has the wrong type, or the entry is of another schema.
    """
    online = entry["online"]
    unplug_from = entry.get("unplug_from")  # unknown to the first version, which read no more
    hypervisor = entry.get("hypervisor", "")  # as well
    perhaps = [number for number in (entry["weight"], unplug_from) if number is not None]
    numbers = [entry["live_vcpus"], *(online or ()), *perhaps]
    words = [entry[word] for word in ("boot_id", "uuid", "name", "incarnation")] + [hypervisor]
    if (
        entry["schema"] != SCHEMA
        or not all(type(number) is int and number >= 0 for number in numbers)
        or not all(isinstance(word, str) for word in words)
        or not (online is None or isinstance(online, list))
    ):
        raise ValueError("not an original of this schema")
    return Original(
        boot_id=words[0],
        uuid=words[1],
        name=words[2],
        incarnation=words[3],
        online=None if online is None else frozenset(online),
        live_vcpus=entry["live_vcpus"],
        weight=entry["weight"],
        unplug_from=unplug_from,
        hypervisor=hypervisor,
    )
