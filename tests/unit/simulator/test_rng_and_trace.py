from __future__ import annotations

from statistics import fmean, stdev

from vcpud_simulator.rng import Chance
from vcpud_simulator.trace import Digest, Kind, Recording, Tee


def test_the_same_seed_and_name_give_the_same_numbers_whatever_else_is_drawn() -> None:
    first, second = Chance(7), Chance(7)
    second.stream("somebody", "else").unit()
    ours, theirs = first.stream("web", 1), second.stream("web", 1)
    assert [ours.unit() for _ in range(5)] == [theirs.unit() for _ in range(5)]
    assert Chance(8).stream("web", 1).unit() != Chance(7).stream("web", 1).unit()


def test_drawn_durations_have_the_mean_and_spread_asked_for() -> None:
    stream = Chance(3).stream("x")
    assert abs(fmean(stream.exponential_ns(1_000_000) for _ in range(20_000)) / 1e6 - 1) < 0.03
    drawn = [stream.around_ns(1_000_000, 0.1) for _ in range(20_000)]
    assert abs(fmean(drawn) / 1e6 - 1) < 0.01
    assert abs(stdev(drawn) / 1e5 - 1) < 0.05
    assert stream.around_ns(1_000, 0) == 1_000
    assert all(10 <= stream.uniform_ns(10, 20) < 20 for _ in range(100))


def test_the_digest_depends_on_every_figure_of_every_event() -> None:
    one, other = Digest(), Digest()
    for number in range(10_000):
        one.record(number, Kind.WAKE, 1, 2)
        other.record(number, Kind.WAKE, 1, 2 if number != 9_999 else 3)
    assert one.events == other.events == 10_000
    assert one.hexdigest() != other.hexdigest()


def test_a_recording_keeps_its_window_only() -> None:
    recording, digest = Recording(from_ns=5, until_ns=8), Digest()
    tee = Tee(recording, digest)
    for when_ns in range(10):
        tee.record(when_ns, Kind.DISPATCH, 0, 0)
    assert [event.when_ns for event in recording.events] == [5, 6, 7]
    assert digest.events == 10
