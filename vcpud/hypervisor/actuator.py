"""Changes carried out: one domain at a time each, verified by reading back.

Success of a call is not success of a change: a guest may refuse, do half of it, or do it after
the call has timed out. So every change ends with a look at what is, and what is reported is what
was seen. The rungs of the ladder: the guest takes CPUs offline and online itself (agent), or
vCPUs are unplugged and plugged as devices; a weight is set where shares count per vCPU.
References: libvirt src/qemu/qemu_hotplug.c (unplug waits 5 s and may complete later);
QEMU qga `guest-set-vcpus` (stops at the first CPU it cannot change, returns how many it did).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Protocol

from vcpud.hypervisor import agent
from vcpud.hypervisor.conversation import BUSY
from vcpud.hypervisor.failures import CallFailed, Meaning
from vcpud.model import Change, Reason, SetLive, SetOnline
from vcpud.units import NS_PER_S

if TYPE_CHECKING:
    from collections.abc import Callable

    from vcpud.hypervisor.conversation import Conversation
    from vcpud.hypervisor.errands import Hand
    from vcpud.hypervisor.handover import Handover
    from vcpud.hypervisor.patience import Patience
    from vcpud.model import Uuid

FRESH_NS: Final = 15 * NS_PER_S
"""A reading of the online CPUs no older than this tells what a change has to do.

Asking for what is already so is harmless, so this only decides how much is asked for.
"""
UNPLUG_S: Final = 7.0
"""libvirt waits 5 s for the guest to let a vCPU go, on some machines 10."""
_CHANGE_PATIENCE: Final = 2
_ATTEMPTS: Final = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """What is known of the domain when a change begins.

    Attributes:
        online: Guest CPUs online, None when not known.
        online_taken_at_ns: When that was read.
        live_vcpus: vCPUs present.
    """

    online: frozenset[int] | None
    online_taken_at_ns: int | None
    live_vcpus: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a change ended.

    Attributes:
        uuid: Which domain.
        change: What was asked.
        reason: None when it was reached, else why not.
        detail: For people.
        unplug_pending: An unplug was asked for that the guest may still carry out.
    """

    uuid: Uuid
    change: Change
    reason: Reason | None = None
    detail: str = ""
    unplug_pending: bool = False


class Report(Protocol):
    """Takes the outcome, from any thread."""

    def __call__(self, outcome: Outcome) -> None:
        """Must return at once."""


class Undertaking(ABC):
    """A change from its errand to its outcome, which is reported once whatever happens."""

    def __init__(self, change: Change, report: Report, handover: Handover) -> None:
        self._change = change
        self._uuid = change.uuid
        self._report = report
        self._reported = False
        self._handover = handover
        self._whole = False

    def run(self, hand: Hand) -> None:
        """Carry it out and report, whatever happens."""
        outcome = self._outcome(Reason.FAILED)
        try:
            outcome = self._carried_out(hand)
        except CallFailed as failure:
            outcome = self._outcome(failure.reason, failure.message)
        finally:
            # A lost thread comes here too, long after `given_up` has reported.
            self._end(outcome)
            self._leave(hand)

    def given_up(self) -> None:
        """A call was not answered in time; what it did will be seen later."""
        self._end(self._outcome(Reason.HUNG, "a call has not been answered"))

    @abstractmethod
    def _carried_out(self, hand: Hand) -> Outcome:
        """Do it, and say what was seen afterwards."""

    def _leave(self, hand: Hand) -> None:
        """What is done after it has been reported."""
        if self._whole and not hand.lost:
            self._handover.take_away(hand)

    def _end(self, outcome: Outcome) -> None:
        self._whole = outcome.reason is None and self._handover.makes_whole
        if not self._reported:
            self._reported = True
            self._report(outcome)

    def _outcome(self, reason: Reason | None, detail: str = "") -> Outcome:
        return Outcome(uuid=self._uuid, change=self._change, reason=reason, detail=detail)


