"""Xen's own tools: what libvirt's Xen driver does not tell or do. The only module that starts them.

`xl` says which vCPUs are really online, where libvirt repeats what it has asked for, and it can give
back more vCPUs than the host has pCPUs, which libvirt refuses. xenstore, where guests publish and are
told which vCPUs are available, is reached through libxenstore, by ctypes: the client library that
libvirt's Xen driver itself depends on, so it is there wherever this backend can work. A process for each
reading (`xenstore-read`) would cost dom0 some ten times as much, and Python's pyxs has had no release
since 2016.
References: Xen tools/xl/xl_vcpu.c, xl_info.c, tools/include/xenstore.h.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, Final, Protocol

from vcpud.hypervisor.failures import CallFailed, Meaning

IGNORE_HOST: Final = "--ignore-host"
REPORT_LIMIT: Final = 2048
"""Bytes of a guest's report; xenstored lets a guest write hardly less."""

_PATH: Final = "/usr/sbin:/usr/bin:/sbin:/bin"
_TIMEOUT_S: Final = 10.0
_OUTPUT_LIMIT: Final = 4 * 1024 * 1024
_SHOWN: Final = 300
_LIBXENSTORE: Final = ("libxenstore.so.4", "libxenstore.so.3.0")
_VCPU_LINE: Final = re.compile(
    r"^.*\s(\d{1,6})\s+(\d{1,6})\s+(?:\d+|-)\s+[r-][b-]([p-])\s+[\d.]+\s", re.MULTILINE
)
"""Name, domain id, vCPU, pCPU, state, seconds, affinities; a name may hold anything, so the last match
on a line counts."""
_VERSION_LINE: Final = re.compile(r"^xen_version\s*: (\S{1,40})", re.MULTILINE)
_RATE_LIMIT: Final = re.compile(r"^Cpupool .*: ratelimit=(\d{1,9})us", re.MULTILINE)


class Toolstack(Protocol):
    """What this backend needs of Xen beside libvirt; every method may raise `CallFailed`."""

    def online(self) -> Mapping[int, frozenset[int]]:
        """By domain id, the vCPUs that Xen has online."""

    def set_vcpus(self, number: int, count: int) -> None:
        """Ask a domain to have so many, however many pCPUs there are."""

    def can_ignore_host(self) -> bool:
        """Whether `set_vcpus` can work here."""

    def leaving(self, number: int, most: int) -> frozenset[int]:
        """Of its first so many vCPUs, those the guest has been asked to take offline."""

    def set_available(self, number: int, index: int, *, available: bool) -> None:
        """Ask a domain to have one vCPU online or not, whatever it is asked of the others."""

    def report(self, number: int) -> bytes | None:
        """What the guest publishes, None where it publishes nothing."""

    def version(self) -> str:
        """Xen's, such as 4.17.7; empty where it is not told."""

    def rate_limit_us(self) -> int | None:
        """How long, under credit2, whoever runs does so at least, in any of its pools; None where not told."""


class XenTools:
    """The tools of this host."""

    def __init__(self, path: str = _PATH) -> None:
        """Nothing is started yet.

        Args:
            path: Where to look for `xl`.
        """
        self._path = path

    def online(self) -> Mapping[int, frozenset[int]]:
        return parse_vcpu_list(self._xl("vcpu-list"))

    def set_vcpus(self, number: int, count: int) -> None:
        self._xl("vcpu-set", IGNORE_HOST, str(number), str(count))

    def can_ignore_host(self) -> bool:
        try:
            self.online()  # the hypervisor lets us, and answers
            return IGNORE_HOST in self._xl("help", "vcpu-set")
        except CallFailed:
            return False

    def leaving(self, number: int, most: int) -> frozenset[int]:
        place = f"/local/domain/{number}/cpu"
        found = _read_xenstore(*(f"{place}/{index}/availability" for index in range(most)))
        return frozenset(index for index, word in enumerate(found) if word == b"offline")

    def set_available(self, number: int, index: int, *, available: bool) -> None:
        word = b"online" if available else b"offline"
        _write_xenstore(f"/local/domain/{number}/cpu/{index}/availability", word)

    def report(self, number: int) -> bytes | None:
        (found,) = _read_xenstore(f"/local/domain/{number}/data/vcpud")
        return found

    def version(self) -> str:
        return parse_version(self._xl("info"))

    def rate_limit_us(self) -> int | None:
        return parse_rate_limit_us(self._xl("sched-credit2", "-s"))

    def _xl(self, *arguments: str) -> str:
        program = shutil.which("xl", path=self._path)
        if program is None:
            raise CallFailed(Meaning.UNSUPPORTED, "there is no xl here: install xen-utils")
        try:
            done = subprocess.run(  # noqa: S603  a fixed program, its arguments are numbers
                [program, *arguments],
                capture_output=True,
                check=False,
                env={"PATH": self._path, "LC_ALL": "C"},
                stdin=subprocess.DEVNULL,
                timeout=_TIMEOUT_S,
            )
        except subprocess.TimeoutExpired as error:
            raise CallFailed(Meaning.HUNG, f"xl {arguments[0]} did not end") from error
        except OSError as error:
            raise CallFailed(Meaning.UNSUPPORTED, f"xl: {error.strerror}") from error
        if done.returncode:
            words = done.stderr.decode(errors="replace").strip()[-_SHOWN:]
            meaning = Meaning.FAILED if os.geteuid() == 0 else Meaning.DENIED
            raise CallFailed(meaning, f"xl {arguments[0]}: {words or done.returncode}")
        return done.stdout[:_OUTPUT_LIMIT].decode(errors="replace")


