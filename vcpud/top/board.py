"""What `vcpud top` shows: status documents over time, sorted, filtered and cut to width. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, Final

from vcpud.text import printable

HISTORY: Final = 300
"""Looks remembered of each domain."""
MARKS: Final = {"fewer": "▼", "same": "·", "trouble": "!"}
"""Said with a sign as well as with a colour."""
_BLOCKS: Final = "▁▂▃▄▅▆▇█"
_MISSING: Final = "·"
HISTORY_KEY: Final = "history"
SPARK_WIDTH: Final = 20
_NAME: Final = 24

Domain = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column of the table.

    Attributes:
        key: Names it; also the key to sort by.
        title: Its head.
        width: Characters.
        rank: Which columns stay where there is little room: low ranks first.
        value: What it is sorted by.
        text: What it shows.
        about: What it means, for the help.
    """

    key: str
    title: str
    width: int
    rank: int
    value: Callable[[Domain], Any]
    text: Callable[[Domain], str]
    about: str


def _figure(word: str) -> Callable[[Domain], str]:
    def text(domain: Domain) -> str:
        value = domain[word]
        return "-" if value is None else f"{value:.3g}"

    return text


def _word(word: str, width: int) -> Callable[[Domain], str]:
    return lambda domain: printable(str(domain[word]), width)


def _amount(word: str) -> Callable[[Domain], float]:
    return lambda domain: -1.0 if domain[word] is None else float(domain[word])


def _active(domain: Domain) -> str:
    had = domain["original_vcpus"] or domain["active_vcpus"]
    mark = MARKS["fewer"] if domain["active_vcpus"] < had else MARKS["same"]
    return f"{mark} {domain['active_vcpus']}/{had}"


def _phase(domain: Domain) -> str:
    left = domain["phase_left_s"]
    return str(domain["phase"]) if left is None else f"{domain['phase']} {left:.0f}s"


def _trouble(domain: Domain) -> str:
    troubles = domain["troubles"]
    return f"{MARKS['trouble']} {','.join(troubles)}" if troubles else ""


COLUMNS: Final = (
    Column(
        key="name",
        title="DOMAIN",
        width=_NAME,
        rank=0,
        value=lambda domain: domain["name"],
        text=_word("name", _NAME - 3),
        about="its name",
    ),
    Column(
        key="active",
        title="ACTIVE",
        width=9,
        rank=1,
        value=_amount("active_vcpus"),
        text=_active,
        about="vCPUs the guest may schedule on, of those it had; ▼ where some are parked",
    ),
    Column(
        key="delay",
        title="DELAY",
        width=6,
        rank=2,
        value=_amount("run_delay_pcpus"),
        text=_figure("run_delay_pcpus"),
        about="time its vCPUs wait for a pCPU, in pCPUs",
    ),
    Column(
        key="lock",
        title="LOCK",
        width=6,
        rank=3,
        value=_amount("lock_wait_ratio"),
        text=_figure("lock_wait_ratio"),
        about="share of an active vCPU's time spent waiting for spinlocks",
    ),
    Column(
        key="phase",
        title="PHASE",
        width=16,
        rank=4,
        value=lambda domain: domain["phase"],
        text=_phase,
        about="which phase of a change it is in",
    ),
    Column(
        key=HISTORY_KEY,
        title="ACTIVE OVER TIME",
        width=SPARK_WIDTH,
        rank=5,
        value=_amount("active_vcpus"),
        text=lambda _domain: "",
        about="the same over the last looks, of its maximum",
    ),
    Column(
        key="used",
        title="USED",
        width=6,
        rank=6,
        value=_amount("used_pcpus"),
        text=_figure("used_pcpus"),
        about="pCPUs it uses",
    ),
    Column(
        key="entitled",
        title="ENTL",
        width=6,
        rank=7,
        value=_amount("entitled_pcpus"),
        text=_figure("entitled_pcpus"),
        about="pCPUs its weight guarantees it now",
    ),
    Column(
        key="progress",
        title="WORK",
        width=6,
        rank=8,
        value=_amount("progress_pcpus"),
        text=_figure("progress_pcpus"),
        about="useful processor time, in pCPUs: what changes are judged by",
    ),
    Column(
        key="mode",
        title="MODE",
        width=8,
        rank=9,
        value=lambda domain: domain["mode"],
        text=_word("mode", 8),
        about="what may be done with it",
    ),
    Column(
        key="trouble",
        title="TROUBLE",
        width=24,
        rank=10,
        value=lambda domain: len(domain["troubles"]),
        text=_trouble,
        about="what is missing or wrong",
    ),
)
SORTS: Final = tuple(column.key for column in COLUMNS if column.key != HISTORY_KEY)
SPARKS: Final = (
    ("active_vcpus", "active vCPUs"),
    ("progress_pcpus", "useful work, pCPUs"),
    ("run_delay_pcpus", "run delay, pCPUs"),
    ("lock_wait_ratio", "lock wait, of a vCPU"),
    ("used_pcpus", "used pCPUs"),
)
"""What is drawn over time when a domain is looked at closely."""


