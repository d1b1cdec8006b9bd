"""Runs one scenario: unmanaged, every static count, managed, and the ratios between them."""

from __future__ import annotations

import functools
import itertools
import time
from typing import TYPE_CHECKING

from lab.arms import SETTLE_S, Arms, wait_until_quiet
from lab.cells import describe, mean_rate, measure, measure_collapsed
from lab.compare import BLOCKS_A_TURN, Comparison, interleave
from lab.intervals import Bound, Verdict, ratio
from lab.outcome import Outcome, report
from lab.stage import say
from lab.timeline import Timeline, settle_s

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from lab.board import Order
    from lab.cells import Block
    from lab.domain import Guest
    from lab.plan import Scenario
    from lab.stage import Stage

STATIC_BLOCK_S = 8.0
COLLAPSED_S = 60.0
CLEARLY_BETTER = 1.05
"""A static count is only worth blocks of its own when it beats all vCPUs by this factor."""
UNDONE_S = 45.0
MIXED_BOUNDS = (
    Bound(figure="lock_managed_over_unmanaged", limit=5.0),
    Bound(figure="independent_managed_over_due", limit=0.97),
)


def run(stage: Stage, scenario: Scenario) -> Outcome:
    """Run ``scenario`` within its budget; an inconclusive bound gets time to spare."""
    began_s = time.monotonic()
    outcome = Outcome()
    everybody = stage.guests(scenario.guests)
    if scenario.from_start:
        stage.end_vcpud()
        arms = Arms(everybody, None, stage.pace)
    else:
        arms = stage.arms(everybody)
    guests = stage.give(everybody, scenario.orders)
    arms.unmanaged()

    if scenario.collapsed:
        time.sleep(stage.pace.collapse_s)
    first = _unmanaged(guests, scenario, outcome)
    if scenario.from_start:
        _watch_start(stage, arms, guests, outcome)
    best = _sweep(guests, arms, scenario, outcome, first)
    sides = {"managed": arms.managed}
    if not scenario.collapsed:
        sides["unmanaged"] = arms.unmanaged
    if best != "unmanaged":
        sides[best] = lambda: arms.static(_counts(arms, guests, int(best)), best)

    def figures(comparison: Comparison) -> None:
        _figures(comparison, outcome, best, first, collapsed=scenario.collapsed)
        outcome.judge(scenario.bounds)

    until_s = min(began_s + scenario.budget_s, stage.ends_s)
    _take_turns(
        stage,
        guests,
        sides=sides,
        outcome=outcome,
        figures=figures,
        until_s=until_s,
        budget_s=scenario.budget_s,
        least_rounds=scenario.least_rounds,
    )
    if scenario.undone:
        _all_undone(stage, arms, everybody, outcome)
    arms.hands_off()
    report(outcome)
    return outcome


def _take_turns(  # noqa: PLR0913  each is a fact of the scenario
    stage: Stage,
    guests: Sequence[Guest],
    *,
    sides: Mapping[str, Callable[[], None]],
    outcome: Outcome,
    figures: Callable[[Comparison], None],
    until_s: float,
    budget_s: float,
    least_rounds: int = 2,
    blocks_a_turn: int = BLOCKS_A_TURN,
) -> Comparison:
    """Compare the arms; an inconclusive bound is given the time that is to spare, once."""

    comparison = Comparison()

    def enough() -> bool:
        figures(comparison)
        return outcome.narrow()

    turns = functools.partial(
        interleave, comparison, guests, sides, enough=enough, blocks_a_turn=blocks_a_turn
    )
    turns(until_s=until_s, least_rounds=least_rounds)
    figures(comparison)
    extra_s = stage.extra_s(budget_s)
    if Verdict.INCONCLUSIVE in outcome.verdicts.values() and extra_s > 0:
        say(f"  inconclusive: {extra_s:.0f} s more")
        turns(until_s=time.monotonic() + extra_s)
        figures(comparison)
    outcome.blocks = comparison.blocks
    return comparison


def _counts(arms: Arms, guests: Sequence[Guest], count: int) -> dict[str, int]:
    """Return ``count`` for the guests that work; idle ones keep all they have."""
    every = arms.every
    return every | {guest.name: min(count, every[guest.name]) for guest in guests}


