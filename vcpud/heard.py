"""What follows from a guest's own word: rates between two answers of its agent.

Pure. Each part of an answer has its own clock reading, and is held against the host's counters of that
time, which are kept for it as points.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, replace
from operator import itemgetter
from typing import TypeAlias

from vcpud.demand import Progress
from vcpud.guest import CpuAccounting, GuestReading, LockWait, RunQueue
from vcpud.swift import changer, maker

MOST_PER_CYCLE = 16
"""No processor retires more instructions in a cycle."""


Point: TypeAlias = tuple[int, int, int | None]
"""Host-side counters of one domain, summed over its vCPUs: when, run time and run delay."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """What follows from a guest's own word: new every few seconds, and the same in between.

    Attributes:
        accounting: The last one taken in.
        locks: The last lock waits taken in.
        run_queue: The last run queues taken in.
        perf: Cycles and instructions at the last accounting.
    """

    accounting: CpuAccounting | None = None
    locks: LockWait | None = None
    run_queue: RunQueue | None = None
    lock_wait_ratio: float | None = None
    queued_tasks: float | None = None
    system_ratio: float | None = None
    steal_ratio: float | None = None
    progress: Progress | None = None
    perf: tuple[int, int] | None = None


NOTHING_HEARD = Heard()


def hear(
    heard: Heard,
    guest: GuestReading | None,
    points: tuple[Point, ...],
    active_vcpus: int,
    perf: tuple[int, int] | None,
) -> Heard:
    """Take in what a guest says; what is missing takes its rates away.

    Args:
        heard: What is known.
        guest: Its latest answers, None where it says nothing.
        points: The host's counters of it, oldest first.
        active_vcpus: vCPUs its guest may schedule on, where no answer tells.
        perf: Cycles and instructions so far, where the platform counts them.
    """
    if guest is None:
        return replace(heard, lock_wait_ratio=None, queued_tasks=None)
    heard = _locks(heard, guest, active_vcpus)
    heard = _accounting(heard, guest.accounting, points, perf)
    queue = guest.run_queue
    if queue is None:
        return replace(heard, queued_tasks=None)
    if queue != heard.run_queue:
        queued = heard.queued_tasks
        if heard.run_queue is not None and queue.taken_at_ns > heard.run_queue.taken_at_ns:
            window_ns = queue.taken_at_ns - heard.run_queue.taken_at_ns
            old = {cpu.index: cpu.wait_ns for cpu in heard.run_queue.cpus}
            grown = [cpu.wait_ns - old[cpu.index] for cpu in queue.cpus if cpu.index in old]
            queued = sum(grown) / window_ns if grown and min(grown) >= 0 else None
        heard = _with_queue(heard, queue, queued)
    return heard


def _locks(heard: Heard, guest: GuestReading, active_vcpus: int) -> Heard:
    """Time waited for spinlocks per second of an active vCPU."""
    last, now = heard.locks, guest.locks
    if now is None:
        return replace(heard, lock_wait_ratio=None)
    if now == last:
        return heard
    ratio = heard.lock_wait_ratio
    if last is not None and now.taken_at_ns > last.taken_at_ns:
        wait_ns = now.wait_ns - last.wait_ns
        vcpu_ns = (now.taken_at_ns - last.taken_at_ns) * _counted(heard, guest, active_vcpus)
        ratio = min(wait_ns / vcpu_ns, 1.0) if wait_ns >= 0 and vcpu_ns > 0 else None
    return _with_locks(heard, now, ratio)


def _accounting(
    heard: Heard,
    now: CpuAccounting | None,
    points: tuple[Point, ...],
    perf: tuple[int, int] | None,
) -> Heard:
    """User share of busy time, and with the host's run time the progress proxy J."""
    last = heard.accounting
    if now is None or now == last:
        return heard
    if last is None or now.taken_at_ns <= last.taken_at_ns:
        return _with_accounting(heard, now, perf)
    # The host's counters must cover the guest's window; if not yet, wait for the next sample.
    if not points or points[-1][0] < now.taken_at_ns:
        return heard
    old = {cpu.index: cpu for cpu in last.cpus}
    pairs = [(old[cpu.index], cpu) for cpu in now.cpus if cpu.index in old]
    user_ns = sum([new.user_ns - was.user_ns for was, new in pairs])
    system_ns = sum([new.system_ns - was.system_ns for was, new in pairs])
    idle_ns = sum([new.idle_ns - was.idle_ns for was, new in pairs])
    if not pairs or user_ns < 0 or system_ns < 0:
        return replace(heard, accounting=now, perf=perf, system_ratio=None)
    busy_ns = user_ns + system_ns
    steals = [
        new.steal_ns - was.steal_ns
        for was, new in pairs
        if new.steal_ns is not None and was.steal_ns is not None
    ]
    steal_ns = max(sum(steals), 0)
    all_ns = busy_ns + max(idle_ns, 0) + steal_ns
    system_ratio = system_ns / busy_ns if busy_ns else 0.0
    per_cycle = _per_cycle(heard.perf, perf)
    heard = _with_shares(
        _with_accounting(heard, now, perf),
        system_ratio,
        steal_ns / all_ns if steals and all_ns else None,
    )
    began = _run_at(points, last.taken_at_ns)
    ended = _run_at(points, now.taken_at_ns)
    if began is None or ended is None:
        return heard
    window_ns = now.taken_at_ns - last.taken_at_ns
    ran_ns = max(ended - began, 0.0)
    idle_ratio = max(idle_ns, 0) / all_ns if all_ns else 0.0
    # With a steal clock, what it accounts for beyond what it ran it was halted in its kernel, as in line for a lock.
    spent_ns = min(float(busy_ns), ran_ns) if steals else float(busy_ns)
    worth = (min(user_ns / spent_ns, 1.0) if spent_ns else 0.0) * per_cycle
    worth *= 1.0 - _hidden(heard.lock_wait_ratio, idle_ratio, system_ratio, busy_ns, ran_ns)
    online = now.online
    progress = _make_progress(
        began_at_ns=last.taken_at_ns,
        ended_at_ns=now.taken_at_ns,
        rate_pcpus=ran_ns / window_ns * worth,
        active_vcpus=len(online) if online == last.online else None,
        worth_ratio=worth,
        most_pcpus=None if steals else min(ran_ns, float(user_ns)) / window_ns * per_cycle,
    )
    return _with_progress(heard, progress)


