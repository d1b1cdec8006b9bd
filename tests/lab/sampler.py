"""Something looked at again and again, by a thread of the lab's own, while other things are measured."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from types import TracebackType


class Sampler(ABC):
    """Looks from entering to leaving its context, at least once."""

    def __init__(self, period_s: float) -> None:
        """Take how often to look."""
        self._period_s = period_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._go_on, name=type(self).__name__, daemon=True)

    @abstractmethod
    def look(self) -> None:
        """Look once."""

    def __enter__(self) -> Self:
        """Start looking."""
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop looking."""
        self._stop.set()
        self._thread.join()

    def _go_on(self) -> None:
        while True:
            self.look()
            if self._stop.wait(self._period_s):
                return
