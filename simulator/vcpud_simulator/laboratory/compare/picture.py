"""A comparison as a picture: policies by scenarios, the colour saying how near the oracle."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

from vcpud.errors import VcpudError
from vcpud.text import printable
from vcpud_simulator.laboratory.compare.scores import FLOOR, Score

if TYPE_CHECKING:
    from vcpud_simulator.laboratory.compare.document import Comparison

_DARK = 0.55
"""Share of the oracle below which the ground is so dark that letters must be white."""


def draw(comparison: Comparison, path: Path) -> None:
    """Draw it as PNG.

    Raises:
        VcpudError: The packages of the laboratory are missing.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415 - of an extra
        from matplotlib.figure import Figure  # noqa: PLC0415
    except ImportError as error:
        raise VcpudError("a picture needs matplotlib: pip install 'vcpud[laboratory]'") from error
    cards, labels = comparison.cards, list(comparison.policies)
    figure = Figure(figsize=(3.6 + 1.25 * len(labels), 1.6 + 0.27 * len(cards)), dpi=130)
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    shares = [[_share(card.policies[label]) for label in labels] for card in cards]
    image = axes.imshow(shares, vmin=0.0, vmax=1.0, cmap="viridis", aspect="auto")
    for row, card in enumerate(cards):
        for column, label in enumerate(labels):
            one = card.policies[label]
            harmed = "" if one.worst_domain_over_floor >= FLOOR else " !"
            axes.text(
                column,
                row,
                f"{'' if one.over_oracle is None else f'{one.over_oracle:.2f}'}{harmed}",
                ha="center",
                va="center",
                fontsize=7,
                color="white" if _share(one) < _DARK else "black",
            )
    axes.set_xticks(range(len(labels)), labels, rotation=20, ha="right", fontsize=8)
    names = [
        f"{printable(card.name.removeprefix('compare_'), 40)} ({card.scheduler})" for card in cards
    ]
    axes.set_yticks(range(len(cards)), names, fontsize=7)
    axes.set_title(
        f"Share of the oracle's progress; ! = a domain below {FLOOR} of its floor", fontsize=9
    )
    figure.colorbar(image, ax=axes, fraction=0.03, pad=0.02)
    figure.tight_layout()
    figure.savefig(path)


def _share(one: Score) -> float:
    return math.nan if one.over_oracle is None else one.over_oracle
