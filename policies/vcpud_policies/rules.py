"""An operator's own two conditions, evaluated every few seconds: one for more, one for fewer.

Units: those of each figure; `idle`, `user`, `system` and `steal` are per cent, as in the source, and
the only such figures anywhere in vcpud. They add up over all online CPUs: of four, 400 at most.

Problem
    An operator knows something of a workload that no general policy does, and can say it in a line.

Approach
    IBM's cpuplugd for Linux on Z. Every `update`, `hotplug` and `hotunplug` are evaluated; where
    the first holds, one vCPU more; where only the second holds, one fewer. What is evaluated is
    `vcpud_policies.expressions`, never Python. A figure that is not reported, a division by zero:
    nothing follows from that condition, nor from the other one, where this one would have come
    first.

    As in the source, `idle`, `user`, `system` and `steal` are of the time since the last evaluation, and
    `loadavg` is Linux's average over a minute, here made from the guest's runnable tasks as they are
    read; before a minute has passed it begins with the first reading. The source evaluates inside
    the guest; its history (`loadavg[3]`), its memory rules and its user-defined variables are
    absent.

    Known to fail: rules see one domain and not the host; thresholds are per workload. Its own
    manual page advises against the example rules in production.

References:
    cpuplugd(8), cpuplugd.conf(5), s390-tools: the rules of its example, UPDATE 5 s, CPU_MIN, CPU_MAX;
    when both conditions hold, HOTPLUG wins; "the percentage values are accumulated over all online
    CPUs". Its main.c and info.c: differences between two evaluations, one CPU a time, the first
    evaluation an UPDATE after the start, the first figure of /proc/loadavg.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

from vcpud.demand import DomainDemand, HostDemand, PoolDemand
from vcpud.plan import Move, Outlook, Plan, Verdict
from vcpud.units import NS_PER_S
from vcpud_policies import proposals
from vcpud_policies.expressions import Rule, RuleError, Unknown, read
from vcpud_policies.paced import Looks, Since, paced


@dataclass(frozen=True, kw_only=True)
class Rules:
    """cpuplugd's daemon, outside the guest.

    Attributes:
        hotplug: Condition for one vCPU more.
        hotunplug: Condition for one vCPU fewer.
        update_ns: Time between two evaluations.
        judged: Whether vcpud undoes moves that do not help; the source does not judge moves.
    """

    hotplug: str = "(loadavg > onumcpus + 0.75) & (idle < 10.0)"
    hotunplug: str = "(loadavg < onumcpus - 0.25) | (idle > 50)"
    update_ns: int = 5 * NS_PER_S
    judged: bool = True

    def __post_init__(self) -> None:
        mistakes = []
        for word in ("hotplug", "hotunplug"):
            text = getattr(self, word)
            if not isinstance(text, str):
                mistakes.append(f"{word}: expected a condition as text")
                continue
            try:
                read(text, FIGURES)
            except RuleError as error:
                mistakes.append(f"{word}: {error}")
        if mistakes:
            raise ValueError("; ".join(mistakes))

    @cached_property
    def _more(self) -> Rule:
        return read(self.hotplug, FIGURES)

    @cached_property
    def _fewer(self) -> Rule:
        return read(self.hotunplug, FIGURES)

    def initial(self) -> Looks:
        return Looks()

    def decide(
        self,
        state: Looks,
        demand: HostDemand,
        verdicts: tuple[Verdict, ...],  # noqa: ARG002 - rules know no past
        now_ns: int,
    ) -> tuple[Looks, Plan]:
        return paced(state, demand, now_ns, interval_ns=self.update_ns, see=self._see)

    def _see(
        self, domain: DomainDemand, pool: PoolDemand, since: Since
    ) -> tuple[Outlook, Move | None]:
        names = sorted({*self._more.names, *self._fewer.names})
        figures = {name: FIGURES[name](domain, pool, since) for name in names}
        active, wanted = domain.active_vcpus, domain.active_vcpus
        more = _holds(self._more, figures)
        if more:
            wanted = max(active, proposals.within(domain, active + 1))
        elif more is False and _holds(self._fewer, figures):
            wanted = min(active, proposals.within(domain, active - 1))
        inputs = tuple(figures.items())
        outlook = proposals.stepped(
            domain, wanted, inputs, more=self.hotplug, fewer=self.hotunplug
        )
        if wanted == active:
            return outlook, None
        shown = ", ".join(f"{name} {value:.3g}" for name, value in inputs if value is not None)
        rule = "hotplug" if wanted > active else "hotunplug"
        return outlook, proposals.resize(
            domain, wanted, f"{rule} holds: {shown}", judged=self.judged
        )


def _holds(rule: Rule, figures: Mapping[str, float | None]) -> bool | None:
    """Whether a condition holds, None where that is not known."""
    try:
        return rule.holds(figures)
    except Unknown:
        return None


# ----------------------------------------------------------------------------- the vocabulary


def _idle(domain: DomainDemand, _pool: PoolDemand, since: Since) -> float | None:
    used, delay = since.used_pcpus, since.run_delay_pcpus
    if used is None or delay is None:
        return None
    return 100 * max(domain.active_vcpus - used - delay, 0.0)


def _system(domain: DomainDemand, _pool: PoolDemand, since: Since) -> float | None:
    used, ratio = since.used_pcpus, domain.system_ratio
    return None if used is None or ratio is None else 100 * used * ratio


def _user(domain: DomainDemand, _pool: PoolDemand, since: Since) -> float | None:
    used, ratio = since.used_pcpus, domain.system_ratio
    return None if used is None or ratio is None else 100 * used * (1 - ratio)


def _steal(_domain: DomainDemand, _pool: PoolDemand, since: Since) -> float | None:
    delay = since.run_delay_pcpus
    return None if delay is None else 100 * delay


Figure = Callable[[DomainDemand, PoolDemand, Since], float | None]
FIGURES: Mapping[str, Figure] = {
    # cpuplugd's
    "onumcpus": lambda d, _, __: float(d.active_vcpus),
    "loadavg": lambda _, __, s: s.load,
    "runnable_proc": lambda d, _, __: d.runnable_tasks,
    "idle": _idle,
    "user": _user,
    "system": _system,
    "steal": _steal,
    # vcpud's
    "max_vcpus": lambda d, _, __: float(d.max_vcpus),
    "used_pcpus": lambda _, __, s: s.used_pcpus,
    "run_delay_pcpus": lambda _, __, s: s.run_delay_pcpus,
    "entitled_pcpus": lambda d, _, __: d.entitled_pcpus,
    "lock_wait_ratio": lambda d, _, __: d.lock_wait_ratio,
    "queued_tasks": lambda d, _, __: d.queued_tasks,
    "system_ratio": lambda d, _, __: d.system_ratio,
    "steal_ratio": lambda d, _, __: d.steal_ratio,
    "progress_pcpus": lambda d, _, __: None if d.progress is None else d.progress.rate_pcpus,
    "overcommit_ratio": lambda _, p, __: p.overcommit_ratio,
    "available_pcpus": lambda _, p, __: p.available_pcpus,
}
"""Every figure a rule may use: cpuplugd's own names first."""
