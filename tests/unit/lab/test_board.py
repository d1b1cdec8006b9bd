"""The two sides of the board agree, and orders and progress survive the trip."""

import re
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import board
from lab.board import Board, Kind, Order
from lab.paths import GUEST

HEADER = dict(
    re.findall(r"^#define BOARD_(\w+) (\d+)$", (GUEST / "board.h").read_text(), re.MULTILINE)
)
OTHER_NAMES = {"BYTES": "BOARD_BYTES", "MAGIC": "BOARD_MAGIC"}


@pytest.fixture
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Board]:
    monkeypatch.setattr(board, "SHARED_MEMORY", tmp_path)
    made = Board.create(f"test-{uuid.uuid4()}")
    yield made
    made.remove()


def test_every_number_of_the_header_is_the_same_on_the_host() -> None:
    assert HEADER
    for name, value in HEADER.items():
        if name.startswith("KIND_"):
            assert Kind[name.removeprefix("KIND_")] == int(value), name
        else:
            assert getattr(board, OTHER_NAMES.get(name) or name) == int(value), name


def test_fields_are_aligned_and_overlap_nothing() -> None:
    offsets = [
        int(value)
        for name, value in HEADER.items()
        if not name.startswith(("KIND_", "MAGIC", "BYTES", "MAXIMUM", "COUNTER"))
    ]
    assert len(set(offsets)) == len(offsets)
    assert all(offset % 8 == 0 and offset + 8 <= board.COUNTERS for offset in offsets)
    last = board.COUNTERS + board.MAXIMUM_THREADS * board.COUNTER_STRIDE
    assert last <= board.BOARD_BYTES


def test_an_order_is_new_until_the_guest_repeats_its_number(fresh: Board) -> None:
    number = fresh.give(Order(kind=Kind.USER_SPIN, threads=3, grain=7, pause=True))
    assert not fresh.applied
    fresh.write(board.APPLIED_SEQUENCE, number)
    assert fresh.applied
    assert fresh.read(board.ORDER_KIND) == Kind.USER_SPIN
    assert fresh.read(board.ORDER_THREADS) == 3
    assert fresh.read(board.ORDER_GRAIN) == 7
    assert fresh.read(board.ORDER_PAUSE) == 1


def test_progress_is_the_sum_of_all_threads(fresh: Board) -> None:
    fresh.write(board.COUNTERS, 5)
    fresh.write(board.COUNTERS + 63 * board.COUNTER_STRIDE, 7)
    assert fresh.progress().iterations == 12


def test_the_online_mask_names_cpus(fresh: Board) -> None:
    fresh.write(board.ONLINE_MASK, 0b1011)
    assert fresh.online == {0, 1, 3}


def test_a_board_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(board, "SHARED_MEMORY", tmp_path)
    Board.create("gone").remove()
    assert list(tmp_path.iterdir()) == []
