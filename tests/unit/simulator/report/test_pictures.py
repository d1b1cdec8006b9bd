"""Pictures: bounded in size, true to what they show."""

from __future__ import annotations

import math
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from vcpud_simulator.laboratory.report import chart as charts
from vcpud_simulator.laboratory.report.chart import HEIGHT, WIDTH, Chart, Line, Span, chart
from vcpud_simulator.laboratory.report.gantt import MOST_LANES, Vcpu, gantt
from vcpud_simulator.laboratory.report.window import Window
from vcpud_simulator.trace import Kind

S = 1_000_000_000


def draw(
    points: list[tuple[int, float | None]], *, stepped: bool = False, logarithmic: bool = False
) -> Chart:
    return chart(
        key="k",
        title="t",
        unit="u",
        span=Span(from_ns=0, until_ns=10 * S),
        lines=[Line(colour=0, points=tuple(points))],
        stepped=stepped,
        may_be_logarithmic=logarithmic,
    )


def test_a_line_goes_through_its_points() -> None:
    drawn = draw([(0, 0.0), (5 * S, 2.0), (10 * S, 4.0)])
    assert drawn.paths[0].d == f"M0 {HEIGHT}L500 {HEIGHT / 2:g}L1000 0"


def test_a_gap_in_the_figures_is_a_gap_in_the_line() -> None:
    drawn = draw([(0, 4.0), (S, 4.0), (2 * S, None), (3 * S, 4.0), (4 * S, 4.0)])
    assert drawn.paths[0].d.count("M") == 2


def test_a_stepped_line_holds_its_value_to_the_end() -> None:
    drawn = draw([(0, 4.0), (5 * S, 1.0)], stepped=True)
    assert drawn.paths[0].d.endswith(f"H500V90H{WIDTH}")


def test_values_that_differ_by_orders_of_magnitude_get_a_logarithmic_scale_with_a_place_for_zero() -> (
    None
):
    drawn = draw([(0, 0.0), (S, 2.0), (2 * S, 590.0)], logarithmic=True)
    assert drawn.logarithmic
    assert drawn.y_ticks[0].text == "0"
    assert drawn.paths[0].d.startswith(f"M0 {HEIGHT}")


def test_values_alike_do_not() -> None:
    assert not draw([(0, 5.0), (S, 6.0)], logarithmic=True).logarithmic


def test_nothing_to_draw_is_said() -> None:
    assert draw([]).empty
    assert draw([(0, None)]).empty


@example([5e-324], False, False)
@example([5e-324, 1.0], False, True)
@given(
    st.lists(st.none() | st.floats(0, 1e12, allow_nan=False), max_size=30),
    st.booleans(),
    st.booleans(),
)
def test_every_point_and_tick_lies_inside_the_picture(
    values: list[float | None], stepped: bool, logarithmic: bool
) -> None:
    drawn = draw(
        [(at * S // 4, value) for at, value in enumerate(values)],
        stepped=stepped,
        logarithmic=logarithmic,
    )
    assert all(0 <= tick.at_ratio <= 1 for tick in drawn.y_ticks)
    assert 2 <= len(drawn.y_ticks) <= 8
    for path in drawn.paths:
        numbers = [float(one) for one in re.findall(r"-?[0-9.]+(?:e[+-]?\d+)?", path.d)]
        assert all(math.isfinite(one) and -0.2 <= one <= WIDTH + 0.2 for one in numbers)


@given(st.integers(0, 10**12), st.integers(1, 10**13))
def test_time_has_a_handful_of_round_ticks_inside_the_picture(
    from_ns: int, length_ns: int
) -> None:
    ticks = Span(from_ns=from_ns, until_ns=from_ns + length_ns).ticks()
    assert len(ticks) <= 6
    assert all(-1e-6 <= tick.at_ratio <= 1 + 1e-6 for tick in ticks)


def test_seconds_are_marked_at_round_figures() -> None:
    ticks = charts.Span(from_ns=0, until_ns=60 * S).ticks()
    assert [tick.text for tick in ticks] == ["0 s", "20 s", "40 s", "60 s"]


def busy_window(vcpus: int, events: int) -> Window:
    window = Window(0, 1_000 * events)
    for at in range(events):
        kind = Kind.DISPATCH if at % 2 else Kind.PREEMPT
        for vcpu in range(vcpus):
            window.record(1_000 * at + vcpu, kind, vcpu, vcpu)
    return window


def test_a_picture_of_very_much_has_a_bounded_number_of_bars() -> None:
    picture = gantt(busy_window(4, 20_000), 4, [Vcpu(colour=0, name=f"a.{i}") for i in range(4)])
    assert 1_000 < sum(len(lane.bars) for lane in picture.vcpus) <= 9_000
    assert 1_000 < sum(len(lane.bars) for lane in picture.pcpus) <= 9_000


def test_lanes_that_are_left_out_are_counted() -> None:
    many = MOST_LANES + 7
    vcpus = [Vcpu(colour=0, name=f"a.{i}") for i in range(many)]
    picture = gantt(Window(0, 100), many, vcpus)
    assert (len(picture.vcpus), picture.hidden_vcpus) == (MOST_LANES, 7)
    assert (len(picture.pcpus), picture.hidden_pcpus) == (MOST_LANES, 7)


def test_a_bar_says_who_where_how_long_and_how_much_of_it_was_spinning() -> None:
    window = Window(0, 10_000_000)
    window.record(0, Kind.DISPATCH, 0, 1)
    window.record(2_000_000, Kind.SPIN_BEGIN, 0, 1)
    window.record(8_000_000, Kind.PREEMPT, 0, 1)
    picture = gantt(window, 2, [Vcpu(colour=3, name="web.0")])
    assert picture.pcpus[0].bars == ()
    [bar] = picture.pcpus[1].bars
    assert bar.text == "web.0, 0.00 to 8.00 ms, 75% of it spinning"
    assert bar.css == "run d3"
    assert (bar.x, bar.width) == (0, 800)
    assert bar.spins.startswith("M200 ")
    assert [one.css for one in picture.vcpus[0].bars] == ["run d3", "ready d3"]


@pytest.mark.parametrize("kind", [Kind.OFFLINE, Kind.CO_STOP])
def test_offline_and_co_stopped_are_not_taken_for_idle(kind: Kind) -> None:
    window = Window(0, 1_000)
    window.record(0, Kind.DISPATCH, 0, 0)
    window.record(500, kind, 0, 0)
    picture = gantt(window, 1, [Vcpu(colour=0, name="web.0")])
    assert len(picture.vcpus[0].bars) == 2
