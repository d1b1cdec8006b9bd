"""The judge: only progress counts, a move that does not clearly help is undone."""

from __future__ import annotations

from dataclasses import replace

import pytest

from vcpud.demand import DomainDemand, HostDemand, Progress
from vcpud.docket import BACKOFF_NS, Docket, dismissed, opened, reached
from vcpud.judge import PATIENCE_NS, SETTLE_NS, advance
from vcpud.model import Method, Mode
from vcpud.plan import Move, Outcome, Proof, Resize, Verdict
from vcpud.units import NS_PER_S

S = NS_PER_S
SHRINK = Move(resizes=(Resize(uuid="u", from_vcpus=4, to_vcpus=1),), reason="spins")
UNSTEADY = [1.95, 1.83, 0.88]
"""One window made half of the others: the error of the mean is larger than what is to be gained."""
WATCHED = replace(SHRINK, proof=Proof.NONE)
GROW = Move(resizes=(Resize(uuid="u", from_vcpus=1, to_vcpus=2),), reason="queues")


def seen(
    began_s: float, ended_s: float, rate: float, active: int | None, uuid: str = "u"
) -> DomainDemand:
    progress = Progress(
        began_at_ns=round(began_s * S),
        ended_at_ns=round(ended_s * S),
        rate_pcpus=rate,
        active_vcpus=active,
    )
    return DomainDemand(
        uuid=uuid,
        name=uuid,
        mode=Mode.ENFORCE,
        pool="host",
        weight=1,
        active_vcpus=active or 1,
        min_vcpus=1,
        max_vcpus=4,
        method=Method.AGENT,
        progress=progress,
    )


def hear(
    docket: Docket, now_s: float, *domains: DomainDemand
) -> tuple[Docket, tuple[Verdict, ...]]:
    return advance(docket, HostDemand(window_ns=S, pools=(), domains=domains), round(now_s * S))


def trial(move: Move, before: list[float], after: list[float]) -> tuple[Docket, Verdict | None]:
    """Windows of five seconds before and after; the move is reached at once."""
    docket, at_s = Docket(), 0.0
    resize = move.resizes[0]
    for rate in before:
        docket, _ = hear(docket, at_s + 5, seen(at_s, at_s + 5, rate, resize.from_vcpus))
        at_s += 5
    docket = reached(opened(docket, "d", move), "d", round(at_s * S))
    at_s += 1.5
    for rate in after:
        docket, verdicts = hear(docket, at_s + 5, seen(at_s, at_s + 5, rate, resize.to_vcpus))
        at_s += 5
        if verdicts:
            return docket, verdicts[0]
    return docket, None


def test_a_clear_gain_is_kept() -> None:
    _, verdict = trial(SHRINK, [0.01], [0.9])
    assert verdict is not None
    assert verdict.outcome is Outcome.HELPED
    assert verdict.kept


def test_a_small_gain_needs_two_windows() -> None:
    _, verdict = trial(SHRINK, [0.5, 0.5], [0.62])
    assert verdict is None
    _, verdict = trial(SHRINK, [0.5, 0.5], [0.62, 0.62])
    assert verdict is not None
    assert verdict.outcome is Outcome.HELPED


def test_no_gain_is_undone_and_backed_off_twice_as_long_each_time() -> None:
    docket, verdict = trial(SHRINK, [0.5, 0.5], [0.5, 0.5])
    assert verdict is not None
    assert verdict.outcome is Outcome.NEUTRAL
    assert not verdict.kept
    until_ns = docket.blocked_until_ns("u", verdict.at_ns)
    assert until_ns == verdict.at_ns + BACKOFF_NS
    docket = reached(opened(docket, "e", SHRINK), "e", 1000 * S)
    verdicts: tuple[Verdict, ...] = ()
    for at_s in (1002, 1007):
        docket, verdicts = hear(docket, at_s + 5, seen(at_s, at_s + 5, 0.5, 1))
    assert docket.blocked_until_ns("u", 1012 * S) == 1012 * S + 2 * BACKOFF_NS
    assert not verdicts[0].kept


def test_harm_is_undone() -> None:
    _, verdict = trial(SHRINK, [0.9, 0.9], [0.3, 0.3])
    assert verdict is not None
    assert verdict.outcome is Outcome.HARMED
    assert not verdict.kept