def _hidden(
    lock_wait_ratio: float | None,
    idle_ratio: float,
    system_ratio: float,
    busy_ns: int,
    ran_ns: float,
) -> float:
    """The part of its run time that a guest spun with interrupts off, unseen by its own accounts.

    A kernel that accounts by ticks misses those it takes no interrupt for: vCPUs that queue for a
    lock in their timer interrupts, its holder preempted, account for next to nothing, and what
    little they do account for is what they were at before. So the host saw them run, the guest
    accounts the time to nobody, and it waited for locks for longer than it was idle or, as far as
    it knows, in its kernel. Each may have other reasons; what they agree on is taken for spinning,
    a vCPU that waits being run no less than one that works.

    Args:
        lock_wait_ratio: Time waited for spinlocks per second of an active vCPU.
        idle_ratio: Idle time as a share of all that the guest accounts for, steal included.
        system_ratio: Kernel time as a share of busy time.
        busy_ns: Busy time it accounts for.
        ran_ns: Run time that the host saw.
    """
    if not lock_wait_ratio or max(idle_ratio, system_ratio) >= 1.0 or ran_ns <= 0:
        return 0.0
    waited = (lock_wait_ratio - idle_ratio) / (1.0 - idle_ratio)
    unseen = (waited - system_ratio) / (1.0 - system_ratio)
    return max(min(unseen, 1.0 - busy_ns / ran_ns), 0.0)


def _per_cycle(before: tuple[int, int] | None, now: tuple[int, int] | None) -> float:
    """Instructions per cycle between two readings; 1 where that cannot be told."""
    if before is None or now is None:
        return 1.0
    cycles, instructions = now[0] - before[0], now[1] - before[1]
    if cycles <= 0 or not 0 <= instructions <= MOST_PER_CYCLE * cycles:
        return 1.0
    return instructions / cycles


def _run_at(points: tuple[Point, ...], at_ns: int) -> float | None:
    """Run time at an instant, linear between two host readings; None outside them."""
    place = bisect_left(points, at_ns, key=_AT)
    if place == len(points):
        return None
    after_ns, ran_ns, _ = points[place]
    if at_ns == after_ns:
        return float(ran_ns)
    if place == 0:
        return None
    before_ns, run_ns, _ = points[place - 1]
    share = (at_ns - before_ns) / (after_ns - before_ns)
    return run_ns + share * (ran_ns - run_ns)


def _counted(heard: Heard, guest: GuestReading, active_vcpus: int) -> int:
    """Active vCPUs to normalise by: the most that were online at either end of the window."""
    known, now = heard.accounting, guest.accounting
    if now is None or known is None or known is now:
        either = known or now
        return active_vcpus if either is None else len(either.online)
    return max(len(known.online), len(now.online))


_make_progress = maker(Progress)
_with_accounting = changer(Heard, "accounting", "perf")
_with_shares = changer(Heard, "system_ratio", "steal_ratio")
_with_progress = changer(Heard, "progress")
_with_locks = changer(Heard, "locks", "lock_wait_ratio")
_with_queue = changer(Heard, "run_queue", "queued_tasks")
_AT = itemgetter(0)
