"""Signals on their way: late, noisy, stale, lost, or lied about. Changes values, never meaning."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Mapping
from dataclasses import replace
from typing import Any, TypeAlias, TypeVar

from vcpud.guest import CpuAccounting, LockWait, RunnableTasks, RunQueue
from vcpud_simulator.reporter import Part, PreferredCpus
from vcpud_simulator.rng import Stream
from vcpud_simulator.scenario import Lie, SignalPlan

Counters: TypeAlias = Mapping[Hashable, int]
Reading = TypeVar("Reading", bound=Part)


class Counted:
    """Counters seen through noise: each increase is off by a little, none ever decreases."""

    __slots__ = ("_chance", "_noise_ratio", "_shown", "_true")

    def __init__(self, noise_ratio: float, chance: Stream) -> None:
        self._noise_ratio = noise_ratio
        self._chance = chance
        self._true: dict[Hashable, int] = {}
        self._shown: dict[Hashable, int] = {}

    def __call__(self, key: Hashable, true: int) -> int:
        if not self._noise_ratio:
            return true
        grown = true - self._true.get(key, 0)
        shown = self._shown.get(key, 0) + self._chance.around_ns(grown, self._noise_ratio)
        self._true[key], self._shown[key] = true, shown
        return shown


class Feed:
    """Readings of one signal of one domain, in the order they were taken.

    Attributes:
        plan: How well they arrive.
    """

    __slots__ = ("_chance", "_counted", "_kept", "_renewed_ns", "plan")

    def __init__(self, plan: SignalPlan, chance: Stream) -> None:
        self.plan = plan
        self._chance = chance
        self._counted = Counted(plan.noise_ratio, chance)
        self._kept: deque[tuple[int, int, Any]] = deque()
        self._renewed_ns: int | None = None

    def due(self, now_ns: int) -> bool:
        """Whether a reading taken now would be a new one."""
        return self._renewed_ns is None or now_ns - self._renewed_ns >= self.plan.staleness_ns

    def take(self, now_ns: int, look: Callable[[Counted], Any]) -> None:
        """Take a reading, unless it is too early or gets lost.

        Args:
            now_ns: When.
            look: Makes the reading, passing each counter through what it is given.
        """
        if not self.due(now_ns):
            return
        self._renewed_ns = now_ns
        if self.plan.loss_ratio and self._chance.unit() < self.plan.loss_ratio:
            self._kept.append((now_ns + self.plan.latency_ns, now_ns, None))
        else:
            self._kept.append((now_ns + self.plan.latency_ns, now_ns, look(self._counted)))

    def latest(self, now_ns: int) -> tuple[int, Any]:
        """When the last reading that has arrived was taken, and what it was; None where lost."""
        kept = self._kept
        while len(kept) > 1 and kept[1][0] <= now_ns:
            kept.popleft()
        if not kept or kept[0][0] > now_ns:
            return -1, None
        return kept[0][1], kept[0][2]


def blurred(part: Part, counted: Counted) -> Part:
    """A guest's reading with its counters passed through noise."""
    match part:
        case CpuAccounting():
            cpus = tuple(
                replace(
                    cpu,
                    user_ns=counted((cpu.index, "user"), cpu.user_ns),
                    system_ns=counted((cpu.index, "system"), cpu.system_ns),
                    idle_ns=counted((cpu.index, "idle"), cpu.idle_ns),
                )
                for cpu in part.cpus
            )
            return replace(part, cpus=cpus)
        case LockWait():
            return replace(part, wait_ns=counted("wait", part.wait_ns))
        case RunQueue():
            queues = tuple(
                replace(cpu, wait_ns=counted(cpu.index, cpu.wait_ns)) for cpu in part.cpus
            )
            return replace(part, cpus=queues)
        case RunnableTasks() | PreferredCpus():
            return part


def lied(part: Part, lies: tuple[Lie, ...], vcpus: int) -> Part:
    """What a guest says instead of what it knows."""
    for lie in lies:
        part = _LIES[lie](part, vcpus)
    return part


def _inflated(part: Part, vcpus: int) -> Part:
    if isinstance(part, LockWait):
        return replace(part, waits=part.taken_at_ns // 1_000_000, wait_ns=part.taken_at_ns * vcpus)
    return part


def _denied(part: Part, vcpus: int) -> Part:  # noqa: ARG001
    return replace(part, waits=0, wait_ns=0) if isinstance(part, LockWait) else part


def _all_user(part: Part, vcpus: int) -> Part:  # noqa: ARG001
    if isinstance(part, CpuAccounting):
        cpus = tuple(
            replace(cpu, user_ns=cpu.user_ns + cpu.system_ns, system_ns=0) for cpu in part.cpus
        )
        return replace(part, cpus=cpus)
    return part


def _absurd(part: Part, vcpus: int) -> Part:  # noqa: ARG001
    """Every other reading is far beyond the clock, so that the next one goes backwards."""
    beyond = part.taken_at_ns * 1_000 if part.taken_at_ns // 1_000_000_000 % 2 else 0
    if isinstance(part, LockWait):
        return replace(part, wait_ns=part.wait_ns + beyond)
    if isinstance(part, CpuAccounting):
        cpus = tuple(replace(cpu, user_ns=cpu.user_ns + beyond) for cpu in part.cpus)
        return replace(part, cpus=cpus)
    return part


_LIES: Mapping[Lie, Callable[[Part, int], Part]] = {
    Lie.LOCKS_INFLATED: _inflated,
    Lie.LOCKS_DENIED: _denied,
    Lie.ALL_USER: _all_user,
    Lie.ABSURD: _absurd,
}
