"""Whose a change was: what counts as somebody else's, what as undoing, and what says nothing."""

from __future__ import annotations

from dataclasses import replace

from unit.loop.test_steer import ALL, course, sample
from vcpud.foreign import Watch
from vcpud.model import DomainSample, SetOnline

ONE = frozenset({0})


def parked() -> Watch:
    """Of a domain that was brought to one vCPU, as it was read back."""
    watch = Watch()
    watch.ended(course(1), sample(ONE, at_ns=100), reached=True)
    return watch


def test_who_brings_back_what_was_parked_undoes_it() -> None:
    found = parked().look(sample(ALL, at_ns=200), None, None, since_ns=100)
    assert found is not None
    assert (found.from_vcpus, found.to_vcpus, found.brought) == (1, 4, ALL - ONE)
    assert (found.reversal, found.reversals) == (True, 1)


def test_what_was_read_before_vcpud_last_did_something_says_nothing() -> None:
    watch = parked()
    late = replace(sample(ALL, at_ns=200), online_taken_at_ns=90)
    assert watch.look(late, None, None, since_ns=100) is None
    assert watch.look(replace(late, online_taken_at_ns=None), None, None, since_ns=100) is None
    assert watch.look(replace(late, online_taken_at_ns=101), None, None, since_ns=100) is not None


def test_nothing_is_somebody_elses_while_a_step_is_in_flight_or_has_failed() -> None:
    def seen(watch: Watch, one: DomainSample, failures: int = 0) -> bool:
        return watch.look(one, None, course(1, failures=failures), since_ns=100) is not None

    whole = sample(ALL, at_ns=200)
    asked = SetOnline(uuid="u", online=ONE)
    assert not seen(parked(), replace(whole, in_flight=asked))
    assert not seen(parked(), whole, failures=1)
    assert seen(parked(), whole)


def test_what_an_operator_left_before_resuming_is_a_change_but_no_reversal() -> None:
    watch = parked()
    watch.resume("u", 150)
    found = watch.look(sample(ALL, at_ns=200), None, None, since_ns=100)
    assert found is not None
    assert (found.reversal, found.reversals) == (False, None)
    again = watch.look(sample(ONE, at_ns=300), None, None, since_ns=100)
    assert again is not None
    assert again.reversals == 0, "and counts from then on"
