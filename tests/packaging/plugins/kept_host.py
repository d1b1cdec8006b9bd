"""A host whose domains outlive the daemon: the backend `kept:FILE`, found as a site's own is.

Problem: what a restart, a crash or a removal leaves behind shows only on guests that go on running
without vcpud; a simulated host in the daemon's own process dies with it.
Approach: the fake host of the tests, moved along with real time, with the online vCPUs of every
domain in a file. While `stuck` lies beside the file, nothing can be changed.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from fakes.host import FakeDomain, FakeHost
from fakes.ports import SimulatedClock
from vcpud.model import Reason, Refused

if TYPE_CHECKING:
    from vcpud.backend import BackendOptions
    from vcpud.events import HostEvent
    from vcpud.model import Change, Effect, HostSample
    from vcpud.terms import TermsBook

VCPUS = 4


class KeptHost:
    """Two lock-bound domains on two pCPUs: far too many vCPUs until vcpud parks some."""

    clock = None

    def __init__(self, options: BackendOptions) -> None:
        self._file = Path(options.argument)
        self._stuck = self._file.with_name("stuck")
        self._now_ns = options.now_ns
        self._clock = SimulatedClock(start_ns=options.now_ns())
        self._domains = [
            FakeDomain(name=name, vcpus=VCPUS, lock_bound=True, online=frozenset(online))
            for name, online in json.loads(self._file.read_text()).items()
        ]
        self._host = FakeHost(*self._domains, clock=self._clock)
        self.adopt(options.terms)

    @property
    def hypervisor(self) -> KeptHost:
        return self

    def adopt(self, terms: TermsBook) -> None:
        self._host.adopt(terms)

    def close(self) -> None:
        """Its domains go on."""

    @property
    def restore_ns(self) -> int:
        return self._host.restore_ns

    def sample(self) -> HostSample:
        self._catch_up()
        return self._host.sample()

    def begin(self, change: Change) -> Effect:
        if self._stuck.exists():
            return Refused(Reason.FAILED, "as told")
        self._catch_up()
        return self._host.begin(change)

    def events(self) -> tuple[HostEvent, ...]:
        self._catch_up()
        return self._host.events()

    def _catch_up(self) -> None:
        now_ns = self._now_ns()
        while self._clock.now_ns() < now_ns:
            self._clock.wait_until(now_ns)
        counts = {domain.name: sorted(domain.online) for domain in self._domains}
        # In place: whoever runs this, the file stays whose it was.
        if json.loads(self._file.read_text()) != counts:
            self._file.write_text(json.dumps(counts))


def open_backend(options: BackendOptions) -> KeptHost:
    """For the entry point."""
    return KeptHost(options)
