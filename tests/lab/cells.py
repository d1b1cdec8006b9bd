"""Blocks: what guests got done in a stretch of time, and what the judge would have said of it.

The rate of a block is the change of the guests' own counters over the host's monotonic clock. Beside it stands J, the
proxy vcpud judges its changes by: CPU time the host saw the domain use, times the share of its busy time that the guest
accounts as user or nice.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import libvirt

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from lab.domain import Guest

BLOCK_S = 10.0
COLLAPSED_ITERATIONS = 100
COLLAPSED_S = 120.0
COLLAPSED_BLOCKS = 2
_USER = ("user", "nice")
_BUSY = ("user", "nice", "system", "irq", "softirq")


@dataclass(frozen=True, slots=True, kw_only=True)
class Accounts:
    """What host and guest have accounted to a domain so far.

    Attributes:
        host_ns: CPU time of its vCPU threads.
        user_ms: What its kernel calls user and nice time, over all online CPUs.
        busy_ms: The same for all time that is not idle, waiting or stolen.
    """

    host_ns: int
    user_ms: int
    busy_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One measured stretch of time.

    Attributes:
        arm: What was measured.
        began_ns: Host's monotonic clock.
        ended_ns: Likewise.
        rates: Iterations per second, by guest.
        proxies: J in pCPUs, by guest; empty where it was not asked for.
        active: Online CPUs at the end, by guest.
    """

    arm: str
    began_ns: int
    ended_ns: int
    rates: Mapping[str, float]
    proxies: Mapping[str, float]
    active: Mapping[str, int]

    @property
    def rate(self) -> float:
        """Iterations per second of all guests together."""
        return sum(self.rates.values())


def host_cpu_ns(domain: libvirt.virDomain) -> int:
    """Return the CPU time of a domain's vCPU threads."""
    connection: libvirt.virConnect = domain.connect()  # type: ignore[no-untyped-call]
    records = connection.domainListGetStats(
        [domain],
        libvirt.VIR_DOMAIN_STATS_VCPU,
        libvirt.VIR_CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT,
    )
    return sum(
        value
        for key, value in records[0][1].items()
        if key.startswith("vcpu.") and key.endswith(".time")
    )


def accounts(guest: Guest) -> Accounts:
    """Read host and guest accounts of one domain, as close to each other as the agent allows."""
    cpus = guest.agent("guest-get-cpustats")
    return Accounts(
        host_ns=host_cpu_ns(guest.domain),
        user_ms=sum(int(cpu.get(word, 0)) for cpu in cpus for word in _USER),
        busy_ms=sum(int(cpu.get(word, 0)) for cpu in cpus for word in _BUSY),
    )


def proxy(before: Accounts, after: Accounts, elapsed_s: float) -> float | None:
    """Return J between two readings, in pCPUs, or None where the guest accounted nothing."""
    busy_ms = after.busy_ms - before.busy_ms
    user_ms = after.user_ms - before.user_ms
    if busy_ms <= 0 or user_ms < 0:
        return None
    return (after.host_ns - before.host_ns) / 1e9 / elapsed_s * user_ms / busy_ms


def measure(
    guests: Sequence[Guest],
    arm: str,
    duration_s: float = BLOCK_S,
    *,
    judged: bool = False,
) -> Block:
    """Measure the guests as they are now.

    Args:
        guests: The guests that work.
        arm: Name of what is measured.
        duration_s: Duration.
        judged: Also read what J is made of; it costs two agent calls per guest.
    """
    books = {guest.name: _books(guest) for guest in guests} if judged else {}
    books_at_s = time.monotonic()
    before = {guest.name: guest.board.progress() for guest in guests}
    time.sleep(duration_s)
    after = {guest.name: guest.board.progress() for guest in guests}
    proxies = {}
    for guest in guests:
        first, last = books.get(guest.name), _books(guest) if judged else None
        if first and last:
            value = proxy(first, last, time.monotonic() - books_at_s)
            if value is not None:
                proxies[guest.name] = value
    return Block(
        arm=arm,
        began_ns=min(reading.taken_at_ns for reading in before.values()),
        ended_ns=max(reading.taken_at_ns for reading in after.values()),
        rates={
            name: (after[name].iterations - before[name].iterations)
            / (after[name].taken_at_ns - before[name].taken_at_ns)
            * 1e9
            for name in after
        },
        proxies=proxies,
        active={guest.name: len(guest.board.online) for guest in guests},
    )


def _books(guest: Guest) -> Accounts | None:
    with contextlib.suppress(libvirt.libvirtError):
        return accounts(guest)
    return None


def measure_collapsed(
    guests: Sequence[Guest], arm: str, *, most_s: float = COLLAPSED_S
) -> list[Block]:
    """Measure guests that may hardly get anything done: blocks until there is a figure, or no time."""
    blocks: list[Block] = []
    done = elapsed_s = 0.0
    while len(blocks) < COLLAPSED_BLOCKS or (done < COLLAPSED_ITERATIONS and elapsed_s < most_s):
        block = measure(guests, arm, BLOCK_S, judged=True)
        blocks.append(block)
        seconds = (block.ended_ns - block.began_ns) / 1e9
        done += block.rate * seconds
        elapsed_s += seconds
    return blocks


def mean_rate(blocks: Iterable[Block]) -> float:
    """Return iterations per second over all of ``blocks``, each weighed by its duration."""
    found = tuple(blocks)
    total_ns = sum(block.ended_ns - block.began_ns for block in found)
    if not total_ns:
        return 0.0
    return sum(block.rate * (block.ended_ns - block.began_ns) for block in found) / total_ns


def describe(block: Block) -> str:
    """Return one line for people."""
    seconds = (block.ended_ns - block.began_ns) / 1e9
    parts = []
    for name, rate in block.rates.items():
        judged = f", J {block.proxies[name]:.3f}" if name in block.proxies else ""
        parts.append(f"{name} {rate:,.1f}/s on {block.active[name]}{judged}")
    return f"{block.arm:<12} {seconds:5.1f} s  {block.rate:10,.1f}/s  ({'; '.join(parts)})"
