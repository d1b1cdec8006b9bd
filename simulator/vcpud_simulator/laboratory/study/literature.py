"""Figures with bounds for what others have published, and whether a simulated host bears them out.

Problem: a simulated host is to be believed where nobody has measured only if it shows what others
did measure. Approach: a figure is computed seed by seed, from runs of the same seed, so that its
interval is of paired differences; judged is sign or order, by the whole interval, and what was
published is printed beside it with its tolerance, for the reader. A figure without a bound is
reported. `literature_claims` has the claims, `literature_runs` runs what they need.

Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, Final

from vcpud_simulator.laboratory.statistics import Interval, Side, mean, ratio, side
from vcpud_simulator.laboratory.study.judging import GRAVITY, Verdict

PREFIX: Final = "literature_"
REPORTED: Final = "reported"
FLOOR: Final = 1e-9
"""Stands for a rate of zero, which may be divided by."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A scenario and how it is run.

    Attributes:
        name: Of the scenario, without `literature_`.
        governed: Whether the steal governor decides; otherwise nobody does.
        online: Constant active vCPUs of each domain, instead of the scenario's.
        window_ns: How long to measure, instead of the scenario's.
        switches: Whether context switches are counted.
    """

    name: str
    governed: bool = False
    online: int | None = None
    window_ns: int | None = None
    switches: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What is kept of a run, by domain.

    Attributes:
        rates: Units of work per second.
        run_pcpus: Processor time used, per unit of time.
        responses_ns: Response times by percentile.
        switches: Dispatches of the host, where they were counted.
    """

    rates: Mapping[str, float]
    run_pcpus: Mapping[str, float]
    responses_ns: Mapping[str, Mapping[int, int]]
    switches: int = 0

    def rate(self, first: str = "") -> float:
        """Mean rate of the domains whose names begin so."""
        return fmean(rate for name, rate in self.rates.items() if name.startswith(first))


Runs = Mapping[Case, Sequence[Seen]]
"""What was seen of each case, seed by seed in the same order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One figure of a claim.

    Attributes:
        text: What it is.
        cases: What it is computed from.
        value: The figure of one seed, from what was seen of each case.
        at_least: Lower bound, or None.
        at_most: Upper bound, or None; without either it is reported.
        published: From where to where the source has it, tolerance included; not judged.
        plain: Whether seeds are averaged as they are, and not as factors.
    """

    text: str
    cases: tuple[Case, ...]
    value: Callable[..., float]
    at_least: float | None = None
    at_most: float | None = None
    published: tuple[float, float] | None = None
    plain: bool = False

    @property
    def bound(self) -> float | None:
        """As results hold it."""
        found = self.at_most if self.at_least is None else self.at_least
        return None if found is None else round(found, 9)

    def interval(self, runs: Runs) -> Interval:
        """Estimate and 95 % interval over the seeds."""
        seeds = zip(*(runs[case] for case in self.cases), strict=True)
        values = [self.value(*seen) for seen in seeds]
        return mean(values) if self.plain else ratio([(value, 1.0) for value in values])

    def verdict(self, interval: Interval) -> Verdict | None:
        """By the whole interval; None where there is no bound."""
        if self.bound is None:
            return None
        return {
            Side.WITHIN: Verdict.HOLDS,
            Side.BEYOND: Verdict.FAILS,
            Side.ACROSS: Verdict.NOT_ATTRIBUTABLE,
        }[side(interval, at_least=self.at_least, at_most=self.at_most)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What a source found.

    Attributes:
        id: As the scenarios are named.
        source: Where it was published.
        text: What was found.
        figures: What it means here, the most telling first.
    """

    id: str
    source: str
    text: str
    figures: tuple[Figure, ...]

    @property
    def cases(self) -> tuple[Case, ...]:
        """All that has to be run."""
        return tuple(dict.fromkeys(case for figure in self.figures for case in figure.cases))


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """A claim and what came of it.

    Attributes:
        claim: Which.
        intervals: Of its figures, in their order.
    """

    claim: Claim
    intervals: tuple[Interval, ...]

    @property
    def deciding(self) -> int:
        """Which figure has the gravest verdict, the first of several."""
        gravity = [-1 if one is None else GRAVITY[one] for one in self._verdicts]
        return gravity.index(max(gravity))

    @property
    def verdict(self) -> str:
        """Of all figures that have a bound together."""
        return str(self._verdicts[self.deciding] or REPORTED)

    @property
    def _verdicts(self) -> tuple[Verdict | None, ...]:
        pairs = zip(self.claim.figures, self.intervals, strict=True)
        return tuple(figure.verdict(interval) for figure, interval in pairs)

    def document(self) -> dict[str, Any]:
        """As results hold it."""
        deciding = self.deciding
        figures = [
            {
                "text": figure.text,
                "verdict": str(verdict or REPORTED),
                "measured": interval.value,
                "interval": interval.pair(),
                "bound": figure.bound,
                "published": None if figure.published is None else list(figure.published),
            }
            for figure, interval, verdict in zip(
                self.claim.figures, self.intervals, self._verdicts, strict=True
            )
        ]
        chosen = {key: figures[deciding][key] for key in ("measured", "interval", "bound")}
        return {
            "id": self.claim.id,
            "text": self.claim.text,
            "verdict": self.verdict,
            **chosen,
            "source": self.claim.source,
            "figures": figures,
        }


def judge(claim: Claim, runs: Runs) -> Judged:
    """Compute the figures of a claim."""
    return Judged(claim=claim, intervals=tuple(figure.interval(runs) for figure in claim.figures))


def text(judged: Sequence[Judged]) -> str:
    """The table, for people."""
    lines = [
        f"{'':<72}{'here':>7}  {'95 % interval':<18}{'bound':<10}published, with its tolerance"
    ]
    for one in judged:
        lines += ["", f"{one.claim.id}  {one.verdict.upper()}: {one.claim.text}"]
        lines.append(f"    ({one.claim.source})")
        pairs = zip(one.claim.figures, one.intervals, strict=True)
        lines += [_line(figure, interval) for figure, interval in pairs]
    return "\n".join(lines)


def _line(figure: Figure, interval: Interval) -> str:
    bound = "" if figure.bound is None else f"{'<=' if figure.at_least is None else '>='} "
    bound += "" if figure.bound is None else f"{figure.bound:.3g}"
    found = f"[{interval.low:.3f}, {interval.high:.3f}]"
    published = "" if figure.published is None else "{:.3g} to {:.3g}".format(*figure.published)
    line = f"    - {figure.text:<66}{interval.value:>7.3f}  {found:<18}{bound:<10}{published}"
    return line.rstrip()
