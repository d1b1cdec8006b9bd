"""The picture of a contest."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lab.picture import draw_contest
from lab.standings import BEST, OWN, Claim, standing
from lab.turns import Book, Turn

if TYPE_CHECKING:
    from pathlib import Path

CLAIMS = (Claim(figure="over_best_static", against=(BEST,), limit=0.90),)


def test_every_bound_has_a_panel_and_what_failed_to_run_has_none(tmp_path: Path) -> None:
    turns = [
        Turn(round=number, arm=arm, rates={"g1": 1.0 + number}, active={"g1": 1})
        for arm, rounds in ((OWN, 5), (BEST, 5), ("folding", 1))
        for number in range(rounds)
    ]
    book = Book(code="c", commit="1234", host={}, turns=turns)
    parts = {
        "kernel_lock": standing(book, CLAIMS, (OWN, "folding", "rules")),
        "phases": {"commit": "1234", "error": "no guest", "verdicts": {"ran: no guest": "FAIL"}},
    }
    path = tmp_path / "contest.svg"
    draw_contest(parts, path)
    drawn = path.read_text()
    assert "kernel_lock: over best static, at least 0.9" in drawn
    assert "phases" not in drawn
    draw_contest({"phases": parts["phases"]}, tmp_path / "none.svg")
    assert not (tmp_path / "none.svg").exists()
