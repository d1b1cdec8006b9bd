"""What changes rarely about domains, asked only when due: their XML, weights, processes.

A run of a domain is described when it is first seen, and again after whatever may have changed it
(`forget`, from any thread): the description that counts is one that was begun later.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from vcpud.hypervisor.failures import CallFailed, Meaning
from vcpud.hypervisor.xml import Description, UnreadableError, parse_description
from vcpud.model import ShareUnit

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from vcpud.hypervisor.errands import Hand
    from vcpud.hypervisor.link import Link, Row
    from vcpud.hypervisor.proc import Process, ProcFiles
    from vcpud.model import Uuid

DEFAULT_WEIGHT: Final = 1024
DESCRIBED_AT_ONCE: Final = 64


class Scheduling(NamedTuple):
    """What a host's scheduler gives a domain.

    Attributes:
        weight: `cpu_shares`.
        quota_pcpus_per_vcpu: The ceiling of each vCPU, None when unlimited.
        cap_pcpus: The ceiling of the domain as a whole, None when unlimited.
    """

    weight: int = DEFAULT_WEIGHT
    quota_pcpus_per_vcpu: float | None = None
    cap_pcpus: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What changes rarely about one run of a domain.

    Attributes:
        number: libvirt's id of this run.
        name: For people.
        description: Its XML read, None where that cannot be understood.
        error: Why not.
        scheduling: What the scheduler gives it.
        process: Its QEMU, None when it cannot be found.
        share_unit: What weights count for it.
        taken_at_ns: When this was asked.
    """

    number: int
    name: str
    description: Description | None
    error: str | None
    scheduling: Scheduling
    process: Process | None
    share_unit: ShareUnit
    taken_at_ns: int


class Describer:
    """Asks for facts of those domains of which they are not known or no longer true."""

    def __init__(self, proc: ProcFiles, now_ns: Callable[[], int]) -> None:
        self._proc = proc
        self._now_ns = now_ns
        self._described: dict[Uuid, tuple[int, int]] = {}
        self._editions: dict[Uuid, int] = {}
        self._edition = itertools.count(1)
        self._texts: dict[Uuid, tuple[str, Description]] = {}
        self._kvm: dict[Uuid, bool] = {}

    def forget(self, uuid: Uuid) -> None:
        """Have a domain described anew, though it is being described just now."""
        self._editions[uuid] = next(self._edition)

    def forget_all(self) -> None:
        """Have every domain described anew: what happened meanwhile was not told."""
        self._described.clear()

    def kvm(self, uuid: Uuid) -> bool | None:
        """Whether KVM runs a domain, None where that was never asked."""
        return self._kvm.get(uuid)

    @property
    def any_kvm(self) -> bool:
        """Whether KVM runs any domain."""
        return any(self._kvm.values())

    def describe(
        self, hand: Hand, deadline_s: float, rows: list[Row], *, but: Collection[Uuid]
    ) -> dict[Uuid, Facts]:
        """Describe whom it is due to, so many at a time.

        Args:
            hand: Makes the calls.
            deadline_s: Of each.
            rows: All domains there are.
            but: Not these, whose QEMU does not answer.

        Raises:
            CallFailed: The connection is lost.
        """
        described, editions = self._described, self._editions
        if max(len(described), len(self._texts)) > 2 * len(rows) + DESCRIBED_AT_ONCE:
            self._tidy(rows)
        fresh = [
            row
            for row in rows
            if described.get(row.uuid) != (row.number, editions.get(row.uuid, 0))
        ]
        if not fresh:
            return {}
        pids = self._proc.qemu_pids()
        facts = {}
        for row in fresh[:DESCRIBED_AT_ONCE]:
            if row.uuid in but:
                continue
            edition = editions.get(row.uuid, 0)
            try:
                facts[row.uuid] = hand.call(
                    deadline_s,
                    lambda link, row=row: self._facts(link, row, pids.get(row.uuid)),  # type: ignore[misc]
                )
            except CallFailed as failure:
                if failure.meaning is Meaning.LOST:
                    raise
                continue  # gone in between, or not answering: the next poll tells
            described[row.uuid] = row.number, edition
        return facts

    def _tidy(self, rows: list[Row]) -> None:
        listed = {row.uuid for row in rows}
        known: dict[Uuid, Any]
        for known in (self._described, self._editions, self._texts, self._kvm):
            # A list at once: others write into the second meanwhile, in `forget`.
            for uuid in list(known):
                if uuid not in listed:
                    known.pop(uuid, None)

    def _facts(self, link: Link, row: Row, pid: int | None) -> Facts:
        description, error = self._read_xml(row.uuid, link.xml(row.uuid))
        if description is not None:
            self._kvm[row.uuid] = description.kvm
            if pid is not None:
                description = description.within(self._proc.cpusets(pid))
        return Facts(
            number=row.number,
            name=link.name(row.uuid),
            description=description,
            error=error,
            scheduling=_scheduling(link, row.uuid, description),
            process=None if pid is None else self._proc.process(pid),
            share_unit=ShareUnit.UNKNOWN if pid is None else self._proc.share_unit(pid),
            taken_at_ns=self._now_ns(),
        )

    def _read_xml(self, uuid: Uuid, text: str) -> tuple[Description | None, str | None]:
        known = self._texts.get(uuid)
        if known is not None and known[0] == text:
            return known[1], None
        try:
            description = parse_description(text)
        except UnreadableError as error:
            return None, str(error)
        self._texts[uuid] = (text, description)
        return description, None


def _scheduling(link: Link, uuid: Uuid, description: Description | None) -> Scheduling:
    """What the scheduler really has, else what the XML says."""
    try:
        found = link.scheduler(uuid)
    except CallFailed as failure:
        if failure.meaning is Meaning.LOST:
            raise
        found = {}  # no cgroups here
    said = Scheduling()
    if description is not None:
        said = Scheduling(
            description.shares or DEFAULT_WEIGHT,
            description.quota_pcpus_per_vcpu,
            description.cap_pcpus,
        )
    shares = found.get("cpu_shares")
    return Scheduling(
        shares if type(shares) is int and shares > 0 else said.weight,
        _ceiling(found, "vcpu", said.quota_pcpus_per_vcpu),
        _ceiling(found, "global", said.cap_pcpus),
    )


def _ceiling(found: dict[str, Any], whose: str, said: float | None) -> float | None:
    """pCPUs by quota and period; a quota that is not positive is none."""
    quota, period = found.get(f"{whose}_quota"), found.get(f"{whose}_period")
    if type(quota) is not int or type(period) is not int:
        return said
    return quota / period if quota > 0 and period > 0 else None
