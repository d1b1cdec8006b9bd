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
from vcpud.plan import Move, Plan, Resize
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
        unmanaged: Who else uses the pCPUs.
        pcpus: Of each pool.
    """

    samples: Mapping[Uuid, DomainSample]
    demands: Mapping[Uuid, DomainDemand]
    busy: frozenset[Uuid]
    barred: Mapping[Uuid, str]
    changed_at_ns: Mapping[Uuid, int]
    begun_at_ns: tuple[int, ...]
    originals: Mapping[Uuid, int]
    now_ns: int
    unmanaged: shares.Unmanaged = shares.UNTOLD
    pcpus: Mapping[str, int] = field(default_factory=dict)


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

    Raises:
        TypeError: The plan is none; policies plug in.
    """
    _check(plan)
    if not plan.moves:
        return Plan(), ()
    allowed: list[Move] = []
    blocked: list[Blocked] = []
    taken: set[Uuid] = set()
    budget, evenness = _Budget(limits, situation), _Evenness(situation)
    for move in plan.moves:
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
        stop = None if stops or not cut else budget.refuses(cut) or evenness.refuses(cut)
        if stop is not None:
            stops.append(stop)
        if stops:
            blocked += stops
        elif cut:
            budget.spend(cut)
            taken |= {resize.uuid for resize in cut}
            allowed.append(replace(move, resizes=tuple(cut)))
    return Plan(moves=tuple(allowed)), tuple(blocked)


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


def _share(r: Resize, s: DomainSample, _d: DomainDemand, _l: Limits, _x: Situation) -> str | None:
    """Where weight counts per vCPU, fewer vCPUs are a smaller share: make up for it or refuse.

    Where nothing makes up for it, the whole move is looked at (`_Evenness`).
    """
    if r.to_vcpus >= r.from_vcpus or s.share_unit in (ShareUnit.DOMAIN, ShareUnit.SESSION):
        return None
    if s.share_unit is ShareUnit.UNKNOWN:
        return "it is not known whether fewer vCPUs would cost it share"
    needed = s.weight * r.from_vcpus / max(r.to_vcpus, 1)
    if not s.weight_adjustable or needed <= MAX_WEIGHT:
        return None
    return f"to keep its share it would need a weight of {needed:.0f}, more than {MAX_WEIGHT}"


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


class _Evenness:
    """Where only those lose nothing who give up the same part as all others of their pool."""

    def __init__(self, situation: Situation) -> None:
        self._situation = situation
        self._pools: dict[str, shares.Parts] | None = None

    def refuses(self, resizes: list[Resize]) -> Blocked | None:
        samples = self._situation.samples
        shrunk = [samples[r.uuid] for r in resizes if r.to_vcpus < r.from_vcpus]
        concerned = [sample for sample in shrunk if shares.loose(sample)]
        if not concerned:
            return None
        if self._pools is None:
            self._pools = shares.pools(samples.values(), self._situation.originals)
        counts = {r.uuid: r.to_vcpus for r in resizes}
        for name in {sample.pool for sample in concerned}:
            parts = self._pools[name]
            quiet = self._situation.unmanaged.quiet(self._situation.pcpus.get(name, 0))
            short = parts.short(counts) if quiet and parts.even else counts.keys()
            for sample in concerned:
                if sample.pool == name and sample.uuid in short:
                    others = "others" if quiet else "unmanaged work"
                    detail = (
                        f"weight counts for each vCPU: its share would be smaller beside {others}"
                    )
                    return Blocked(uuid=sample.uuid, guard="share", detail=detail)
        return None
