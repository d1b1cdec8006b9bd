"""Who is left alone, until when and why: pauses, releases, quarantines and the kill switch.

No effects and no clock. What is under way for a domain is the agenda's.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace

from vcpud.docket import Docket
from vcpud.limits import Foreign
from vcpud.model import DomainSample, Trouble, Uuid
from vcpud.record import Phase, Why
from vcpud.units import NS_PER_S

QUARANTINE_NS = 60 * NS_PER_S
QUARANTINE_MAX_NS = 3600 * NS_PER_S
SILENT_NS = 15 * NS_PER_S
"""An agent that has not answered for so long is not merely slow."""
FOREIGN_NS = 300 * NS_PER_S
"""How long a domain is left to whoever else changed its vCPUs."""
REVERSALS = 2
"""So often may somebody else undo what vcpud did before the domain is left to him."""
FIGHT_NS = 3600 * NS_PER_S
FIGHT_MAX_NS = 24 * 3600 * NS_PER_S
FOREVER_NS = 2**63 - 1
_SILENT = frozenset({Trouble.AGENT_SILENT, Trouble.HUNG})


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """Why a domain is left alone, and until when.

    Attributes:
        spell_ns: How long it lasts once the domain has back what it had: until then it does not end.
    """

    phase: Phase
    until_ns: int
    detail: str
    why: Why | None = None
    spell_ns: int = 0


@dataclass(slots=True)
class Bars:
    """Every bar there is, keyed by UUID; a domain that is gone leaves only an operator's word.

    Attributes:
        by_domain: Pauses, releases and quarantines.
        quarantines: How often in a row each domain was quarantined because it could not be
            shrunk, or (True) grown: that the one works says nothing of the other.
        silent_since_ns: Since when an agent has not answered.
        paused_until_ns: Everything is paused until then, None when it is not.
        killed: The kill switch is thrown.
    """

    by_domain: dict[Uuid, Bar] = field(default_factory=dict)
    quarantines: dict[tuple[Uuid, bool], int] = field(default_factory=dict)
    silent_since_ns: dict[Uuid, int] = field(default_factory=dict)
    paused_until_ns: int | None = None
    killed: bool = False

    @property
    def everybody(self) -> bool:
        """Whether all are left alone, whoever they are."""
        return self.killed or self.paused_until_ns is not None

    def reasons(self, docket: Docket, uuids: Collection[Uuid], now_ns: int) -> Mapping[Uuid, str]:
        """Domains that must not be changed on a policy's behalf, and why."""
        if self.killed:
            return dict.fromkeys(uuids, "the kill switch is thrown")
        if self.paused_until_ns is not None:
            return dict.fromkeys(uuids, "vcpud is paused")
        reasons = {
            uuid: "the last move did not help, or could not stand; backing off"
            for uuid in docket.blames
            if uuid in uuids and docket.blocked_until_ns(uuid, now_ns) is not None
        }
        for uuid, bar in self.by_domain.items():
            if uuid in uuids:
                reasons[uuid] = f"{bar.phase}: {bar.detail}"
        return reasons

    # ------------------------------------------------------------- what an operator wants

    def pause(self, uuid: Uuid | None, until_ns: int | None) -> None:
        """Nothing is to be decided, for one domain or for all."""
        end_ns = FOREVER_NS if until_ns is None else until_ns
        if uuid is None:
            self.paused_until_ns = end_ns
        else:
            bar = Bar(phase=Phase.PAUSED, until_ns=end_ns, detail="by an operator")
            self.by_domain[uuid] = bar

    def release(self, uuid: Uuid, until_ns: int | None) -> None:
        """A domain is to be whole and left alone."""
        end_ns = FOREVER_NS if until_ns is None else until_ns
        self.by_domain[uuid] = Bar(phase=Phase.RELEASED, until_ns=end_ns, detail="to an operator")

    def lift(self, uuid: Uuid | None) -> None:
        """Pauses, releases and quarantines end, of one domain or of all."""
        if uuid is None:
            self.paused_until_ns = None
            self.by_domain.clear()
        else:
            self.by_domain.pop(uuid, None)

    # ---------------------------------------------------------------- what a domain does

    def quarantine(self, uuid: Uuid, now_ns: int, detail: str, *, grows: bool = False) -> None:
        """Leave a domain alone for a while that doubles each time.

        Args:
            uuid: Which domain.
            now_ns: The instant.
            detail: What it did not do, for people.
            grows: It was to be grown, not shrunk.
        """
        count = self.quarantines.get((uuid, grows), 0)
        self.quarantines[uuid, grows] = count + 1
        spell_ns = min(QUARANTINE_NS << min(count, 8), QUARANTINE_MAX_NS)
        bar = Bar(
            phase=Phase.QUARANTINED,
            until_ns=now_ns + spell_ns,
            detail=detail,
            why=Why.FAILED,
            spell_ns=spell_ns,
        )
        self._put(uuid, bar)

    def follows(self, uuid: Uuid, *, grows: bool) -> None:
        """It has done what it was asked to: its next quarantine is as short as the first."""
        self.quarantines.pop((uuid, grows), None)

    def resists(self, uuid: Uuid, now_ns: int, detail: str) -> None:
        """A domain does not take back what it had: asked again, and left alone otherwise."""
        if uuid not in self.by_domain:
            self.quarantine(uuid, now_ns, detail, grows=True)

    def restored(self, uuid: Uuid, now_ns: int) -> None:
        """It has back what it had: the time of a quarantine for failures counts from now."""
        bar = self.by_domain.get(uuid)
        if bar is not None and bar.spell_ns:
            self.by_domain[uuid] = replace(bar, until_ns=now_ns + bar.spell_ns)

    def listen(self, samples: Iterable[DomainSample], now_ns: int) -> None:
        """Who has fallen silent is left alone until he answers."""
        silent = self.silent_since_ns
        for sample in samples:
            troubles = sample.troubles
            if troubles and not troubles.isdisjoint(_SILENT):
                since_ns = silent.setdefault(sample.uuid, now_ns)
                if Trouble.HUNG in troubles or now_ns - since_ns >= SILENT_NS:
                    self.by_domain.setdefault(sample.uuid, _MUTE)
            elif silent.pop(sample.uuid, None) is not None:
                bar = self.by_domain.get(sample.uuid)
                if bar is not None and bar.why is Why.SILENT:
                    del self.by_domain[sample.uuid]

    def forget(self, uuid: Uuid) -> None:
        """The domain is gone or a new incarnation; what an operator said of it stands."""
        bar = self.by_domain.get(uuid)
        if bar is not None and bar.phase is Phase.QUARANTINED:
            del self.by_domain[uuid]
        for grows in (False, True):
            self.quarantines.pop((uuid, grows), None)
        self.silent_since_ns.pop(uuid, None)

    # --------------------------------------------------------------- what somebody else does

    def leave_to_others(self, uuid: Uuid, reversals: int, now_ns: int, foreign: Foreign) -> str:
        """Somebody else changed a domain's vCPUs: he is left in peace for a while.

        Args:
            uuid: Which domain.
            reversals: How often he has undone what vcpud did.
            now_ns: The instant.
            foreign: What the operator wants to follow on it.

        Returns:
            What follows on it, for people.
        """
        detail, until_ns = "somebody else changed its vCPUs", now_ns + FOREIGN_NS
        if reversals >= REVERSALS:
            detail += (
                f", and has undone changes of vcpud {reversals} times: it is managed elsewhere"
            )
            until_ns = now_ns + min(FIGHT_NS << min(reversals - REVERSALS, 8), FIGHT_MAX_NS)
        elif foreign is Foreign.STAND_DOWN:
            detail += ": left alone until it is resumed"
            until_ns = FOREVER_NS
        bar = Bar(phase=Phase.QUARANTINED, until_ns=until_ns, detail=detail, why=Why.FOREIGN)
        self._put(uuid, bar)
        return detail

    # ------------------------------------------------------------------------- how they end

    def expire(self, now_ns: int, restoring: Collection[Uuid]) -> None:
        """End what has run out.

        Args:
            now_ns: The instant.
            restoring: Domains that do not have back yet what they had: until they do, a quarantine
                for failures has not begun to end.
        """
        if self.paused_until_ns is not None and self.paused_until_ns <= now_ns:
            self.paused_until_ns = None
        over = [
            uuid
            for uuid, bar in self.by_domain.items()
            if bar.until_ns <= now_ns and not (bar.spell_ns and uuid in restoring)
        ]
        for uuid in over:
            del self.by_domain[uuid]

    def _put(self, uuid: Uuid, bar: Bar) -> None:
        """A quarantine replaces another, but not an operator's own word."""
        if self.by_domain.get(uuid, bar).phase is Phase.QUARANTINED:
            self.by_domain[uuid] = bar


_MUTE = Bar(
    phase=Phase.QUARANTINED,
    until_ns=FOREVER_NS,
    detail="silent: its agent or QEMU does not answer",
    why=Why.SILENT,
)