@pytest.mark.parametrize(("after", "kept"), [([1.0, 1.0], True), ([0.2, 0.2], False)])
def test_giving_back_is_undone_only_when_it_did_harm(after: list[float], kept: bool) -> None:
    _, verdict = trial(GROW, [1.0, 1.0], after)
    assert verdict is not None
    assert verdict.kept is kept


def test_noise_is_not_a_gain() -> None:
    _, verdict = trial(SHRINK, [0.4, 0.8, 0.5, 0.7], [0.6, 0.64])
    assert verdict is not None
    assert verdict.outcome is Outcome.NEUTRAL


def test_a_gain_that_is_not_clear_yet_stays_on_trial_until_noise_says_otherwise() -> None:
    before = [0.4, 0.8, 0.5, 0.7]
    _, verdict = trial(SHRINK, before, [0.66, 0.7])
    assert verdict is None
    _, verdict = trial(SHRINK, before, [0.66, 0.7, 0.45])
    assert verdict is not None
    assert (verdict.outcome, verdict.kept) == (Outcome.NEUTRAL, False)


def test_what_a_few_unsteady_windows_hide_is_proved_by_every_later_one_being_better() -> None:
    _, verdict = trial(SHRINK, UNSTEADY, [1.97, 1.98, 1.97, 1.96])
    assert verdict is None
    docket, verdict = trial(SHRINK, UNSTEADY, [1.97, 1.98, 1.97, 1.96, 1.98])
    assert verdict is not None
    assert (verdict.outcome, verdict.kept) == (Outcome.HELPED, True)
    assert docket.blames == {}


@pytest.mark.parametrize(
    ("dip", "outcome", "gain"), [(1.9, Outcome.HELPED, True), (1.4, Outcome.UNKNOWN, False)]
)
def test_where_windows_overlap_their_order_decides_once_the_trial_is_over(
    dip: float, outcome: Outcome, gain: bool
) -> None:
    windows = [1.97, dip, 1.97, 1.97] * 5
    docket, verdict = trial(SHRINK, UNSTEADY, windows)
    assert verdict is not None
    assert (verdict.outcome, verdict.kept) == (outcome, gain)
    assert (verdict.gain_ratio is not None) == gain
    reached_at_ns = 15 * S
    assert PATIENCE_NS <= verdict.at_ns - reached_at_ns < PATIENCE_NS + 5 * S
    assert docket.trials == ()


def test_an_open_trial_ends_with_the_window_that_takes_the_gain_away() -> None:
    _, verdict = trial(SHRINK, UNSTEADY, [1.97, 1.98])
    assert verdict is None
    _, verdict = trial(SHRINK, UNSTEADY, [1.97, 1.98, 0.1])
    assert verdict is not None
    assert (verdict.outcome, verdict.kept) == (Outcome.NEUTRAL, False)


def test_an_unclear_gain_of_one_is_not_waited_for_while_another_seems_to_lose() -> None:
    move = Move(
        resizes=(
            Resize(uuid="u", from_vcpus=4, to_vcpus=2),
            Resize(uuid="neighbour", from_vcpus=4, to_vcpus=2),
        ),
        reason="fits",
    )
    docket = Docket()
    for at_s, rate, steady in ((0, 1.57, 2.0), (5, 1.55, 2.4), (10, 0.02, 1.9)):
        both = (seen(at_s, at_s + 5, rate, 4), seen(at_s, at_s + 5, steady, 4, "neighbour"))
        docket, _ = hear(docket, at_s + 5, *both)
    docket = reached(opened(docket, "d", move), "d", 15 * S)
    verdicts: tuple[Verdict, ...] = ()
    for at_s in (17, 22):
        both = (seen(at_s, at_s + 5, 1.97, 2), seen(at_s, at_s + 5, 1.9, 2, "neighbour"))
        docket, verdicts = hear(docket, at_s + 5, *both)
    assert [(verdict.outcome, verdict.kept) for verdict in verdicts] == [(Outcome.NEUTRAL, False)]


@pytest.mark.parametrize(("rate", "open_"), [(0.8, True), (0.1, False)])
def test_a_trial_is_not_left_open_while_somebody_beside_it_seems_to_lose(
    rate: float, open_: bool
) -> None:
    docket = Docket()
    for number, one in enumerate(UNSTEADY):
        at_s = 5 * number
        both = (seen(at_s, at_s + 5, one, 4), seen(at_s, at_s + 5, 0.8, 2, "beside"))
        docket, _ = hear(docket, at_s + 5, *both)
    docket = reached(opened(docket, "d", SHRINK), "d", 15 * S)
    verdicts: tuple[Verdict, ...] = ()
    for at_s in (17, 22):
        both = (seen(at_s, at_s + 5, 1.97, 1), seen(at_s, at_s + 5, rate, 2, "beside"))
        docket, verdicts = hear(docket, at_s + 5, *both)
    assert bool(docket.trials) is open_
    assert [verdict.outcome for verdict in verdicts] == ([] if open_ else [Outcome.NEUTRAL])


