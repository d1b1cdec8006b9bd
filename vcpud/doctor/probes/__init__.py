"""From facts to findings, one probe for each thing that can stand in the way. Pure.

A probe is a function of what was seen; it says nothing where the fact is missing.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from vcpud.doctor.findings import Finding, Severity
from vcpud.doctor.probes.domain import DOMAIN_PROBES
from vcpud.doctor.probes.guest import GUEST_PROBES
from vcpud.doctor.probes.host import HOST_PROBES
from vcpud.doctor.probes.xen import XEN_DOMAIN_PROBES, XEN_HOST_PROBES
from vcpud.model import Mode

if TYPE_CHECKING:
    from vcpud.doctor.facts import DomainFacts, HostFacts

_ALWAYS: Final = frozenset({"xml-unreadable", "metadata-invalid"})


def examine_host(facts: HostFacts) -> tuple[Finding, ...]:
    """Everything found on the host."""
    probes = (*HOST_PROBES, *XEN_HOST_PROBES)
    return tuple(finding for probe in probes for finding in probe(facts))


def examine_domain(facts: DomainFacts, host: HostFacts) -> tuple[Finding, ...]:
    """Everything found about one domain and in its guest."""
    probes = (*DOMAIN_PROBES, *GUEST_PROBES, *XEN_DOMAIN_PROBES)
    found = [finding for probe in probes for finding in probe(facts, host)]
    if facts.terms.mode is Mode.ENFORCE:
        return tuple(found)
    # What stands in the way of managing it is no fault while nobody wants it managed.
    return tuple(
        replace(finding, severity=Severity.WARNING)
        if finding.severity is Severity.ERROR and finding.code not in _ALWAYS
        else finding
        for finding in found
    )
