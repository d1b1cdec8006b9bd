"""What can stand in the way on a Xen host and in its guests. Pure.

References: Xen docs/misc/xen-command-line.pandoc, xen/common/sched/credit.c and credit2.c; Linux
drivers/xen/cpu_hotplug.c; libvirt src/libxl/libxl_driver.c.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from vcpud.doctor.findings import Findings, Severity, about, on_host
from vcpud.doctor.probes.guest import lock_signal_missing
from vcpud.doctor.probes.host import XEN, dotted
from vcpud.doctor.xen import CREDIT2
from vcpud.hypervisor.xen.book import FULLY_VIRTUAL, PER_VCPU
from vcpud.hypervisor.xen.gate import NO_WAY_BACK
from vcpud.limits import MAX_WEIGHT
from vcpud.model import Mode

if TYPE_CHECKING:
    from vcpud.doctor.facts import DomainFacts, HostFacts, XenFacts

CREDIT: Final = "credit"
KEPT_ON_ONE: Final = {CREDIT: 0.88, CREDIT2: 0.92}
"""What a domain of four vCPUs kept of its share on one with the weight of all, beside one other.

Measured in the Xen lab: for credit in each of its whole runs, for credit2 before the lab set a floor there (3dfe916).
"""
CREDIT2_SPAN: Final = 5
"""How many times the lightest weight another may be for credit2 to keep shares.

An epoch gives each vCPU 10 ms of credit (CSCHED2_CREDIT_INIT), burnt the faster the less it weighs
beside the heaviest of its queue; whoever runs does so for 1 ms (RATE_LIMIT_US) at least, and
what a vCPU owes beyond 10 ms is forgiven (CSCHED2_CREDIT_MIN). One lighter than a tenth of the
heaviest owes more than that after every turn: from there on it gets as many turns as any other such
vCPU. Turns last longer than they must; half of the ten leaves them twice the time.
"""
RATE_LIMIT_US: Final = 1000
"""Xen's own (SCHED_DEFAULT_RATELIMIT_US)."""
_KINDS: Final = {"linux": "PV", "xen": "PV", "xenpvh": "PVH"}


def _versions(facts: HostFacts) -> Findings:
    xen = facts.xen
    if xen is None:
        return
    version = facts.libvirt_version
    told = {
        "Xen": xen.version,
        "libvirt": None if version is None else dotted(version),
        "dom0's vCPUs": xen.dom0_vcpus,
        "dom0's weight": xen.dom0_weight,
    }
    words = [f"{what} {value}" for what, value in told.items() if value is not None]
    if words:
        yield on_host("xen-host", Severity.NOTE, ", ".join(words), "nothing")


def _scheduler(facts: HostFacts) -> Findings:
    xen = facts.xen
    if xen is None or xen.scheduler is None:
        return
    if xen.scheduler in PER_VCPU:
        yield on_host(
            "xen-scheduler",
            Severity.NOTE,
            f"the scheduler is {xen.scheduler}: weight counts for each vCPU, so vcpud raises the "
            "weight of a domain while it has fewer vCPUs, and sets it back afterwards",
            "nothing; expect it where you watch weights",
        )
        if xen.scheduler == CREDIT:
            yield on_host(
                "xen-share-coarse",
                Severity.NOTE,
                f"{xen.scheduler} lets vCPUs take turns whatever their credit, and a vCPU can save the "
                "credit of one turn at most: a domain that is shrunk to fewer than half of its vCPUs gets "
                "less than its share, and neither a weight nor a shorter time slice can mend that",
                "set a floor (`min`) of half of its vCPUs for each domain that must keep its share; or "
                "boot Xen with sched=credit2, the default since Xen 4.12, on which such a domain loses "
                "less",
            )
    else:
        yield on_host(
            "xen-scheduler-unknown",
            Severity.ERROR,
            f"the scheduler {xen.scheduler} has no weight that could make up for fewer vCPUs, so "
            "vcpud shrinks no domain",
            "boot Xen with sched=credit2 or sched=credit",
        )


def _dom0(facts: HostFacts) -> Findings:
    xen = facts.xen
    if xen is None:
        return
    weight, heaviest = xen.dom0_weight, xen.heaviest
    if weight is not None and heaviest is not None and weight <= heaviest:
        yield on_host(
            "dom0-weight",
            Severity.WARNING,
            f"dom0 has weight {weight}, no more than a guest ({heaviest}): on a full host dom0 has to "
            "wait like the guests, and so have their disks and networks, libvirt and vcpud",
            _heavier(xen, len(facts.pcpus)),
        )
    if xen.dom0_vcpus is not None and 1 < len(facts.pcpus) <= xen.dom0_vcpus:
        yield on_host(
            "dom0-vcpus",
            Severity.NOTE,
            f"dom0 has {xen.dom0_vcpus} vCPUs, as many as the host has pCPUs or more: they compete "
            "with the guests' vCPUs on every pCPU",
            "boot Xen with dom0_max_vcpus=; a few vCPUs are enough on most hosts",
        )