def test_giving_back_is_judged_at_the_first_look_however_unsteady_progress_is() -> None:
    _, verdict = trial(GROW, [1.0, 0.2], [1.1, 1.0])
    assert verdict is not None
    assert (verdict.outcome, verdict.kept) == (Outcome.NEUTRAL, True)


def test_windows_that_began_before_the_guest_settled_do_not_count() -> None:
    docket, _ = hear(Docket(), 5, seen(0, 5, 0.01, 4))
    docket = reached(opened(docket, "d", SHRINK), "d", 6 * S)
    docket, verdicts = hear(docket, 12, seen(6, 11, 0.9, 1))
    assert verdicts == ()
    assert SETTLE_NS > 0
    _, verdicts = hear(docket, 17, seen(11, 16, 0.9, 1))
    assert verdicts[0].outcome is Outcome.HELPED


def test_a_move_that_cannot_be_judged_in_time_is_undone() -> None:
    docket = reached(opened(Docket(), "d", SHRINK), "d", 0)
    docket, verdicts = hear(docket, PATIENCE_NS / S - 1)
    assert verdicts == ()
    _, verdicts = hear(docket, PATIENCE_NS / S)
    assert verdicts[0].outcome is Outcome.UNKNOWN
    assert not verdicts[0].kept


def test_a_move_of_two_domains_is_undone_when_one_of_them_was_harmed() -> None:
    both = Move(
        resizes=(
            Resize(uuid="u", from_vcpus=4, to_vcpus=1),
            Resize(uuid="v", from_vcpus=2, to_vcpus=1),
        ),
        reason="",
    )
    docket, _ = hear(Docket(), 5, seen(0, 5, 0.01, 4), seen(0, 5, 1.0, 2, "v"))
    docket = reached(opened(docket, "d", both), "d", 5 * S)
    _, verdicts = hear(docket, 12, seen(7, 12, 0.9, 1), seen(7, 12, 0.4, 1, "v"))
    assert verdicts[0].outcome is Outcome.HARMED
    assert not verdicts[0].kept


@pytest.mark.parametrize("proof", [Proof.GAIN, Proof.NO_HARM, Proof.SUM])
def test_who_was_clearly_harmed_need_not_wait_for_what_the_others_made_of_it(proof: Proof) -> None:
    both = Move(
        resizes=(
            Resize(uuid="u", from_vcpus=4, to_vcpus=1),
            Resize(uuid="v", from_vcpus=2, to_vcpus=1),
        ),
        reason="",
        proof=proof,
    )
    docket = Docket()
    for at_s in (0, 5, 10):
        spins, works = seen(at_s, at_s + 5, 0.1, 4), seen(at_s, at_s + 5, 1.2, 2, "v")
        docket, _ = hear(docket, at_s + 5, spins, works)
    docket = reached(opened(docket, "d", both), "d", 15 * S)
    _, verdicts = hear(docket, 22, seen(17, 22, 0.9, 1, "v"))
    if proof is Proof.SUM:
        assert verdicts == (), "what one loses the other may have got"
    else:
        assert (verdicts[0].outcome, verdicts[0].kept) == (Outcome.HARMED, False)
        assert set(verdicts[0].gains) == {"v"}


def test_a_domain_that_is_gone_ends_its_trial_without_a_verdict() -> None:
    docket = reached(opened(Docket(), "d", SHRINK), "d", 0)
    docket = dismissed(docket, "u")
    assert docket.trials == ()
    assert hear(docket, 1000)[1] == ()


def test_what_helped_before_is_kept_unless_it_harms() -> None:
    known = replace(SHRINK, proof=Proof.NO_HARM)
    _, verdict = trial(known, [1.0, 1.0], [1.0, 1.0])
    assert verdict is not None
    assert (verdict.outcome, verdict.kept) == (Outcome.NEUTRAL, True)
    _, verdict = trial(known, [1.0, 1.0], [0.4, 0.4])
    assert verdict is not None
    assert (verdict.outcome, verdict.kept) == (Outcome.HARMED, False)


