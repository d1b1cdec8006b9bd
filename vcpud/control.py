"""The control loop: sample, estimate, judge, decide, guard, act, record. Every effect is a port.

The same class runs under a real clock on a real host, and under a simulated clock on a simulated
one. It owns the state that is threaded through the pure stages and nothing else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vcpud import guard, owed, shares
from vcpud.actuation import Acts, Actuation
from vcpud.agenda import Agenda
from vcpud.inheritance import Inheritance
from vcpud.model import DomainSample, HostSample, Original, Uuid
from vcpud.originals import Originals
from vcpud.plan import Plan, Verdict
from vcpud.ports import Clock, Hypervisor, Inbox, Ledger, Recorder, Wake
from vcpud.record import Blocked, CycleRecord, ForeignChange
from vcpud.requests import (
    Hold,
    KillSwitch,
    LoopSettings,
    Pause,
    Release,
    Reload,
    Request,
    Restore,
    Resume,
)
from vcpud.text import raised
from vcpud.tracks import Tracks, estimate
from vcpud.trials import Trials
from vcpud.units import NS_PER_MS, NS_PER_S

if TYPE_CHECKING:
    from vcpud.demand import HostDemand

RESTORE_POLL_NS = 100 * NS_PER_MS
ANSWER_NS = 5 * NS_PER_S
"""Without a ledger most likely nobody is owed anything: then who does not answer is not awaited."""


class ControlLoop:
    """Drives one host through the ports; `run` returns after a stop and its restore."""

    def __init__(  # noqa: PLR0913 - the five ports, no more
        self,
        *,
        clock: Clock,
        hypervisor: Hypervisor,
        ledger: Ledger,
        inbox: Inbox,
        recorder: Recorder,
        settings: LoopSettings,
    ) -> None:
        self._clock = clock
        self._hypervisor = hypervisor
        self._ledger = ledger
        self._inbox = inbox
        self._recorder = recorder
        self._settings = settings
        self._agenda = Agenda()
        self._originals = Originals(ledger, self._agenda)
        self._actuation = Actuation(hypervisor, self._originals, self._agenda)
        self._trials = Trials(self._actuation, self._agenda)
        self._policy_state: Any = settings.policy.initial()
        self._tracks = Tracks()
        self._verdicts: tuple[Verdict, ...] = ()
        self._policy_error: str | None = None
        self._cycles = 0
        self._overruns = 0
        self._hold_until_ns: int | None = None
        self._stopping = False
        self._settle_ns = owed.SETTLE_NS
        self._running: dict[Uuid, DomainSample] = {}
        self._adopts = False
        self._inheritance = Inheritance(self._originals)

    # ------------------------------------------------------------------ the life of the loop

    def run(self, *, adopt: bool = False, cycles: int | None = None) -> tuple[Original, ...]:
        """Cycle until a stop is asked for, then give everything back.

        Args:
            adopt: Take over outstanding originals (a hold is in force) instead of restoring them.
            cycles: Stop after so many cycles, or never by itself.

        Returns:
            Originals that could not be restored; they stay in the ledger.
        """
        self._adopts = adopt
        next_ns = self._clock.now_ns()
        while cycles is None or self._cycles < cycles:
            wake = self._clock.wait_until(next_ns)
            if wake is Wake.STOP:
                break
            self.cycle()
            if wake is Wake.TIMER:
                next_ns += self._settings.period_ns
                now_ns = self._clock.now_ns()
                if next_ns <= now_ns:
                    self._overruns += 1
                    next_ns = now_ns + self._settings.period_ns
        now_ns = self._clock.now_ns()
        held = self._hold_until_ns is not None and now_ns < self._hold_until_ns
        if (held or self._settings.on_stop_keep) and not self._agenda.bars.killed:
            return ()
        self._inheritance.leave_unread()  # a stop does not wait for it
        return self.restore(now_ns + self._hypervisor.restore_ns)

    def restore(
        self, deadline_ns: int, *, settle: bool = False, forget_absent: bool = True
    ) -> tuple[Original, ...]:
        """Bring every domain back to its original, all at once; also the way of `vcpud restore`.

        Args:
            deadline_ns: When to give up waiting.
            settle: Also wait for unplugs that a guest may still carry out; else they merely stay
                in the ledger.
            forget_absent: Take it that who does not run is gone: not where it is uncertain whether
                this is the host that was meant.

        Returns:
            What could not be restored by then; it stays in the ledger.
        """
        self._stopping = True
        self._agenda.hasten(None)
        self._settle_ns = owed.AWAITED_NS if settle else owed.SETTLE_NS
        if not forget_absent:
            self._inheritance.waive()
        answer_by_ns = self._clock.now_ns() + ANSWER_NS
        while True:
            sample = self.cycle()
            now_ns = self._clock.now_ns()
            outstanding = self._ledger.outstanding()
            left = owed.lacking(outstanding, sample)
            awaited = set(outstanding if settle else left)
            if sample.connected and not sample.undescribed:
                awaited -= set(owed.elsewhere(left, sample))
            unread = self._inheritance.unread and (sample.connected or now_ns < answer_by_ns)
            if not (awaited or unread) or now_ns >= deadline_ns:
                return left
            self._clock.wait_until(min(now_ns + RESTORE_POLL_NS, deadline_ns))

    # ---------------------------------------------------------------------------- one cycle

    def cycle(self) -> HostSample:
        """One pass from sample to record; returns what was there."""
        now_ns = self._clock.now_ns()
        self._actuation.acts = Acts()
        sample = self._hypervisor.sample()
        # After the sample: that a change has failed must not be heard later than that it is over.
        events = self._hypervisor.events()
        self._running = {domain.uuid: domain for domain in sample.domains}
        self._trials.running = self._running
        self._originals.look(sample)
        self._renew(sample, now_ns)
        self._actuation.hear(events, now_ns)
        originals = self._originals.outstanding()
        for foreign in self._agenda.look(
            sample.domains, originals, now_ns, self._settings.foreign
        ):
            self._yield_to(foreign, now_ns)
        requests = self._inbox.drain()
        for request in requests:
            self._grant(request, now_ns)
        if sample.connected:
            self._settle_originals(sample, now_ns)
        self._tracks, demand = estimate(self._tracks, sample, self._originals.outstanding())
        self._actuation.read_back(sample, now_ns)
        verdicts = self._trials.advance(demand, now_ns)
        self._verdicts += verdicts
        proposed = Plan()
        blocked: tuple[Blocked, ...] = ()
        if sample.connected and not self._stopping:
            proposed, blocked = self._decide(sample, demand, now_ns)
        if sample.connected:
            self._actuation.act(sample, now_ns)
            self._originals.forget_restored(sample, self._settle_ns)
        for uuid in self._actuation.acts.dropped:
            self._trials.call_off(uuid, now_ns)
        self._cycles += 1
        acts, news = self._actuation.acts, self._originals.news
        originals = self._originals.outstanding()
        self._recorder.record(
            CycleRecord(
                cycle=self._cycles,
                began_ns=now_ns,
                ended_ns=self._clock.now_ns(),
                period_ns=self._settings.period_ns,
                policy_name=self._settings.policy_name,
                sample=sample,
                demand=demand,
                proposed=proposed,
                domains=self._agenda.statuses(
                    sample.domains, originals, self._trials.docket, now_ns
                ),
                events=events,
                requests=requests,
                blocked=blocked,
                changes=tuple(acts.changes),
                completed=tuple(acts.completed),
                verdicts=verdicts,
                outstanding=self._ledger.outstanding(),
                lost_originals=tuple(news.lost),
                received=tuple(news.received),
                recovered=tuple(news.recovered),
                foreign=tuple(news.foreign),
                ledger_error=news.error,
                policy_error=self._policy_error,
                overruns=self._overruns,
                paused=self._agenda.bars.paused_until_ns is not None,
                killed=self._agenda.bars.killed,
                stopping=self._stopping,
                hold_until_ns=self._hold_until_ns,
            )
        )
        return sample

    def _renew(self, sample: HostSample, now_ns: int) -> None:
        """A domain that is gone, started anew or rebooted has every CPU online: start afresh.

        A reboot plugs no device and sets no weight: those are still owed.
        """
        ended: list[Uuid] = []
        for uuid, track in self._tracks.domains.items():
            domain = self._running.get(uuid)
            if domain is None and not sample.connected:
                continue
            was = track.sample
            if domain is was or (
                domain is not None
                and domain.incarnation == was.incarnation
                and domain.boots == was.boots
            ):
                continue
            self._agenda.forget(uuid)
            self._trials.forgive(uuid)
            self._trials.call_off(uuid, now_ns)
            if domain is None or domain.incarnation != was.incarnation:
                ended.append(uuid)
            elif self._originals.rebooted(domain):
                self._trials.give_back(domain, now_ns)
        self._originals.forget(*ended)

    def _settle_originals(self, sample: HostSample, now_ns: int) -> None:
        """Give back what can no longer be kept; when first met and at a stop, everything."""
        unmet = self._inheritance.unmet(sample)
        everything = self._stopping or self._agenda.bars.killed
        if everything:
            self._trials.call_off_all()
        met = frozenset[Uuid]() if self._adopts else unmet
        self._originals.discard_stale(sample, absent=unmet)
        back = self._originals.to_give_back(sample, everything=everything, met=met)
        for domain in back:
            self._trials.give_back(domain, now_ns)
        targets = self._agenda.sent_since(now_ns - shares.TOGETHER_NS)
        unmanaged = self._tracks.unmanaged
        for domain in shares.owed(sample, self._originals.had(), targets, unmanaged):
            self._trials.revoke(domain, now_ns)
        self._inheritance.met(sample)

    def _yield_to(self, foreign: ForeignChange, now_ns: int) -> None:
        """Somebody else changed a domain: his change stands, and nothing is judged by it."""
        domain = self._running[foreign.uuid]
        only_weight = self._originals.yield_to(foreign, domain)
        self._trials.call_off(foreign.uuid, now_ns)
        if only_weight:
            self._trials.give_back(domain, now_ns)

    # -------------------------------------------------------------------------- the stages

    def _grant(self, request: Request, now_ns: int) -> None:
        match request:
            case Reload(settings=settings):
                if settings.policy_name != self._settings.policy_name:
                    self._policy_state = settings.policy.initial()
                self._settings = settings
            case KillSwitch(thrown=thrown):
                self._agenda.bars.killed = thrown
            case Hold(until_ns=until_ns):
                self._hold_until_ns = until_ns
            case Resume(uuid=uuid):
                self._agenda.resume(uuid, now_ns)
                self._trials.forgive(uuid)
            case Pause(uuid=uuid, until_ns=until_ns, restore=restore):
                self._agenda.bars.pause(uuid, until_ns)
                if restore:
                    self._trials.give_back_to(uuid, now_ns)
            case Release(uuid=uuid, until_ns=until_ns):
                self._agenda.bars.release(uuid, until_ns)
                self._trials.give_back_to(uuid, now_ns)
            case Restore(uuid=uuid):
                self._trials.give_back_to(uuid, now_ns)

    def _decide(
        self, sample: HostSample, demand: HostDemand, now_ns: int
    ) -> tuple[Plan, tuple[Blocked, ...]]:
        situation = guard.Situation(
            samples=self._running,
            demands=self._tracks.demands,
            busy=frozenset(self._agenda.courses) | self._trials.docket.tried(),
            barred=self._agenda.bars.reasons(self._trials.docket, self._running, now_ns),
            changed_at_ns=self._agenda.changed_at_ns,
            begun_at_ns=tuple(self._agenda.begun_at_ns),
            originals=self._originals.had(),
            now_ns=now_ns,
            unmanaged=self._tracks.unmanaged,
            pcpus={pool.name: pool.pcpus for pool in sample.pools},
        )
        policy = self._settings.policy
        self._policy_error = None
        try:
            self._policy_state, proposed = policy.decide(
                self._policy_state, guard.told(demand, situation), self._verdicts, now_ns
            )
            plan, blocked = guard.constrain(proposed, self._settings.limits, situation)
        except Exception as error:  # noqa: BLE001 - the loop's single catch: policies plug in
            self._policy_error = raised(error)
            self._policy_state = policy.initial()
            return Plan(), ()
        finally:
            self._verdicts = ()
        self._trials.begin(plan, now_ns)
        return proposed, blocked
