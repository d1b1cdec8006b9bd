"""What a policy may not do, however sure it is: bounds, pace, shares, and the whole host.

Pure. Each guard has a name that shows in metrics, in `status` and in the log. A guard may cut a
resize down to what is allowed, or block the whole move it belongs to: half a move is not what
the policy asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from vcpud import shares
from vcpud.demand import DomainDemand, HostDemand
from vcpud.limits import MAX_WEIGHT, Limits
from vcpud.model import DomainSample, Method, Mode, ShareUnit, Uuid
from vcpud.plan import Move, Plan, Proof, Resize
from vcpud.record import Blocked


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """What the guards look at beside the plan.

    Attributes:
        samples: By domain.
        demands: By domain.
        busy: Domains on a course or on trial.
        barred: Domains left alone, and why (pause, release, quarantine, back-off).
        changed_at_ns: When each domain's last change ended.
        begun_at_ns: When the resizes of the last minute were begun.
        originals: Active vCPUs before vcpud first touched a domain.
        now_ns: The instant of the decision.
        unmanaged: What of each pool unmanaged work uses, as a share of it.
    """

    samples: Mapping[Uuid, DomainSample]
    demands: Mapping[Uuid, DomainDemand]
    busy: frozenset[Uuid]
    barred: Mapping[Uuid, str]
    changed_at_ns: Mapping[Uuid, int]
    begun_at_ns: tuple[int, ...]
    originals: Mapping[Uuid, int]
    now_ns: int
    unmanaged: Mapping[str, float] = field(default_factory=dict)


def told(demand: HostDemand, situation: Situation) -> HostDemand:
    """What a policy should know of the loop's own doings: it plans around what cannot be moved."""
    engaged = dict(situation.barred)
    engaged |= dict.fromkeys(situation.busy, "a change is under way or being judged")
    if not engaged:
        return demand
    return replace(
        demand,
        domains=tuple(
            replace(domain, engaged=engaged[domain.uuid]) if domain.uuid in engaged else domain
            for domain in demand.domains
        ),
    )


def constrain(
    plan: Plan, limits: Limits, situation: Situation
) -> tuple[Plan, tuple[Blocked, ...]]:
    """Let through what is allowed, and say what stood in the way of the rest.

    Where weight counts per vCPU and others have come since vCPUs were taken, these are given back
    whatever is planned: see `shares`.

    Raises:
        TypeError: The plan is none; policies plug in.
    """
    _check(plan)
    loose = _loose_pools(situation)
    moves = (*_given_back(loose, situation), *plan.moves)
    if not moves:
        return Plan(), ()
    allowed: list[Move] = []
    blocked: list[Blocked] = []
    taken: set[Uuid] = set()
    budget = _Budget(limits, situation)
    for move in moves:
        cut, stops = _cut(move, taken, loose, limits, situation)
        stop = None if stops or not cut else budget.refuses(cut)
        if stop is not None:
            stops.append(stop)
        if stops:
            blocked += stops
        elif cut:
            budget.spend(cut)
            taken |= {resize.uuid for resize in cut}
            allowed.append(replace(move, resizes=tuple(cut)))
    return Plan(moves=tuple(allowed)), tuple(blocked)


def _cut(
    move: Move,
    taken: set[Uuid],
    loose: Mapping[str, shares.Pool],
    limits: Limits,
    situation: Situation,
) -> tuple[list[Resize], list[Blocked]]:
    """What is left of a move past the guards of its domains and their shares, and who blocks it."""
    cut: list[Resize] = []
    stops: list[Blocked] = []
    for asked in move.resizes:
        resize, stop = _through(asked, limits, situation)
        if asked.uuid in taken:
            stop = Blocked(uuid=asked.uuid, guard="one_move", detail="it is in another move")
        if stop is not None:
            stops.append(stop)
        elif resize.to_vcpus != resize.from_vcpus:
            cut.append(resize)
    if cut and not stops and loose:
        return _evened(cut, loose, limits, situation)
    return cut, stops


def _loose_pools(situation: Situation) -> Mapping[str, shares.Pool]:
    """Pools in which fewer vCPUs cost share; on most hosts there is none, which is soon seen."""
    samples = situation.samples.values()
    return shares.pools(samples, situation.unmanaged) if any(map(shares.loose, samples)) else {}


def _given_back(loose: Mapping[str, shares.Pool], situation: Situation) -> list[Move]:
    """What was taken in pools in which it now leaves somebody short, as when another has come."""
    moves = []
    for pool in loose.values() if situation.originals else ():
        shrunk = pool.shrunk(situation.originals)
        waits = situation.busy & pool.active.keys()
        if shrunk and not waits and pool.short({}, situation.originals):
            moves.append(
                Move(
                    resizes=tuple(_to(pool, uuid, home) for uuid, home in shrunk.items()),
                    reason="weight counts per vCPU here, and a domain would be left short of share",
                    proof=Proof.NONE,
                )
            )
    return moves


