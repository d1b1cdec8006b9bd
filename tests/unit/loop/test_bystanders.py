"""Who is not in a move may lose by it: what counts as that, and what is made of it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from vcpud.bystanders import losing
from vcpud.demand import DomainDemand, HostDemand, Progress
from vcpud.docket import Docket, opened, reached
from vcpud.judge import advance
from vcpud.model import Method, Mode, Trouble
from vcpud.plan import Move, Outcome, Proof, Resize, Verdict
from vcpud.units import NS_PER_S

S = NS_PER_S
SHRINK = Move(resizes=(Resize(uuid="moved", from_vcpus=2, to_vcpus=1),), reason="falls short")
NEXT = (100.5, 105.5)
"""A window of the one beside the move, which is carried out at 103 s."""


def seen(  # noqa: PLR0913 - what a domain is seen by
    uuid: str,
    span_s: tuple[float, float],
    rate: float,
    active: int,
    delay: float | None = None,
    *,
    pool: str = "host",
    entitled: float = 1.0,
) -> DomainDemand:
    progress = Progress(
        began_at_ns=round(span_s[0] * S),
        ended_at_ns=round(span_s[1] * S),
        rate_pcpus=rate,
        active_vcpus=active,
        worth_ratio=0.8,
    )
    return DomainDemand(
        uuid=uuid,
        name=uuid,
        mode=Mode.ENFORCE,
        pool=pool,
        weight=1,
        active_vcpus=active,
        min_vcpus=1,
        max_vcpus=2,
        method=Method.AGENT,
        run_delay_pcpus=delay,
        entitled_pcpus=entitled,
        progress=progress,
    )


def hear(
    docket: Docket, now_s: float, *domains: DomainDemand
) -> tuple[Docket, tuple[Verdict, ...]]:
    return advance(docket, HostDemand(window_ns=S, pools=(), domains=domains), round(now_s * S))


def tried(
    move: Move, *since: DomainDemand, had: float = 0.8, made: float = 0.72, steers: bool = False
) -> tuple[Verdict, ...]:
    """Verdicts after each of these sights of the one beside a move made at 103 s."""
    docket = Docket()
    for at_s in (90.5, 95.5):
        beside = seen("beside", (at_s, at_s + 5), had, 2, 0.2)
        beside = replace(beside, hold=Trouble.SELF_MANAGED if steers else None)
        docket, _ = hear(docket, at_s + 5, seen("moved", (at_s, at_s + 5), 0.7, 2, 1.0), beside)
    docket = reached(opened(docket, "d", move), "d", 103 * S)
    verdicts: tuple[Verdict, ...] = ()
    for beside in since:
        beside = replace(beside, hold=Trouble.SELF_MANAGED if steers else None)  # noqa: PLW2901 - the same, held
        assert beside.progress is not None
        now_s = beside.progress.ended_at_ns / S
        moved = seen("moved", (now_s - 0.5, now_s), made, 1, 0.0)
        docket, found = hear(docket, now_s, moved, beside)
        verdicts += found
    return verdicts


def test_who_is_thrown_out_of_step_beside_a_move_has_it_undone_at_once() -> None:
    """A collapse shows in the window in which the move was made, and more is not waited for."""
    (verdict,) = tried(SHRINK, seen("beside", NEXT, 0.19, 2, 0.9))
    assert (verdict.outcome, verdict.kept) == (Outcome.HARMED, False)
    assert verdict.at_ns == round(105.5 * S)
    assert verdict.beside == {"beside": pytest.approx(0.8)}
    assert verdict.detail == "beside it: 0.8 -> 0.19 useful pCPUs"


def test_a_smaller_loss_beside_a_move_takes_two_windows() -> None:
    first, second = (seen("beside", (at, at + 5), 0.55, 2, 0.9) for at in (100.5, 105.5))
    assert tried(SHRINK, first) == ()
    (verdict,) = tried(SHRINK, first, second)
    assert (verdict.outcome, verdict.kept) == (Outcome.HARMED, False)


@pytest.mark.parametrize(
    "beside",
    [
        seen("beside", NEXT, 0.19, 2, 0.2),  # it has less to do: it does not wait longer
        seen("beside", NEXT, 0.19, 2, 0.28),  # 4 % of its vCPUs' time longer
        seen("beside", NEXT, 0.19, 2, None),  # nobody knows
        seen("beside", NEXT, 0.19, 1, 0.9),  # it was moved itself
        seen("beside", NEXT, 0.19, 2, 0.9, pool="elsewhere"),
        seen("beside", NEXT, 0.19, 2, 0.9, entitled=0.2),  # the rest it had of what others left
        seen("beside", (97.0, 103.5), 0.19, 2, 0.9),  # mostly before the move
        seen("beside", NEXT, 0.78, 2, 0.9),
    ],
)
def test_what_is_no_harm_of_who_is_beside_a_move(beside: DomainDemand) -> None:
    assert tried(SHRINK, beside) == ()


@pytest.mark.parametrize(
    ("move", "harmed"),
    [
        (replace(SHRINK, proof=Proof.NO_HARM), True),
        (replace(SHRINK, proof=Proof.SUM), False),
        (replace(SHRINK, resizes=(replace(SHRINK.resizes[0], from_vcpus=1, to_vcpus=2),)), False),
        (replace(SHRINK, comparable_from_ns=101 * S), False),
    ],
)
def test_only_who_takes_vcpus_answers_for_others(move: Move, harmed: object) -> None:
    verdicts = tried(move, seen("beside", NEXT, 0.19, 2, 0.9))
    assert any(verdict.outcome is Outcome.HARMED for verdict in verdicts) is harmed


def steered(*rates: float) -> list[DomainDemand]:
    """Sights of a guest that has spread out and keeps its waiting where it was: nothing else shows."""
    spans = [(103.5 + 5 * number, 108.5 + 5 * number) for number in range(len(rates))]
    return [seen("beside", span, rate, 2, 0.2) for span, rate in zip(spans, rates, strict=True)]


def test_who_steers_itself_has_a_move_undone_by_its_progress_alone() -> None:
    """It spreads out step by step: at first it seems to gain."""
    since = steered(0.85, 0.55, 0.55, 0.55)
    assert tried(SHRINK, *since[:3], made=2.0, steers=True) == ()
    (verdict,) = tried(SHRINK, *since, made=2.0, steers=True)
    assert (verdict.outcome, verdict.kept) == (Outcome.HARMED, False)
    assert verdict.beside == {"beside": pytest.approx(0.8)}
    (verdict,) = tried(SHRINK, *since, made=2.0)
    assert verdict.outcome is Outcome.HELPED, "another that does not wait longer has less to do"


def test_what_was_clear_at_first_is_said_when_who_steers_itself_has_answered() -> None:
    *_, last = since = steered(0.8, 0.79, 0.8, 0.81)
    (verdict,) = tried(SHRINK, *since, made=2.0, steers=True)
    assert (verdict.outcome, verdict.kept) == (Outcome.HELPED, True)
    assert last.progress is not None
    assert verdict.at_ns == last.progress.ended_at_ns


def test_a_move_that_harms_who_is_in_it_does_not_wait_for_who_steers_itself() -> None:
    (verdict,) = tried(SHRINK, *steered(0.8), made=0.1, steers=True)
    assert (verdict.outcome, verdict.kept) == (Outcome.HARMED, False)
    assert verdict.at_ns == round(108.5 * S)


def starved(at_s: float, used: float, delay: float, entitled: float) -> DomainDemand:
    return seen("beside", (at_s, at_s + 5), 0.8 * used, 2, delay, entitled=entitled)


@pytest.mark.parametrize(
    ("used", "delay", "entitled", "harmed"),
    [
        (0.95, 0.25, 1.0, True),
        (0.95, 0.20, 1.0, True),  # as long as before is long enough where it lacks less
        (0.98, 0.25, 1.0, False),
        (0.95, 0.02, 1.0, False),  # it wants no more
        (0.95, 0.25, 0.96, False),  # the rest it had of what others left
    ],
)
def test_who_gets_less_than_it_had_and_is_entitled_to_is_harmed(
    used: float, delay: float, entitled: float, harmed: bool
) -> None:
    """Processor time is counted by the host: less of it is clear sooner than less progress is."""
    sights = [starved(at, used, delay, entitled) for at in (104.5, 109.5)]
    outcomes = [verdict.outcome for verdict in tried(SHRINK, *sights, made=1.4)]
    assert (Outcome.HARMED in outcomes) is harmed


def windows(at_s: float, long_s: float, *uses: float) -> tuple[Progress, ...]:
    """One after the other, of one that makes nothing but progress."""
    return tuple(
        Progress(
            began_at_ns=round((at_s + number * long_s) * S),
            ended_at_ns=round((at_s + (number + 1) * long_s) * S),
            rate_pcpus=used,
            active_vcpus=2,
            worth_ratio=1.0,
        )
        for number, used in enumerate(uses)
    )


@pytest.mark.parametrize(
    ("had", "gets", "harmed"),
    [
        (windows(80, 5, 0.290, 0.291), windows(104, 5, 0.263, 0.263), True),
        (windows(80, 5, 0.290, 0.247), windows(104, 5, 0.263, 0.219), False),
        (windows(80, 5, 0.30, 0.28, 0.31, 0.27), windows(104, 5, 0.20, 0.18, 0.21, 0.19), True),
        # What it had in one second was no more than its luck: 18 requests came instead of 15.
        (windows(99, 1, 0.290), windows(104, 5, 0.263, 0.219), False),
        (windows(99, 1, 0.290), windows(104, 5, 0.263), False),
    ],
    ids=["steady", "unsteady", "more than that", "one second", "two windows in all"],
)
def test_less_processor_time_is_clear_only_where_it_does_not_vary_as_much_by_itself(
    had: tuple[Progress, ...], gets: tuple[Progress, ...], harmed: bool
) -> None:
    """A guest that answers requests uses as much as happens to be asked of it."""
    now = seen("beside", (109, 114), 0.24, 2, 0.23, entitled=0.5)
    found = losing(
        HostDemand(window_ns=S, pools=(), domains=(seen("moved", (109, 114), 1.4, 1, 0.0), now)),
        {"beside": gets},
        moved={"moved"},
        before={"beside": had},
        lately={"beside": had},
        among={"moved", "beside"},
        delays={"beside": 0.02},
        comparable_from_ns=0,
        since_ns=103 * S,
    )
    assert any(one.lack is not None and one.harmed for one in found) is harmed


def beside_at(at_s: float, used: float, *, delay: float = 0.3, active: int = 2) -> DomainDemand:
    """A sight of one that makes nothing but progress."""
    one = seen("beside", (at_s, at_s + 5), used, active, delay, entitled=2.0)
    assert one.progress is not None
    return replace(one, progress=replace(one.progress, worth_ratio=1.0))


def unseen(uuid: str, used: float | None) -> DomainDemand:
    """One of whose progress nothing is known."""
    return replace(seen(uuid, (0, 1), 0.0, 2, 0.0), progress=None, used_pcpus=used)


CROWD = tuple(unseen(f"idle-{number}", 0.0) for number in range(20))
"""Among so many, one strays far by chance."""


def watched(
    had: list[float],
    gets: list[float],
    *,
    delay: float = 0.3,
    last: tuple[DomainDemand, ...] = (),
    since: tuple[DomainDemand, ...] = (),
) -> list[tuple[float, Verdict]]:
    """Verdicts, and when, of a move at 100 s that helps who is in it; one beside it is seen every 5 s.

    Args:
        had: What it used in windows before the move.
        gets: What it uses in windows since.
        delay: How long it waits since; before, it was 0.3 pCPUs.
        last: Who came in the last of the windows before.
        since: Who came after the move.
    """
    docket = Docket()
    for number, used in enumerate(had):
        at_s = 100.0 - 5 * (len(had) - number)
        moved = seen("moved", (at_s, at_s + 5), 0.7, 2, 1.0)
        came = last if number == len(had) - 1 else ()
        docket, _ = hear(docket, at_s + 5, moved, beside_at(at_s, used), *CROWD, *came)
    docket = reached(opened(docket, "d", SHRINK), "d", 100 * S)
    found: list[tuple[float, Verdict]] = []
    for number, used in enumerate(gets):
        at_s = 101.5 + 5 * number
        moved = seen("moved", (at_s, at_s + 5), 1.2, 1, 0.0)
        one = beside_at(at_s, used, delay=delay)
        docket, verdicts = hear(docket, at_s + 5, moved, one, *CROWD, *last, *since)
        found += [(at_s + 5, verdict) for verdict in verdicts]
    return found


TWO_WINDOWS_S = 111.5
"""When there are two windows since the move: enough for who is in it."""
UNSTEADY = [1.0, 1.2, 0.9, 1.1, 1.0, 1.2, 0.8, 1.0, 1.1, 0.9, 1.0, 1.0]


def test_who_seems_to_get_less_is_watched_until_that_is_clear() -> None:
    """What two windows do not tell, more do, beside all of the last minute."""
    ((at_s, verdict),) = watched(UNSTEADY, [0.8, 0.7] * 5)
    assert (verdict.outcome, verdict.kept) == (Outcome.HARMED, False)
    assert set(verdict.beside) == {"beside"}
    assert verdict.detail.startswith("beside it: 1.02 -> 0.7")
    assert verdict.detail.endswith(" used pCPUs")
    assert at_s > TWO_WINDOWS_S


def test_who_only_seemed_to_get_less_delays_the_verdict_and_changes_nothing_of_it() -> None:
    ((at_s, verdict),) = watched(UNSTEADY, [0.8, 0.7, 1.05, 1.0, 1.04, 1.0])
    assert (verdict.outcome, verdict.kept) == (Outcome.HELPED, True)
    assert TWO_WINDOWS_S < at_s < 131.5


def test_nobody_is_watched_for_longer_than_a_move_may_take_to_be_judged() -> None:
    """Less by more than chance would have it, and by less than is clear, for good."""
    ((at_s, verdict),) = watched(UNSTEADY, [0.65, 0.75] + [1.0, 0.5] * 10, delay=0.39)
    assert verdict.outcome is Outcome.HELPED
    assert 190 <= at_s < 200


@pytest.mark.parametrize(("windows_before", "harmed"), [(5, True), (4, False)])
def test_who_waits_less_but_was_steady_before_has_not_got_less_to_do_just_then(
    windows_before: int, harmed: bool
) -> None:
    """It waits for what it lacks, and for less than before by more than a twentieth of its vCPUs' time.

    The first of the windows before began before it was seen.
    """
    (_, verdict), *_ = watched([1.0] * windows_before, [0.85, 0.85], delay=0.16)
    assert (verdict.outcome is Outcome.HARMED) is harmed
    (_, verdict), *_ = watched([1.0] * windows_before, [0.85, 0.85], delay=0.14)
    assert verdict.outcome is Outcome.HELPED, "it waits for less than it had"


@pytest.mark.parametrize(
    ("came", "harmed"),
    [((), True), ((0.01,), True), ((0.1,), False), ((None,), False)],
    ids=["nobody", "an idle one", "one that uses as much as is lacking", "nobody knows"],
)
def test_what_newcomers_use_is_not_taken_by_a_move(
    came: tuple[float | None, ...], harmed: bool
) -> None:
    since = tuple(unseen("newcomer", used) for used in came)
    (_, verdict), *_ = watched([1.0] * 6, [0.9, 0.9], since=since)
    assert (verdict.outcome is Outcome.HARMED) is harmed


def test_what_was_used_before_somebody_came_tells_nothing() -> None:
    """Before the newcomer all was the same window after window; of those beside it there is one."""
    (_, verdict), *_ = watched([1.0] * 6, [0.9, 0.9], last=(unseen("newcomer", 0.0),))
    assert verdict.outcome is Outcome.HELPED
