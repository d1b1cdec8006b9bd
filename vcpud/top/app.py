"""The terminal view, drawn with textual. Colours are safe for the colour-blind, and never alone.

The daemon is asked on threads of their own, so that one that hangs leaves the view alive: it then
says so, and goes on showing what was last known.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Final

from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.screen import Screen
from textual.widgets import DataTable, Footer, Input, Static

from vcpud.errors import VcpudError
from vcpud.explain import text as explanation_text
from vcpud.top.board import (
    COLUMNS,
    HISTORY_KEY,
    MARKS,
    SPARK_WIDTH,
    SPARKS,
    Board,
    Column,
    columns_for,
    spark,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from textual import events

PARKED: Final = "#e69f00"
CALM: Final = "#56b4e9"
ALARM: Final = "bold #d55e00"
"""Okabe and Ito's palette, told apart by every common kind of colour blindness."""
_MOST_ROWS: Final = 500


class Daemon:
    """What the view asks of a running vcpud; the commands make it, and so do tests."""

    def __init__(
        self,
        status: Callable[[], dict[str, Any]],
        explain: Callable[[str], dict[str, Any]],
        pause: Callable[[str, bool], None],
    ) -> None:
        """Keep the three.

        Args:
            status: The status document.
            explain: All there is to say of a domain, by UUID.
            pause: Pauses a domain, by UUID, or resumes it.
        """
        self.status = status
        self.explain = explain
        self.pause = pause