def parse_vcpu_list(text: str) -> dict[int, frozenset[int]]:
    """Read `xl vcpu-list`: a vCPU whose state has no `p` is online.

    Args:
        text: The output; what is no line of it is passed over.
    """
    found: dict[int, set[int]] = {}
    for number, index, parked in _VCPU_LINE.findall(text):
        online = found.setdefault(int(number), set())
        if parked != "p":
            online.add(int(index))
    return {number: frozenset(online) for number, online in found.items()}


def parse_version(text: str) -> str:
    """Read Xen's version in `xl info`; empty where it is missing."""
    found = _VERSION_LINE.search(text)
    return "" if found is None else found[1]


def parse_rate_limit_us(text: str) -> int | None:
    """Read the longest rate limit in `xl sched-credit2 -s`; None where it is missing."""
    return max(map(int, _RATE_LIMIT.findall(text)), default=None)


# ------------------------------------------------------------------------------- xenstore


@cache
def _xenstore() -> Any:
    """The library.

    Raises:
        CallFailed: It is not installed.
    """
    for name in _LIBXENSTORE:
        try:
            library = ctypes.CDLL(name, use_errno=True)
        except OSError:
            continue
        library.xs_open.argtypes = (ctypes.c_ulong,)
        library.xs_open.restype = ctypes.c_void_p
        library.xs_close.argtypes = (ctypes.c_void_p,)
        library.xs_close.restype = None
        library.xs_read.argtypes = (
            ctypes.c_void_p,
            ctypes.c_uint32,
            ctypes.c_char_p,
            ctypes.POINTER(ctypes.c_uint),
        )
        library.xs_read.restype = ctypes.c_void_p
        library.xs_write.argtypes = (
            ctypes.c_void_p,
            ctypes.c_uint32,
            ctypes.c_char_p,
            ctypes.c_char_p,
            ctypes.c_uint,
        )
        library.xs_write.restype = ctypes.c_bool
        return library
    raise CallFailed(Meaning.UNSUPPORTED, "there is no libxenstore here")


@cache
def _libc() -> Any:
    library = ctypes.CDLL(None)
    library.free.argtypes = (ctypes.c_void_p,)
    library.free.restype = None
    return library


@contextlib.contextmanager
def _opened() -> Iterator[tuple[Any, int]]:
    """The library and a connection, one for each time, so that none is left of a xenstored that was restarted.

    Raises:
        CallFailed: There is no xenstore that would answer.
    """
    library = _xenstore()
    handle = library.xs_open(0)
    if not handle:
        raise CallFailed(Meaning.DENIED, f"xenstore: {os.strerror(ctypes.get_errno())}")
    try:
        yield library, handle
    finally:
        library.xs_close(handle)


def _read_xenstore(*paths: str) -> list[bytes | None]:
    """Keys, None for each that is not there."""
    with _opened() as (library, handle):
        return [_read_key(library, handle, path.encode()) for path in paths]


def _write_xenstore(path: str, word: bytes) -> None:
    with _opened() as (library, handle):
        if not library.xs_write(handle, 0, path.encode(), word, len(word)):
            reason = os.strerror(ctypes.get_errno())
            raise CallFailed(Meaning.FAILED, f"xenstore: {path}: {reason}")


def _read_key(library: Any, handle: int, path: bytes) -> bytes | None:
    length = ctypes.c_uint()
    value = library.xs_read(handle, 0, path, ctypes.byref(length))
    if not value:
        return None
    try:
        return ctypes.string_at(value, min(length.value, REPORT_LIMIT + 1))
    finally:
        _libc().free(value)
