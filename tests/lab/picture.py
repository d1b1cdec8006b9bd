"""Pictures: of a recovery, active vCPUs and throughput over time; of a contest, where everybody stands."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from lab.timeline import rates

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from matplotlib.axes import Axes

    from lab.timeline import Moment

MARGIN = 1.6
"""A contest's axes reach so much further than its ratios; wider intervals run off them."""
DECADE = 10.0
"""Axes that reach less far have their marks at even distances, others at powers of ten."""


def draw(moments: Sequence[Moment], started_ns: int, path: Path, caption: str) -> None:
    """Draw a timeline to ``path``, with the moment vcpud was started at zero."""
    import matplotlib as mpl  # noqa: PLC0415  an extra, and slow to load

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    figure, (throughput, active) = plt.subplots(
        2, 1, sharex=True, figsize=(9, 5.5), height_ratios=(2, 1), layout="constrained"
    )
    pairs = rates(moments)
    throughput.plot(
        [(at_ns - started_ns) / 1e9 for at_ns, _ in pairs],
        [max(rate, 0.1) for _, rate in pairs],
        color="black",
        linewidth=1.2,
    )
    throughput.set_yscale("log")
    throughput.set_ylabel("iterations per second\n(both domains, 2 s window)")
    throughput.set_title(caption, fontsize=10, loc="left")
    for name in moments[0].active:
        active.step(
            [(moment.at_ns - started_ns) / 1e9 for moment in moments],
            [moment.active[name] for moment in moments],
            where="post",
            label=name,
            linewidth=1.2,
        )
    active.set_ylabel("active vCPUs")
    active.set_ylim(0, max(max(moment.active.values()) for moment in moments) + 0.5)
    active.set_xlabel("seconds since vcpud was started")
    active.legend(loc="upper right", frameon=False)
    for axes in (throughput, active):
        axes.axvline(0.0, color="grey", linewidth=0.8, linestyle="--")
        axes.grid(visible=True, which="major", linewidth=0.3)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def draw_contest(parts: Mapping[str, Mapping[str, Any]], path: Path) -> None:
    """Draw a panel for each bound of the contest: every policy's ratio with its interval, and the limit.

    Args:
        parts: As in the results.
        path: Of the picture; its suffix says which kind.
    """
    import matplotlib as mpl  # noqa: PLC0415  an extra, and slow to load

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    panels = [
        (name, bound, part)
        for name, part in parts.items()
        for bound in part["verdicts"]
        if part.get("policies")
    ]
    if not panels:
        return
    columns = 2
    rows = -(-len(panels) // columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(10, 1.9 * rows), squeeze=False, layout="constrained"
    )
    for axis in axes.flat[len(panels) :]:
        axis.set_visible(False)
    for axis, (name, bound, part) in zip(axes.flat, panels, strict=False):
        key, _, limit = bound.split(" ")
        title = f"{name}: {key.replace('_', ' ')}, at least {limit}"
        axis.set_title(title, fontsize=9, loc="left")
        _standings(axis, part["policies"], key, float(limit))
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
    plt.close(figure)


def _standings(
    axis: Axes, policies: Mapping[str, Mapping[str, Any]], key: str, limit: float
) -> None:
    """Draw one panel: a point and an interval for each policy that has this ratio, and the limit."""
    from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter  # noqa: PLC0415

    shown = [limit]
    for height, row in enumerate(reversed(list(policies.values()))):
        if key not in row:
            continue
        shown.append(row[key])
        low, high = row[f"{key}_ci"]
        known = low > 0 and math.isfinite(high)  # not of a single turn, which is drawn hollow
        if known:
            axis.plot((low, high), (height, height), color="grey", linewidth=1)
        axis.plot(row[key], height, "ko", markersize=4, fillstyle="full" if known else "none")
    axis.set_yticks(range(len(policies)), list(reversed(list(policies))), fontsize=8)
    axis.axvline(limit, color="C3", linewidth=0.8, linestyle="--")
    left, right = max(min(shown), 1e-6) / MARGIN, max(shown) * MARGIN
    axis.set_xscale("log")
    axis.set_xlim(left, right)
    axis.xaxis.set_major_locator(
        MaxNLocator(6) if right < DECADE * left else LogLocator(numticks=8)
    )
    axis.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axis.xaxis.set_minor_formatter(NullFormatter())
    axis.tick_params(axis="x", labelsize=8)
    axis.grid(visible=True, axis="x", linewidth=0.3)
