"""A comparison from its runs to its scores, with made-up runs."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import pytest

from unit.simulator.compare.made_up import SCENARIO, S, changed, steady
from vcpud_simulator import runner
from vcpud_simulator.laboratory import provenance
from vcpud_simulator.laboratory.compare import document, doubt, picture, runs, unmanaged
from vcpud_simulator.laboratory.compare.campaign import Campaign, spread
from vcpud_simulator.laboratory.compare.entry import Entry
from vcpud_simulator.laboratory.compare.plan import Contestant, Plan
from vcpud_simulator.laboratory.compare.tasks import Decision, Outcome, Task

CONTESTANTS = tuple(Contestant(label=name, policy=name) for name in ("good", "bad", "static"))


def world(task: Task) -> Outcome:
    """Rates fall with the vCPUs active beyond one; `bad` halves one domain, `good` finds two."""
    if task.policy == "good":
        rate = 300.0
        return steady(task, {"db": rate, "mail": rate}, (Decision(at_ns=5 * S, names=("db",)),))
    if task.policy == "bad":
        held = task.hold is not None
        decisions = tuple(Decision(at_ns=at * S, names=("db",)) for at in (5, 15, 25))
        return steady(task, {"db": 100.0 if held else 50.0, "mail": 100.0}, decisions)
    counts = dict(task.counts or (("db", 4), ("mail", 4)))
    return steady(task, {name: 400.0 / count for name, count in counts.items()})


class Executor:
    """Runs tasks by a function, and remembers them."""

    def __init__(self, function: Callable[[Task], Outcome]) -> None:
        self.function = function
        self.tasks: list[Task] = []
        self.labels: list[str] = []

    def __call__(self, tasks: Iterable[Task], label: str) -> Mapping[Task, Outcome]:
        wanted = list(dict.fromkeys(tasks))
        self.tasks += wanted
        self.labels.append(label)
        return {task: self.function(task) for task in wanted}


def test_policies_are_measured_by_the_oracle_by_unmanaged_and_by_floors(key: str) -> None:
    executor = Executor(world)
    [card] = Campaign(Plan(keys=(key,), contestants=CONTESTANTS, seeds=3), executor).run()
    assert card.oracle == "db 1, mail 1"
    assert card.exhaustive
    good, bad, static = (card.policies[label] for label in ("good", "bad", "static"))
    assert good.over_oracle == pytest.approx(0.75)
    assert good.over_unmanaged.value == pytest.approx(3.0)
    assert static.over_oracle == pytest.approx(0.25)
    assert bad.worst_domain == "db"
    assert bad.worst_domain_over_floor == pytest.approx(0.5)


def test_harm_is_what_would_not_have_been_without_the_change(key: str) -> None:
    plan = Plan(keys=(key,), contestants=CONTESTANTS, seeds=2, examined=6)
    campaign = Campaign(plan, Executor(world))
    [card] = campaign.run()
    assert card.policies["good"].harmed == 0
    assert card.policies["bad"].harmed == 3
    assert card.policies["bad"].examined == 6
    assert campaign.spared == 0


def test_of_too_many_decisions_some_are_looked_at_and_stand_for_the_rest(key: str) -> None:
    executor = Executor(world)
    campaign = Campaign(Plan(keys=(key,), contestants=CONTESTANTS, seeds=2, examined=1), executor)
    [card] = campaign.run()
    assert card.policies["bad"].harmed == 3
    assert campaign.spared == 4
    held = [task for task in executor.tasks if task.hold is not None]
    assert len(held) == 4
    assert all(task.hold is not None and task.hold.names == ("db",) for task in held)


def test_decisions_are_chosen_evenly() -> None:
    many = tuple(Decision(at_ns=at, names=()) for at in range(10))
    assert [one.at_ns for one in spread(many, 3)] == [0, 3, 6]
    assert spread(many, 20) == many


def test_seeds_are_paired_across_policies(key: str) -> None:
    executor = Executor(world)
    Campaign(Plan(keys=(key,), contestants=CONTESTANTS, seeds=3), executor).run()
    whole = [task for task in executor.tasks if task.duration_ns in {57 * S, 600 * S}]
    by_policy: dict[str, set[int]] = {}
    for task in whole:
        by_policy.setdefault(task.policy, set()).add(task.seed)
    assert all(seeds == {1, 2, 3} for seeds in by_policy.values())


def test_whether_vcpuds_own_policy_harms_anybody_is_looked_for_ten_minutes_long(key: str) -> None:
    def late(task: Task) -> Outcome:
        if task.policy != "adaptive":
            return world(task)
        made = steady(task, {"db": 100.0, "mail": 100.0})
        rows = [
            (begin, end, 100.0 if end <= 60 * S else 90.0) for begin, end, _ in made.work["db"]
        ]
        late = Decision(at_ns=300 * S, names=("db",))
        return dataclasses.replace(
            made,
            work={**made.work, "db": tuple(rows)},
            decisions=(late,),
            changes=(changed(5 * S, "db"), changed(300 * S, "db")),
        )

    executor = Executor(late)
    contestants = tuple(Contestant(label=name, policy=name) for name in ("adaptive", "static"))
    plan = Plan(keys=(key,), contestants=contestants, seeds=2)
    [card] = Campaign(plan, executor).run()
    own = card.policies["adaptive"]
    assert own.worst_domain_over_floor == pytest.approx(0.91, abs=0.002)
    assert own.worst_domain == "db"
    assert own.by_domain["db"].over_oracle == pytest.approx(0.25), "of the window all share"
    assert own.by_domain["db"].over_unmanaged == pytest.approx(1.0)
    assert (own.changes, own.changes_in_ten_minutes, own.examined) == (1, 2, 0)
    long = {task.policy for task in executor.tasks if task.duration_ns == 600 * S}
    assert long == {"", "adaptive"}


@pytest.mark.parametrize(
    ("kept", "over_floor"), [(1.0, 0.98), (0.8, 0.98 * 0.8)], ids=["chance", "harm"]
)
def test_whether_a_domain_is_below_its_floor_by_chance_is_told_by_more_seeds(
    key: str, kept: float, over_floor: float
) -> None:
    """Hosts on which guests are asked do worse here than the one on which they are not, in some runs."""

    def unlucky(task: Task) -> Outcome:
        luck = (1.0, 0.9, 1.3, 0.7, 1.2)[task.seed % 5] if task.policy else 1.0
        mine = kept if task.policy == "adaptive" else 1.0
        outcome = steady(task, {"db": 100.0 * luck * mine, "mail": 100.0})
        if not task.policy:
            return dataclasses.replace(outcome, run_pcpus={"db": 1.0, "mail": 0.01})
        return dataclasses.replace(
            outcome,
            answering_pcpus={"db": 0.02, "mail": 0.03},
            run_pcpus={"db": 1.0, "mail": 0.04},
            changes=(changed(5 * S, "db"),),
        )

    executor = Executor(unlucky)
    plan = Plan(
        keys=(key,),
        contestants=(Contestant(label="adaptive", policy="adaptive"),),
        seeds=1,
        doubts=(4,),
    )
    [card] = Campaign(plan, executor).run()
    own = card.policies["adaptive"]
    assert own.over_floor_at_first == pytest.approx(0.9 * kept)
    assert own.worst_domain_over_floor == pytest.approx(over_floor)
    assert own.by_domain["mail"].over_floor == pytest.approx(1.0), "idle: it answers besides"
    assert "whether it was chance" in executor.labels
    again = [task.seed for task in executor.tasks if task.policy == "static"]
    assert again == [1, 2, 3, 4, 5]
    two = Executor(unlucky)
    Campaign(dataclasses.replace(plan, seeds=2), two).run()
    again = [task.seed for task in two.tasks if task.policy == "static"]
    assert again == [1, 2, 3, 4, 5, 6], "further seeds than those there are"
    late = Executor(lambda task: unlucky(dataclasses.replace(task, seed=task.seed - 1)))
    Campaign(dataclasses.replace(plan, seeds=2), late).run()
    assert "whether it was chance" in late.labels, "in whichever run"
    certain = Campaign(dataclasses.replace(plan, doubts=()), Executor(unlucky))
    assert certain.run()[0].policies["adaptive"].worst_domain_over_floor == own.over_floor_at_first


def test_where_more_seeds_leave_it_open_on_which_side_it_is_still_more_are_run(key: str) -> None:
    """A guest just above its floor, which is a tenth above or below that by luck."""

    def wavering(share: float) -> Executor:
        def outcome(task: Task) -> Outcome:
            luck = 0.9 if task.seed % 2 else 1.1
            db = 100.0 * share * luck if task.policy == "adaptive" else 100.0
            made = steady(task, {"db": db, "mail": 100.0})
            return dataclasses.replace(made, changes=(changed(5 * S, "db"),))

        return Executor(outcome)

    own = (Contestant(label="adaptive", policy="adaptive"),)
    plan = Plan(keys=(key,), contestants=own, seeds=1, doubts=(4, 15))
    told = {}
    for share in (1.0, 0.8):
        executor = wavering(share)
        [card] = Campaign(plan, executor).run()
        seeds = len({task.seed for task in executor.tasks if task.policy == "static"})
        told[share] = seeds, round(card.policies["adaptive"].worst_domain_over_floor, 3)
    assert told == {1.0: (16, 0.995), 0.8: (5, 0.780)}, "0.8 is below whatever the luck"


def test_where_nothing_was_changed_the_same_seed_tells(key: str) -> None:
    """A host on which guests are asked comes out worse, and nobody has changed anything there."""
    executor = Executor(
        lambda task: steady(task, {"db": 70.0 if task.policy else 100.0, "mail": 100.0})
    )
    own = (Contestant(label="adaptive", policy="adaptive"),)
    plan = Plan(keys=(key,), contestants=own, seeds=2, doubts=(4, 15))
    [card] = Campaign(plan, executor).run()
    assert card.policies["adaptive"].over_floor_at_first == pytest.approx(0.7)
    assert card.policies["adaptive"].worst_domain_over_floor == pytest.approx(1.0)
    assert {task.seed for task in executor.tasks} == {1, 2}, "no further seed"


def test_where_nothing_is_claimed_of_it_no_oracle_need_be_looked_for(tmp_path: Path) -> None:
    tagged = tmp_path / "tagged.yaml"
    tagged.write_text(f"tags: [blind]\n{SCENARIO}")
    whole, part = Executor(world), Executor(world)
    plan = Plan(keys=(str(tagged),), contestants=CONTESTANTS, seeds=2)
    [full] = Campaign(plan, whole).run()
    [spared] = Campaign(dataclasses.replace(plan, everywhere=False), part).run()
    assert [task for task in whole.tasks if task.counts]
    assert not [task for task in part.tasks if task.counts or task.script]
    for label, one in spared.policies.items():
        assert one.over_oracle is None
        assert not one.oracle_too_weak
        assert one.worst_domain_over_floor == full.policies[label].worst_domain_over_floor
        assert one.harmed == full.policies[label].harmed
    both = document.Comparison(
        cards=[spared, full], policies=list(full.policies), seeds=2, commit="x", wall_s=1.0
    )
    told = document.document(both)["scenarios"]
    assert [one["policies"]["good"]["over_oracle"] for one in told] == [None, pytest.approx(0.75)]
    assert " -/0.50 " in document.text(both), (
        "what bad leaves one of its floor is told all the same"
    )
    picture.draw(both, tmp_path / "both.png")


def test_a_figure_that_never_differs_leaves_nothing_open() -> None:
    assert not doubt.open_still({"db": (0.96, 0.96, 0.96)})
    assert doubt.open_still({"db": (0.96, 0.99), "mail": (1.0, 1.0)})
    assert not doubt.open_still({"db": (0.96, 0.99), "mail": (0.5, 0.51)}), "the worst one counts"
    assert doubt.open_still({"db": (0.9,)}), "one seed tells nothing"
    assert not doubt.open_still({}), "nobody has a floor"


def test_the_unmanaged_host_is_run_once(key: str) -> None:
    executor = Executor(world)
    Campaign(Plan(keys=(key,), contestants=CONTESTANTS, seeds=2), executor).run()
    plain = [one for one in executor.tasks if not (one.policy or one.counts or one.script)]
    assert len(plain) == len({*plain}) == 2 + 1, "a seed each, and the long look of the search"


def test_the_policy_that_does_nothing_is_the_unmanaged_host(key: str) -> None:
    executor = Executor(world)
    [card] = Campaign(Plan(keys=(key,), contestants=CONTESTANTS, seeds=2), executor).run()
    assert "static" not in {task.policy for task in executor.tasks}
    static = card.policies["static"]
    assert static.over_unmanaged.value == 1
    assert (static.changes, static.examined) == (0, 0)


def test_what_says_most_is_run_first_the_unmanaged_host_and_then_vcpuds_own_policy(
    key: str,
) -> None:
    contestants = [Contestant(label=name, policy=name) for name in ("folding", "adaptive")]
    executor = Executor(world)
    Campaign(Plan(keys=(key,), contestants=tuple(contestants), seeds=2), executor).run()
    assert [task.policy for task in executor.tasks[:6]] == [
        *["", ""], *["adaptive", "adaptive"], *["folding", "folding"]
    ]  # fmt: skip


def test_a_run_is_made_by_the_module_of_its_policy(key: str) -> None:
    executor = Executor(world)
    contestants = (Contestant(label="f", policy="folding"),)
    Campaign(Plan(keys=(key,), contestants=contestants, seeds=1), executor).run()
    [folding] = {runs.modules(task) for task in executor.tasks if task.policy == "folding"}
    assert folding == (runs.__name__, "vcpud_policies.folding")
    plain = {runs.modules(task) for task in executor.tasks if not task.policy}
    assert plain == {(unmanaged.__name__,)}


def test_what_is_known_of_hosts_that_nobody_manages_outlives_every_change_of_the_loop() -> None:
    managed = {module for module, _ in provenance._reached([runs.__name__])}
    alone = {module for module, _ in provenance._reached([unmanaged.__name__])}
    assert {"vcpud.control", "vcpud.judge", "vcpud.policy"} <= managed
    loop = {"vcpud.control", "vcpud.judge", "vcpud.policy", "vcpud.plan", "vcpud_simulator.runner"}
    assert not alone & loop
    assert {"vcpud_simulator.world", "vcpud_simulator.schedulers.cfs"} <= alone


def test_a_host_that_nobody_manages_is_the_same_with_the_runner_and_without() -> None:
    task = Task(key="demo", digest="", seed=3, duration_ns=5 * S)
    alone = unmanaged.observe(task)
    scenario = unmanaged.asked(task)
    result = runner.run(scenario, seed=3, duration_ns=5 * S, hashed=False)
    same = unmanaged.measured(scenario, result.window_ns, result.domains, result.timeline)
    assert alone == same == runs.perform(task)


def test_an_oracle_that_a_policy_beats_is_too_weak(key: str) -> None:
    def stronger(task: Task) -> Outcome:
        return steady(task, {"db": 500.0, "mail": 500.0}) if task.policy == "good" else world(task)

    cards = Campaign(Plan(keys=(key,), contestants=CONTESTANTS, seeds=2), Executor(stronger)).run()
    comparison = document.Comparison(
        cards=cards, policies=["good", "bad", "static"], seeds=2, commit="c", wall_s=1.0
    )
    assert [(card.name, label) for card, label in comparison.too_weak] == [("pair", "good")]
    assert "ORACLE TOO WEAK: pair: good" in document.text(comparison)
    assert cards[0].policies["good"].over_oracle == 1.0


OPEN_LOOP = """\
  web: {vcpus: 4, workload: web}
