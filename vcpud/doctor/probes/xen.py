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
            "weight of a domain while it has fewer, and sets it back",
            "nothing; whoever watches weights should expect it",
        )
        if xen.scheduler == CREDIT:
            yield on_host(
                "xen-share-coarse",
                Severity.NOTE,
                f"{xen.scheduler} lets vCPUs take turns whatever their credit, and a vCPU can save no "
                "more than a turn's: a domain shrunk to fewer than half of its vCPUs falls short of its "
                "share, and no weight is right for it, nor a shorter time slice",
                "a floor (`min`) of half of its vCPUs for each domain whose share has to be kept; or "
                "sched=credit2, the default since Xen 4.12, on which less is lost",
            )
    else:
        yield on_host(
            "xen-scheduler-unknown",
            Severity.ERROR,
            f"the scheduler {xen.scheduler} has no weight that could make up for fewer vCPUs: no "
            "domain is shrunk",
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
            f"dom0 has weight {weight}, no more than a guest ({heaviest}): on a full host it waits "
            "like the others, and with it their disks and networks, libvirt and vcpud",
            _heavier(xen, len(facts.pcpus)),
        )
    if xen.dom0_vcpus is not None and 1 < len(facts.pcpus) <= xen.dom0_vcpus:
        yield on_host(
            "dom0-vcpus",
            Severity.NOTE,
            f"dom0 has {xen.dom0_vcpus} vCPUs, as many as the host has pCPUs: they compete with "
            "the guests' on every one",
            "boot Xen with dom0_max_vcpus=; a few are enough for most hosts",
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
                f"({xen.lightest}): credit2 then gives each vCPU of a light guest a turn at least, so "
                "that a domain that vcpud has shrunk to few heavier ones falls short of its share",
                f"no weight above {CREDIT2_SPAN * xen.lightest}: `xl sched-credit2`",
            )


def _turns(facts: HostFacts) -> Findings:
    xen = facts.xen
    limit_us = None if xen is None else xen.rate_limit_us
    if limit_us is not None and limit_us > RATE_LIMIT_US:
        yield on_host(
            "xen-turns-long",
            Severity.WARNING,
            f"credit2 lets whoever runs go on for {limit_us} us: weights count for little in so long turns. A "
            "domain of four vCPUs kept, with 10000 us, 0.44 of its share on one vCPU of all their weight and "
            "0.66 on two",
            f"`xl sched-credit2 -s -r {RATE_LIMIT_US}`, Xen's own, where shares have to be kept",
        )


def _tools(facts: HostFacts) -> Findings:
    xen = facts.xen
    if xen is None:
        return
    if xen.xl is not None:
        yield on_host(
            "xl-unusable",
            Severity.ERROR if xen.ignore_host else Severity.WARNING,
            f"xl cannot be used: {xen.xl}; who is online is then told from run times alone, which "
            "takes longer",
            "run vcpud as root on a Xen host (systemd/xen.conf), with xen-utils installed",
        )
    elif xen.ignore_host and xen.ignore_host_works is False:
        yield on_host(
            "ignore-host-unusable",
            Severity.ERROR,
            "xen.ignore_host is set, but this xl has no `vcpu-set --ignore-host`",
            "a newer xen-utils, or leave it off: domains with more vCPUs than the host has pCPUs "
            "are then not shrunk",
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
            "guests only, so it can grow but not shrink",
            "type = 'pvh' where the guest's kernel can",
        )
    elif facts.features.os_type in _KINDS:
        yield about(
            facts,
            "xen-kind",
            Severity.NOTE,
            f"it is a {_KINDS[facts.features.os_type]} guest: it can be shrunk and grown, by its "
            "kernel and, for growing, a udev rule",
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
            f"it has {had} vCPUs and the host {len(host.pcpus)} pCPUs, so it is never shrunk: "
            f"{NO_WAY_BACK}",
            "`xen: {ignore_host: true}`; or fewer vCPUs, of which a guest can use no more anyway",
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
            f"it was given {xen.asked} vCPUs and has {xen.online} online: its guest lacks the udev "
            "rule that brings added CPUs online, they were taken by xl, or by vcpud",
            "in the guest: /usr/share/vcpud/guest/80-vcpud-xen-cpu.rules in /etc/udev/rules.d; "
            "`xl vcpu-list` shows who is online",
        )
    else:
        yield about(
            facts,
            "xen-count-ignored",
            Severity.WARNING,
            f"libvirt asked for {xen.asked} vCPUs and {xen.online} are online: its guest does not "
            "follow, or xl has given them",
            "`virsh setvcpus --live` with the number that is online, so that both agree",
        )


def _cap(facts: DomainFacts, _host: HostFacts) -> Findings:
    if facts.xen is not None and facts.xen.cap_pcpus is not None:
        yield about(
            facts,
            "xen-cap",
            Severity.NOTE,
            f"it is capped at {facts.xen.cap_pcpus:g} pCPUs: time it is held back looks like time "
            "it waits for a pCPU",
            "a weight instead of a cap, or a floor (`min`) that it can use its cap with",
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
            f"it may be shrunk to {facts.terms.min_vcpus} of {had} vCPUs, and on {xen.scheduler} fewer "
            f"than {floor} fall short of its share: {KEPT_ON_ONE[xen.scheduler]} of it on one of four beside "
            "one other domain, less beside more",
            f"where its share has to be kept: `vcpud set {facts.name} --min {floor}`",
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
            f"what its guest publishes cannot be used: {xen.report_error}; it is held as it is",
            "in the guest: the current /usr/share/vcpud/guest/vcpud-xen-report, "
            "`vcpud-xen-report show`",
        )
    elif not xen.reports:
        yield about(
            facts,
            "xen-report-missing",
            Severity.WARNING,
            "its guest publishes nothing: vcpud has only the host's signals, which cannot tell "
            "spinning from work, and a change that has to prove itself is undone",
            "in the guest: /usr/share/vcpud/guest/vcpud-xen-report with its unit, see "
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
