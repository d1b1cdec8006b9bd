"""The daemon put together: settings in, a running control loop out, everything closed at the end.

Threads: the loop runs on the main thread, which alone handles signals; the inbox, the web server
and reloading have threads of their own and reach the loop only through the inbox and the clock.
"""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import structlog

from vcpud import owed
from vcpud.client import SOCKET_NAME
from vcpud.clock import Interruptible, MonotonicClock
from vcpud.control import ControlLoop
from vcpud.errors import ConfigError, LedgerError, PartialError
from vcpud.explain import document as explain
from vcpud.fittings import FanOut, Recorded, open_backend_for
from vcpud.history import History
from vcpud.inbox import Answers, SocketInbox
from vcpud.killswitch import SwitchedInbox
from vcpud.ledger import FileLedger, clear_hold, read_hold, write_hold
from vcpud.lock import HostLock, ledger_folder
from vcpud.log import LogRecorder
from vcpud.metrics import Metrics
from vcpud.notify import Notifier
from vcpud.overrides import Overrides
from vcpud.requests import Asked, Reload
from vcpud.status import LatestCycle
from vcpud.units import seconds
from vcpud.version import version
from vcpud.web import Pages, WebServer

if TYPE_CHECKING:
    from vcpud.model import Uuid
    from vcpud.ports import Recorder
    from vcpud.settings import Settings
    from vcpud.terms import Wishes

_LIVE_PERIODS = 3
_NEEDS_RESTART = (
    "backend",
    "backend_options",
    "listen",
    "recordings",
    "log_format",
    "log_level",
    "state_dir",
    "runtime_dir",
    "kill_switch",
    "socket_group",
)


