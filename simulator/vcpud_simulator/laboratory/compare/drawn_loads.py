"""What drawn guests do: every workload there is, with parameters of its own.

Where a workload would make millions of events a simulated second at the size of its defaults, the
drawn one is coarser: larger messages, larger blocks, longer statements. What it waits for, and how
often among its work, is what matters to whoever divides pCPUs.

Pure.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from vcpud.units import NS_PER_MS, NS_PER_S, NS_PER_US
from vcpud_simulator.catalogue import LOCKS
from vcpud_simulator.guest.locks import Spinlock
from vcpud_simulator.rng import Stream
from vcpud_simulator.workloads.ammp import AmmpLike, Wait
from vcpud_simulator.workloads.base import Workload
from vcpud_simulator.workloads.bursty import Bursty
from vcpud_simulator.workloads.database import Database
from vcpud_simulator.workloads.descriptors import Descriptors
from vcpud_simulator.workloads.files import Files
from vcpud_simulator.workloads.gobmk import GobmkLike
from vcpud_simulator.workloads.hackbench import HackbenchLike
from vcpud_simulator.workloads.kernbench import KernbenchLike
from vcpud_simulator.workloads.noise import Idle, Noise
from vcpud_simulator.workloads.phased import Phase, Phased
from vcpud_simulator.workloads.rogue import Rogue
from vcpud_simulator.workloads.schbench import Schbench
from vcpud_simulator.workloads.web import WebServer

_LOCKS: Final = (*("queued",) * 3, *("paravirtual",) * 2, "unfair", "preemptable")
"""Native kernels queue; those that know of their hypervisor halt (Linux's default on KVM and Xen) or,
without its help, test and set; preemptable locks are of the literature."""
_HOLDS_US: Final = (15, 30, 50)
_UNIT_NS: Final = 20 * NS_PER_MS


class Loads:
    """Draws what one guest does.

    Attributes:
        vcpus: Its width.
        chance: What decides.
        lock: Its kernel's kind of spinlock.
    """

    def __init__(self, vcpus: int, chance: Stream) -> None:
        self.vcpus = vcpus
        self.chance = chance
        self.lock: type[Spinlock] = LOCKS[chance.choose(_LOCKS)]

    def changing(self) -> Workload:
        """Things in turn, all of them for 2 to 15 s or all of them for 30 s to 5 min.

        The oracle follows those that last; a short one beside a long one would be looked at for
        longer than a run is.
        """
        least_s, most_s = self.chance.choose(((2, 15), (30, 300)))
        if self.chance.below(2):
            return self._bursty(self._whole(least_s, most_s), self._whole(least_s, most_s))
        return Phased(
            phases=tuple(
                Phase(workload=self.steady(), duration_ns=self._whole(least_s, most_s) * NS_PER_S)
                for _ in range(self._whole(2, 3))
            )
        )

    def steady(self) -> Workload:
        """One thing for good: to compute or to wait for locks more often than the rest."""
        kinds: tuple[Callable[[], Workload], ...] = (
            *(self._computing,) * 3,
            *(self._descriptors,) * 4,
            self._regions,
            self._sleeping_regions,
            *(self._build,) * 2,
            self._database,
            self._web,
            self._hackbench,
            self._files,
            self._schbench,
            self._rogue,
            self._noise,
            self._idle,
        )
        return self.chance.choose(kinds)()

    # --------------------------------------------------------------------- ways to draw

    def _whole(self, least: int, most: int) -> int:
        return least + self.chance.below(most + 1 - least)

    def _ms(self, least: int, most: int) -> int:
        return self._whole(least, most) * NS_PER_MS

    def _us(self, least: int, most: int) -> int:
        return self._whole(least, most) * NS_PER_US

    def _threads(self) -> int | None:
        """As many as the workload itself would have; of one in four as few or many as it happens."""
        return None if self.chance.below(4) else self._whole(1, 2 * self.vcpus)

    # ------------------------------------------------------------------------ in turns

    def _bursty(self, busy_s: int, idle_s: int) -> Bursty:
        period_ns = (busy_s + idle_s) * NS_PER_S
        return Bursty(
            threads=self._threads(),
            period_ns=period_ns,
            busy_ratio=busy_s / (busy_s + idle_s),
            offset_ns=self.chance.uniform_ns(0, period_ns),
            unit_ns=_UNIT_NS,
        )

    # -------------------------------------------------------------------------- steady

    def _computing(self) -> Workload:
        return GobmkLike(copies=self._threads(), unit_ns=_UNIT_NS)

    def _descriptors(self) -> Workload:
        """A twentieth to a third of the time among sections, some of which is under the lock."""
        grain_ns = 2 * self._grain_ns()
        least_ns = self.chance.choose(_HOLDS_US) * NS_PER_US
        hold_ns = self.chance.uniform_ns(least_ns, 2 * least_ns)
        gap_ns = self._whole(4, 8) * hold_ns
        share = 0.05 + 0.3 * self.chance.unit()
        rounds = round(share / (1 - share) * grain_ns / (hold_ns + gap_ns))
        return Descriptors(
            threads=self._threads(),
            grain_ns=grain_ns,
            rounds=max(1, rounds),
            hold_ns=hold_ns,
            gap_ns=gap_ns,
            lock=self.lock,
        )

    def _grain_ns(self) -> int:
        return self.chance.choose((1, 2, 5, 10, 30)) * NS_PER_MS

    def _regions(self) -> Workload:
        return self._team(self.chance.choose(tuple(Wait)))

    def _sleeping_regions(self) -> Workload:
        return self._team(Wait.PASSIVE)

    def _team(self, wait: Wait) -> AmmpLike:
        """Regions that end in a barrier; of one team in four the threads fault in memory, too."""
        grain_ns = self._grain_ns()
        faults_per_ms = 0 if self.chance.below(4) else self._whole(2, 5)
        return AmmpLike(
            threads=self._threads(),
            grain_ns=grain_ns,
            cv_ratio=self.chance.choose((0.0, 0.05, 0.2)),
            wait=wait,
            spin_ns=self.chance.choose((1, 3, 10)) * NS_PER_MS,
            criticals=self._whole(0, 4),
            critical_ns=self._whole(200, 2_000),
            kernel_sections=faults_per_ms * grain_ns // NS_PER_MS,
            kernel_gap_ns=self._us(10, 20),
            kernel_hold_ns=self._whole(1_000, 3_000),
            lock=self.lock,
        )

    def _build(self) -> Workload:
        return KernbenchLike(
            jobs=self._threads(),
            compile_ns=self._ms(50, 250),
            fork_ns=self._us(300, 2_000),
            tasklist_ns=self._whole(500, 2_000),
            fault_gap_ns=self._us(1_000, 4_000),
            fault_hold_ns=self._whole(1_000, 3_000),
            lock=self.lock,
        )

    def _database(self) -> Workload:
        return Database(
            clients=self._threads(),
            statements=self._whole(5, 20),
            statement_ns=self._us(500, 2_000),
            latches=self._whole(1, 16),
            latch_ns=self._us(2, 20),
            log_ns=self._us(3, 30),
            spin_ns=self.chance.choose((0, 180, 1_000)) * NS_PER_US,
            flush_ns=self._us(100, 5_000),
        )

    def _web(self) -> Workload:
        return WebServer(
            workers=self._threads(),
            requests_per_s=float(self._whole(50, 250)),
            service_ns=self._ms(1, 8),
            receive_ns=self._us(10, 100),
            backlog=self.chance.choose((128, 1_024, 4_096)),
        )

    def _hackbench(self) -> Workload:
        """Messages of 1 MiB and more (`hackbench -s`): copying takes hundreds of microseconds."""
        message_ns = self._us(200, 1_000)
        return HackbenchLike(
            groups=self._whole(1, max(1, self.vcpus // 2)),
            fan=self._whole(1, 4),
            burst=self._whole(4, 16),
            queued=self._whole(2, 8),
            message_ns=message_ns,
            hold_ns=message_ns // self._whole(10, 50),
            lock=self.lock,
        )

    def _files(self) -> Workload:
        """Blocks of 1 MiB and more (`dd`, `rsync`): a copy runs at 1 to 10 GB/s."""
        return Files(
            processes=self._threads(),
            read_ns=self._us(500, 5_000),
            write_ns=self._us(100, 1_000),
            sees_preemption=self.chance.below(2) == 0,
        )

    def _schbench(self) -> Workload:
        return Schbench(
            workers=self._threads(),
            compute_ns=self._ms(5, 30),
            sleep_ns=self._us(100, 10_000),
            post_ns=self._whole(1_000, 5_000),
        )

    def _rogue(self) -> Workload:
        """Ticks of Xen (10 ms) and of Linux with HZ 250 and 1000."""
        period_ns = self.chance.choose((10, 4, 1)) * NS_PER_MS
        return Rogue(
            period_ns=period_ns,
            asleep_ns=period_ns // self._whole(10, 40),
            honest_ns=self._ms(100, 10_000),
        )

    def _noise(self) -> Workload:
        return Noise(burst_ns=self._us(20, 200), sleep_ns=self._ms(20, 200))

    def _idle(self) -> Workload:
        return Idle(wake_ns=self._ms(50, 500), work_ns=self._us(10, 50))
