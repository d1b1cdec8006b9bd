"""A small run with its decisions, made up, for tests of what a report says of it."""

from __future__ import annotations

from vcpud.plan import Move, Outcome, Verdict
from vcpud.record import Purpose
from vcpud_simulator.laboratory.report import Journal, Moment, Phase, Window
from vcpud_simulator.laboratory.report.journal import Block, Course, Decision
from vcpud_simulator.laboratory.report.page import Material
from vcpud_simulator.runner import DomainResult, Point, RunResult
from vcpud_simulator.scenario import DomainPlan, Scenario
from vcpud_simulator.trace import Kind
from vcpud_simulator.workloads.gobmk import GobmkLike

S = 1_000_000_000
EVIL = """</script><script>alert(1)</script><img src=x onerror=alert(2)>"'&{{7*7}}\u202e"""


def domain(rate: float, **changes: object) -> DomainResult:
    figures: dict[str, object] = {
        "iterations": round(rate * 57),
        "rate": rate,
        "responses_ns": {},
        "run_pcpus": 1.0,
        "run_delay_pcpus": 2.25,
        "useful_pcpus": 0.0123,
        "spin_pcpus": 0.95,
        "mean_active_vcpus": 2.4,
        "entitled_pcpus": 1.0,
    }
    return DomainResult(**{**figures, **changes})  # type: ignore[arg-type]


def points(before: float, after: float) -> tuple[Point, ...]:
    return tuple(
        Point(
            t_ns=second * S,
            active_vcpus=4 if second <= 20 else 1,
            rate=before if second <= 20 else after,
            run_pcpus=1.0,
            run_delay_pcpus=3.0 if second <= 20 else 0.0,
            spin_pcpus=1.0 if second <= 20 else 0.0,
        )
        for second in range(1, 61)
    )


def result(
    names: tuple[str, ...],
    rate: float = 588.0,
    policy: str = "adaptive",
    policy_errors: dict[str, int] | None = None,
) -> RunResult:
    return RunResult(
        scenario="made_up",
        seed=7,
        policy=policy,
        pcpus=2,
        window_ns=(3 * S, 60 * S),
        domains={name: domain(rate) for name in names},
        changes=(),
        verdicts=(),
        timeline={name: points(2.0, rate) for name in names},
        policy_errors=policy_errors or {},
        vcpus=tuple(f"{name}.{index}" for name in names for index in range(4)),
        events=1_000,
        trace_hash="0123456789abcdef" * 2,
    )


def window() -> Window:
    kept = Window(19 * S, 20 * S, title="before")
    for at in range(20):
        when_ns, vcpu = 19 * S + at * S // 20, at % 8
        kept.record(when_ns, Kind.DISPATCH, vcpu, 0)
        kept.record(when_ns + S // 100, Kind.SPIN_BEGIN, vcpu, 1)
        kept.record(when_ns + S // 30, Kind.SPIN_END, vcpu, 1)
        kept.record(when_ns + S // 25, Kind.PREEMPT, vcpu, 0)
    return kept


def journal(names: tuple[str, ...], reason: str) -> Journal:
    kept = Journal()
    kept.cycles = 40
    move = Move(resizes=(), reason=reason)
    for number, name in enumerate(names):
        kept.decisions.append(
            Decision(
                decision_id=f"a-{number}",
                at_ns=(23 + number) * S,
                purpose=Purpose.DECIDE,
                reason=reason,
                courses={name: Course(name=name, from_vcpus=4, to_vcpus=1, took_ns=S)},
                verdict=Verdict(
                    decision_id=f"a-{number}",
                    move=move,
                    outcome=Outcome.HELPED,
                    gain_ratio=31.2,
                    kept=True,
                    at_ns=32 * S,
                    detail=reason,
                ),
            )
        )
        kept.blocks[name, "pace"] = Block(name=name, guard="pace", detail=reason, cycles=7)
        kept.entitled[name] = [(at * S, 1.0) for at in range(20, 60)]
    return kept


def material(names: tuple[str, ...] = ("mail", "build"), reason: str = "lock wait") -> Material:
    scenario = Scenario(
        name="made_up",
        title=f"Two domains, {reason}",
        stands_for=f"Nothing real: {reason}",
        expectation=f"They recover: {reason}",
        domains=tuple(DomainPlan(name=name, vcpus=4, workload=GobmkLike()) for name in names),
        pcpus=2,
    )
    return Material(
        scenario=scenario,
        result=result(names, policy_errors={f"ValueError: {reason}": 3}),
        windows=[window()],
        journal=journal(names, reason),
        baseline=result(names, 2.0, "none"),
        phases=[
            Phase(title="unmanaged", from_ns=3 * S, until_ns=20 * S),
            Phase(title="managed", from_ns=30 * S, until_ns=60 * S),
        ],
        moments=[Moment(title=f"vcpud switched on {reason}", at_ns=20 * S)],
        version="0.1.0",
        commit="abc",
    )
