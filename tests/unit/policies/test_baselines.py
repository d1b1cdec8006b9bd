"""Each baseline does what its source says it does, on its source's example."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from vcpud.demand import DomainDemand, HostDemand
from vcpud.errors import ConfigError
from vcpud.model import Trouble
from vcpud.plan import Plan, Proof
from vcpud.policy import Policy, load
from vcpud.units import NS_PER_S
from vcpud_policies.expressions import MAX_CHARACTERS, RuleError, Unknown, read
from vcpud_policies.extendability import Extendability, extendabilities
from vcpud_policies.folding import Folding
from vcpud_policies.rules import FIGURES, Rules
from vcpud_policies.spin_feedback import SpinFeedback
from vcpud_policies.steal_governor import StealGovernor

from .conftest import Decide, MakeDomain, MakeHost


def to(plan: Plan) -> int | None:
    return plan.moves[0].resizes[0].to_vcpus if plan.moves else None


def settle(
    policy: Policy[Any], host: MakeHost, one: DomainDemand, use: Any, rounds: int = 30
) -> list[int]:
    """Active vCPUs second by second while every wish is granted; `use` gives the figures."""
    state, seen = policy.initial(), []
    for second in range(rounds + 1):
        now = replace(use(one), read_at_ns=second * NS_PER_S)
        state, plan = policy.decide(state, host(now), (), second * NS_PER_S)
        wanted = to(plan)
        one = replace(one, active_vcpus=one.active_vcpus if wanted is None else wanted)
        seen.append(one.active_vcpus)
    return seen[1:]


def looked(policy: Policy[Any], host: MakeHost, *domains: DomainDemand, seconds: int = 1) -> Plan:
    """What is planned at the end of an interval in which all cycles were alike."""
    state, plan = policy.initial(), Plan()
    for second in range(seconds + 1):
        at_ns = second * NS_PER_S
        told = host(*(replace(one, read_at_ns=at_ns) for one in domains))
        state, plan = policy.decide(state, told, (), at_ns)
    return plan


# ---------------------------------------------------------------------------- extendability


def test_a_releaser_keeps_its_share_and_competitors_share_what_it_leaves(
    domain: MakeDomain,
) -> None:
    # vScale: P = 8, equal weights: s = 2.67 each; one that uses 0.67 leaves 2 to the other two.
    three = [
        domain(uuid=u, last_used_pcpus=c) for u, c in (("idle", 2 / 3), ("a", 8 / 3), ("b", 8 / 3))
    ]
    found = extendabilities(8.0, three)
    assert found == pytest.approx({"idle": 8 / 3, "a": 8 / 3 + 1, "b": 8 / 3 + 1})


def test_extension_follows_weight(domain: MakeDomain) -> None:
    domains = [
        domain(uuid="idle", last_used_pcpus=0.0, weight=2),
        domain(uuid="heavy", last_used_pcpus=9.0, weight=4),
        domain(uuid="light", last_used_pcpus=9.0, weight=2),
    ]
    assert extendabilities(8.0, domains) == pytest.approx(
        {"idle": 2.0, "heavy": 4 + 4 / 3, "light": 2 + 2 / 3}
    )


def test_water_filling_hands_on_what_a_small_domain_cannot_use(domain: MakeDomain) -> None:
    domains = [
        domain(uuid="idle", last_used_pcpus=0.0),
        domain(uuid="small", last_used_pcpus=9.0, max_vcpus=3),
        domain(uuid="large", last_used_pcpus=9.0),
    ]
    plain = extendabilities(8.0, domains)
    filled = extendabilities(8.0, domains, water_filling=True)
    assert plain["small"] == pytest.approx(4.0)
    assert filled == pytest.approx({"idle": 8 / 3, "small": 3.0, "large": 5.0})


def test_a_domain_gets_its_extendability_rounded_up(
    domain: MakeDomain, host: MakeHost, decide: Decide
) -> None:
    # 4 pCPUs, three domains: E = 1.33, ceil = 2 each, and 6 exceed 4.
    three = [domain(uuid=u, last_used_pcpus=4 / 3, active_vcpus=4) for u in "abc"]
    plan = decide(Extendability(), host(*three, pcpus=4))
    assert [move.resizes[0].to_vcpus for move in plan.moves] == [2, 2, 2]


def test_who_lacks_a_little_of_its_share_still_competes(
    domain: MakeDomain, host: MakeHost, decide: Decide
) -> None:
    # What dom0 takes of one makes it no releaser, whose leavings would round the other up.
    two = [domain(uuid=u, last_used_pcpus=c) for u, c in (("a", 3.85), ("b", 4.0))]
    found = {
        competes_from: [
            move.resizes[0].to_vcpus
            for move in decide(Extendability(competes_from=competes_from), host(*two)).moves
        ]
        for competes_from in (0.95, 1.0)
    }
    assert found == {0.95: [4, 4], 1.0: [4, 5]}


def test_extendability_is_of_the_last_period_alone(
    domain: MakeDomain, host: MakeHost, decide: Decide
) -> None:
    def at(idle: float) -> HostDemand:
        return host(
            domain(uuid="a", last_used_pcpus=idle, used_pcpus=1.0),
            domain(uuid="b", last_used_pcpus=4.0, used_pcpus=4.0),
        )

    assert len(decide(Extendability(), at(0.0), at(4.0)).moves) == 2
    (one,) = decide(Extendability(), at(4.0), at(0.0)).moves
    assert one.resizes[0].uuid == "a"
    assert one.resizes[0].to_vcpus == 4


# --------------------------------------------------------------------------- steal governor


@pytest.mark.parametrize(
    ("steal", "wanted"),
    [(0.051, 7), (0.05, None), (0.03, None), (0.021, None), (0.02, 9), (0.0, 9), (None, None)],
)
def test_five_per_cent_takes_one_two_per_cent_gives_one_in_between_holds(
    domain: MakeDomain, host: MakeHost, steal: float | None, wanted: int | None
) -> None:
    delay = None if steal is None else steal * 8
    one = domain(max_vcpus=16, last_delay_pcpus=delay)
    assert to(looked(StealGovernor(), host, one)) == wanted


def test_the_governor_takes_one_step_an_interval_and_keeps_one(
    domain: MakeDomain, host: MakeHost
) -> None:
    governor = StealGovernor(interval_ns=2 * NS_PER_S)
    seen = settle(governor, host, domain(), lambda d: replace(d, last_delay_pcpus=d.active_vcpus))
    assert seen[:5] == [8, 7, 7, 6, 6]
    assert seen[-1] == 1


def test_the_governor_reads_all_the_steal_since_its_last_look(
    domain: MakeDomain, host: MakeHost
) -> None:
    """Linux: delta_steal over delta_ns; here a burst that is over before the look."""
    governor, state, plan = StealGovernor(interval_ns=4 * NS_PER_S), None, Plan()
    state = governor.initial()
    for second, delay in enumerate([9.0, 4.0, 0.0, 0.0, 0.0]):
        at_ns = second * NS_PER_S
        one = domain(last_delay_pcpus=delay, read_at_ns=at_ns)
        state, plan = governor.decide(state, host(one), (), at_ns)
    assert to(plan) == 7, "4 pCPUs in one second of 4, on 8 vCPUs: 0.125"
    (outlook,) = plan.outlooks
    assert dict(outlook.inputs)["steal_ratio"] == pytest.approx(0.125)


def test_a_look_does_not_wait_for_a_cycle_that_came_a_little_soon(
    domain: MakeDomain, host: MakeHost
) -> None:
    governor, seen = StealGovernor(), []
    state = governor.initial()
    for at_ns in (0, NS_PER_S + 5, 2 * NS_PER_S - 5, 3 * NS_PER_S):
        one = domain(last_delay_pcpus=4.0, read_at_ns=at_ns)
        state, plan = governor.decide(state, host(one), (), at_ns)
        seen.append(len(plan.moves))
    assert seen == [0, 1, 1, 1]


def test_a_reading_is_counted_once_however_often_it_is_shown(
    domain: MakeDomain, host: MakeHost
) -> None:
    governor, plan = StealGovernor(interval_ns=3 * NS_PER_S), Plan()
    state = governor.initial()
    for second, (read_s, delay) in enumerate([(0, 0.0), (1, 8.0), (1, 8.0), (3, 0.0)]):
        one = domain(last_delay_pcpus=delay, read_at_ns=read_s * NS_PER_S)
        state, plan = governor.decide(state, host(one), (), second * NS_PER_S)
    (outlook,) = plan.outlooks
    assert dict(outlook.inputs)["steal_ratio"] == pytest.approx(1 / 3)


def test_the_governor_settles_where_steal_lies_between_its_thresholds(
    domain: MakeDomain, host: MakeHost
) -> None:
    def contended(one: DomainDemand) -> DomainDemand:
        return replace(one, last_delay_pcpus=max(one.active_vcpus - 3.7, 0.0))

    seen = settle(StealGovernor(), host, domain(home_vcpus=8), contended)
    assert seen[:5] == [7, 6, 5, 4, 4], "at 4 steal is 0.0375: neither too much nor too little"
    assert set(seen[5:]) == {4}


@pytest.mark.parametrize(("delay", "wanted"), [(0.41, 3), (0.4, None), (0.17, None), (0.16, 5)])
def test_what_the_governor_has_taken_out_of_use_still_counts_as_a_vcpu(
    domain: MakeDomain, host: MakeHost, delay: float, wanted: int | None
) -> None:
    """Linux divides by its active CPUs, of which the preferred ones are a subset: here 8, not 4."""
    halved = domain(active_vcpus=4, home_vcpus=8, last_delay_pcpus=delay)
    assert to(looked(StealGovernor(), host, halved)) == wanted


# ---------------------------------------------------------------------------------- folding


def test_ten_processors_that_use_two_and_a_half_run_on_three(
    domain: MakeDomain, host: MakeHost
) -> None:
    one = domain(active_vcpus=10, max_vcpus=10)
    seen = settle(Folding(), host, one, lambda d: replace(d, last_used_pcpus=2.5))
    assert seen[:7] == [9, 8, 7, 6, 5, 4, 3], "one a second"
    assert set(seen[7:]) == {3}


def test_busy_processors_unfold_one_a_second_and_extra_ones_are_kept(
    domain: MakeDomain, host: MakeHost
) -> None:
    one = domain(active_vcpus=1, max_vcpus=4)
    seen = settle(
        Folding(), host, one, lambda d: replace(d, last_used_pcpus=float(d.active_vcpus))
    )
    assert seen[:4] == [2, 3, 4, 4]
    assert seen[-1] == 4
    extra = settle(
        Folding(extra_vcpus=2), host, domain(), lambda d: replace(d, last_used_pcpus=1.5)
    )
    assert extra[-1] == 4


@pytest.mark.parametrize(
    ("used", "needed"), [(0.0, 1), (0.9, 1), (1.0, 2), (1.5, 2), (2.5, 3), (2.9, 4), (4.0, 5)]
)
def test_a_number_that_would_be_highly_used_is_one_more(used: float, needed: int) -> None:
    """IBM: 1.5 of 4 run on 2, and 2.5 of 10 on 3."""
    assert Folding().needed_vcpus(used) == needed


def test_who_saturates_what_it_is_entitled_to_is_not_folded_and_unfolded_for_ever(
    domain: MakeDomain, host: MakeHost
) -> None:
    one = domain(active_vcpus=4, max_vcpus=4)
    seen = settle(Folding(), host, one, lambda d: replace(d, last_used_pcpus=2.0))
    assert set(seen) == {3}


# ------------------------------------------------------------------------------------ rules


@pytest.mark.parametrize(
    ("load_and_use", "wanted"),
    [
        ((5.0, 3.95), 5),  # load above onumcpus + 0.75 and 5 of 400 per cent idle
        ((4.5, 3.95), None),  # load not above 4.75, nor below 3.75
        ((5.0, 3.8), None),  # 20 per cent idle: not below 10, not above 50
        ((5.0, 3.4), 3),  # 60 per cent idle, of all CPUs together
        ((1.0, 3.95), 3),  # load below onumcpus - 0.25
    ],
)
def test_the_example_of_the_manual_page(
    domain: MakeDomain,
    host: MakeHost,
    load_and_use: tuple[float, float],
    wanted: int | None,
) -> None:
    loadavg, used = load_and_use
    one = domain(
        active_vcpus=4, last_used_pcpus=used, last_delay_pcpus=0.0, runnable_tasks=loadavg
    )
    assert to(looked(Rules(), host, one, seconds=5)) == wanted


def test_percentages_add_up_over_all_cpus_to_a_hundred_each(
    domain: MakeDomain, host: MakeHost
) -> None:
    rules = Rules(hotplug="idle + user + system + steal > 999")
    one = domain(active_vcpus=4, last_used_pcpus=2.0, last_delay_pcpus=0.5, system_ratio=0.25)
    (outlook,) = looked(rules, host, one, seconds=3).outlooks
    figures = dict(outlook.inputs)
    assert [figures[name] for name in ("idle", "user", "system", "steal")] == pytest.approx(
        [150, 150, 50, 50]
    )


def test_load_is_linuxs_average_over_a_minute(domain: MakeDomain, host: MakeHost) -> None:
    """After a minute of another load, 1 - 1/e of it."""
    rules, plan = Rules(hotplug="loadavg > 99"), Plan()
    state = rules.initial()
    for second in range(61):
        at_ns = second * NS_PER_S
        one = domain(runnable_tasks=8.0 if second else 0.0, read_at_ns=at_ns)
        state, plan = rules.decide(state, host(one), (), at_ns)
    (outlook,) = plan.outlooks
    assert dict(outlook.inputs)["loadavg"] == pytest.approx(8 * 0.632, rel=1e-3)
    state, plan = rules.decide(state, host(domain(read_at_ns=61 * NS_PER_S)), (), 61 * NS_PER_S)
    (outlook,) = plan.outlooks
    assert dict(outlook.inputs)["loadavg"] is None


def test_hotplug_wins_a_tie_and_rules_are_evaluated_once_an_update(
    domain: MakeDomain, host: MakeHost
) -> None:
    seen = settle(
        Rules(hotplug="1", hotunplug="1", update_ns=5 * NS_PER_S),
        host,
        domain(active_vcpus=1),
        lambda d: d,
        rounds=11,
    )
    assert seen == [1, 1, 1, 1, 2, 2, 2, 2, 2, 3, 3]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1, column 1: a condition was expected"),
        ("idle <", "line 1, column 7: a figure, a number or"),
        ("(idle", r"line 1, column 6: '\)' was expected for '\(' of line 1, column 1"),
        ("idle < 5)", "line 1, column 9: an operator was expected"),
        ("idle\n  < 5 < 6", "line 2, column 7: comparisons cannot be chained"),
        ("idel > 3", "line 1, column 1: there is no figure 'idel'; did you mean 'idle'"),
        ("idle > 3.4.5", "line 1, column 8: a number like"),
        ("__import__('os')", "line 1, column 1: there is no figure '__import__'"),
        ("idle > 1; import os", "line 1, column 9: ';' is no part"),
        ("idle > é", "line 1, column 8: 'é' is no part"),
        ("(" * 1000, "line 1, column 33: nested deeper than 32"),
        ("!" * 1000 + "idle", "nested deeper than 32"),
        ("-" * 1000 + "idle", "nested deeper than 32"),
        ("idle+" * 10**6 + "idle", f"longer than {MAX_CHARACTERS} characters"),
    ],
)
def test_a_wrong_rule_says_where_it_is_wrong(text: str, message: str) -> None:
    with pytest.raises(RuleError, match=message):
        read(text, FIGURES)
    with pytest.raises(ConfigError, match="rules: hotunplug: line"):
        load("rules", {"hotunplug": text})


def test_a_rule_that_is_no_text_is_refused() -> None:
    with pytest.raises(ConfigError, match="hotplug: expected a condition as text"):
        load("rules", {"hotplug": 5})


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("a + 2 * b - 3 / 4 == 1.25", True),
        ("(a + 2) * b == 0", True),
        ("-a < 0 & !(b > 0)", True),
        ("not a > 1 and b == 0 or a == 7", False),
        ("a >= 2 && b <= 0 || a != 2", True),
        ("a - 1 - 1 == 0", True),
        ("8 / 2 / 2 == a", True),
        ("a > 5 & missing > 1", False),  # false whatever the missing one is
        ("a == 2 | 1 / b > 0", True),
    ],
)
def test_rules_mean_what_arithmetic_means(text: str, holds: object) -> None:
    figures = {"a": 2.0, "b": 0.0, "missing": None}
    assert read(text, figures).holds(figures) is holds


@pytest.mark.parametrize("text", ["1 / b > 0", "missing > 0", "a > 1 & missing > 0", "!(1 / b)"])
def test_nothing_follows_from_what_is_not_known(text: str) -> None:
    figures = {"a": 2.0, "b": 0.0, "missing": None}
    with pytest.raises(Unknown):
        read(text, figures).holds(figures)


def test_the_longest_and_deepest_rule_is_evaluated() -> None:
    chain = "+".join(["idle"] * 50)
    text = "(" * 32 + chain + f")+{chain}" * 6 + ")" * 26
    assert len(text) < MAX_CHARACTERS
    assert read(text, {"idle"}).holds({"idle": 1.0})


def test_a_division_by_zero_changes_nothing(domain: MakeDomain, host: MakeHost) -> None:
    policy = Rules(hotplug="1 / run_delay_pcpus > 0", hotunplug="used_pcpus / 0 > 0")
    one = domain(last_delay_pcpus=0.0, last_used_pcpus=1.0)
    assert looked(policy, host, one, seconds=5).moves == ()


# ------------------------------------------------------------------------------- all of them


BASELINES = [Extendability(), StealGovernor(), Folding(), Rules(), SpinFeedback()]


@pytest.mark.parametrize("policy", BASELINES, ids=lambda policy: type(policy).__name__)
def test_a_baseline_says_how_it_sees_a_domain_and_leaves_a_held_one_alone(
    policy: Policy[Any], domain: MakeDomain, host: MakeHost, decide: Decide
) -> None:
    sees = decide(policy, host(domain(uuid="seen"), domain(uuid="held", hold=Trouble.STALE)))
    (outlook,) = sees.outlooks
    assert outlook.uuid == "seen"
    assert outlook.inputs
    assert outlook.would_change


@pytest.mark.parametrize("policy", BASELINES, ids=lambda policy: type(policy).__name__)
def test_as_in_its_source_a_baseline_can_go_without_a_judge(
    policy: Any, domain: MakeDomain, host: MakeHost
) -> None:
    spins = {
        "lock_wait_ratio": 0.9,
        "lock_wait_at_ns": 0,
        "run_delay_pcpus": 8.0,
        "entitled_pcpus": 2.0,
    }
    idle = domain(last_used_pcpus=0.1, last_delay_pcpus=3.0, runnable_tasks=0.0, **spins)
    both = (idle, domain(uuid="b", last_used_pcpus=8.0, last_delay_pcpus=1.0))

    def proof(policy: Policy[Any]) -> Proof:
        seconds = 0 if isinstance(policy, SpinFeedback) else 5
        return looked(policy, host, *both, seconds=seconds).moves[0].proof

    assert proof(policy) is Proof.GAIN
    assert proof(replace(policy, judged=False)) is Proof.NONE