def _heavier(xen: XenFacts, pcpus: int) -> str:
    """How dom0 gets what it needs, in words.

    Its vCPUs are due whole pCPUs once each weighs what all guests' do, divided by the pCPUs that
    dom0 leaves.
    """
    rest = max(pcpus - (xen.dom0_vcpus or 0), 1)
    enough = math.ceil((xen.guests_weight or 0) / rest)
    most = CREDIT2_SPAN * (xen.lightest or 1) if xen.scheduler == CREDIT2 else MAX_WEIGHT
    asked = min(max(enough, (xen.heaviest or 0) + 1), most, MAX_WEIGHT)
    return (
        f"`xl sched-{xen.scheduler or CREDIT2} -d Domain-0 -w {asked}`, or pCPUs of its own "
        "(dom0_max_vcpus=, dom0_vcpus_pin)"
    )


def _span(facts: HostFacts) -> Findings:
    xen = facts.xen
    if xen is None or xen.scheduler != CREDIT2 or xen.lightest is None:
        return
    weights = {"a guest": xen.heaviest or 0, "dom0": xen.dom0_weight or 0}
    for who, weight in weights.items():
        if weight > CREDIT2_SPAN * xen.lightest:
            yield on_host(
                "xen-weights-apart",
                Severity.WARNING,
                f"{who} has weight {weight}, more than {CREDIT2_SPAN} times the lightest guest's "
                f"({xen.lightest}): credit2 then gives each vCPU of a light guest at least a turn, so a "
                "domain that vcpud has shrunk to a few heavier vCPUs gets less than its share",
                f"with `xl sched-credit2`, set no weight above {CREDIT2_SPAN * xen.lightest}",
            )


def _turns(facts: HostFacts) -> Findings:
    xen = facts.xen
    limit_us = None if xen is None else xen.rate_limit_us
    if limit_us is not None and limit_us > RATE_LIMIT_US:
        yield on_host(
            "xen-turns-long",
            Severity.WARNING,
            f"credit2 lets a vCPU that runs go on for {limit_us} us: in turns as long as this, weights count "
            "for little. With 10000 us, a domain of four vCPUs kept 0.44 of its share on one vCPU with the "
            "weight of all four, and 0.66 on two",
            f"where shares must be kept, set Xen's default: `xl sched-credit2 -s -r {RATE_LIMIT_US}`",
        )


def _tools(facts: HostFacts) -> Findings:
    xen = facts.xen
    if xen is None:
        return
    if xen.xl is not None:
        yield on_host(
            "xl-unusable",
            Severity.ERROR if xen.ignore_host else Severity.WARNING,
            f"vcpud cannot use xl: {xen.xl}; it then tells which vCPUs are online from run times "
            "alone, which takes longer",
            "on a Xen host, run vcpud as root (systemd/xen.conf) and install xen-utils",
        )
    elif xen.ignore_host and xen.ignore_host_works is False:
        yield on_host(
            "ignore-host-unusable",
            Severity.ERROR,
            "xen.ignore_host is set, but this xl has no `vcpu-set --ignore-host`",
            "install a newer xen-utils; or unset xen.ignore_host: then vcpud does not shrink domains "
            "that have more vCPUs than the host has pCPUs",
        )


XEN_HOST_PROBES: Final[tuple[Callable[[HostFacts], Findings], ...]] = (
    _versions,
    _scheduler,
    _dom0,
    _span,
    _turns,
    _tools,
)


# ------------------------------------------------------------------------------- the domain


def _kind(facts: DomainFacts, host: HostFacts) -> Findings:
    if host.driver != XEN or facts.description is None:
        return
    if facts.features.os_type == FULLY_VIRTUAL:
        yield about(
            facts,
            "xen-hvm",
            Severity.WARNING,
            "it is a Xen HVM guest: Linux follows xenstore's CPU availability in PV and PVH "
            "guests only, so vcpud can grow it, but not shrink it",
            "set type = 'pvh', if the guest's kernel can run so",
        )
    elif facts.features.os_type in _KINDS:
        yield about(
            facts,
            "xen-kind",
            Severity.NOTE,
            f"it is a {_KINDS[facts.features.os_type]} guest: vcpud can shrink and grow it; to grow, "
            "it needs a udev rule besides its kernel",
            "nothing",
        )