class Actuation(Undertaking):
    """One change of one domain, by its guest's agent or by devices."""

    def __init__(  # noqa: PLR0913  what a change is made of
        self,
        change: Change,
        situation: Situation,
        conversation: Conversation,
        *,
        patience: Patience,
        now_ns: Callable[[], int],
        report: Report,
        handover: Handover,
        over: Callable[[], bool],
    ) -> None:
        super().__init__(change, report, handover)
        self._situation = situation
        self._conversation = conversation
        self._patience = patience
        self._now_ns = now_ns
        self._over = over
        self._under_job = False

    def _leave(self, hand: Hand) -> None:
        if isinstance(self._change, SetOnline) and not hand.lost:
            self._conversation.hurry()
        if not self._under_job:
            super()._leave(hand)

    def _carried_out(self, hand: Hand) -> Outcome:
        # A migration carries the count along and a save freezes it: neither may be raced.
        # What only gives back is no race: the agent answers as long as the guest runs.
        job = self._conversation.find_job(hand)
        self._under_job = job is not None
        change = self._change
        if job is not None and (job == BUSY or not self._gives()):
            return self._outcome(Reason.JOB, f"busy with {job}")
        if job is None:
            self._handover.leave(hand)
        if isinstance(change, SetOnline):
            return self._set_online(hand, change.online)
        if isinstance(change, SetLive):
            return self._set_live(hand, change.count)
        self._check_run()
        hand.call(
            self._patience.job_deadline_s,
            lambda link: link.set_weight(self._uuid, change.weight),
        )
        return self._outcome(None)

    def _check_run(self) -> None:
        """What was waited for may have outlasted the domain, and libvirt knows runs by UUID alone.

        Raises:
            CallFailed: This run is over: its successor is owed nothing and must not be changed.
        """
        if self._over():
            raise CallFailed(Meaning.GONE, "it has been started anew meanwhile")

    def _gives(self) -> bool:
        change, online = self._change, self._situation.online
        return isinstance(change, SetOnline) and online is not None and change.online >= online

    # ------------------------------------------------------------------ in the guest

    def _set_online(self, hand: Hand, wanted: frozenset[int]) -> Outcome:
        """First what is believed to be missing, then, if need be, what a look back shows.

        The guest stops at the first CPU that it cannot change. One that cannot be brought online
        must not keep those behind it offline: it is passed over. One that cannot be taken offline
        ends it.
        """
        gives = self._situation.online is None or self._gives()
        decided_on = self._situation.online or frozenset()
        believed, why = self._believed(), ""
        unable: set[int] = set()
        for _ in range(_ATTEMPTS + len(wanted)):
            steps = [step for step in _steps(believed, wanted) if step[0] not in unable]
            if steps:
                try:
                    self._send(hand, steps)
                except CallFailed as error:
                    if error.meaning is not Meaning.AGENT_FAILED:
                        raise
                    why = f": {error.message}"  # the first of the list: look what is
            online = self._conversation.look(hand)
            # Who brings CPUs back takes none away, nor the other way round, whatever somebody else
            # has done meanwhile; what is asked for blindly is to be given back. A CPU that was not
            # online when the change was decided is in nobody's ledger: taken, it would never come back.
            wanted = wanted | online if gives else (wanted & online) | (online - decided_on)
            if online == wanted:
                return self._outcome(None, f"online {sorted(online)}")
            if online == believed:
                if not steps or not steps[0][1]:
                    break
                unable.add(steps[0][0])
            believed = online
        seen = sorted(believed or ())
        return self._outcome(Reason.FAILED, f"online {seen}, wanted {sorted(wanted)}{why}")

    def _believed(self) -> frozenset[int] | None:
        at_ns = self._situation.online_taken_at_ns
        if at_ns is None or self._now_ns() - at_ns > FRESH_NS:
            return None
        return self._situation.online

    def _send(self, hand: Hand, steps: list[tuple[int, bool]]) -> None:
        vcpus = [{"logical-id": index, "online": online} for index, online in steps]
        text = agent.command("guest-set-vcpus", vcpus=vcpus)
        self._check_run()
        self._conversation.unsettled()
        # Each CPU takes a while in a guest that hardly runs; the limit still is explicit.
        try:
            answer, _, _ = self._conversation.ask(
                hand, text, _CHANGE_PATIENCE * self._patience.agent_timeout_s
            )
        except CallFailed as failure:
            if failure.meaning is Meaning.AGENT_BLOCKED:
                self._conversation.lacks("guest-set-vcpus")  # the next rung from now on
            raise
        try:
            agent.parse_set_vcpus(answer)  # how many is seen by looking, and more surely
        except agent.AbsurdError as error:
            raise CallFailed(Meaning.AGENT_FAILED, str(error)) from error

    # ------------------------------------------------------------------ as devices

    def _set_live(self, hand: Hand, wanted: int) -> Outcome:
        """One vCPU per call, each verified: libvirt undoes nothing when a later one fails.

        Only towards where it was to go from what was seen: who has meanwhile taken or brought more
        has the last word.
        """
        uuid = self._uuid
        seen = self._situation.live_vcpus
        step = (wanted > seen) - (wanted < seen)
        live = self._live(hand)
        if step < 0 and live > seen:
            # Who plugged it has not been heard yet: taken, it would be missing from what is given back.
            return self._outcome(
                Reason.FAILED, f"{live} vCPUs present, {seen} when it was decided"
            )
        while step * (wanted - live) > 0:
            target = live + step
            self._check_run()
            try:
                hand.call(
                    self._patience.call_s + UNPLUG_S,
                    lambda link, target=target: link.set_live_vcpus(uuid, target),  # type: ignore[misc]
                )
            except CallFailed as failure:
                return replace(
                    self._outcome(failure.reason, failure.message),
                    unplug_pending=failure.meaning is Meaning.UNPLUG_PENDING,
                )
            before, live = live, self._live(hand)
            if live == before:
                break
        reason = None if live == wanted else Reason.FAILED
        return self._outcome(reason, f"{live} vCPUs present, wanted {wanted}")

    def _live(self, hand: Hand) -> int:
        return hand.call(self._patience.call_s, lambda link: link.live_vcpus(self._uuid))


def _steps(believed: frozenset[int] | None, wanted: frozenset[int]) -> list[tuple[int, bool]]:
    """What to ask of the guest: CPUs to bring online, lowest first, then offline, highest first.

    Not knowing what is online, everything wanted is asked for in one go: the guest passes over
    what is so already, and nothing is taken away before a look. CPU 0 is never named.
    """
    missing = wanted if believed is None else wanted - believed
    surplus = frozenset[int]() if believed is None else believed - wanted
    on = [(index, True) for index in sorted(missing) if index]
    off = [(index, False) for index in sorted(surplus, reverse=True) if index]
    return on + off
