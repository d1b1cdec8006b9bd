"""Any hypervisor, with its hands tied: everything is read, nothing is changed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vcpud.model import Change, Effect, Reason, Refused

if TYPE_CHECKING:
    from vcpud.events import HostEvent
    from vcpud.model import HostSample, Original, Uuid
    from vcpud.ports import Hypervisor


class DryRun:
    """A `Hypervisor` that refuses every change with `Reason.DRY_RUN`."""

    __slots__ = ("_inner",)

    def __init__(self, inner: Hypervisor) -> None:
        self._inner = inner

    @property
    def restore_ns(self) -> int:
        return self._inner.restore_ns

    def sample(self) -> HostSample:
        return self._inner.sample()

    def begin(self, change: Change) -> Effect:
        del change
        return Refused(Reason.DRY_RUN, "dry run: nothing is changed")

    def events(self) -> tuple[HostEvent, ...]:
        return self._inner.events()


class BlankLedger:
    """A `Ledger` that keeps nothing and writes nothing, for runs that change nothing."""

    __slots__ = ()
    lost = False

    def remember(self, *originals: Original) -> None:
        """Nothing to restore later: nothing will be changed."""

    def amend(self, original: Original) -> None:
        """Nothing is owed."""

    def forget(self, *uuids: Uuid) -> None:
        """Nothing was remembered."""

    def outstanding(self) -> tuple[Original, ...]:
        return ()