class Closely(Screen[None]):
    """One domain over time, and why it has the vCPUs it has."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,enter", "app.pop_screen", "Back"),
        Binding("p", "app.pause", "Pause or resume"),
    ]
    CSS = "VerticalScroll { padding: 0 1; } #sparks { margin-bottom: 1; }"

    def __init__(self, uuid: str) -> None:
        super().__init__()
        self.uuid = uuid

    def compose(self) -> ComposeResult:
        with VerticalScroll():
            yield Static(id="sparks", markup=False)
            yield Static("asking vcpud...", id="why", markup=False)
        yield Footer()


class Top(App[None]):
    """All domains of the host."""

    TITLE = "vcpud top"
    ENABLE_COMMAND_PALETTE = False
    CSS = """
    #head { height: auto; padding: 0 1; }
    #fault { height: auto; padding: 0 1; display: none; }
    #filter { display: none; }
    DataTable { height: 1fr; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q", "quit", "Quit"),
        Binding("s", "sort", "Sort by next"),
        Binding("r", "reverse", "Reverse"),
        Binding("slash", "filter", "Filter", key_display="/"),
        # The table itself takes Enter, and would hide it from the footer.
        Binding("l", "closely", "Look closely", key_display="enter"),
        Binding("p", "pause", "Pause or resume"),
        Binding("space", "freeze", "Freeze"),
        Binding("question_mark", "legend", "Legend", key_display="?"),
        Binding("escape", "clear", "All domains", show=False),
    ]

    def __init__(self, daemon: Daemon, *, interval_s: float, sort: str = "delay") -> None:
        super().__init__()
        self._daemon = daemon
        self._interval_s = interval_s
        self.board = Board(sort=sort, reverse=sort not in {"name", "phase", "mode"})
        self.frozen = False
        self._asking = False
        self._width = 0
        self._keys: list[str] = []

    def compose(self) -> ComposeResult:
        yield Static(id="head", markup=False)
        yield Static(id="fault", markup=False)
        yield Input(placeholder="part of a name, or a glob; empty for all", id="filter")
        yield DataTable(cursor_type="row", zebra_stripes=True)
        yield Footer()

    def on_mount(self) -> None:
        self.query_one(DataTable).focus()
        self.look()
        self.set_interval(self._interval_s, self.look)

    def on_resize(self, event: events.Resize) -> None:
        self._width = event.size.width
        self.draw()

    # ------------------------------------------------------------------ asking

    def look(self) -> None:
        """Ask the daemon, unless the picture is frozen or the last answer is still awaited."""
        if not self.frozen and not self._asking:
            self._asking = True
            self.run_worker(self._ask, thread=True, group="status")

    def _ask(self) -> None:
        try:
            self._look()
        finally:
            self._asking = False

    def _look(self) -> None:
        try:
            document = self._daemon.status()
        except VcpudError as error:
            self.call_from_thread(self._fault, f"{MARKS['trouble']} {error}")
            return
        self.call_from_thread(self._taken, document)
        screen = self.screen
        if isinstance(screen, Closely):
            self._explain(screen)

    def _explain(self, screen: Closely) -> None:
        try:
            told = explanation_text(self._daemon.explain(screen.uuid))
        except VcpudError as error:
            told = str(error)
        self.call_from_thread(self._explained, screen, told)

    def _explained(self, screen: Closely, told: str) -> None:
        if screen.is_attached:
            screen.query_one("#why", Static).update(told)

    def _taken(self, document: dict[str, Any]) -> None:
        self.board.take(document)
        self._fault("")
        self.draw()

    def _fault(self, text: str) -> None:
        fault = self.screen_stack[0].query_one("#fault", Static)
        fault.display = bool(text)
        fault.update(Text(text, style=ALARM))

    # ------------------------------------------------------------------ drawing

    def draw(self) -> None:
        """Everything anew from the board."""
        main = self.screen_stack[0]
        width = self._width or self.size.width
        head = [self.board.headline(), *self.board.pools()[:4], self._order()]
        main.query_one("#head", Static).update("\n".join(head))
        self._draw_table(main.query_one(DataTable), width)
        if isinstance(self.screen, Closely) and self.screen.is_attached:
            self.screen.query_one("#sparks", Static).update(self._sparks(self.screen.uuid, width))

    def _order(self) -> str:
        title = next(column.title for column in COLUMNS if column.key == self.board.sort)
        words = f"by {title}, {'highest' if self.board.reverse else 'lowest'} first"
        if self.board.pattern:
            words += f" | only {self.board.pattern!r}"
        return f"{words} | FROZEN" if self.frozen else words

    def _draw_table(self, table: DataTable[Text], width: int) -> None:
        shown = columns_for(width)
        domains = self.board.domains()[:_MOST_ROWS]
        keys = [domain["uuid"] for domain in domains]
        heads = [column.key for column in shown]
        if heads != [str(key.value) for key in table.columns]:
            table.clear(columns=True)
            for column in shown:
                table.add_column(column.title, width=column.width, key=column.key)
            self._keys = []
        rows = [self._cells(domain, shown) for domain in domains]
        if keys == self._keys:
            for key, row in zip(keys, rows, strict=True):
                for head, cell in zip(heads, row, strict=True):
                    if table.get_cell(key, head) != cell:
                        table.update_cell(key, head, cell)
            return
        selected = self._selected(table)
        table.clear()
        for key, row in zip(keys, rows, strict=True):
            table.add_row(*row, key=key)
        self._keys = keys
        if selected in keys:
            table.move_cursor(row=keys.index(selected))

    def _cells(self, domain: Any, shown: tuple[Column, ...]) -> list[Text]:
        parked = domain["active_vcpus"] < (domain["original_vcpus"] or 0)
        styles = {
            "active": PARKED if parked else "",
            "trouble": ALARM,
            "phase": "" if domain["phase"] == "idle" else CALM,
            HISTORY_KEY: CALM,
        }
        values = self.board.series(domain["uuid"], "active_vcpus")
        drawn = {HISTORY_KEY: spark(values, SPARK_WIDTH, domain["max_vcpus"])}
        return [
            Text(drawn.get(column.key) or column.text(domain), style=styles.get(column.key, ""))
            for column in shown
        ]

    def _sparks(self, uuid: str, width: int) -> str:
        label = max(len(about) for _, about in SPARKS)
        room = max(width - label - 16, 10)
        domain = next((one for one in self.board.domains() if one["uuid"] == uuid), None)
        full = {
            "lock_wait_ratio": 1.0,
            "active_vcpus": 0 if domain is None else domain["max_vcpus"],
        }
        lines = []
        for word, about in SPARKS:
            values = self.board.series(uuid, word)
            last = values[-1] if values else None
            figure = "-" if last is None else f"{last:.3g}"
            drawn = spark(values, room, full.get(word))
            lines.append(f"{about.ljust(label)}  {figure:>6}  {drawn}")
        return "\n".join(lines)

    # ------------------------------------------------------------------ keys

    def _selected(self, table: DataTable[Text] | None = None) -> str | None:
        if isinstance(self.screen, Closely):
            return self.screen.uuid
        found = table or self.screen_stack[0].query_one(DataTable)
        row = found.cursor_row
        return self._keys[row] if 0 <= row < len(self._keys) else None

    def on_data_table_row_selected(self, _event: DataTable.RowSelected) -> None:
        self.action_closely()

    def action_closely(self) -> None:
        """Look at the selected domain closely."""
        uuid = self._selected()
        if uuid is not None and not isinstance(self.screen, Closely):
            self.push_screen(Closely(uuid))
            self.call_after_refresh(self._closely_now)

    def _closely_now(self) -> None:
        self.draw()
        screen = self.screen
        if isinstance(screen, Closely):
            self.run_worker(
                lambda: self._explain(screen), thread=True, group="explain", exclusive=True
            )

    def action_sort(self) -> None:
        """Order by the next column."""
        self.board.next_sort(self._width or self.size.width)
        self.draw()

    def action_reverse(self) -> None:
        """Turn the order round."""
        self.board.reverse = not self.board.reverse
        self.draw()

    def action_freeze(self) -> None:
        """Keep the picture as it is, or go on."""
        self.frozen = not self.frozen
        self.draw()

    def action_filter(self) -> None:
        """Ask for a part of a name."""
        field = self.query_one("#filter", Input)
        field.display = True
        field.focus()

    def on_input_changed(self, event: Input.Changed) -> None:
        self.board.pattern = event.value
        self.draw()

    def on_input_submitted(self, _event: Input.Submitted) -> None:
        self._close_filter()

    def action_clear(self) -> None:
        """All domains again."""
        self.query_one("#filter", Input).value = ""
        self._close_filter()

    def _close_filter(self) -> None:
        self.query_one("#filter", Input).display = False
        self.query_one(DataTable).focus()

    def action_legend(self) -> None:
        """What the columns mean."""
        self.notify(
            "\n".join(f"{column.title}: {column.about}" for column in COLUMNS),
            title="Columns",
            timeout=20,
            markup=False,
        )

    def action_pause(self) -> None:
        """Pause the selected domain, or resume it where it is paused."""
        uuid = self._selected()
        domain = next((one for one in self.board.domains() if one["uuid"] == uuid), None)
        if uuid is None or domain is None:
            return
        paused = domain["phase"] in {"paused", "released", "quarantined"}
        self.run_worker(
            lambda: self._pause(uuid, domain["name"], paused=paused), thread=True, group="pause"
        )

    def _pause(self, uuid: str, name: str, *, paused: bool) -> None:
        try:
            self._daemon.pause(uuid, not paused)
        except VcpudError as error:
            self.call_from_thread(self.notify, str(error), severity="error", markup=False)
            return
        word = "resumed" if paused else "paused for an hour"
        self.call_from_thread(self.notify, f"{name} is {word}", markup=False)
        self.call_from_thread(self.look)
