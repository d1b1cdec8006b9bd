"""Watching a hypervisor from outside: what tests of the whole backend wait for and ask."""

from __future__ import annotations

from collections.abc import Callable

from unit.hypervisor.stand_in import Rig
from vcpud.events import EventKind, HostEvent
from vcpud.model import (
    Accepted,
    Change,
    DomainSample,
    HostSample,
    Reason,
    Refused,
)

Make = Callable[..., Rig]
"""Makes a rig of some guests."""
PATIENCE_S = 20.0


def only(sample: HostSample) -> DomainSample:
    (found,) = sample.domains
    return found


def kinds(rig: Rig) -> list[EventKind]:
    return [event.kind for event in rig.hypervisor.events()]


def until(rig: Rig, condition: Callable[[HostSample], bool], *, step_s: float = 0.0) -> HostSample:
    """Sample until the workers, which are real threads, have got so far.

    Args:
        rig: Whose.
        condition: What is waited for.
        step_s: How far the rig's clock moves between two samples.
    """
    sample = rig.hypervisor.sample()
    for _ in range(400):
        if condition(sample):
            return sample
        rig.woken.wait(0.02)
        rig.clock.pass_s(step_s)
        rig.hypervisor.supervise()
        sample = rig.hypervisor.sample()
    raise AssertionError(f"never so: {sample}")


def carry_out(rig: Rig, change: Change) -> HostEvent:
    """Begin a change and wait for its end."""
    rig.woken.clear()
    effect = rig.hypervisor.begin(change)
    assert effect == Accepted(), effect
    for _ in range(400):
        rig.woken.wait(PATIENCE_S)
        rig.woken.clear()
        for event in rig.hypervisor.events():
            if event.kind in {EventKind.CHANGE_DONE, EventKind.CHANGE_FAILED}:
                return event
    raise AssertionError("the change never ended")


def refused(rig: Rig, change: Change) -> Reason:
    effect = rig.hypervisor.begin(change)
    assert isinstance(effect, Refused), effect
    return effect.reason
