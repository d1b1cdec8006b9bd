"""The board: memory a guest and the lab share, through which orders go in and exact progress comes out.

Problem: the serial console of a collapsed guest says nothing for minutes, and every line on it costs exits. vcpud and
the guest agent are what is measured, so neither may be asked how the guest fares.
Approach: an ivshmem device backed by a file. The guest's threads write their work counters straight into it; the host
reads them with its own clock. Offsets mirror ``guest/board.h``.
"""

from __future__ import annotations

import mmap
import os
import struct
import time
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Final, Self

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108  the place is libvirt's, not a choice
BOARD_BYTES: Final = 1048576
BOARD_MAGIC: Final = 8314044361912411222
MAXIMUM_THREADS: Final = 64

ORDER_SEQUENCE: Final = 64
ORDER_KIND: Final = 72
ORDER_THREADS: Final = 80
ORDER_GRAIN: Final = 88
ORDER_PAUSE: Final = 96
ORDER_LOCK_ROUNDS: Final = 104
AGENT_OFF: Final = 128
REBOOT_REQUEST: Final = 136
OFFLINE_REFUSED: Final = 144
GUEST_MAGIC: Final = 256
BOOTS: Final = 264
BOOT_ID_HIGH: Final = 272
BOOT_ID_LOW: Final = 280
HISTOGRAM_STATUS: Final = 288
WATCHER_TICKS: Final = 320
GUEST_MONOTONIC_NS: Final = 328
ONLINE_MASK: Final = 336
AGENT_PID: Final = 344
AGENT_RUN_NS: Final = 352
AGENT_WAIT_NS: Final = 360
WATCHER_RUN_NS: Final = 368
APPLIED_SEQUENCE: Final = 384
COUNTERS: Final = 4096
COUNTER_STRIDE: Final = 64

_WORD = struct.Struct("<Q")


class Kind(IntEnum):
    """What the threads of a guest do between their multiplications."""

    IDLE = 0
    INDEPENDENT = 1
    KERNEL_LOCK = 2
    USER_SPIN = 3
    BLOCKING_BARRIER = 4
    BLOCKING_MUTEX = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """A workload for one guest.

    Attributes:
        kind: What the threads synchronise on.
        threads: Number of threads.
        grain: Dependent multiplications between two synchronisations.
        pause: Whether a user-space spin executes PAUSE.
        lock_rounds: For the kernel lock: dup and close pairs per iteration.
    """

    kind: Kind
    threads: int = 4
    grain: int = 20_000
    pause: bool = False
    lock_rounds: int = 64


IDLE = Order(kind=Kind.IDLE, threads=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Work done by a guest so far, read at one moment of the host's monotonic clock.

    Attributes:
        taken_at_ns: ``time.monotonic_ns`` in the middle of the reading.
        iterations: Sum of the guest's thread counters.
    """

    taken_at_ns: int
    iterations: int


class BoardTimeoutError(Exception):
    """The guest did not do in time what was expected of it."""


class Board:
    """The host's side of one guest's board."""

    __slots__ = ("_memory", "path")

    def __init__(self, path: Path) -> None:
        """Map the existing file at ``path``."""
        self.path = path
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            self._memory = mmap.mmap(descriptor, BOARD_BYTES)
        finally:
            os.close(descriptor)

    @classmethod
    def create(cls, name: str, *, owner: tuple[int, int] | None = None) -> Self:
        """Create the file behind a new board and map it.

        Args:
            name: Name of the shared memory, unique on this host.
            owner: User and group QEMU runs as, when that is not this process's.
        """
        path = SHARED_MEMORY / name
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            os.ftruncate(descriptor, BOARD_BYTES)
            if owner is not None:
                os.fchown(descriptor, *owner)
        finally:
            os.close(descriptor)
        return cls(path)

    def remove(self) -> None:
        """Unmap the board and remove its file."""
        self._memory.close()
        self.path.unlink(missing_ok=True)

    def read(self, offset: int) -> int:
        """Return the 64-bit field at ``offset``."""
        value: int = _WORD.unpack_from(self._memory, offset)[0]
        return value

    def write(self, offset: int, value: int) -> None:
        """Set the 64-bit field at ``offset``."""
        _WORD.pack_into(self._memory, offset, value)

    def give(self, order: Order) -> int:
        """Put up an order; the guest takes it up within a fraction of a second.

        Returns:
            The order's sequence number, which the guest repeats once it is carried out.
        """
        self.write(ORDER_KIND, order.kind)
        self.write(ORDER_THREADS, order.threads)
        self.write(ORDER_GRAIN, order.grain)
        self.write(ORDER_PAUSE, int(order.pause))
        self.write(ORDER_LOCK_ROUNDS, order.lock_rounds)
        sequence = self.read(ORDER_SEQUENCE) + 1
        self.write(ORDER_SEQUENCE, sequence)
        return sequence

    @property
    def applied(self) -> bool:
        """Whether the guest carries out the last order given."""
        return self.read(APPLIED_SEQUENCE) == self.read(ORDER_SEQUENCE)

    @property
    def booted(self) -> bool:
        """Whether the guest has ever reached its workload."""
        return self.read(GUEST_MAGIC) == BOARD_MAGIC

    @property
    def boots(self) -> int:
        """How often the guest has booted."""
        return self.read(BOOTS)

    @property
    def ticks(self) -> int:
        """How often the guest has published what its kernel has online: rises while it runs."""
        return self.read(WATCHER_TICKS)

    @property
    def online(self) -> frozenset[int]:
        """The guest kernel's online CPUs, at most a fifth of a second old in a guest that runs."""
        mask = self.read(ONLINE_MASK)
        return frozenset(cpu for cpu in range(64) if mask >> cpu & 1)

    def progress(self) -> Progress:
        """Return the guest's work so far."""
        before_ns = time.monotonic_ns()
        last = COUNTERS + MAXIMUM_THREADS * COUNTER_STRIDE
        iterations = sum(self.read(offset) for offset in range(COUNTERS, last, COUNTER_STRIDE))
        return Progress(taken_at_ns=(before_ns + time.monotonic_ns()) // 2, iterations=iterations)
