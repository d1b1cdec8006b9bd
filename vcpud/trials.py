"""What comes of a policy's moves: begun, judged, taken back where they did not help, or called off.

What a verdict is, is the judge's; here is what follows on it, and who is given back meanwhile.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from vcpud import docket, judge
from vcpud.actuation import Actuation, Intent
from vcpud.agenda import Agenda
from vcpud.docket import Docket
from vcpud.model import DomainSample, Uuid
from vcpud.plan import Plan, Verdict
from vcpud.record import Purpose
from vcpud.units import NS_PER_MS

if TYPE_CHECKING:
    from vcpud.demand import HostDemand


class Trials:
    """Every move from its beginning to its verdict.

    Attributes:
        docket: The judge's memory.
        running: Domains as they are in this cycle.
    """

    def __init__(self, actuation: Actuation, agenda: Agenda) -> None:
        self.docket = Docket()
        self.running: Mapping[Uuid, DomainSample] = {}
        self._actuation = actuation
        self._agenda = agenda
        self._decisions = 0

    # ------------------------------------------------------------- from begin to verdict

    def begin(self, plan: Plan, now_ns: int) -> None:
        """Send the domains of every move on their way, and put it on trial."""
        for move in plan.moves:
            decision_id = self._decision_id(now_ns)
            self.docket = docket.opened(self.docket, decision_id, move)
            for resize in move.resizes:
                intent = Intent(
                    decision_id=decision_id,
                    purpose=Purpose.DECIDE,
                    to_vcpus=resize.to_vcpus,
                    step_vcpus=resize.step_vcpus,
                    reason=move.reason,
                )
                self._actuation.set_course(self.running[resize.uuid], intent, now_ns)

    def advance(self, demand: HostDemand, now_ns: int) -> tuple[Verdict, ...]:
        """Start judging what was reached, take back what failed or did not help."""
        courses = self._agenda.courses
        for uuid in self._actuation.acts.given_up:
            self.call_off(uuid, now_ns)
            self.give_back(self.running[uuid], now_ns)
        for trial in self.docket.trials:
            if trial.reached_at_ns is None and not any(
                resize.uuid in courses for resize in trial.move.resizes
            ):
                self.docket = docket.reached(self.docket, trial.decision_id, now_ns)
        self.docket, verdicts = judge.advance(self.docket, demand, now_ns)
        for verdict in verdicts:
            for resize in () if verdict.kept else verdict.move.resizes:
                if resize.uuid in self.running:
                    intent = Intent(
                        decision_id=verdict.decision_id,
                        purpose=Purpose.UNDO,
                        to_vcpus=resize.from_vcpus,
                        step_vcpus=max(resize.from_vcpus, resize.to_vcpus),
                        reason=f"{verdict.outcome}: {verdict.detail}",
                    )
                    self._actuation.set_course(self.running[resize.uuid], intent, now_ns)
        return verdicts

    # ------------------------------------------------------------------ without a verdict

    def call_off(self, uuid: Uuid, now_ns: int) -> None:
        """End a domain's trial without a verdict: who is on trial with it is given back."""
        trial = self.docket.on_trial(uuid)
        self.docket = docket.dismissed(self.docket, uuid)
        for resize in () if trial is None else trial.move.resizes:
            domain = self.running.get(resize.uuid)
            if domain is not None and resize.uuid != uuid:
                self.give_back(domain, now_ns)

    def call_off_all(self) -> None:
        """Nothing is judged, begun or taken back any more."""
        self.docket = replace(self.docket, trials=())
        self._actuation.call_off_unowed()

    def give_back(self, domain: DomainSample, now_ns: int) -> None:
        """Send a domain back to its original, where it is owed one."""
        if self._actuation.give_back(domain, self._decision_id(now_ns), now_ns):
            self.call_off(domain.uuid, now_ns)

    def revoke(self, domain: DomainSample, now_ns: int) -> None:
        """Send a domain back whose move cannot stand, and leave it and its partners alone for a while."""
        trial = self.docket.on_trial(domain.uuid)
        partners = [] if trial is None else [resize.uuid for resize in trial.move.resizes]
        if self._actuation.give_back(domain, self._decision_id(now_ns), now_ns):
            self.docket = docket.blamed(self.docket, {domain.uuid, *partners}, now_ns)
            self.call_off(domain.uuid, now_ns)

    def give_back_to(self, uuid: Uuid | None, now_ns: int) -> None:
        """One domain, or all, at once; also ends what is under way where nothing is owed yet."""
        self._agenda.hasten(uuid)
        for domain in self.running.values():
            if uuid in (None, domain.uuid):
                self.call_off(domain.uuid, now_ns)
                self._actuation.call_off_unowed(domain.uuid)
                self.give_back(domain, now_ns)

    def forgive(self, uuid: Uuid | None) -> None:
        """What earlier moves of a domain, or of all, came to is held against nobody."""
        if uuid is None:
            self.docket = replace(self.docket, blames={})
        else:
            self.docket = docket.forgiven(self.docket, uuid)

    def _decision_id(self, now_ns: int) -> str:
        """Unique on this host until it reboots, across restarts of vcpud too."""
        self._decisions += 1
        return f"{now_ns // NS_PER_MS:x}-{self._decisions:x}"
