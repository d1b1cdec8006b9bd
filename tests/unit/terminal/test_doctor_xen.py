"""What `vcpud doctor` finds on a Xen host."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from fakes.xen import XenGuest, XenWorld
from fakes.xen_libvirt import FakeXenLibrary
from unit.terminal.examined import GOOD, GOOD_XML, Room, codes
from vcpud.doctor.collect import Doctor
from vcpud.doctor.facts import (
    Features,
    HostFacts,
    XenDomainFacts,
    XenFacts,
)
from vcpud.doctor.findings import Severity
from vcpud.doctor.probes import examine_domain, examine_host
from vcpud.doctor.xen import XenLook
from vcpud.hypervisor.xen.roll import Roll
from vcpud.hypervisor.xml import AgentPort
from vcpud.model import Mode

XEN_HOST = HostFacts(
    uri="xen:///system",
    backend="xen",
    driver="Xen",
    libvirt_version=9_000_000,
    hypervisor_version=4_017_000,
    daemon="",
    cgroup_unified=True,
    pcpus=frozenset(range(4)),
    xen=XenFacts(
        scheduler="credit2",
        dom0_weight=1280,
        dom0_vcpus=2,
        lightest=256,
        heaviest=1024,
        guests_weight=4096,
        version="4.17.7",
    ),
)
XEN_DOMAIN = replace(
    GOOD,
    description=replace(GOOD_XML, kvm=False, agent=AgentPort.ABSENT, os_type="linux"),
    features=Features(kind="xen", os_type="linux"),
    share_unit=None,
    guest=None,
    xen=XenDomainFacts(scheduler="credit2", asked=4, online=4, reports=True, reports_locks=True),
)


def xen_facts(**wrong: Any) -> dict[str, Any]:
    assert XEN_HOST.xen is not None
    return {"xen": replace(XEN_HOST.xen, **wrong)}


def xen_domain(**wrong: Any) -> dict[str, Any]:
    assert XEN_DOMAIN.xen is not None
    return {"xen": replace(XEN_DOMAIN.xen, **wrong)}


def xen_doctor(room: Room, world: XenWorld) -> Doctor:
    roll = Roll()
    return Doctor(
        replace(room.settings, backend="xen"),
        "xen:///system",
        lambda _: FakeXenLibrary(world, roll),
        root=room.root,
        xen=XenLook(tools=world, roll=roll, ignore_host=False),
    )


def test_on_a_good_xen_host_only_what_is_worth_knowing_is_said() -> None:
    assert codes(examine_host(XEN_HOST)) == {"xen-host", "xen-scheduler"}
    assert codes(examine_domain(XEN_DOMAIN, XEN_HOST)) == {"xen-kind", "xen-share-floor"}


@pytest.mark.parametrize(
    ("code", "severity", "wrong"),
    [
        ("backend-wrong", Severity.ERROR, {"backend": "libvirt"}),
        ("xen-scheduler-unknown", Severity.ERROR, xen_facts(scheduler="null")),
        ("xen-share-coarse", Severity.NOTE, xen_facts(scheduler="credit")),
        ("dom0-weight", Severity.WARNING, xen_facts(dom0_weight=256)),
        ("dom0-vcpus", Severity.NOTE, xen_facts(dom0_vcpus=4)),
        ("xen-weights-apart", Severity.WARNING, xen_facts(dom0_weight=10_000)),
        ("xen-weights-apart", Severity.WARNING, xen_facts(heaviest=4096)),
        ("xen-turns-long", Severity.WARNING, xen_facts(rate_limit_us=10_000)),
        ("xl-unusable", Severity.WARNING, xen_facts(xl="there is no xl here")),
        ("xl-unusable", Severity.ERROR, xen_facts(xl="no", ignore_host=True)),
        (
            "ignore-host-unusable",
            Severity.ERROR,
            xen_facts(ignore_host=True, ignore_host_works=False),
        ),
    ],
)
def test_what_is_wrong_with_a_xen_host(code: str, severity: Severity, wrong: Any) -> None:
    found = examine_host(replace(XEN_HOST, **wrong))
    assert (code, severity) in {(one.code, one.severity) for one in found}
    assert all(one.remedy for one in found)


def test_credit_keeps_shares_however_far_apart_weights_are() -> None:
    found = examine_host(
        replace(XEN_HOST, **xen_facts(scheduler="credit", dom0_weight=10_000, heaviest=8192))
    )
    assert "xen-weights-apart" not in codes(found)


@pytest.mark.parametrize(
    ("weight", "wrong"),
    [
        (1200, {"guests_weight": 2400}),  # on the two pCPUs that dom0's vCPUs leave
        (1025, {"guests_weight": 512}),  # and more than any guest
        (1280, {"guests_weight": 4096}),  # but no more than credit2 can tell apart
        (8192, {"guests_weight": 64 * 256, "scheduler": "credit"}),
        (4096, {"dom0_vcpus": 4, "scheduler": "credit"}),  # it leaves none
    ],
)
def test_the_doctor_says_how_much_dom0_should_weigh(weight: int, wrong: dict[str, Any]) -> None:
    found = examine_host(replace(XEN_HOST, **xen_facts(dom0_weight=256, **wrong)))
    (remedy,) = (one.remedy for one in found if one.code == "dom0-weight")
    scheduler = wrong.get("scheduler", "credit2")
    assert f"`xl sched-{scheduler} -d Domain-0 -w {weight}`" in remedy


@pytest.mark.parametrize(
    ("code", "severity", "wrong"),
    [
        ("xen-hvm", Severity.WARNING, {"features": Features(kind="xen", os_type="hvm")}),
        ("xen-cpus-not-online", Severity.WARNING, xen_domain(online=2)),
        ("xen-count-ignored", Severity.WARNING, xen_domain(asked=2)),
        ("xen-cap", Severity.NOTE, xen_domain(cap_pcpus=1.5)),
        ("xen-report-missing", Severity.WARNING, xen_domain(reports=False)),
        ("xen-report-absurd", Severity.ERROR, xen_domain(report_error="a report of 9 MB")),
        ("lock-signal-missing", Severity.WARNING, xen_domain(reports_locks=False)),
    ],
)
def test_what_is_wrong_with_a_domain_on_xen(code: str, severity: Severity, wrong: Any) -> None:
    found = examine_domain(replace(XEN_DOMAIN, **wrong), XEN_HOST)
    assert (code, severity) in {(one.code, one.severity) for one in found}
    assert all(one.remedy for one in found)


@pytest.mark.parametrize(
    ("scheduler", "floor", "mode", "named"),
    [
        ("credit", 1, Mode.ENFORCE, True),
        ("credit", 1, Mode.OBSERVE, True),  # before it is managed is the time to say so
        ("credit", 1, Mode.OFF, False),
        ("credit", 2, Mode.ENFORCE, False),
        ("credit2", 1, Mode.ENFORCE, True),
        ("credit2", 2, Mode.ENFORCE, False),
        ("null", 1, Mode.ENFORCE, False),  # nothing is shrunk there
    ],
)
def test_a_domain_that_could_lose_its_share_is_named_with_the_floor_that_keeps_it(
    scheduler: str, floor: int, mode: Mode, *, named: bool
) -> None:
    terms = replace(XEN_DOMAIN.terms, mode=mode, min_vcpus=floor)
    facts = replace(XEN_DOMAIN, terms=terms, **xen_domain(scheduler=scheduler))
    found = [one for one in examine_domain(facts, XEN_HOST) if one.code == "xen-share-floor"]
    assert bool(found) is named
    assert all("--min 2`" in one.remedy for one in found)


def test_a_guest_that_could_not_be_given_back_is_named_unless_the_way_was_tried_out() -> None:
    small = replace(XEN_HOST, pcpus=frozenset({0, 1}))
    assert "xen-no-way-back" in codes(examine_domain(XEN_DOMAIN, small))
    untried = replace(small, **xen_facts(ignore_host=True, ignore_host_works=False))
    assert "xen-no-way-back" in codes(examine_domain(XEN_DOMAIN, untried))
    tried = replace(small, **xen_facts(ignore_host=True, ignore_host_works=True))
    assert "xen-no-way-back" not in codes(examine_domain(XEN_DOMAIN, tried))


def test_a_xen_host_is_looked_at_and_nothing_is_changed(room: Room) -> None:
    guest = XenGuest("a", number=3, report=b"vcpud1 up=1 hz=100 run=1 lock=-")
    silent = XenGuest("b", number=4, online={0, 1}, weight=512)
    world = XenWorld(guest, silent, pcpus=2)
    doctor = xen_doctor(room, world)
    found = doctor.examine()
    assert found.domains == ("n-a", "n-b")
    by_domain = {(one.subject, one.code) for one in found.findings}
    assert {
        ("host", "xen-scheduler"),
        ("host", "dom0-weight"),
        ("n-a", "xen-kind"),
        ("n-a", "xen-no-way-back"),
        ("n-a", "xen-report-absurd"),
        ("n-b", "xen-report-missing"),
        ("n-b", "xen-cpus-not-online"),
    } <= by_domain
    assert guest.requests == silent.requests == []
    assert "credit" in found.text()
    assert "Xen 4.17.7, libvirt 9.0.0, dom0's vCPUs 1, dom0's weight 256" in found.text()


@pytest.mark.parametrize(
    ("scheduler", "limit_us", "named"),
    [
        ("credit2", 10_000, True),
        ("credit2", 1000, False),
        ("credit2", None, False),
        ("credit", 10_000, False),
    ],
)
def test_turns_too_long_for_weights_to_count_are_named_under_credit2(
    room: Room, scheduler: str, limit_us: int | None, *, named: bool
) -> None:
    world = XenWorld(XenGuest("a"), scheduler=scheduler)
    world.rate_limit_us_told = limit_us
    doctor = xen_doctor(room, world)
    assert ("xen-turns-long" in codes(doctor.examine().findings)) is named


def test_without_xl_the_doctor_says_what_it_could_not_see(room: Room) -> None:
    world = XenWorld(XenGuest("a"))
    world.xl = False
    doctor = xen_doctor(room, world)
    assert ("host", "xl-unusable") in {(o.subject, o.code) for o in doctor.examine().findings}