"""


def test_response_times_are_told_of_everybody_over_the_same_time(tmp_path: Path) -> None:
    path = tmp_path / "web.yaml"
    path.write_text(SCENARIO + OPEN_LOOP)

    def answering(task: Task) -> Outcome:
        made = steady(task, dict.fromkeys(("db", "mail", "web"), 100.0))
        late_ns = {"good": 2, "": 8}.get(task.policy, 50) * 10**6 * task.seed**2
        return dataclasses.replace(
            made, responses_ns={name: {99: late_ns} for name in ("web", "db")}
        )

    executor = Executor(answering)
    plan = Plan(keys=(str(path),), contestants=CONTESTANTS, seeds=2)
    cards = Campaign(plan, executor).run()
    found = cards[0].responses_ns
    assert list(found) == ["unmanaged", "oracle", "good", "bad", "static"]
    assert {name for one in found.values() for name in one} == {"web"}, (
        "db's clients wait for their answers before they ask again"
    )
    assert cards[0].responses_ns["good"]["web"][99] == pytest.approx(4e6), "of both seeds"
    assert {task.duration_ns for task in executor.tasks if task.policy == "bad"} == {600 * S}
    comparison = document.Comparison(
        cards=cards, policies=["good", "bad", "static"], seeds=2, commit="c", wall_s=1.0
    )
    [row] = [line for line in document.text(comparison).splitlines() if ": web " in line]
    assert row.split()[2:6] == ["16", "ms", "16", "ms"], "unmanaged, and the oracle as they are"
    [details] = document.document(comparison)["details"]["scenarios"].values()
    assert details["responses_s"]["good"] == {"web": {"99": pytest.approx(0.004)}}


def test_the_document_has_the_agreed_shape(key: str) -> None:
    cards = Campaign(Plan(keys=(key,), contestants=CONTESTANTS, seeds=2), Executor(world)).run()
    made = document.document(
        document.Comparison(
            cards=cards, policies=["good", "bad", "static"], seeds=2, commit="c", wall_s=1.0
        )
    )
    json.dumps(made, allow_nan=False)
    [scenario] = made["scenarios"]
    assert set(scenario) == {"name", "class", "tags", "scheduler", "policies"}
    assert set(scenario["policies"]["good"]) == {
        "over_oracle",
        "over_unmanaged",
        "worst_domain_over_floor",
        "changes",
        "harmed",
    }
    assert set(made["summary"]["good"]) >= {
        "oracle_geomean",
        "oracle_min",
        "worst_domain_over_floor",
        "by_class",
    }
    assert made["commit"] == "c"


def test_phases_are_searched_one_by_one_and_followed_by_a_script(tmp_path: Path) -> None:
    path = tmp_path / "phases.yaml"
    path.write_text(
        SCENARIO.replace(
            "{vcpus: 4, workload: gobmk}",
            "{vcpus: 4, workload: {kind: phased, phases: ["
            "{workload: descriptors, duration: 30s}, {workload: gobmk, duration: 30s}]}}",
            1,
        )
    )

    def by_phase(task: Task) -> Outcome:
        if task.script:
            return steady(task, {"db": 1_000.0, "mail": 100.0})
        counts = dict(task.counts or (("db", 4), ("mail", 4)))
        locks = task.state == (0, 0)
        rate = 400.0 / counts["db"] if locks else 100.0 * counts["db"]
        return steady(task, {"db": rate, "mail": 100.0})

    executor = Executor(by_phase)
    [card] = Campaign(
        Plan(keys=(str(path),), contestants=(Contestant(label="p", policy="p"),), seeds=1),
        executor,
    ).run()
    assert card.oracle == "by state"
    [script] = {task.script for task in executor.tasks if task.script}
    assert [(at_ns // S, dict(counts)["db"]) for at_ns, counts in script] == [(0, 1), (30, 4)]


def test_an_ascent_begins_where_policies_were_left_in_the_same_state(tmp_path: Path) -> None:
    path = tmp_path / "comes.yaml"
    path.write_text(
        SCENARIO.replace("mail: {vcpus: 4,", "mail: {vcpus: 4, departs: 30s,").replace(
            "pcpus: 2", "pcpus: 2\nperiod: 1s"
        )
    )
    both, alone = (0, 0), (0, None)

    def ends(task: Task) -> Outcome:
        made = steady(task, {"db": 1.0, "mail": 1.0})
        finals = ((both, (("db", 2), ("mail", 3))), (alone, (("db", 1),)))
        return dataclasses.replace(made, finals=finals if task.policy else ())

    entry = Entry(str(path), Plan(keys=(), contestants=CONTESTANTS[:1], seeds=1))
    unmanaged = ends(entry.unmanaged_task(1))
    entry.managed_runs = {"good": {1: ends(entry.managed(1, CONTESTANTS[0]))}}
    for state, starts in ((both, ((2, 3),)), (alone, ((1,),))):
        entry.problem(state, unmanaged)
        assert entry.problems[state].starts == starts


def test_the_oracle_takes_turns_where_whole_vcpus_do_not_divide_evenly(tmp_path: Path) -> None:
    path = tmp_path / "thirds.yaml"
    path.write_text(
        SCENARIO.replace("57s", "297s")
        .replace("  db: {vcpus: 4, workload: gobmk}\n", "")
        .replace("mail: {vcpus: 4,", "app: {vcpus: 4, copies: 2,")
    )

    def fits_three(task: Task) -> Outcome:
        names = ("app-1", "app-2")
        if task.script:
            return steady(task, dict.fromkeys(names, 150.0))
        counts = dict(task.counts or dict.fromkeys(names, 4))
        fits = sum(counts.values()) <= 3
        return steady(task, {name: counts[name] * (100.0 if fits else 20.0) for name in names})

    executor = Executor(fits_three)
    one = Contestant(label="p", policy="p")
    [card] = Campaign(Plan(keys=(str(path),), contestants=(one,), seeds=1), executor).run()
    assert card.oracle == "app-1 2, app-2 1, in turn"
    [script] = {task.script for task in executor.tasks if task.script}
    assert [(at_ns // S, *dict(counts).values()) for at_ns, counts in script] == [
        (0, 2, 1), (150, 1, 2),
    ]  # fmt: skip
