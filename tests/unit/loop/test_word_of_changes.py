"""When the loop hears how a change has ended: before, with or after the sample that shows it."""

from __future__ import annotations

from fakes.host import FakeDomain
from unit.loop.scripted import scripted
from unit.loop.test_control import ENFORCE
from vcpud.model import HostSample, Reason
from vcpud.steer import MAX_FAILURES
from vcpud.units import NS_PER_S


def test_failures_that_are_reported_while_the_host_is_sampled_count_like_any_other() -> None:
    domain = FakeDomain(name="a", vcpus=4, terms=ENFORCE, fail=Reason.FAILED)
    domain.latency_ns = 10**9 * NS_PER_S
    rig, policy = scripted(domain)
    sample = rig.host.sample

    def reported_meanwhile() -> HostSample:
        if domain.in_flight is not None:
            rig.host._finish(domain.in_flight)
        return sample()

    rig.host.sample = reported_meanwhile  # type: ignore[method-assign]
    policy.to_vcpus = 2
    rig.cycles(60)
    assert len(rig.host.begun) == MAX_FAILURES