class Daemon:
    """`vcpud run`."""

    def __init__(self, settings: Settings, reread: Callable[[], Settings]) -> None:
        """Prepare.

        Args:
            settings: The configuration in force.
            reread: Reads the configuration anew for a reload; raises `ConfigError`.
        """
        self._settings = settings
        self._reread = reread
        self._log: Any = structlog.get_logger()
        self._latest = LatestCycle()
        self._history = History()
        self._metrics = Metrics(settings.digest, settings.backend.partition(":")[0])
        self._reloads: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._reload_turn = threading.Lock()
        self._stop_asked = False

    def run(self) -> None:
        """Serve until a signal asks to stop, then give everything back.

        Raises:
            PartialError: Some domain could not be given back; it stays in the ledger.
            VcpudError: The daemon cannot start.
        """
        settings = self._settings
        with contextlib.ExitStack() as stack:
            lock = stack.enter_context(HostLock(settings.runtime_dir))
            self._folder = ledger_folder(settings.state_dir, settings.runtime_dir)
            if self._folder != settings.state_dir:
                self._log.warning("ledger.stays", folder=str(self._folder))
            ledger = FileLedger(self._folder)
            lock.keep(self._folder)
            if ledger.fault:
                self._log.error("ledger.failed", error=ledger.fault)
            self._notifier = Notifier(os.environ)
            stack.callback(self._notifier.close)
            wall = MonotonicClock()
            stack.callback(wall.close)
            self._overrides = Overrides(settings.state_dir)
            whole = replace(settings, terms=self._overrides.over(settings.terms))
            self._backend = open_backend_for(whole, wall, writable=True)
            stack.callback(self._backend.close)
            clock = wall if self._backend.clock is None else Interruptible(self._backend.clock)
            self._clock = clock
            self._inbox = SocketInbox(
                settings.runtime_dir / SOCKET_NAME,
                settings.socket_group,
                Answers(
                    now_ns=clock.now_ns,
                    wake=clock.wake,
                    status=lambda: self._latest.document(clock.now_ns()),
                    hold=self._hold,
                    reload=self.reload,
                    explain=self._explain,
                    set_terms=self._set_terms,
                ),
            )
            stack.callback(self._inbox.close)
            if settings.listen is not None:
                pages = Pages(metrics=self._metrics.render, alive=self._alive, ready=self._ready)
                web = WebServer(settings.listen, pages)
                stack.callback(web.close)
                web.serve()
                if settings.listen.exposed:
                    self._log.warning("metrics.exposed", listen=str(settings.listen.host))
            loop = ControlLoop(
                clock=clock,
                hypervisor=self._backend.hypervisor,
                ledger=ledger,
                inbox=SwitchedInbox(self._inbox, settings.kill_switch, clock.now_ns),
                # The notifier comes last: a cycle is a sign of life once all of it is recorded.
                recorder=FanOut(
                    self._latest,
                    self._history,
                    self._metrics,
                    *self._recorders(stack),
                    LogRecorder(),
                    self._inbox,
                    self._notifier,
                ),
                settings=settings.loop,
            )
            stack.enter_context(self._signals())
            self._inbox.serve()
            adopt = self._take_over()
            self._log.info(
                "vcpud.started",
                version=version(),
                backend=settings.backend,
                policy=settings.loop.policy_name,
                files=list(settings.files),
                adopt=adopt,
            )
            left = loop.run(adopt=adopt)
            kept = ledger.outstanding()
            pending = [one for one in kept if one.unplug_from is not None and one not in left]
            self._log.info(
                "vcpud.stopped",
                kept=[one.name for one in kept if one not in pending],
                unplug_pending=[one.name for one in pending],
            )
        if left:
            record = self._latest.record_
            raise PartialError(owed.left_text(left, None if record is None else record.sample))

    def _recorders(self, stack: contextlib.ExitStack) -> Iterator[Recorder]:
        """What writes everything down, where that is configured."""
        where = self._settings.recordings
        if where is not None:
            from vcpud.recording.files import RecordingWriter  # noqa: PLC0415  seldom used

            settings = self._settings
            writer = RecordingWriter(where, backend=settings.backend, loop=settings.loop)
            stack.callback(writer.close)
            yield Recorded(writer)

    def reload(self, uid: int) -> None:
        """Read the configuration anew: all of it comes into force, or nothing.

        Args:
            uid: Who asked.

        Raises:
            ConfigError: It is wrong; the old one stays in force.
        """
        with self._reload_turn:
            self._notifier.reloading()
            try:
                fresh = self._reread()
            except ConfigError as error:
                self._metrics.reloaded(None)
                self._log.error("config.reload.failed", uid=uid, mistakes=str(error).splitlines())
                raise
            else:
                old, self._settings = self._settings, fresh
                self._backend.adopt(self._overrides.over(fresh.terms))
                asked = Asked(uid=uid, at_ns=self._clock.now_ns())
                self._inbox.put(Reload(asked=asked, settings=fresh.loop))
                self._metrics.reloaded(fresh.digest)
                waiting = [
                    word for word in _NEEDS_RESTART if getattr(old, word) != getattr(fresh, word)
                ]
                self._log.info("config.reloaded", uid=uid, hash=fresh.digest)
                if waiting:
                    self._log.warning("config.needs_restart", keys=waiting)
            finally:
                self._notifier.reloaded()

    def _explain(self, uuid: Uuid) -> dict[str, Any] | None:
        record = self._latest.record_
        if record is None:
            return None
        now_ns = self._clock.now_ns()
        return explain(record, self._latest.verdicts, self._history.of(uuid), uuid, now_ns)

    def _set_terms(self, uuid: Uuid, name: str, wishes: Wishes | None) -> str:
        """Set a domain's terms, first on the disk; what of it is of no avail."""
        with self._reload_turn:
            self._overrides.put(uuid, wishes)
            terms = self._overrides.over(self._settings.terms)
            self._backend.adopt(terms)
        self._clock.wake()
        denied = terms.denied_by(uuid, name)
        return "" if denied is None else f"the configuration denies it all the same: {denied}"

    def _take_over(self) -> bool:
        """Whether what an earlier vcpud changed is taken over rather than given back."""
        note = read_hold(self._folder)
        try:
            clear_hold(self._folder)
        except LedgerError as error:
            self._log.error("hold.failed", error=str(error))
        return self._settings.loop.on_stop_keep or (note is not None and note.left_ns() > 0)

    def _hold(self, duration_ns: int) -> None:
        write_hold(self._folder, duration_ns)
        self._log.info("hold", for_s=seconds(duration_ns))

    def _alive(self) -> str | None:
        record = self._latest.record_
        if record is None:
            return "no cycle has finished yet"
        age_ns = self._clock.now_ns() - record.ended_ns
        if age_ns > _LIVE_PERIODS * record.period_ns:
            return f"the last cycle ended {seconds(age_ns):.1f} s ago"
        return None

    def _ready(self) -> str | None:
        record = self._latest.record_
        if record is None:
            return "no cycle has finished yet"
        if record.stopping:
            return "stopping"
        if not record.sample.connected:
            return "not connected to the hypervisor"
        return self._alive()

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        """TERM and INT stop, HUP reloads; a thread does the reading, the handler only queues."""

        def stop(_number: int, _frame: object) -> None:
            if not self._stop_asked:
                self._stop_asked = True
                self._notifier.stopping()
                self._clock.stop()

        def hang_up(_number: int, _frame: object) -> None:
            self._reloads.put(True)

        worker = threading.Thread(target=self._reload_forever, name="reload", daemon=True)
        worker.start()
        handlers = {signal.SIGTERM: stop, signal.SIGINT: stop, signal.SIGHUP: hang_up}
        before = {number: signal.signal(number, do) for number, do in handlers.items()}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            self._reloads.put(False)
            worker.join(1.0)

    def _reload_forever(self) -> None:
        while self._reloads.get():
            with contextlib.suppress(ConfigError):
                self.reload(os.getuid())
