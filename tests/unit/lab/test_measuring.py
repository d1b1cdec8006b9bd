"""Figures that are computed from what boards and accounts say."""

import pytest

from lab.cells import Accounts, Block, mean_rate, proxy
from lab.compare import Comparison
from lab.timeline import Moment, rates, settle_s

SECOND_NS = 1_000_000_000


def block(arm: str, rate: float, seconds: float = 10.0) -> Block:
    return Block(
        arm=arm,
        began_ns=0,
        ended_ns=round(seconds * SECOND_NS),
        rates={"a": rate / 4, "b": 3 * rate / 4},
        proxies={},
        active={"a": 1, "b": 1},
    )


def test_the_proxy_is_host_time_times_the_guests_own_share_of_user_time() -> None:
    before = Accounts(host_ns=0, user_ms=100, busy_ms=1_000)
    after = Accounts(host_ns=10 * SECOND_NS, user_ms=1_100, busy_ms=5_000)
    assert proxy(before, after, elapsed_s=5.0) == pytest.approx(2.0 * 1_000 / 4_000)


def test_a_guest_that_accounts_nothing_or_backwards_has_no_proxy() -> None:
    idle = Accounts(host_ns=5, user_ms=10, busy_ms=10)
    assert proxy(idle, idle, elapsed_s=1.0) is None
    assert proxy(idle, Accounts(host_ns=6, user_ms=1, busy_ms=20), elapsed_s=1.0) is None


def test_a_mean_rate_weighs_blocks_by_their_duration() -> None:
    assert mean_rate([block("x", 10.0, 30.0), block("x", 50.0, 10.0)]) == pytest.approx(20.0)
    assert mean_rate([]) == 0.0


def test_arms_are_compared_round_by_round() -> None:
    comparison = Comparison()
    comparison.blocks["m"] += [block("m", 10.0), block("m", 20.0)]
    comparison.blocks["u"] += [block("u", 5.0), block("u", 10.0)]
    assert comparison.over("m", "u").value == pytest.approx(2.0)
    part = comparison.over("m", "u", lambda one: one.rates["a"])
    assert part.value == pytest.approx(2.0)
    assert comparison.rate("m") == pytest.approx(15.0)


def timeline(rate_at: dict[int, float], seconds: int) -> list[Moment]:
    moments, done, rate = [], 0.0, 0.0
    for quarter in range(seconds * 4 + 1):
        rate = rate_at.get(quarter // 4, rate) if quarter % 4 == 0 else rate
        moments.append(
            Moment(at_ns=quarter * SECOND_NS // 4, iterations={"a": round(done)}, active={"a": 4})
        )
        done += rate / 4
    return moments


def test_settling_is_when_nine_tenths_of_the_steady_rate_are_reached() -> None:
    moments = timeline({0: 4.0, 20: 4_000.0}, 60)
    found = settle_s(moments, started_ns=5 * SECOND_NS)
    assert found == pytest.approx(17.0, abs=1.0)


def test_a_window_shows_the_rate_inside_it() -> None:
    assert rates(timeline({0: 100.0}, 10))[-1][1] == pytest.approx(100.0, rel=0.02)


def test_nothing_recorded_is_nothing_settled() -> None:
    assert settle_s([], started_ns=0) is None