def _way_back(facts: DomainFacts, host: HostFacts) -> Findings:
    description, xen = facts.description, host.xen
    if description is None or xen is None or host.driver != XEN:
        return
    had = max(description.live_vcpus, (facts.xen.online or 0) if facts.xen is not None else 0)
    if had > len(host.pcpus) and not (xen.ignore_host and xen.ignore_host_works is not False):
        yield about(
            facts,
            "xen-no-way-back",
            Severity.ERROR,
            f"it has {had} vCPUs and the host has {len(host.pcpus)} pCPUs, so vcpud never shrinks it: "
            f"{NO_WAY_BACK}",
            "set `xen: {ignore_host: true}`; or give it no more vCPUs than the host has pCPUs: it "
            "cannot use more",
        )


def _counts(facts: DomainFacts, _host: HostFacts) -> Findings:
    xen = facts.xen
    if xen is None or xen.asked is None or xen.online is None or xen.asked == xen.online:
        return
    if xen.asked > xen.online:
        yield about(
            facts,
            "xen-cpus-not-online",
            Severity.WARNING,
            f"it was given {xen.asked} vCPUs, but {xen.online} are online: either its guest lacks "
            "the udev rule that brings added CPUs online, or xl or vcpud has taken the others",
            "in the guest: copy /usr/share/vcpud/guest/80-vcpud-xen-cpu.rules to /etc/udev/rules.d; "
            "`xl vcpu-list` shows which are online",
        )
    else:
        yield about(
            facts,
            "xen-count-ignored",
            Severity.WARNING,
            f"libvirt asked for {xen.asked} vCPUs, but {xen.online} are online: either its guest does "
            "not follow, or xl has given it more",
            "to make both agree: `virsh setvcpus --live` with the number that is online",
        )


def _cap(facts: DomainFacts, _host: HostFacts) -> Findings:
    if facts.xen is not None and facts.xen.cap_pcpus is not None:
        yield about(
            facts,
            "xen-cap",
            Severity.NOTE,
            f"it is capped at {facts.xen.cap_pcpus:g} pCPUs: the time for which the cap stops it "
            "looks like waiting for a pCPU",
            "use a weight instead of a cap; or set a floor (`min`) of enough vCPUs to use the whole "
            "cap",
        )


def _floor(facts: DomainFacts, _host: HostFacts) -> Findings:
    description, xen = facts.description, facts.xen
    if description is None or xen is None or xen.scheduler not in KEPT_ON_ONE:
        return
    had = max(description.live_vcpus, xen.online or 0)
    floor = share_floor(had)
    if facts.terms.mode is not Mode.OFF and facts.terms.min_vcpus < floor:
        yield about(
            facts,
            "xen-share-floor",
            Severity.NOTE,
            f"vcpud may shrink it to {facts.terms.min_vcpus} of {had} vCPUs, but on {xen.scheduler}, with "
            f"fewer than {floor}, it gets less than its share: a domain of four kept "
            f"{KEPT_ON_ONE[xen.scheduler]} of its share on one vCPU beside one other domain, and less "
            "beside more domains",
            f"where it must keep its share: `vcpud set {facts.name} --min {floor}`",
        )


def share_floor(vcpus: int) -> int:
    """Return the fewest of a domain's vCPUs on which it keeps its share."""
    return math.ceil(vcpus / 2)


def _reporter(facts: DomainFacts, host: HostFacts) -> Findings:
    xen = facts.xen
    if xen is None or host.driver != XEN or xen.reports is None:
        return
    if xen.report_error is not None:
        yield about(
            facts,
            "xen-report-absurd",
            Severity.ERROR,
            f"vcpud cannot use what its guest publishes: {xen.report_error}; it leaves the domain as "
            "it is",
            "in the guest: install the current /usr/share/vcpud/guest/vcpud-xen-report; "
            "`vcpud-xen-report show` prints what it publishes",
        )
    elif not xen.reports:
        yield about(
            facts,
            "xen-report-missing",
            Severity.WARNING,
            "its guest publishes nothing, so its progress is unknown: adaptive changes nothing, and "
            "changes that another policy lets vcpud judge are undone",
            "in the guest: install /usr/share/vcpud/guest/vcpud-xen-report with its unit; see "
            "/usr/share/vcpud/guest/README.md",
        )
    elif not xen.reports_locks:
        yield lock_signal_missing(facts)


XEN_DOMAIN_PROBES: Final[tuple[Callable[[DomainFacts, HostFacts], Findings], ...]] = (
    _kind,
    _way_back,
    _counts,
    _cap,
    _floor,
    _reporter,
)