def _to(pool: shares.Pool, uuid: Uuid, vcpus: int) -> Resize:
    active = pool.active[uuid]
    return Resize(uuid=uuid, from_vcpus=active, to_vcpus=vcpus, step_vcpus=abs(vcpus - active))


def _evened(
    cut: list[Resize], loose: Mapping[str, shares.Pool], limits: Limits, situation: Situation
) -> tuple[list[Resize], list[Blocked]]:
    """A move as far as it leaves nobody short of share; who only grows takes all with it."""
    first = situation.samples[cut[0].uuid]
    pool = loose.get(first.pool)
    if pool is None or not all(one.uuid in pool.active for one in cut):
        return cut, []
    homes = {**pool.active, **situation.originals}
    asked = {one.uuid: one.to_vcpus for one in cut}
    counts = pool.fitting(asked, {one.uuid: one.from_vcpus for one in cut}, homes)
    if counts is not None:
        fitting = [replace(one, to_vcpus=counts[one.uuid]) for one in cut]
        cut = [one for one in fitting if one.to_vcpus != one.from_vcpus]
        if cut:
            return cut, []
    elif all(one.to_vcpus > one.from_vcpus for one in cut):
        together = [_to(pool, uuid, home) for uuid, home in pool.shrunk(homes).items()]
        through = [_through(one, limits, situation) for one in together]
        stops = [stop for _, stop in through if stop is not None]
        return [] if stops else [resize for resize, _ in through], stops
    detail = "weight counts per vCPU here: this would cost a domain share"
    return [], [Blocked(uuid=first.uuid, guard="share", detail=detail)]


def _check(plan: object) -> None:
    if not isinstance(plan, Plan):
        raise TypeError(f"{plan!r:.80} is no plan")
    for move in plan.moves:
        for resize in move.resizes:
            counts = (resize.from_vcpus, resize.to_vcpus, resize.step_vcpus)
            if not all(isinstance(count, int) for count in counts):
                raise TypeError(f"{resize!r:.200}: vCPUs are counted in whole numbers")


def _through(
    resize: Resize, limits: Limits, situation: Situation
) -> tuple[Resize, Blocked | None]:
    """One resize past every guard of its own domain."""
    sample = situation.samples.get(resize.uuid)
    demand = situation.demands.get(resize.uuid)
    if sample is None or demand is None:
        return resize, Blocked(uuid=resize.uuid, guard="gone", detail="it does not run")
    # The ceiling comes last: not even a floor gives a domain more than it came with.
    floored = max(demand.min_vcpus, 1, resize.to_vcpus)
    wanted = min(floored, max(demand.max_vcpus, resize.from_vcpus))
    step = max(1, min(resize.step_vcpus, limits.max_step_vcpus))
    resize = replace(resize, to_vcpus=wanted, step_vcpus=step)
    if wanted == resize.from_vcpus:
        return resize, None
    for name, guard in GUARDS.items():
        detail = guard(resize, sample, demand, limits, situation)
        if detail is not None:
            return resize, Blocked(uuid=resize.uuid, guard=name, detail=detail)
    return resize, None


Guard = Callable[[Resize, DomainSample, DomainDemand, Limits, Situation], str | None]


def _mode(_r: Resize, s: DomainSample, _d: DomainDemand, _l: Limits, _x: Situation) -> str | None:
    return None if s.terms.mode is Mode.ENFORCE else f"mode is {s.terms.mode} ({s.terms.source})"


def _hold(_r: Resize, _s: DomainSample, d: DomainDemand, _l: Limits, _x: Situation) -> str | None:
    return None if d.hold is None else f"its data or its state does not allow a change: {d.hold}"


def _job(_r: Resize, s: DomainSample, _d: DomainDemand, _l: Limits, _x: Situation) -> str | None:
    return None if s.job is None else f"{s.job} in progress"


def _barred(r: Resize, _s: DomainSample, _d: DomainDemand, _l: Limits, x: Situation) -> str | None:
    return x.barred.get(r.uuid)


def _busy(r: Resize, s: DomainSample, _d: DomainDemand, _l: Limits, x: Situation) -> str | None:
    if r.uuid in x.busy or s.in_flight is not None:
        return "a change is under way or being judged"
    return None


def _stale(r: Resize, s: DomainSample, _d: DomainDemand, _l: Limits, _x: Situation) -> str | None:
    if len(s.active) != r.from_vcpus:
        return f"decided for {r.from_vcpus} active vCPUs, but it has {len(s.active)}"
    return None


