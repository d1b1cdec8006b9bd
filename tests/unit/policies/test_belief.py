"""What readings make of what is believed of a domain."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest

from vcpud.demand import DomainDemand
from vcpud.gains import NOISE_RATIO
from vcpud.units import NS_PER_S
from vcpud_policies import belief as beliefs
from vcpud_policies.belief import Belief
from vcpud_policies.readings import look

from .conftest import MakeDomain, window

S = NS_PER_S


def looked(belief: Belief, domain: DomainDemand, second: int, *, contended: bool | None) -> Belief:
    return look(belief, domain, contended=contended, now_ns=second * S, min_gain=0.1)


def test_contention_seen_at_first_sight_was_always_there(domain: MakeDomain) -> None:
    belief = looked(Belief(home_vcpus=8), domain(), 100, contended=None)
    assert belief.contended_since_ns is None, "nothing is known yet"
    belief = looked(belief, domain(), 101, contended=True)
    assert belief.contended_since_ns == 0
    assert beliefs.comparable(belief, domain(progress=window(90)))


def test_contention_that_began_dates_from_when_it_was_seen(domain: MakeDomain) -> None:
    belief = looked(Belief(home_vcpus=8), domain(), 100, contended=False)
    belief = looked(belief, domain(), 101, contended=True)
    assert belief.contended_since_ns == 101 * S
    assert not beliefs.comparable(belief, domain(progress=window(99)))
    assert beliefs.comparable(belief, domain(progress=window(101)))
    assert looked(belief, domain(), 102, contended=False).contended_since_ns is None


def test_threads_go_in_step_where_progress_falls_short_and_no_lock_shows_why(
    domain: MakeDomain,
) -> None:
    belief, seen = Belief(home_vcpus=8), domain()
    quiet = {"lock_wait_ratio": 0.0, "system_ratio": 0.0}
    for number in range(beliefs.HINT_WINDOWS):
        seen = domain(progress=window(5 * number), **quiet)
        belief = looked(belief, seen, 5 * number + 5, contended=True)
    cost, in_step = beliefs.believed_cost(belief, seen)
    assert cost > 1
    assert in_step is True
    unread = replace(seen, lock_wait_ratio=None)
    assert beliefs.believed_cost(belief, unread) == (cost, None), (
        "who was not asked did not say no"
    )
    waits = replace(seen, progress=window(20), lock_wait_ratio=0.9, lock_wait_at_ns=25 * S)
    locked = looked(belief, waits, 25, contended=True)
    assert beliefs.believed_cost(locked, waits)[1] is False, "waiting for locks explains it"
    short = replace(waits, lock_wait_ratio=0.84, run_delay_pcpus=2.0)
    locked = looked(belief, short, 25, contended=True)
    cost, in_step = beliefs.believed_cost(locked, short)
    assert cost == pytest.approx(2), "it lacks half of its share, and what it gets is worth less"
    assert not in_step, "waiting for locks explains more than the half that would be guessed"


def test_a_share_that_is_waited_for_is_believed_whole_and_what_use_is_worth_less_by_half(
    domain: MakeDomain,
) -> None:
    """The host itself counts the first; the second may have causes inside the guest."""

    def cost(failures: int = 0, *, calm_seen: bool = True, **more: float | None) -> float:
        belief = Belief(home_vcpus=8, failures=failures, calm_seen=calm_seen)
        seen = domain(**{"entitled_pcpus": 2.0, "lock_wait_ratio": 0.0, **more})
        for number in range(beliefs.HINT_WINDOWS):
            seen = replace(seen, progress=window(5 * number, 0.5))
            belief = looked(belief, seen, 5 * number + 5, contended=True)
        return beliefs.believed_cost(belief, seen)[0]

    # Half of what it is entitled to, and half of that is worth anything: 2 x (1 + 1 / 2) - 1.
    assert cost(run_delay_pcpus=1.0) == pytest.approx(2.0)
    assert cost(run_delay_pcpus=3.0) == pytest.approx(2.0), "what is beyond is not its due"
    # A quarter of the progress it could make, for all that is known because its use is worth less.
    assert cost(run_delay_pcpus=0.0) == pytest.approx(1.5)
    assert cost(lock_wait_ratio=None, run_delay_pcpus=0.0) == pytest.approx(1.5)
    assert cost(failures=1, run_delay_pcpus=1.0) == pytest.approx(1.0)
    # Of who was never seen undisturbed half of the system time is taken to be the guest's own work.
    new = partial(cost, calm_seen=False, run_delay_pcpus=0.0)
    assert new(system_ratio=0.5) == pytest.approx((4 * 0.75 - 1) / 2)
    assert new(system_ratio=0.0) == pytest.approx(1.5)
    assert new(system_ratio=None) == new(system_ratio=1.0) == pytest.approx(0.5), "it may be all"
    assert cost(system_ratio=0.5, run_delay_pcpus=0.0) == pytest.approx(1.5)


@pytest.mark.parametrize(
    ("worth", "windows"), [(0.9, beliefs.HINT_WINDOWS // 2), (0.7, beliefs.HINT_WINDOWS)]
)
def test_what_has_fallen_below_half_of_what_it_was_worth_counts_in_half_the_time(
    domain: MakeDomain, worth: float, windows: int
) -> None:
    """Windows are worth 0.5: rates of 2 pCPUs where 4 times `worth` could be made, less than a half."""
    seen = domain(progress=window(0, 1.7), system_ratio=0.0)
    known = Belief(home_vcpus=8, calm_worth_ratio=worth, calm_seen=True)
    for belief, expected in ((known, windows), (replace(known, calm_seen=False), 4)):
        counted = [
            beliefs.believed_cost(replace(belief, contended_since_ns=0, short_windows=n), seen)[0]
            for n in range(1, 5)
        ]
        assert [cost > 0 for cost in counted].index(True) + 1 == expected


@pytest.mark.parametrize("burst", [True, False])
def test_what_was_made_is_held_against_what_was_due_all_the_time(
    domain: MakeDomain, *, burst: bool
) -> None:
    """Who begins to compute a second before its idle window is seen cannot have made what is due now."""
    belief = Belief(home_vcpus=8, calm_worth_ratio=0.5, calm_seen=True)
    now = domain(lock_wait_ratio=0.0, run_delay_pcpus=2.0)
    for number in range(beliefs.HINT_WINDOWS + 1):
        idle = replace(now, entitled_pcpus=0.5) if burst else now
        belief = looked(belief, idle, 5 * number + 4, contended=True)
        now = replace(now, progress=window(5 * number, 0.25))
        belief = looked(belief, now, 5 * number + 5, contended=True)
    assert (beliefs.believed_cost(belief, now)[0] > 0) is not burst
    assert (belief.short_windows > 0) is not burst


def test_noise_is_learned_from_windows_that_follow_each_other_under_contention(
    domain: MakeDomain,
) -> None:
    def seen(rates: list[float], *, contended: bool) -> float | None:
        belief = Belief(home_vcpus=8)
        for number, rate in enumerate(rates):
            one = domain(progress=window(5 * number, rate))
            belief = looked(belief, one, 5 * number + 5, contended=contended)
        return belief.noise_ratio

    steady, shaky = [2.0] * 20, [2.0, 3.0] * 10
    assert (seen(steady, contended=True) or 0.0) < NOISE_RATIO / 10
    assert 0.2 < (seen(shaky, contended=True) or 0.0) < 0.4
    assert seen([2.0], contended=True) is None, "one says nothing of how the next will be"
    assert seen(shaky, contended=False) is None, "nothing is done about it then"
    assert (seen([2.0, 20.0], contended=True) or 0.0) < 1


def test_who_waits_on_few_vcpus_for_what_it_is_entitled_to_is_crowded(domain: MakeDomain) -> None:
    belief = Belief(home_vcpus=8)
    short = domain(active_vcpus=1, used_pcpus=0.67, run_delay_pcpus=0.33, entitled_pcpus=1.0)
    idle = domain(active_vcpus=1, used_pcpus=0.3, run_delay_pcpus=0.01, entitled_pcpus=1.0)
    belief = looked(belief, short, 0, contended=True)
    assert belief.crowded_ratio == pytest.approx(0.67, abs=0.01)
    assert looked(belief, short, 20, contended=False).crowded_ratio == belief.crowded_ratio
    belief = looked(belief, idle, 21, contended=True)
    assert belief.crowded_ratio == 1, "it is idle, not crowded"
    whole = looked(Belief(home_vcpus=8), domain(), 0, contended=True)
    assert whole.crowded_ratio == 1, "it has all it came with"
    starved = replace(short, used_pcpus=0.0, run_delay_pcpus=1.0)
    assert 0 < looked(belief, starved, 22, contended=True).crowded_ratio < 0.01


@pytest.mark.parametrize("figure", ["used_pcpus", "run_delay_pcpus", "entitled_pcpus"])
def test_that_a_domain_is_crowded_is_not_forgotten_while_a_figure_is_missing(
    domain: MakeDomain, figure: str
) -> None:
    belief = Belief(home_vcpus=8, crowded_ratio=0.5)
    short = domain(active_vcpus=1, used_pcpus=0.3, run_delay_pcpus=0.0, entitled_pcpus=1.0)
    assert looked(belief, short, 0, contended=True).crowded_ratio == 1
    blank = replace(short, **{figure: None})  # type: ignore[arg-type]
    assert looked(belief, blank, 0, contended=True).crowded_ratio == 0.5


def test_what_was_learned_of_locks_is_no_evidence_while_their_waits_are_not_read(
    domain: MakeDomain,
) -> None:
    belief = Belief(home_vcpus=8, contended_since_ns=0, cost_ratio=9.0)
    seen = domain(progress=window(20), lock_wait_ratio=0.9)
    assert beliefs.believed_cost(belief, seen)[0] > 1
    assert beliefs.believed_cost(belief, replace(seen, lock_wait_ratio=None))[0] == 0


def test_progress_of_which_it_is_not_told_what_use_is_worth_counts_as_no_shortfall(
    domain: MakeDomain,
) -> None:
    """Share that is missing, which the host counts, could not be told from use that is worth less."""
    untold = replace(window(0), worth_ratio=None)
    belief = Belief(home_vcpus=8, contended_since_ns=0, short_windows=9)
    after = looked(belief, domain(progress=untold), 5, contended=True)
    assert after.short_windows == 0
    told = looked(belief, domain(progress=window(0)), 5, contended=True)
    assert told.short_windows == 10


def test_what_an_earlier_vcpud_has_left_on_fewer_vcpus_is_believed_to_need_it(
    domain: MakeDomain,
) -> None:
    left = beliefs.first(domain(active_vcpus=2, home_vcpus=8), min_gain=0.25)
    assert beliefs.believed_cost(left, domain()) == (0.25, False)
    for untouched in (domain(), domain(home_vcpus=8), domain(home_vcpus=4)):
        unknown = beliefs.first(untouched, min_gain=0.25)
        assert beliefs.believed_cost(unknown, untouched) == (0.0, False)
        assert not unknown.proven


@pytest.mark.parametrize(("used", "counts"), [(0.05, False), (0.6, True)])
@pytest.mark.parametrize("worth", [0.0, 0.25])
def test_what_an_idle_guest_does_besides_is_not_what_its_work_is_worth(
    domain: MakeDomain, used: float, worth: float, *, counts: bool
) -> None:
    """All in its kernel, it would say that collapsed it makes as much as ever, which nothing would then change."""
    idle = replace(window(0), rate_pcpus=used * worth, worth_ratio=worth)
    seen = domain(used_pcpus=used, run_delay_pcpus=0.0, entitled_pcpus=4.0, progress=idle)
    belief = looked(Belief(home_vcpus=8), seen, 5, contended=False)
    assert belief.calm_seen is counts
    assert belief.calm_worth_ratio == (worth if counts else 1.0)
    unread = looked(Belief(home_vcpus=8), replace(seen, entitled_pcpus=None), 5, contended=False)
    assert not unread.calm_seen, "nobody knows how much it could have used"


def test_who_never_sleeps_and_whose_use_is_worth_the_same_is_merely_given_too_little(
    domain: MakeDomain,
) -> None:
    """2.0 of the 4.0 pCPUs that it is entitled to, each worth the half that it always was."""
    sleeps = domain(used_pcpus=2.0, run_delay_pcpus=2.0, lock_wait_ratio=0.0, progress=window(20))
    belief = replace(
        Belief(home_vcpus=8, contended_since_ns=0, calm_worth_ratio=0.5, calm_seen=True),
        short_windows=beliefs.HINT_WINDOWS,
    )
    cost, in_step = beliefs.believed_cost(belief, sleeps)
    assert cost == pytest.approx(1)
    assert in_step, "its vCPUs sleep meanwhile: they wait for each other"
    assert beliefs.believed_cost(belief, replace(sleeps, run_delay_pcpus=6.0)) == (0.0, False)
    for untold in ({"run_delay_pcpus": None}, {"used_pcpus": None}):
        seen = replace(sleeps, **untold)  # type: ignore[arg-type]
        assert beliefs.believed_cost(belief, seen) == (0.0, False), "nobody saw it sleep"


def test_one_reading_of_lock_waits_tells_that_threads_do_not_go_in_step(
    domain: MakeDomain,
) -> None:
    seen = domain(progress=window(20), run_delay_pcpus=2.0, lock_wait_ratio=0.0, system_ratio=0.0)
    belief = replace(
        Belief(home_vcpus=8, contended_since_ns=0), short_windows=beliefs.HINT_WINDOWS
    )
    cost, in_step = beliefs.believed_cost(belief, seen)
    assert in_step
    read = replace(seen, lock_wait_ratio=0.7, lock_wait_at_ns=25 * S)
    assert beliefs.believed_cost(belief, read) == (cost, False)


@pytest.mark.parametrize(("ratio", "in_step"), [(0.43, True), (0.45, False), (0.875, False)])
def test_vcpus_that_stand_in_line_for_locks_most_of_the_time_do_not_go_in_step(
    domain: MakeDomain, ratio: float, *, in_step: bool
) -> None:
    """Of eight vCPUs seven can be in line at once; that progress is next to none is more than that explains."""
    seen = domain(
        run_delay_pcpus=2.0,
        system_ratio=0.0,
        lock_wait_ratio=ratio,
        lock_wait_at_ns=25 * S,
        progress=replace(window(20), rate_pcpus=0.03),
    )
    belief = replace(
        Belief(home_vcpus=8, contended_since_ns=0), short_windows=beliefs.HINT_WINDOWS
    )
    assert beliefs.believed_cost(belief, seen)[1] is in_step


@pytest.mark.parametrize("wait", [None, 0.0])
def test_of_who_makes_next_to_nothing_a_shortfall_is_believed_until_an_attempt_was_in_vain(
    domain: MakeDomain, wait: float | None
) -> None:
    """A collapsed guest and one that works in its kernel look the same until then."""
    collapsed = domain(
        run_delay_pcpus=2.0,
        lock_wait_ratio=wait,
        lock_wait_at_ns=None if wait is None else 25 * S,
        progress=replace(window(20), rate_pcpus=0.001),
    )
    belief = Belief(
        home_vcpus=8, contended_since_ns=0, calm_seen=True, short_windows=beliefs.HINT_WINDOWS
    )
    assert beliefs.believed_cost(belief, collapsed)[0] > 1
    assert beliefs.believed_cost(replace(belief, failures=1), collapsed)[0] == 0
    shows = replace(collapsed, progress=replace(window(20), rate_pcpus=0.05))
    assert beliefs.believed_cost(replace(belief, failures=1), shows)[0] > 1


@pytest.mark.parametrize(
    ("delay", "worth", "counts"),
    [
        (2.0, 1.0, True),  # its vCPUs sleep, and lack half of its share
        (6.0, 1.0, False),  # they never do: it is merely given too little
        (6.0, 0.97, False),  # and what it gets is worth hardly less
        (6.0, 0.8, True),  # or a fifth less
    ],
)
def test_no_window_of_vcpus_that_never_sleep_is_short_of_a_share_alone(
    domain: MakeDomain, delay: float, worth: float, *, counts: bool
) -> None:
    """So that one reading in which they seem to sleep is not the last of four."""
    made = replace(window(0), rate_pcpus=2.0 * worth, worth_ratio=worth)
    seen = domain(used_pcpus=2.0, run_delay_pcpus=delay, entitled_pcpus=4.0, progress=made)
    belief = Belief(home_vcpus=8, contended_since_ns=0, short_windows=3)
    assert looked(belief, seen, 5, contended=True).short_windows == (4 if counts else 0)
