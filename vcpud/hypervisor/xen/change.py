"""Changes on Xen: the guest is told through xenstore, and Xen is asked what came of it.

Lowering is the guest's kernel's own doing. Raising only makes the CPU present: something in the guest,
a udev rule, must bring it online. In both cases the call succeeds whatever the guest does, so success
is what Xen's own online flag says; where Xen cannot be asked, the run times, which stand still for a
vCPU that is offline. A CPU is announced to the guest once: one that a busy guest could not bring online
stays present and offline, whatever is asked, until it has been taken away and is announced anew. A
request that the guest does not follow is taken back, so that it does not follow it later, when nobody
expects it any more.
References: Linux drivers/xen/cpu_hotplug.c; Xen tools/libs/light/libxl_domain.c
(libxl_set_vcpuonline).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from vcpud.hypervisor.actuator import Outcome, Report, Undertaking
from vcpud.hypervisor.failures import CallFailed, Meaning
from vcpud.hypervisor.link import VcpuWord
from vcpud.model import Change, Reason, SetLive, SetWeight
from vcpud.units import NS_PER_S

if TYPE_CHECKING:
    from vcpud.hypervisor.errands import Hand
    from vcpud.hypervisor.handover import Handover
    from vcpud.hypervisor.patience import Patience
    from vcpud.hypervisor.xen.roll import Roll
    from vcpud.hypervisor.xen.tools import Toolstack
    from vcpud.model import SetOnline

GUEST_NS: Final = 15 * NS_PER_S
"""A guest that has done nothing by then will not: a busy one needs five seconds under emulation."""
ASK_AGAIN_NS: Final = 5 * NS_PER_S
PATIENT_ASKS: Final = 2
"""Before vCPUs are taken away to be announced anew: a guest that is merely slow must not begin again."""
AWAY_S: Final = 2.0
"""Within which a busy guest has seen that a vCPU was taken away: two changes at once are none to it."""
FIRST_LOOK_S: Final = 0.2
LONGEST_PAUSE_S: Final = 1.6
STILL_NS: Final = 3 * NS_PER_S
"""So long must the run time of a vCPU stand still to count as offline, where Xen cannot be asked."""

UDEV_MISSING: Final = (
    "the request was accepted and the guest did nothing: it lacks the udev rule that brings added "
    "CPUs online: put /usr/share/vcpud/guest/80-vcpud-xen-cpu.rules into its /etc/udev/rules.d"
)
IGNORED: Final = (
    "the request was accepted and the guest did nothing: its kernel does not follow xenstore's CPU "
    "availability (CONFIG_HOTPLUG_CPU, PV or PVH)"
)


class XenChange(Undertaking):
    """One change of one domain."""

    def __init__(  # noqa: PLR0913  what a change is made of
        self,
        change: Change,
        number: int,
        *,
        by_xl: bool,
        roll: Roll,
        tools: Toolstack,
        patience: Patience,
        now_ns: Callable[[], int],
        report: Report,
        handover: Handover,
        pause: Callable[[float], None],
    ) -> None:
        super().__init__(change, report, handover)
        self._number = number
        self._by_xl = by_xl
        self._roll = roll
        self._tools = tools
        self._patience = patience
        self._now_ns = now_ns
        self._pause = pause

    def _carried_out(self, hand: Hand) -> Outcome:
        job = self._job(hand)
        if job is not None:
            return self._outcome(Reason.JOB, f"busy with {job}")
        change = self._change
        if isinstance(change, SetWeight):
            return self._set_weight(hand, change)
        if isinstance(change, SetLive):
            self._handover.leave(hand)
            return self._set_live(hand, change)
        return self._never(change)

    def _never(self, change: SetOnline) -> Outcome:
        return self._outcome(Reason.NO_ACTUATOR, f"not by number: {sorted(change.online)}")

    def _job(self, hand: Hand) -> str | None:
        """A migration or save that must not be raced, as far as the driver tells."""
        try:
            return hand.call(self._patience.job_deadline_s, lambda link: link.job(self._uuid))
        except CallFailed as failure:
            if failure.meaning is Meaning.UNSUPPORTED:
                return None
            raise

    def _set_weight(self, hand: Hand, change: SetWeight) -> Outcome:
        limit_s = self._patience.job_deadline_s
        hand.call(limit_s, lambda link: link.set_weight(self._uuid, change.weight))
        found = hand.call(limit_s, lambda link: link.scheduler(self._uuid)).get("cpu_shares")
        reached = found == change.weight
        return self._outcome(
            None if reached else Reason.FAILED, f"weight {found}, wanted {change.weight}"
        )

    def _set_live(self, hand: Hand, change: SetLive) -> Outcome:
        before = self._look_again(hand, _Witness())
        wanted = frozenset(range(change.count))
        taken = self._taken(change.count)
        online = self._ask_for(hand, wanted, taken)
        detail = f"{len(online)} vCPUs online, wanted {change.count}"
        if online != wanted:
            self._request(hand, max(online, default=0) + 1)
            self._take_away(taken - online)
            if online == before:
                detail += f": {UDEV_MISSING if change.count > len(online) else IGNORED}"
        return self._outcome(None if online == wanted else Reason.FAILED, detail)

    def _request(self, hand: Hand, count: int) -> None:
        if self._by_xl:
            # libvirt's own count then stays what the domain was created with, which is right again
            # when everything is given back.
            self._tools.set_vcpus(self._number, count)
            return
        hand.call(
            self._patience.job_deadline_s, lambda link: link.set_live_vcpus(self._uuid, count)
        )

    def _taken(self, count: int) -> frozenset[int]:
        """Of its first so many vCPUs those that are not there because the guest was asked for them.

        What somebody in the guest took offline is not among them, and is his.
        """
        try:
            return self._tools.leaving(self._number, count)
        except CallFailed:
            return frozenset()

    def _take_away(self, missing: frozenset[int]) -> None:
        """Have those announced anew by the next request."""
        # Where it cannot be said in xenstore they are asked for as before.
        with contextlib.suppress(CallFailed):
            for index in sorted(missing):
                self._tools.set_available(self._number, index, available=False)

    # ------------------------------------------------------------------ what came of it

    def _ask_for(
        self, hand: Hand, wanted: frozenset[int], taken: frozenset[int]
    ) -> frozenset[int]:
        """Ask, and look until the guest has done it or will not.

        A guest that was too busy to take a CPU offline, or to bring one online, does not try again
        by itself.
        """
        again_ns = self._now_ns()
        until_ns = again_ns + GUEST_NS
        witness = _Witness()
        pause_s = FIRST_LOOK_S
        online, asked = wanted, 0
        while True:
            if self._now_ns() >= again_ns:
                if asked >= PATIENT_ASKS and (missing := taken & wanted - online):
                    self._take_away(missing)
                    self._pause(AWAY_S)
                asked += 1
                self._request(hand, len(wanted))
                again_ns = self._now_ns() + ASK_AGAIN_NS
            online = self._look_again(hand, witness)
            if online == wanted or self._now_ns() >= until_ns:
                return online
            self._pause(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    def _look_again(self, hand: Hand, witness: _Witness) -> frozenset[int]:
        try:
            told = self._tools.online()
        except CallFailed:
            most = max(self._roll.size(self._number), 1)
            states = hand.call(self._patience.call_s, lambda link: link.states(self._uuid, most))
            believed = self._roll.online(self._number)
            run_ns = [state.run_ns for state in states]
            alive = {state.number for state in states if state.word is not VcpuWord.OTHER}
            online = witness.online(run_ns, alive, believed, self._now_ns())
            self._roll.told({self._number: online}, self._now_ns())
            return online
        if self._number not in told:
            raise CallFailed(Meaning.GONE, "Xen has no such domain any more")
        self._roll.told(told, self._now_ns())
        return told[self._number]


class _Witness:
    """Tells from run times who is online: a vCPU that runs is, one that stands still long is not."""

    def __init__(self) -> None:
        self._run_ns: list[int] = []
        self._moved_ns: list[int] = []

    def online(
        self, run_ns: list[int], alive: set[int], believed: frozenset[int], now_ns: int
    ) -> frozenset[int]:
        """What is to be thought after another look.

        Args:
            run_ns: Run time of every vCPU.
            alive: vCPUs found running or blocked, which no offline one is.
            believed: Who was thought to be online.
            now_ns: The instant.
        """
        if len(self._run_ns) != len(run_ns):
            self._run_ns, self._moved_ns = run_ns, [now_ns] * len(run_ns)
            return believed | alive
        online = set(believed | alive)
        for index, (was, now) in enumerate(zip(self._run_ns, run_ns, strict=True)):
            if now != was or index in alive:
                self._moved_ns[index] = now_ns
                online.add(index)
            elif index and now_ns - self._moved_ns[index] >= STILL_NS:
                online.discard(index)
        self._run_ns = run_ns
        return frozenset(online)
