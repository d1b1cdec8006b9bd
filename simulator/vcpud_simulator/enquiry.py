"""Hears one guest, period by period, and keeps what has arrived: asked through its agent, or by what it publishes.

The agent does one thing at a time: a reading waits for a change that is under way, and a change for
the readings that were asked for. A reporter writes all it knows now and then, whoever reads it; nobody can hurry it.
Who gets little is heard less often: a reading may cost a guest the share of it that the real ones keep to.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from vcpud.guest import CpuAccounting, GuestReading, LockWait, RunnableTasks, RunQueue
from vcpud.preferred import SelfManagement
from vcpud.thrift import Supply, spacing_ns
from vcpud.units import NS_PER_S
from vcpud_simulator.engine import Timer
from vcpud_simulator.entities import RUNNABLE
from vcpud_simulator.platform import GUEST_SIGNALS, Signal
from vcpud_simulator.reporter import Answer, Part, PreferredCpus, Reporter
from vcpud_simulator.signals import Feed, blurred, lied

if TYPE_CHECKING:
    from collections.abc import Callable

    from vcpud_simulator.rng import Stream
    from vcpud_simulator.world import Resident, World

PROMPT_NS: Final = NS_PER_S
"""Spacing of the readings that follow a change."""
PROMPT_READINGS: Final = 2
WRITE_NS: Final = 2 * NS_PER_S
"""Spacing of what a reporter writes (`vcpud-xen-report run`)."""


class Enquiry:
    """What one guest is asked, and what it has said.

    Attributes:
        asked: Signals that it can be asked for.
        wanted: Whether it is to be asked.
        occupied: A change is under way.
        online: Guest CPUs in use when last heard of; None before.
        online_taken_at_ns: When that was.
    """

    def __init__(self, resident: Resident, world: World, chance: Stream) -> None:
        plan = resident.plan
        self.asked: tuple[Signal, ...] = tuple(
            signal
            for signal in GUEST_SIGNALS
            if signal in world.platform.signals
            and signal not in plan.missing
            # A kernel that never steers is taken to have no such mask: asking once finds that out.
            and (plan.steers or signal is not Signal.PREFERRED)
        )
        self.wanted = False
        self.occupied = False
        self.online: frozenset[int] | None = None
        self.online_taken_at_ns: int | None = None
        self._preferred: PreferredCpus | None = None
        self._self_management = SelfManagement()
        self._lies = plan.lies
        self._kernel = resident.inhabitant.kernel
        self._command_ns = resident.inhabitant.agent.costs.agent_ns
        self._engine = world.engine
        self._period_ns = world.scenario.signals.agent_period_ns
        self._feeds = {
            signal: Feed(world.scenario.signals.of(signal), chance) for signal in self.asked
        }
        self._reporter: Reporter | None = None
        self._reading = GuestReading()
        self._hurried = PROMPT_READINGS
        self._readings = 0
        self._supply = Supply()
        self._poll = Timer(self._ask)
        self._waiting: Callable[[], None] | None = None
        self._first_poll_ns = chance.below(PROMPT_NS)

    # ------------------------------------------------------------------ whether, and when

    def want(self, wanted: bool) -> None:
        """Begin to ask, go on, or stop."""
        self.wanted = wanted and bool(self.asked)
        if not self.wanted:
            self._poll.cancel()
        elif not self._poll.armed:
            if self._reporter is None:
                self._reporter = Reporter(self._kernel, self._command_ns)
            self._engine.arm(self._poll, self._engine.now_ns + self._first_poll_ns)

    def hurry(self) -> None:
        """A change has ended: what it has brought is to be seen soon."""
        self._hurried = PROMPT_READINGS
        if self._poll.armed:
            self._engine.arm(self._poll, self._engine.now_ns)

    def when_free(self, action: Callable[[], None]) -> None:
        """Do this when the agent has answered everything."""
        if self._reporter is not None and self._reporter.busy:
            self._waiting = action
        else:
            action()

    def close(self) -> None:
        """Nothing more is asked or awaited."""
        self._poll.cancel()
        self._waiting = None

    # ------------------------------------------------------------------ what it says

    @property
    def manages_itself(self) -> bool:
        """Whether its kernel was seen to keep work off CPUs."""
        return self._self_management.seen

    def learn(self, online: frozenset[int], taken_at_ns: int) -> None:
        """Which guest CPUs are in use."""
        self.online, self.online_taken_at_ns = online, taken_at_ns

    def latest(self, now_ns: int) -> GuestReading | None:
        """What has arrived until now."""
        if not self.wanted:
            return None
        reading = self._reading
        for signal in self.asked:
            part = self._feeds[signal].latest(now_ns)[1]
            match part:
                case CpuAccounting():
                    reading = replace(reading, accounting=part)
                    known_at_ns = self.online_taken_at_ns
                    if known_at_ns is None or part.taken_at_ns > known_at_ns:
                        self.learn(part.online, part.taken_at_ns)
                case LockWait():
                    reading = replace(reading, locks=part)
                case RunQueue():
                    reading = replace(reading, run_queue=part)
                case RunnableTasks():
                    reading = replace(reading, runnable=part)
                case PreferredCpus():
                    self._looked(part, reading.accounting)
        self._reading = reading
        return reading

    def _looked(self, preferred: PreferredCpus, accounting: CpuAccounting | None) -> None:
        if preferred is not self._preferred and accounting is not None:
            self._preferred = preferred
            self._self_management.looked(preferred.cpus, accounting.online)

    def _ask(self) -> None:
        reporter, now_ns = self._reporter, self._engine.now_ns
        if reporter is None or not self.wanted:
            return
        if reporter.busy or self.occupied:
            self._engine.arm(self._poll, now_ns + PROMPT_NS)
            return
        wanted = {Signal.ACCOUNTING, Signal.LOCKS, Signal.PREFERRED}
        if self._readings:
            # The queue's length is only nice to know: its two readings take turns.
            wanted.add((Signal.RUNNABLE, Signal.RUN_QUEUE)[self._readings % 2])
        due = tuple(
            signal for signal in self.asked if signal in wanted and self._feeds[signal].due(now_ns)
        )
        self._supply.saw(self._waited_ns(), len(self._kernel.online_cpus), now_ns)
        thrifty_ns = self._thrifty_ns(reporter)
        self._readings += 1
        self._hurried = max(0, self._hurried - 1)
        pause_ns = PROMPT_NS if self._hurried else max(self._period_ns, thrifty_ns)
        self._engine.arm(self._poll, now_ns + pause_ns)
        if due:
            reporter.ask(due, self._heard, self._free)

    def _waited_ns(self) -> int:
        """Run delay of the guest, as who asks it counts that: here the host's count of its vCPUs."""
        now_ns = self._engine.now_ns
        return sum(vcpu.in_state_ns(RUNNABLE, now_ns) for vcpu in self._kernel.domain.vcpus)

    def _thrifty_ns(self, reporter: Reporter) -> int:
        """How far apart its readings must be for what the guest has, by what they have cost so far."""
        cost_ns = reporter.cost_ns / self._readings if self._readings else 0
        return spacing_ns(cost_ns, self._supply.pcpus)

    def _heard(self, answer: Answer) -> None:
        part = lied(answer.part, self._lies, len(self._kernel.cpus))
        self._take(answer.signal, part)
        self._reading = replace(
            self._reading, latency_ns=answer.latency_ns, agent_cost_ns=answer.cost_ns
        )

    def _take(self, signal: Signal, part: Part) -> None:
        self._feeds[signal].take(self._engine.now_ns, lambda counted: blurred(part, counted))

    def _free(self) -> None:
        """The agent has answered everything: a change may have waited for that."""
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting()


