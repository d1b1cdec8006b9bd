"""The picture of a recovery: active vCPUs and throughput over time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lab.timeline import rates

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from lab.timeline import Moment


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
