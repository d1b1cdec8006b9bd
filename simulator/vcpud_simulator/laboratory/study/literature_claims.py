"""What others have published about guests that share processors, claim by claim.

Each claim is a few figures of the scenarios `literature_*`, which state source and parameters.

Windows of L9 are shortened from the scenarios' to whole cycles of the neighbour, as many as are
needed for a figure: a simulated second of its locks costs more than one of CPU time. Its governor
decides once a second, without a judge, and with no further pause, as its source's does.

References: those of the scenarios.

Pure.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import pairwise
from statistics import fmean, linear_regression
from typing import Final

from vcpud.units import NS_PER_S
from vcpud_simulator.laboratory.study.claims import NO_LOSS
from vcpud_simulator.laboratory.study.literature import FLOOR, Case, Claim, Figure, Seen


def _below(limit: float) -> float:
    """The largest that excludes the limit: a figure that is always just that has shown nothing."""
    return math.nextafter(limit, -math.inf)


def _above(limit: float) -> float:
    return math.nextafter(limit, math.inf)


# ---------------------------------------------------------------------- figures of one seed


def _rates(first: str) -> Callable[[Seen, Seen], float]:
    return lambda over, under: over.rate(first) / max(under.rate(first), FLOOR)


def _answers(domain: str, percentile: int) -> Callable[[Seen, Seen], float]:
    def value(over: Seen, under: Seen) -> float:
        return over.responses_ns[domain][percentile] / under.responses_ns[domain][percentile]

    return value


def _score(over: Seen, under: Seen) -> float:
    """SPECvirt's: the mean of the guests' throughputs, each over that of a reference."""
    return fmean(rate / max(under.rates[name], FLOOR) for name, rate in over.rates.items())


def _trend(*seen: Seen) -> float:
    """By what factor the gain grows when the neighbour toggles half as often."""
    gains = [math.log(max(_LOCKS(over, under), FLOOR)) for over, under in _pairs(seen)]
    return math.exp(linear_regression([math.log2(one) for one in _L9_WINDOWS_S], gains).slope)


def _step(*seen: Seen) -> float:
    """The gain of the slower neighbour over that of the faster one."""
    faster, slower = (_LOCKS(over, under) for over, under in _pairs(seen))
    return slower / max(faster, FLOOR)


def _pairs(seen: Sequence[Seen]) -> Iterable[tuple[Seen, Seen]]:
    return zip(seen[::2], seen[1::2], strict=True)


_LOCKS: Final = _rates("locks")
_L9_WINDOWS_S: Final = {2: 12, 5: 20, 10: 20, 20: 40, 60: 120}
"""Measured seconds, by how long the neighbour is busy and then idle."""
_L9_NO_GAIN_BELOW_S: Final = 10


def _with_and_without(name: str, window_s: int | None = None) -> tuple[Case, Case]:
    window_ns = None if window_s is None else window_s * NS_PER_S
    unmanaged = Case(name=name, window_ns=window_ns)
    return replace(unmanaged, governed=True), unmanaged


_L9: Final = {
    busy_s: _with_and_without(f"l9_{busy_s}s", window_s)
    for busy_s, window_s in _L9_WINDOWS_S.items()
}
_LIMITED: Final = (Case(name="l11_on", switches=True), Case(name="l11_off", switches=True))
_BALANCE, _CFS, _COSCHEDULED = (
    Case(name=f"l3_{one}") for one in ("balance", "cfs", "coscheduled")
)
_ONE, _TWO, _THREE = (Case(name=f"l4_{one}") for one in ("one", "two", "three"))

# ---------------------------------------------------------------------- claims

CLAIMS: Final = (
    Claim(
        id="L2",
        source="FlexCore, Tsinghua Science and Technology 2015",
        text="two guests as wide as the host get more done with half of their vCPUs each",
        figures=(
            Figure(
                text="progress with 6 active vCPUs over that with all 12",
                cases=(Case(name="l2", online=6), Case(name="l2")),
                value=_rates("parsec"),
                published=(1.354, 1.796),
            ),
        ),
    ),
    Claim(
        id="L3",
        source="Sukwong and Kim, EuroSys 2011",
        text="balance scheduling answers sooner than CFS, and does as much as co-scheduling",
        figures=(
            Figure(
                text="95th percentile of responses, balance over CFS",
                cases=(_BALANCE, _CFS),
                value=_answers("server", 95),
                at_most=_below(1),
                published=(0.15, 1.0),
            ),
            Figure(
                text="throughput, balance over co-scheduling (a loss of 2 % is none)",
                cases=(_BALANCE, _COSCHEDULED),
                value=_rates("server"),
                at_least=NO_LOSS,
                published=(1.0, 1.08),
            ),
            Figure(
                text="median of responses, balance over CFS",
                cases=(_BALANCE, _CFS),
                value=_answers("server", 50),
                published=(0.15, 1.0),
            ),
            Figure(
                text="95th percentile of responses, balance over co-scheduling",
                cases=(_BALANCE, _COSCHEDULED),
                value=_answers("server", 95),
            ),
        ),
    ),
    Claim(
        id="L4",
        source="Linux commit 266e85a5ec91, scaled down five times: 16 pCPUs for 80",
        text="each of several guests whose lock waiters are preempted gets less than its share",
        figures=(
            Figure(
                text="each of two guests, over one alone",
                cases=(_TWO, _ONE),
                value=_rates("ebizzy"),
                at_most=_below(1 / 2),
                published=(0.24, 0.44),
            ),
            Figure(
                text="each of three guests, over one alone",
                cases=(_THREE, _ONE),
                value=_rates("ebizzy"),
                at_most=_below(1 / 3),
                published=(0.032, 0.232),
            ),
            Figure(
                text="each of three guests, over each of two",
                cases=(_THREE, _TWO),
                value=_rates("ebizzy"),
                at_most=_below(1),
            ),
        ),
    ),
    Claim(
        id="L5",
        source="Linux commit 1885aa7041c9",
        text="a guest that knows which of its vCPUs are preempted copies more",
        figures=(
            Figure(
                text="blocks copied, knowing over not knowing",
                cases=(Case(name="l5_files_aware"), Case(name="l5_files_unaware")),
                value=_rates("guest"),
                at_least=_above(1),
                published=(1.46, 1.96),
            ),
        ),
    ),
    Claim(
        id="L9",
        source="Hegde, [RFC PATCH v3 00/10] paravirt CPUs, 2025-09-10",
        text="a governor of one step a second gains the more, the slower its neighbour toggles",
        figures=(
            Figure(
                text="growth of the gain for twice the period",
                cases=tuple(case for pair in _L9.values() for case in pair),
                value=_trend,
                at_least=_above(1),
            ),
            *(
                Figure(
                    text=f"gain at {slower} s over that at {faster} s (a loss of 2 % is none)",
                    cases=(*_L9[faster], *_L9[slower]),
                    value=_step,
                    at_least=NO_LOSS,
                )
                for faster, slower in pairwise(_L9)
            ),
            *(
                Figure(
                    text=f"gain at {busy_s} s: progress with the governor over without",
                    cases=pair,
                    value=_LOCKS,
                    published=(0.0, 1.0) if busy_s < _L9_NO_GAIN_BELOW_S else None,
                )
                for busy_s, pair in _L9.items()
            ),
            Figure(
                text="99th percentile of schbench's wake-up latencies, with over without",
                cases=_with_and_without("l9_schbench"),
                value=_answers("schbench", 99),
                published=(95 / 3084, 95 / 3084),
            ),
        ),
    ),
    Claim(
        id="L11",
        source="Xen commit 64908a0466",
        text="a rate limit saves context switches, and guests get more done",
        figures=(
            Figure(
                text="context switches, with a limit of 1 ms over without",
                cases=_LIMITED,
                value=lambda over, under: over.switches / under.switches,
                at_most=_below(1),
                published=(0.55, 0.85),
            ),
            Figure(
                text="SPECvirt's score, mean of the guests' throughputs, with over without",
                cases=_LIMITED,
                value=_score,
                at_least=_above(1),
                published=(0.96, 1.26),
            ),
            Figure(text="of those that compute", cases=_LIMITED, value=_rates("busy")),
            Figure(text="of those that serve", cases=_LIMITED, value=_rates("server")),
            Figure(
                text="95th percentile of a server's responses, with over without",
                cases=_LIMITED,
                value=_answers("server-1", 95),
            ),
        ),
    ),
    Claim(
        id="L12",
        source="Xen commit 78c9b2a64b",
        text="who sleeps over ticks takes a pCPU that it shares, if debit is sampled",
        figures=(
            Figure(
                text="of a pCPU, sampled debit",
                cases=(Case(name="l12_sampled"),),
                value=lambda seen: seen.run_pcpus["rogue"],
                at_least=0.85,
                published=(0.85, 0.95),
                plain=True,
            ),
            Figure(
                text="of a pCPU, accurate debit",
                cases=(Case(name="l12_accurate"),),
                value=lambda seen: seen.run_pcpus["rogue"],
                at_most=1.1 * 0.5,
                plain=True,
            ),
        ),
    ),
)
