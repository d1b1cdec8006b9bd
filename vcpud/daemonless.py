"""The loop where no daemon runs it: a rehearsal that changes nothing, and a restore."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from vcpud.clock import Interruptible, MonotonicClock
from vcpud.control import ControlLoop
from vcpud.dryrun import BlankLedger, DryRun
from vcpud.errors import LedgerError
from vcpud.fittings import FanOut, open_backend_for
from vcpud.ledger import FileLedger
from vcpud.lock import HostLock, ledger_folder
from vcpud.memory import NoRequests
from vcpud.overrides import Overrides

if TYPE_CHECKING:
    from vcpud.model import Original, Uuid
    from vcpud.ports import Ledger, Recorder
    from vcpud.settings import Settings


class PartLedger:
    """A `Ledger` of which only one domain is to be seen."""

    def __init__(self, inner: Ledger, uuid: Uuid) -> None:
        self._inner = inner
        self._uuid = uuid

    @property
    def lost(self) -> bool:
        return self._inner.lost

    def remember(self, *originals: Original) -> None:
        self._inner.remember(*originals)

    def amend(self, original: Original) -> None:
        self._inner.amend(original)

    def forget(self, *uuids: Uuid) -> None:
        self._inner.forget(*uuids)

    def outstanding(self) -> tuple[Original, ...]:
        return tuple(one for one in self._inner.outstanding() if one.uuid == self._uuid)


@contextlib.contextmanager
def interrupted_by(stop: Callable[[], None]) -> Iterator[None]:
    """TERM and INT call this while the block runs."""

    def handle(_number: int, _frame: object) -> None:
        stop()

    before = {number: signal.signal(number, handle) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def rehearse(settings: Settings, recorder: Recorder, cycles: int | None) -> None:
    """`vcpud dry-run`: the loop as it is, on the real host, with its hands tied.

    Raises:
        UnreachableError: The backend cannot be opened.
    """
    with contextlib.ExitStack() as stack:
        wall = MonotonicClock()
        stack.callback(wall.close)
        with contextlib.suppress(LedgerError):  # whoever rehearses need not be allowed to read it
            terms = Overrides(settings.state_dir).over(settings.terms)
            settings = replace(settings, terms=terms)
        backend = open_backend_for(settings, wall, writable=False)
        stack.callback(backend.close)
        clock = wall if backend.clock is None else Interruptible(backend.clock)
        loop = ControlLoop(
            clock=clock,
            hypervisor=DryRun(backend.hypervisor),
            ledger=BlankLedger(),
            inbox=NoRequests(),
            recorder=FanOut(recorder),
            settings=settings.loop,
        )
        with interrupted_by(clock.stop):
            loop.run(cycles=cycles)


def give_back(
    settings: Settings,
    recorder: Recorder,
    within_ns: int,
    uuid: Uuid | None,
    *,
    forget_absent: bool,
) -> tuple[Original, ...]:
    """`vcpud restore` without a daemon: open the backend, apply the ledger, close.

    Args:
        settings: The configuration in force.
        recorder: Is told of every cycle.
        within_ns: How long to try.
        uuid: One domain, or None for all.
        forget_absent: Take it that who does not run is gone, and is owed nothing.

    Returns:
        What could not be given back; it stays in the ledger.

    Raises:
        VcpudError: A vcpud runs, the ledger cannot be read, or the backend cannot be opened.
    """
    with contextlib.ExitStack() as stack:
        lock = stack.enter_context(HostLock(settings.runtime_dir))
        folder = ledger_folder(settings.state_dir, settings.runtime_dir)
        ledger = FileLedger(folder)
        if ledger.fault:
            raise LedgerError(ledger.fault)
        if not ledger.outstanding() and not ledger.lost:
            return ()
        lock.keep(folder)
        wall = MonotonicClock()
        stack.callback(wall.close)
        backend = open_backend_for(settings, wall, writable=True)
        stack.callback(backend.close)
        clock = wall if backend.clock is None else Interruptible(backend.clock)
        loop = ControlLoop(
            clock=clock,
            hypervisor=backend.hypervisor,
            ledger=ledger if uuid is None else PartLedger(ledger, uuid),
            inbox=NoRequests(),
            recorder=FanOut(recorder),
            settings=settings.loop,
        )
        deadline_ns = clock.now_ns() + within_ns
        return loop.restore(deadline_ns, settle=True, forget_absent=forget_absent)