def _actuator(
    r: Resize, s: DomainSample, _d: DomainDemand, _l: Limits, _x: Situation
) -> str | None:
    if s.method is Method.NONE:
        return "vcpud has no way to change its vCPUs"
    if s.method is Method.AGENT and s.online is None:
        return "its agent has not said yet which CPUs are online"
    if s.method is Method.GROW_ONLY and r.to_vcpus < r.from_vcpus:
        return "it can grow, but it cannot be shrunk"
    if s.method is Method.HOTPLUG and len(range(s.live_vcpus)) - len(s.unpluggable) > r.to_vcpus:
        return "the vCPUs it boots with cannot be unplugged"
    return None


def _cooldown(
    r: Resize, _s: DomainSample, _d: DomainDemand, limits: Limits, x: Situation
) -> str | None:
    shrinking = r.to_vcpus < r.from_vcpus
    pause_ns = limits.shrink_cooldown_ns if shrinking else limits.grow_cooldown_ns
    last_ns = x.changed_at_ns.get(r.uuid)
    if last_ns is not None and x.now_ns < last_ns + pause_ns:
        return "it was changed a moment ago"
    return None


def _share(r: Resize, s: DomainSample, d: DomainDemand, _l: Limits, x: Situation) -> str | None:
    """Where weight counts per vCPU, fewer vCPUs are a smaller share: make up for it or refuse.

    Where nothing makes up for it the whole move is looked at, if all whom it may cost share are known.
    """
    if r.to_vcpus >= r.from_vcpus or s.share_unit in (ShareUnit.DOMAIN, ShareUnit.SESSION):
        return None
    if s.share_unit is ShareUnit.UNKNOWN:
        return "it is not known whether fewer vCPUs would cost it share"
    if s.weight_adjustable:
        needed = s.weight * r.from_vcpus / max(r.to_vcpus, 1)
        if needed <= MAX_WEIGHT:
            return None
        return f"to keep its share it would need a weight of {needed:.0f}, more than {MAX_WEIGHT}"
    if x.unmanaged.get(s.pool, 1.0) <= shares.QUIET_RATIO and all(
        shares.loose(one) for one in x.samples.values() if one.pool == s.pool
    ):
        return None
    contended = d.run_delay_pcpus is None or d.run_delay_pcpus > 0.0
    return "weight counts for each vCPU: with fewer its share is smaller" if contended else None


def _quota(r: Resize, s: DomainSample, d: DomainDemand, _l: Limits, _x: Situation) -> str | None:
    """KVM's `vcpu_quota` is per vCPU: fewer vCPUs are a lower cap."""
    if r.to_vcpus >= r.from_vcpus or s.quota_pcpus_per_vcpu is None:
        return None
    cap_pcpus = r.to_vcpus * min(s.quota_pcpus_per_vcpu, 1.0)
    entitled = d.entitled_pcpus
    had = r.from_vcpus * min(s.quota_pcpus_per_vcpu, 1.0)
    if entitled is None or cap_pcpus < min(entitled, had) * 0.95:
        return f"its quota for each vCPU would then cap it at {cap_pcpus:.2f} pCPUs"
    return None


GUARDS: Mapping[str, Guard] = {
    "mode": _mode,
    "hold": _hold,
    "job": _job,
    "barred": _barred,
    "busy": _busy,
    "stale": _stale,
    "actuator": _actuator,
    "cooldown": _cooldown,
    "share": _share,
    "quota": _quota,
}
"""Every guard of a single domain, in the order they are asked."""


class _Budget:
    """Host-wide limits while one plan is gone through."""

    def __init__(self, limits: Limits, situation: Situation) -> None:
        self._most = limits.max_changes_per_minute
        self._left = self._most - len(situation.begun_at_ns)
        managed = [s for s in situation.samples.values() if s.terms.mode is Mode.ENFORCE]
        homes = {s.uuid: situation.originals.get(s.uuid, len(s.active)) for s in managed}
        self._parked = sum(max(homes[s.uuid] - len(s.active), 0) for s in managed)
        self._may_park = int(limits.max_parked_ratio * sum(homes.values()))

    def refuses(self, resizes: list[Resize]) -> Blocked | None:
        first = resizes[0].uuid
        # A move that is larger than a minute's worth cannot be split: it waits for a whole one.
        if len(resizes) > self._left and self._left < self._most:
            return Blocked(uuid=first, guard="pace", detail="too many changes in this minute")
        grown = sum(r.from_vcpus - r.to_vcpus for r in resizes)
        if grown > 0 and self._parked + grown > self._may_park:
            return Blocked(
                uuid=first, guard="parked", detail="too many vCPUs of this host are parked"
            )
        return None

    def spend(self, resizes: list[Resize]) -> None:
        self._left -= len(resizes)
        self._parked += sum(r.from_vcpus - r.to_vcpus for r in resizes)