def _unmanaged(guests: list[Guest], scenario: Scenario, outcome: Outcome) -> list[Block]:
    if scenario.collapsed:
        blocks = measure_collapsed(guests, "unmanaged", most_s=COLLAPSED_S)
    else:
        blocks = [measure(guests, "unmanaged", STATIC_BLOCK_S, judged=True)]
    outcome.trust += blocks
    for block in blocks:
        say(f"  {describe(block)}")
    return blocks


def _watch_start(stage: Stage, arms: Arms, guests: list[Guest], outcome: Outcome) -> None:
    """Start vcpud into collapsed guests and watch them recover."""
    with Timeline(guests) as timeline:
        time.sleep(5.0)
        outcome.started_ns = time.monotonic_ns()
        vcpud = stage.fresh_vcpud()
        time.sleep(stage.pace.watch_s)
    arms.adopt(vcpud)
    outcome.moments = timeline.moments
    found = settle_s(timeline.moments, outcome.started_ns)
    if found is not None:
        outcome.record_exact("settle_s", found)
    say(f"  vcpud settled after {'-' if found is None else f'{found:.1f} s'}")


def _sweep(
    guests: list[Guest], arms: Arms, scenario: Scenario, outcome: Outcome, first: list[Block]
) -> str:
    """Measure every static count once; returns the name of the best arm."""
    rates = {"unmanaged": mean_rate(first)}
    for count in scenario.counts:
        arms.static(_counts(arms, guests, count), str(count))
        block = measure(guests, str(count), STATIC_BLOCK_S, judged=True)
        say(f"  {describe(block)}")
        outcome.trust.append(block)
        rates[str(count)] = block.rate
    outcome.figures["static"] = {
        **{name: rate for name, rate in rates.items() if name != "unmanaged"},
        str(max(guest.shape.vcpus for guest in guests)): mean_rate(first),
    }
    best = max(rates, key=lambda name: rates[name])
    return best if rates[best] > CLEARLY_BETTER * rates["unmanaged"] else "unmanaged"


def _figures(
    comparison: Comparison, outcome: Outcome, best: str, first: list[Block], *, collapsed: bool
) -> None:
    figures = outcome.figures
    if collapsed:
        # The collapse is measured in one go, before vcpud is started: it is far from everything.
        rounds = len(comparison.blocks["managed"])
        comparison.blocks["unmanaged"] = list(itertools.islice(itertools.cycle(first), rounds))
    figures["unmanaged"] = comparison.rate("unmanaged")
    figures["managed"] = comparison.rate("managed")
    figures["best_static"] = best
    outcome.record("managed_over_unmanaged", comparison.over("managed", "unmanaged"))
    outcome.record("managed_over_best_static", comparison.over("managed", best))
    outcome.record("unmanaged_over_best_static", comparison.over("unmanaged", best))
    figures.setdefault("settle_s", None)
    outcome.record_domains(comparison.blocks)


def _all_undone(stage: Stage, arms: Arms, guests: list[Guest], outcome: Outcome) -> None:
    """Check that vcpud, left to itself, has every vCPU back online."""
    arms.managed()
    deadline_s = min(time.monotonic() + UNDONE_S, stage.ends_s)
    undone = False
    while not undone and time.monotonic() < deadline_s:
        undone = all(guest.board.online == guest.every_cpu for guest in guests)
        time.sleep(0.25)
    outcome.figures["undone"] = undone
    outcome.verdicts["every change undone"] = Verdict.PASS if undone else Verdict.FAIL