def columns_for(width: int) -> tuple[Column, ...]:
    """The columns that fit, in their order; the first two always do."""
    left = width - 2
    chosen: list[Column] = []
    for column in sorted(COLUMNS, key=lambda one: one.rank):
        if column.width + 2 > left and len(chosen) > 1:
            break
        chosen.append(column)
        left -= column.width + 2
    return tuple(column for column in COLUMNS if column in chosen)


def spark(values: Sequence[float | None], width: int, top: float | None = None) -> str:
    """The last values as blocks, each as high as its share of the highest.

    Args:
        values: Oldest first; None is "not known".
        width: How many characters.
        top: What a full block stands for; the highest value where it is not given.
    """
    shown = list(values)[-width:]
    known = [value for value in shown if value is not None]
    highest = max([top or 0.0, *known], default=0.0)
    signs = []
    for value in shown:
        if value is None:
            signs.append(_MISSING)
        elif highest <= 0:
            signs.append(_BLOCKS[0])
        else:
            place = round(max(value, 0.0) / highest * (len(_BLOCKS) - 1))
            signs.append(_BLOCKS[min(place, len(_BLOCKS) - 1)])
    return "".join(signs).rjust(width)


@dataclass(slots=True)
class Board:
    """Status documents as they come, and how they are to be shown.

    Attributes:
        document: The last one, None before the first.
        sort: Key of the column that orders.
        reverse: Highest first.
        pattern: Only domains whose name has this in it, or matches it as a glob.
    """

    document: Mapping[str, Any] | None = None
    sort: str = "delay"
    reverse: bool = True
    pattern: str = ""
    _series: dict[str, dict[str, deque[float | None]]] = field(default_factory=dict)

    def take(self, document: Mapping[str, Any]) -> None:
        """Take in the next status document; what is gone is forgotten."""
        before = self.document
        self.document = document
        if before is not None and before["cycle"] == document["cycle"]:
            return
        present = {domain["uuid"] for domain in document["domains"]}
        for uuid in [uuid for uuid in self._series if uuid not in present]:
            del self._series[uuid]
        for domain in document["domains"]:
            series = self._series.setdefault(
                domain["uuid"], {word: deque(maxlen=HISTORY) for word, _ in SPARKS}
            )
            for word, values in series.items():
                values.append(domain[word])

    def domains(self) -> list[Domain]:
        """Those to be shown, in order; ties by name."""
        if self.document is None:
            return []
        column = next(one for one in COLUMNS if one.key == self.sort)
        shown = [one for one in self.document["domains"] if self._matches(one["name"])]
        shown.sort(key=lambda domain: domain["name"])
        shown.sort(key=column.value, reverse=self.reverse)
        return shown

    def series(self, uuid: str, word: str) -> tuple[float | None, ...]:
        """How a figure of one domain went, oldest first."""
        return tuple(self._series.get(uuid, {}).get(word, ()))

    def next_sort(self, width: int) -> None:
        """Order by the next column that is shown: words rising, amounts falling."""
        keys = [column.key for column in columns_for(width) if column.key in SORTS]
        place = keys.index(self.sort) + 1 if self.sort in keys else 0
        self.sort = keys[place % len(keys)]
        self.reverse = self.sort not in {"name", "phase", "mode"}

    def headline(self) -> str:
        """The host in one line."""
        document = self.document
        if document is None:
            return "waiting for vcpud"
        if not document["cycle"]:
            return f"vcpud {document['version']}: no cycle has finished yet"
        words = [f"vcpud {document['version']}", f"policy {document['policy']}"]
        words += [f"{len(document['domains'])} domains"]
        parked = sum(
            max((one["original_vcpus"] or 0) - one["active_vcpus"], 0)
            for one in document["domains"]
        )
        words.append(f"{parked} vCPUs parked")
        warnings = (
            (not document["connected"], "NOT CONNECTED"),
            (document.get("killed", False), "KILL SWITCH"),
            (document["paused"], "PAUSED"),
            (document["stopping"], "STOPPING"),
            (bool(document["errors"]), "ERRORS: see `vcpud status`"),
        )
        words += [f"{MARKS['trouble']} {word}" for is_so, word in warnings if is_so]
        return " | ".join(words)

    def pools(self) -> list[str]:
        """Each pool in one line."""
        document = self.document or {}
        return [
            f"pool {printable(pool['name'])}: {pool['active_vcpus']} active vCPUs on "
            f"{pool['available_pcpus']:.3g} pCPUs, overcommit {pool['overcommit_ratio']:.2f}"
            for pool in document.get("pools", ())
        ]

    def _matches(self, name: str) -> bool:
        pattern = self.pattern.strip()
        return not pattern or pattern in name or fnmatchcase(name, pattern)
