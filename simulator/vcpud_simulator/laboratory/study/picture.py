"""Pictures of a study: shares as maps of width and overcommit, slowdowns by grain, recoveries."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from vcpud.errors import VcpudError
from vcpud_simulator.laboratory.parallel import EXTRA
from vcpud_simulator.laboratory.statistics import mean
from vcpud_simulator.laboratory.study.agreement import FAR, NEAR
from vcpud_simulator.laboratory.study.cells import COMPARED, GOBMK, Cell, Job, Kind, System, Wait

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from vcpud_simulator.laboratory.study.agreement import Agreement
    from vcpud_simulator.laboratory.study.grid import Plan
    from vcpud_simulator.laboratory.study.table import Table

_FLOOR: Final = 1e-5
_POINTS: Final = "offset points"
_DARK: Final = 0.45
_COLOURS: Final = {
    System.XEN: "#c0392b",
    System.ESX_STRICT: "#2c6fbb",
    System.ESX_RELAXED: "#7fb3e6",
    System.XEN_VCPUD: "#27864b",
}


def draw(table: Table, plan: Plan, folder: Path) -> list[Path]:
    """Write all pictures; returns their paths.

    Raises:
        VcpudError: matplotlib is missing.
    """
    folder.mkdir(parents=True, exist_ok=True)
    figures: dict[str, Figure] = {"recovery": _recovery(table)}
    for wait in plan.waits:
        jobs = [Job(kind=Kind.AMMP, grain_ms=grain, wait=wait) for grain in plan.grains_ms]
        figures[f"shares-{wait}"] = _maps(table, plan, [GOBMK, *jobs])
    if len(plan.grains_ms) > 1:
        figures["slowdown-by-grain"] = _by_grain(table, plan)
    written = []
    for name, figure in figures.items():
        path = folder / f"{name}.png"
        figure.savefig(path, dpi=110)
        written.append(path)
    return written


def draw_reality(found: Agreement, folder: Path) -> Path:
    """Write the picture of real and simulated ratios; returns its path.

    Raises:
        VcpudError: matplotlib is missing.
    """
    folder.mkdir(parents=True, exist_ok=True)
    figure = new_figure(7, 7)
    axes = figure.subplots()
    floor = _FLOOR
    for name in dict.fromkeys(cell.name for cell in found.cells):
        cells = [cell for cell in found.cells if cell.name == name]
        real = [max(cell.real.value, floor) for cell in cells]
        simulated = [max(cell.simulated, floor) for cell in cells]
        axes.plot(real, simulated, marker="o", linestyle="none", label=name)
        for x, y, cell in zip(real, simulated, cells, strict=True):
            axes.annotate(str(cell.active), (x, y), fontsize=7, xytext=(4, 2), textcoords=_POINTS)
    ends = [floor, 1.5]
    axes.plot(ends, ends, color="grey", linewidth=0.8)
    for factor in (NEAR, FAR):
        axes.plot(ends, [end * factor for end in ends], color="lightgrey", linewidth=0.8)
        axes.plot(ends, [end / factor for end in ends], color="lightgrey", linewidth=0.8)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("real guests: ratio to the best count of the workload")
    axes.set_ylabel("simulated")
    axes.set_title("active vCPUs beside each point; grey: equal, factors of 2 and 5", fontsize=9)
    axes.legend(fontsize=8)
    path = folder / "reality.png"
    figure.savefig(path, dpi=110)
    return path


def new_figure(width: float, height: float) -> Figure:
    """An empty figure that needs no display.

    Raises:
        VcpudError: matplotlib is missing.
    """
    try:
        from matplotlib.figure import Figure  # noqa: PLC0415 - of an extra
    except ImportError as error:
        raise VcpudError(f"pictures need matplotlib: {EXTRA}") from error
    return Figure(figsize=(width, height), layout="constrained")


def _maps(table: Table, plan: Plan, jobs: list[Job]) -> Figure:
    figure = new_figure(11, 1.0 + 1.9 * len(jobs))
    grid = figure.subplots(len(jobs), len(COMPARED), squeeze=False)
    image: Any = None
    for line, job in zip(grid, jobs, strict=True):
        for axes, system in zip(line, COMPARED, strict=True):
            image = _map(axes, table, plan, job, system)
        line[0].set_ylabel(f"{job}\nvCPUs", fontsize=8)
    figure.suptitle("progress as a share of what is fair (* wider than the product allowed)")
    figure.colorbar(image, ax=grid, shrink=0.6, label="share of fair")
    return figure


def _map(axes: Axes, table: Table, plan: Plan, job: Job, system: System) -> Any:
    rows = [
        [
            next(
                row
                for row in table.chosen(
                    job=job, system=system, width=width, overcommit=overcommit, noise=False
                )
                if row.cell.platform in {"", "xen-reporter"}
            )
            for overcommit in plan.overcommits
        ]
        for width in plan.widths
    ]
    shares = [[row.share.value for row in line] for line in rows]
    image = axes.imshow(shares, vmin=0.0, vmax=1.0, cmap="viridis", aspect="auto")
    for y, line in enumerate(rows):
        for x, row in enumerate(line):
            share = row.share.value
            mark = "*" if row.cell.extrapolated else ""
            ink = "white" if share < _DARK else "black"
            axes.text(x, y, f"{share:.2f}{mark}", ha="center", va="center", fontsize=7, color=ink)
    axes.set_xticks(range(len(plan.overcommits)), [f"{n}x" for n in plan.overcommits], fontsize=7)
    axes.set_yticks(range(len(plan.widths)), [str(n) for n in plan.widths], fontsize=7)
    axes.set_title(str(system), fontsize=8)
    return image


def _by_grain(table: Table, plan: Plan) -> Figure:
    """Slowdown over grain at 2x, domains as wide as 4 (or the widest that is less)."""
    width = max((n for n in plan.widths if n <= 4), default=plan.widths[0])  # noqa: PLR2004
    overcommit = 2 if 2 in plan.overcommits else plan.overcommits[-1]  # noqa: PLR2004
    figure = new_figure(11, 4)
    line = figure.subplots(1, len(plan.waits), sharey=True, squeeze=False)[0]
    for axes, wait in zip(line, plan.waits, strict=True):
        for system in COMPARED:
            found = [
                row.slowdown
                for grain in plan.grains_ms
                for row in table.chosen(
                    job=Job(kind=Kind.AMMP, grain_ms=grain, wait=wait),
                    system=system,
                    width=width,
                    overcommit=overcommit,
                    noise=False,
                )
                if row.cell.platform in {"", "xen-reporter"}
            ]
            values = [one.value for one in found]
            errors = [
                [one.value - max(one.low, 0.0) for one in found],
                [min(one.high, 1e3 * one.value) - one.value for one in found],
            ]
            axes.errorbar(
                plan.grains_ms,
                values,
                yerr=errors,
                label=str(system),
                color=_COLOURS[system],
                marker="o",
                markersize=4,
                capsize=2,
            )
        axes.axhline(1.0, color="grey", linewidth=0.8)
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter("{x:g}")
        axes.set_xticks(plan.grains_ms, [str(grain) for grain in plan.grains_ms])
        axes.set_xticks([], minor=True)
        axes.set_xlabel("grain, ms")
        axes.set_title(str(wait), fontsize=9)
    line[0].set_ylabel("slowdown against fair share")
    line[-1].legend(fontsize=8)
    figure.suptitle(f"ammp-like, domains of {width} vCPUs at {overcommit}x")
    return figure


def _recovery(table: Table) -> Figure:
    """Unmanaged, vcpud and best static, for every cell that has a best static assignment."""
    rows = [
        row
        for row in table
        if row.cell.system.managed and table.unmanaged(row.cell) in table.statics
    ]
    figure = new_figure(11, 1.5 + 0.22 * max(1, len(rows)))
    axes = figure.subplots()
    for y, row in enumerate(rows):
        before = table.unmanaged(row.cell)
        best = mean(table.statics[before].shares).value
        unmanaged = table.rows[before].share.value
        axes.plot([unmanaged, row.share.value], [y, y], color="lightgrey", zorder=1)
        for value, colour, marker in (
            (unmanaged, _COLOURS[System.XEN], "o"),
            (row.share.value, _COLOURS[System.XEN_VCPUD], "o"),
            (best, "black", "|"),
        ):
            axes.plot([value], [y], color=colour, marker=marker, linestyle="none", zorder=2)
    axes.set_yticks(range(len(rows)), [_short(row.cell) for row in rows], fontsize=6)
    axes.set_xlim(0, 1.1)
    axes.invert_yaxis()
    axes.set_xlabel("share of fair: unmanaged (red), vcpud (green), best static assignment (bar)")
    return figure


def _short(cell: Cell) -> str:
    wait = "" if cell.job.wait is Wait.NONE else f" {cell.job.wait}"
    return f"{cell.job.grain_ms} ms{wait}, {cell.domains} x {cell.width}, {cell.platform}"
