"""Looking at what only a Xen host has. Reads only."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

from vcpud.doctor.facts import XenDomainFacts, XenFacts
from vcpud.hypervisor.agent import AbsurdError
from vcpud.hypervisor.failures import CallFailed
from vcpud.hypervisor.xen.report import parse_report

if TYPE_CHECKING:
    from vcpud.hypervisor.link import Link
    from vcpud.hypervisor.xen.roll import Roll, Weighing
    from vcpud.hypervisor.xen.tools import Toolstack

T = TypeVar("T")

CREDIT2: Final = "credit2"
DOM0: Final = "00000000-0000-0000-0000-000000000000"


class Within(Protocol):
    """Makes a call that is given up past its deadline; raises `CallFailed`."""

    def __call__(self, call: Callable[[], T]) -> T: ...


Missed = Callable[[str, str, str], None]
"""Takes the subject, what could not be looked at, and why."""


@dataclass(slots=True, kw_only=True)
class XenLook:
    """One look at a Xen host.

    Attributes:
        tools: Xen's own.
        roll: What connections have written down.
        ignore_host: As configured.
        online: By domain id, who is online, as Xen says.
    """

    tools: Toolstack
    roll: Roll
    ignore_host: bool
    online: Mapping[int, frozenset[int]] = field(default_factory=dict)

    def host(self, link: Link, uuids: list[str], within: Within, missed: Missed) -> XenFacts:
        """Look at the host.

        Args:
            link: To libvirt on Xen.
            uuids: Its running domains.
            within: Makes calls.
            missed: Takes what could not be seen.
        """
        xl = version = None
        try:
            self.online = within(self.tools.online)
            version = within(self.tools.version) or None
        except CallFailed as failure:
            xl = failure.message
        works = within(self.tools.can_ignore_host) if self.ignore_host and xl is None else None
        own = self._weighing(link, DOM0, "host", within, missed)
        scheduler = None if own is None else own.scheduler
        weights = {
            uuid: found.weight
            for uuid in uuids
            if (found := self._weighing(link, uuid, "host", within, missed)) is not None
            and found.weight is not None
        }
        return XenFacts(
            scheduler=scheduler,
            dom0_weight=None if own is None else own.weight,
            dom0_vcpus=len(self.online[0]) if 0 in self.online else None,
            lightest=min(weights.values(), default=None),
            heaviest=max(weights.values(), default=None),
            guests_weight=sum(weight * self._active(uuid) for uuid, weight in weights.items()),
            version=version,
            rate_limit_us=self._rate_limit_us(scheduler, within, missed) if xl is None else None,
            xl=xl,
            ignore_host=self.ignore_host,
            ignore_host_works=works,
        )

    def _rate_limit_us(self, scheduler: str | None, within: Within, missed: Missed) -> int | None:
        if scheduler != CREDIT2:
            return None
        try:
            return within(self.tools.rate_limit_us)
        except CallFailed as failure:
            missed("host", "how long turns are", failure.message)
            return None

    def _active(self, uuid: str) -> int:
        """Return how many vCPUs of a domain are online, 0 where Xen does not say."""
        number = self.roll.number(uuid)
        return 0 if number is None else len(self.online.get(number, ()))

    def domain(  # noqa: PLR0913  what a look at one domain takes
        self, link: Link, uuid: str, name: str, *, max_vcpus: int, within: Within, missed: Missed
    ) -> XenDomainFacts:
        """Look at one domain."""
        weighing = self._weighing(link, uuid, name, within, missed)
        asked = None
        try:
            asked = within(lambda: link.live_vcpus(uuid))
        except CallFailed as failure:
            missed(name, "its number of vCPUs", failure.message)
        number = self.roll.number(uuid)
        online = None if number is None else self.online.get(number)
        reports, error, locks = self._report(number, name, max_vcpus, within, missed)
        return XenDomainFacts(
            scheduler=None if weighing is None else weighing.scheduler,
            cap_pcpus=None if weighing is None else weighing.cap_pcpus,
            asked=asked,
            online=None if online is None else len(online),
            reports=reports,
            report_error=error,
            reports_locks=locks,
        )

    def _weighing(
        self, link: Link, uuid: str, subject: str, within: Within, missed: Missed
    ) -> Weighing | None:
        try:
            within(lambda: link.scheduler(uuid))
        except CallFailed as failure:
            missed(subject, "a weight", failure.message)
            return None
        number = self.roll.number(uuid)
        return None if number is None else self.roll.weighing(number)

    def _report(
        self, number: int | None, name: str, max_vcpus: int, within: Within, missed: Missed
    ) -> tuple[bool | None, str | None, bool]:
        """Whether the guest publishes anything, why it cannot be used, and whether locks are told."""
        if number is None:
            return None, None, False
        try:
            line = within(lambda: self.tools.report(number))
        except CallFailed as failure:
            missed(name, "what its guest publishes", failure.message)
            return None, None, False
        if line is None:
            return False, None, False
        try:
            report = parse_report(line, taken_at_ns=0, max_vcpus=max_vcpus)
        except AbsurdError as error:
            return True, str(error), False
        return True, None, report.reading.locks is not None