def test_what_was_seen_under_other_conditions_is_not_compared_with() -> None:
    since = replace(SHRINK, comparable_from_ns=round(5 * S))
    _, verdict = trial(since, [4.0, 0.1], [1.0, 1.0])
    assert verdict is not None
    assert verdict.outcome is Outcome.HELPED, "4.0 was seen while the host had room"
    docket = reached(opened(Docket(), "d", replace(since, proof=Proof.NO_HARM)), "d", 0)
    docket, verdicts = hear(docket, 0.5)
    assert verdicts == ()
    docket, (verdict,) = hear(docket, 1.0)
    assert (verdict.outcome, verdict.kept) == (Outcome.UNKNOWN, True)
    assert docket.trials == ()


@pytest.mark.parametrize(("after", "kept"), [((1.9, 1.0), True), ((1.0, 1.0), False)])
def test_an_exchange_is_judged_on_the_sum(after: tuple[float, float], kept: object) -> None:
    move = Move(
        resizes=(
            Resize(uuid="giver", from_vcpus=2, to_vcpus=1),
            Resize(uuid="taker", from_vcpus=1, to_vcpus=2),
        ),
        reason="rotates",
        proof=Proof.SUM,
    )
    docket = Docket()
    for at_s in (0, 5):
        both = (seen(at_s, at_s + 5, 2.0, 2, "giver"), seen(at_s, at_s + 5, 1.0, 1, "taker"))
        docket, _ = hear(docket, at_s + 5, *both)
    docket = reached(opened(docket, "d", move), "d", 10 * S)
    verdicts: tuple[Verdict, ...] = ()
    for at_s in (12, 17):
        giver, taker = after
        both = (seen(at_s, at_s + 5, taker, 1, "giver"), seen(at_s, at_s + 5, giver, 2, "taker"))
        docket, verdicts = hear(docket, at_s + 5, *both)
    assert [verdict.kept for verdict in verdicts] == [kept]


@pytest.mark.parametrize(
    ("after", "outcome"),
    [
        ([2.0, 2.0], Outcome.HELPED),
        ([1.0, 1.0], Outcome.NEUTRAL),
        ([0.4, 0.4], Outcome.HARMED),
        ([], None),
    ],
)
def test_how_a_move_without_proof_ended_is_told_and_nothing_follows(
    after: list[float], outcome: Outcome | None
) -> None:
    docket, verdict = trial(WATCHED, [1.0, 1.0], after)
    assert (None if verdict is None else verdict.outcome) == outcome
    assert verdict is None or verdict.kept
    assert docket.blames == {}
    assert docket.tried() == set(), "nobody has to wait for it"
    assert docket.on_trial("u") is None


def test_of_a_move_without_proof_that_the_next_one_overtakes_just_that_is_told() -> None:
    docket = reached(opened(Docket(), "first", WATCHED), "first", 0)
    docket = opened(docket, "second", replace(SHRINK, proof=Proof.GAIN))
    docket, (verdict,) = hear(docket, 1.0)
    assert (verdict.decision_id, verdict.outcome, verdict.kept) == ("first", Outcome.UNKNOWN, True)
    assert "changed again" in verdict.detail
    assert [one.decision_id for one in docket.trials] == ["second"]


def test_of_a_move_without_proof_that_cannot_be_measured_the_reason_is_told() -> None:
    docket = reached(opened(Docket(), "d", WATCHED), "d", 0)
    docket, verdicts = hear(docket, PATIENCE_NS / S - 1)
    assert verdicts == ()
    _, (verdict,) = hear(docket, PATIENCE_NS / S)
    assert (verdict.outcome, verdict.kept) == (Outcome.UNKNOWN, True)
    assert verdict.detail == "progress could not be measured"


@pytest.mark.parametrize(("due", "kept"), [(None, False), (2.0, True), (3.0, False)])
def test_losing_what_others_had_left_is_no_harm(due: float | None, kept: object) -> None:
    lent = Resize(uuid="u", from_vcpus=4, to_vcpus=2, due_pcpus=due)
    move = Move(resizes=(lent,), reason="for the sake of others", proof=Proof.NO_HARM)
    _, verdict = trial(move, [2.7, 2.7], [1.95, 1.95])
    assert verdict is not None
    assert verdict.kept is kept
