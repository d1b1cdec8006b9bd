"""When `adaptive` acts on an allotment: bringing a pool together, giving back, taking turns.

Units: amounts of processor are pCPUs, durations and instants ns.

Problem
    The best numbers of vCPUs change with every reading. Each change costs, is judged, and is
    felt by the neighbours; one made on figures that are still moving, or that cannot be judged
    for want of anything to compare with, is worse than none.

Approach
    All that must fit together is one move, made when entitlements have settled, contention has
    lasted, the predicted gain is larger than what progress varies by from window to window, which is
    known or does not matter (where half of the progress or more is missing, any window shows it), and
    each domain in it has progress to be compared with; what was proven before is done at once and
    undone only when it harms. vCPUs are given back as soon as there is room for them; where that did
    not last, later each time. Whoever is short of a fraction of a vCPU for long
    enough takes turns with whoever has one beyond. What of all this is still waited for is told.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence, Sized
from dataclasses import dataclass, replace

from vcpud.demand import DomainDemand
from vcpud.gains import OVERWHELMING_RATIO
from vcpud.model import Uuid
from vcpud.plan import Move, Proof, Resize
from vcpud.units import NS_PER_S, seconds
from vcpud_policies import prospects
from vcpud_policies.apportion import ROUNDING_PCPUS, Allotment, Claim
from vcpud_policies.belief import Sought
from vcpud_policies.evidence import LEAST_PCPUS, SATURATED_RATIO, seen_since
from vcpud_policies.situation import Situation

IDLE_PATIENCE_NS = 120 * NS_PER_S
"""A guest that could not use more vCPUs now gets them back when there has been room so long."""
CLEAR_SIGMAS = 2.0
"""Standard deviations of a window of progress that a gain must exceed to be seen."""
OWED_RATIO = 0.10
"""Share of an entitlement that must be missing before vCPUs rotate."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """How long to wait, and for how much.

    Attributes:
        min_gain: Least predicted gain that is worth a change.
        settle_ns: How long contention must last before it is acted upon.
        rotation_ns: Least time between two rotations of a pool's remainder.
    """

    min_gain: float
    settle_ns: int
    rotation_ns: int


class Turn:
    """What is done about one pool in one cycle; lives for one call of `decide`.

    Attributes:
        moves: What should change now.
        sought: What the domains were like for whose sake that is.
        waits: What is still missing, of domains of which something else is wanted than what they have.
    """

    def __init__(self, timing: Timing, seen: Situation, allotment: Allotment) -> None:
        self.moves: list[Move] = []
        self.sought: dict[Uuid, Sought] = {}
        self.waits: dict[Uuid, str] = {}
        self._timing = timing
        self._seen = seen
        self._allotment = allotment
        self._changed = [d for d in seen.inside if allotment.vcpus[d.uuid] != d.active_vcpus]

    def take(self) -> None:
        """Do what is due; at most one of the three in a cycle."""
        wanted = self._allotment.vcpus
        if any(wanted[d.uuid] < d.active_vcpus for d in self._changed):
            self._bring_together()
        if not self.moves:
            self._give_back()
        if not self.moves and not any(d.loose for d in self._seen.inside):
            self._rotate()

    def _bring_together(self) -> None:
        """One move to an allotment that spares the sensitive ones, where it is worth it."""
        seen, allotment, now_ns = self._seen, self._allotment, self._seen.now_ns
        hurt = seen.suffering
        since_ns = [
            since_ns
            for c in hurt
            if (since_ns := seen.believed[c.uuid].contended_since_ns) is not None
        ]
        proven = all(seen.believed[c.uuid].certain for c in hurt if c.contended)
        missing = self._missing(hurt, since_ns, proven=proven)
        if missing:
            self.waits = dict.fromkeys((d.uuid for d in self._changed), missing)
            return
        comparable_from_ns = max(since_ns)
        self._propose(
            [(d, allotment.vcpus[d.uuid]) for d in self._changed],
            prospects.reason(seen.pool, [seen.claims[d.uuid] for d in self._changed], allotment),
            proof=Proof.NO_HARM if proven else Proof.GAIN,
            comparable_from_ns=comparable_from_ns,
            seeking={c.uuid for c in hurt},
        )
        seen.memory = replace(
            seen.memory,
            rotated_at_ns=now_ns,
            patience_ns=seen.memory.patience_after(now_ns),
            grown_at_ns=None,
        )

    def _missing(self, hurt: list[Claim], since_ns: list[int], *, proven: bool) -> str:
        """The first thing that is missing for a pool to be brought together; empty for nothing."""
        seen, vcpus = self._seen, self._allotment.vcpus
        gain, least = math.expm1(self._allotment.gain), self._timing.min_gain
        visible = 0.0 if proven else self._least_visible(hurt)
        settle_ns = self._timing.settle_ns
        began_ns, latest_ns = (
            min(since_ns, default=seen.now_ns),
            max(since_ns, default=seen.now_ns),
        )
        unseen = [d for d in self._changed if not (proven or seen_since(d, latest_ns))]
        reasons = (
            (
                not any(vcpus[c.uuid] != c.active or c.contended for c in hurt),
                "a domain that contention hurts to suffer from it",
            ),
            (not seen.settled, "entitlements to settle"),
            (gain < least, f"a predicted gain of {least:g}; it is {gain:.2f}"),
            (
                not since_ns or seen.now_ns - began_ns < settle_ns,
                f"contention to last for {seconds(settle_ns):.0f} s",
            ),
            (
                visible == math.inf,
                "two comparable windows of progress, to know how much it varies",
            ),
            (
                gain < visible,
                f"a predicted gain of {visible:.2f}, which noise does not hide; it is {gain:.2f}",
            ),
            (
                bool(unseen),
                f"progress of {_domains(unseen)} to be measured under present conditions",
            ),
        )
        return next((text for is_so, text in reasons if is_so), "")

    def _least_visible(self, hurt: list[Claim]) -> float:
        """The least gain that could be told from noise, in the steadiest of those who gain."""
        contended = [c for c in hurt if c.contended]
        noise = [self._seen.believed[c.uuid].noise_ratio for c in contended]
        known = [one for one in noise if one is not None]
        if known or not contended:
            return CLEAR_SIGMAS * min(known, default=0.0)
        # No noise that any guest has makes half of its progress seem to be missing.
        plain = any(
            c.made is not None and c.runs(c.active) >= OVERWHELMING_RATIO * c.made
            for c in contended
        )
        return 0.0 if plain else math.inf

    def _give_back(self) -> None:
        """More vCPUs for whoever has room for them, once that has lasted.

        All of them in the same cycle: the allotment has seen to it that there is room for them together.
        """
        seen, wanted, now_ns = self._seen, self._allotment.vcpus, self._seen.now_ns
        short = [d for d in self._changed if wanted[d.uuid] > d.active_vcpus]
        growing = {d.uuid for d in short}
        shrinks = len(short) < len(self._changed)
        for uuid, belief in seen.believed.items():
            since_ns = (belief.short_since_ns or now_ns) if uuid in growing else None
            if since_ns != belief.short_since_ns:
                seen.believed[uuid] = replace(belief, short_since_ns=since_ns)
        missing = ""
        if not seen.settled:
            missing = "entitlements to settle"
        elif shrinks and seen.suffering and not self._fits_beside():
            missing = "its neighbours to make room"
        due: list[DomainDemand] = []
        for domain in short:
            uuid = domain.uuid
            since_ns, claim = seen.believed[uuid].short_since_ns, seen.claims[uuid]
            if missing or since_ns is None:
                self.waits[uuid] = missing
                continue
            patience_ns = seen.memory.patience_ns if _hurried(claim) else IDLE_PATIENCE_NS
            if now_ns - since_ns < patience_ns:
                left_s = seconds(patience_ns - (now_ns - since_ns))
                self.waits[uuid] = f"room that lasts for {left_s:.0f} s more"
                continue
            due.append(domain)
        # Where fewer vCPUs are a smaller share, who grew alone would take from those who did not.
        together = any(domain.loose for domain in due)
        for group in [short] if together else [[domain] for domain in due]:
            self._grow(group)

    def _grow(self, domains: Sequence[DomainDemand]) -> None:
        """One move that gives these the vCPUs that there is room for."""
        seen, claims = self._seen, [self._seen.claims[domain.uuid] for domain in domains]
        hurried = [claim for claim in claims if _hurried(claim)]
        self._propose(
            [(domain, self._allotment.vcpus[domain.uuid]) for domain in domains],
            "there is room: "
            + "; ".join(
                f"it wants {c.want:.2f} pCPUs, and is entitled to {c.entitled:.2f}" for c in claims
            ),
            proof=Proof.NO_HARM if hurried else Proof.NONE,
            seeking={claim.uuid for claim in hurried},
        )
        if hurried:
            seen.memory = replace(seen.memory, grown_at_ns=seen.now_ns)

    def _fits_beside(self) -> bool:
        """Whether there is room for all who grow even where nobody shrinks."""
        claims, wanted = self._seen.claims.values(), self._allotment.vcpus
        busy = sum(c.occupies(max(wanted[c.uuid], c.active)) for c in claims)
        return busy <= self._seen.pool.available_pcpus + ROUNDING_PCPUS

    def _rotate(self) -> None:
        """The vCPU that one has beyond its entitlement goes to the one that is owed most."""
        seen, now_ns = self._seen, self._seen.now_ns
        if now_ns - seen.memory.rotated_at_ns < self._timing.rotation_ns:
            return
        hurt = [c for c in seen.sensitive if not c.contended]
        owed = {c.uuid: seen.believed[c.uuid].owed_pcpu_s for c in hurt}
        takers = [
            c
            for c in hurt
            if c.active < c.home
            and c.entitled - c.active > OWED_RATIO * c.entitled
            and owed[c.uuid] > 0
        ]
        givers = [c for c in hurt if c.active > max(c.least, c.entitled) and owed[c.uuid] < 0]
        if not takers or not givers:
            return

        def ahead(claim: Claim) -> tuple[float, Uuid]:
            # An idle one is entitled to nothing, and has all beyond it.
            return owed[claim.uuid] / max(claim.entitled, LEAST_PCPUS), claim.uuid

        taker, giver = max(takers, key=ahead), min(givers, key=ahead)
        by_uuid = {d.uuid: d for d in seen.inside}
        self._propose(
            [
                (by_uuid[giver.uuid], giver.active - 1),
                (by_uuid[taker.uuid], taker.active + 1),
            ],
            f"turns: one is entitled to {taker.entitled:.2f} pCPUs and has {taker.active} vCPUs, the "
            f"other to {giver.entitled:.2f} and has {giver.active}",
            proof=Proof.SUM,
            seeking=set(),
        )
        seen.memory = replace(seen.memory, rotated_at_ns=now_ns)

    def _propose(
        self,
        targets: Iterable[tuple[DomainDemand, int]],
        reason: str,
        *,
        proof: Proof,
        seeking: set[Uuid],
        comparable_from_ns: int | None = None,
    ) -> None:
        resizes = []
        for domain, vcpus in targets:
            sought = domain.uuid in seeking
            resizes.append(
                Resize(
                    uuid=domain.uuid,
                    from_vcpus=domain.active_vcpus,
                    to_vcpus=vcpus,
                    step_vcpus=abs(vcpus - domain.active_vcpus),
                    due_pcpus=None if sought or proof is Proof.SUM else self._seen.due(domain),
                )
            )
            if sought:
                claim, window = self._seen.claims[domain.uuid], domain.progress
                self.sought[domain.uuid] = Sought(
                    rate_pcpus=None if window is None else window.rate_pcpus,
                    cost_ratio=claim.cost,
                    in_step=claim.in_step,
                    worth_ratio=None if window is None else window.worth_ratio,
                    used_pcpus=domain.used_pcpus,
                )
        self.moves.append(
            Move(
                resizes=tuple(resizes),
                reason=reason,
                proof=proof,
                comparable_from_ns=comparable_from_ns,
            )
        )


def _hurried(claim: Claim) -> bool:
    """Whether it could use more vCPUs now."""
    return claim.want > SATURATED_RATIO * claim.active


def _domains(some: Sized) -> str:
    return f"{len(some)} domain{'s' * (len(some) != 1)}"