class Bulletin(Enquiry):
    """What one guest publishes by itself: written every two seconds at most, read every period and never sooner.

    Its writing is a task of the guest like an agent's answer, with as many commands. What vcpud reads is what was
    written last.
    """

    def __init__(self, resident: Resident, world: World, chance: Stream) -> None:
        super().__init__(resident, world, chance)
        self._written: dict[Signal, Part] = {}
        self._read = Timer(self._fetch)

    def want(self, wanted: bool) -> None:
        super().want(wanted)
        if not self.wanted:
            self._read.cancel()
        elif not self._read.armed:
            # The guest has reported for long when vcpud begins to read.
            self._engine.arm(self._read, self._engine.now_ns + self._first_poll_ns + WRITE_NS // 2)

    def hurry(self) -> None:
        """Nobody can."""

    def when_free(self, action: Callable[[], None]) -> None:
        """A change comes another way, and waits for no reporter."""
        action()

    def close(self) -> None:
        super().close()
        self._read.cancel()

    def _ask(self) -> None:
        reporter, now_ns = self._reporter, self._engine.now_ns
        if reporter is None or not self.wanted:
            return
        self._supply.saw(self._waited_ns(), len(self._kernel.online_cpus), now_ns)
        self._engine.arm(self._poll, now_ns + max(WRITE_NS, self._thrifty_ns(reporter)))
        if not reporter.busy:
            self._readings += 1
            reporter.ask(self.asked, self._heard, self._free)

    def _heard(self, answer: Answer) -> None:
        self._written[answer.signal] = lied(answer.part, self._lies, len(self._kernel.cpus))

    def _waited_ns(self) -> int:
        """What its guest can know: time in which its ticks found it neither busy nor idle."""
        cpus = self._kernel.online_cpus
        told_ns = sum(cpu.user_ns + cpu.system_ns + cpu.idle_until_ns() for cpu in cpus)
        return len(cpus) * self._engine.now_ns - told_ns

    def _fetch(self) -> None:
        now_ns = self._engine.now_ns
        self._engine.arm(self._read, now_ns + self._period_ns)
        for signal, part in self._written.items():
            self._take(signal, part)
            self._reading = replace(self._reading, latency_ns=now_ns - part.taken_at_ns)