def neighbour_leaves(stage: Stage, orders: dict[str, Order]) -> Outcome:
    """After ``kernel_lock``: the neighbour is destroyed, the survivor must use what it left."""
    outcome = Outcome()
    guests = stage.guests("pair")
    arms = stage.arms(guests)
    stage.give(guests, orders)
    arms.managed()
    wait_until_quiet(guests, stage.pace)
    survivor = guests[0]
    stage.bench.destroy(guests[1].name)
    left_s = time.monotonic()
    time.sleep(20.0)
    late = [measure([survivor], "managed", 2.0) for _ in range(5)]
    took_s = time.monotonic() - left_s
    say(f"  {took_s:.0f} s after: {describe(late[-1])}")
    alone = Arms([survivor], stage.vcpud, stage.pace)
    stage.paused_vcpud([survivor])
    rates = {}
    for count in range(1, survivor.shape.vcpus + 1):
        alone.static({survivor.name: count}, str(count))
        block = measure([survivor], str(count), 6.0, judged=True)
        outcome.trust.append(block)
        say(f"  {describe(block)}")
        rates[str(count)] = block.rate
    best = max(rates, key=lambda name: rates[name])
    alone.static({survivor.name: int(best)}, f"{best} again")
    time.sleep(SETTLE_S)
    again = [measure([survivor], best, 2.0) for _ in range(5)]
    outcome.figures |= {"static": rates, "best_static": best}
    outcome.figures["managed"] = sum(block.rate for block in late) / len(late)
    pairs = [(first.rate, second.rate) for first, second in zip(late, again, strict=True)]
    outcome.record("managed_over_best_static", ratio(pairs))
    outcome.judge((Bound(figure="managed_over_best_static", limit=0.80),))
    report(outcome)
    return outcome


def mixed(  # noqa: PLR0913  each is a fact of the comparison
    stage: Stage,
    orders: dict[str, Order],
    budget_s: float,
    bounds: Sequence[Bound] = MIXED_BOUNDS,
    *,
    more: Callable[[Outcome, Mapping[str, Sequence[Block]]], None] | None = None,
    blocks_a_turn: int = BLOCKS_A_TURN,
) -> Outcome:
    """A lock-bound domain beside an independent one that has as many vCPUs as there are pCPUs.

    Args:
        stage: What there is at hand.
        orders: By guest, the lock-bound one first.
        budget_s: For the comparison, and again where it leaves a bound open and there is time.
        bounds: What is judged.
        more: Records further figures from the blocks so far.
        blocks_a_turn: Blocks each time an arm has been entered.
    """
    outcome = Outcome()
    until_s = min(time.monotonic() + budget_s, stage.ends_s)
    locked, independent = stage.guests("mixed")
    guests = [locked, independent]
    arms = stage.arms(guests)
    # What the independent domain is entitled to: half of the host, with nobody else there.
    stage.give(guests, {independent.name: orders[independent.name]})
    arms.static({locked.name: locked.shape.vcpus, independent.name: stage.pcpus // 2}, "entitled")
    entitled = [measure([independent], "entitled", 6.0).rate for _ in range(2)]
    say(f"  independent on its entitlement: {', '.join(f'{rate:,.0f}' for rate in entitled)}/s")
    stage.give(guests, orders)
    due_rate = sum(entitled) / len(entitled)

    def figures(comparison: Comparison) -> None:
        outcome.record(
            "lock_managed_over_unmanaged",
            comparison.over("managed", "unmanaged", lambda block: block.rates[locked.name]),
        )
        pairs = [
            (managed.rates[independent.name], min(due_rate, before.rates[independent.name]))
            for managed, before in zip(
                comparison.blocks["managed"], comparison.blocks["unmanaged"], strict=False
            )
        ]
        outcome.record("independent_managed_over_due", ratio(pairs))
        outcome.record(
            "independent_managed_over_unmanaged",
            comparison.over("managed", "unmanaged", lambda block: block.rates[independent.name]),
        )
        if more is not None:
            more(outcome, comparison.blocks)
        outcome.judge(bounds)

    sides = {"unmanaged": arms.unmanaged, "managed": arms.managed}
    comparison = _take_turns(
        stage,
        guests,
        sides=sides,
        outcome=outcome,
        figures=figures,
        until_s=until_s,
        budget_s=budget_s,
        blocks_a_turn=blocks_a_turn,
    )
    outcome.figures |= {
        "unmanaged": comparison.rate("unmanaged"),
        "managed": comparison.rate("managed"),
        "entitled": due_rate,
    }
    outcome.record_domains(comparison.blocks)
    outcome.record("managed_over_unmanaged", comparison.over("managed", "unmanaged"))
    arms.hands_off()
    report(outcome)
    return outcome
