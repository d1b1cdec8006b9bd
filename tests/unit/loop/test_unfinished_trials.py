"""Trials that end too early: by a failure, a release, a job, or because a domain leaves."""

from __future__ import annotations

import pytest

from fakes.host import FakeDomain
from unit.loop.scripted import scripted
from unit.loop.test_control import ASKED, Rig, lock_pair
from unit.loop.test_neighbours import ALL
from vcpud.model import Mode, Reason, Terms
from vcpud.requests import KillSwitch, Pause, Release, Request


def on_trial() -> tuple[Rig, FakeDomain, FakeDomain]:
    """Two domains that one move has brought from four vCPUs to two each, still to be judged."""
    first, second = lock_pair()
    rig, policy = scripted(first, second)
    policy.to_vcpus = 2
    rig.cycles(3)
    assert first.online == second.online == {0, 1}
    assert len(rig.loop._trials.docket.trials) == 1
    return rig, first, second


def grown_home() -> tuple[Rig, FakeDomain]:
    """A domain that was shrunk, has been given all back by a move, and is still on trial."""
    first, _ = lock_pair()
    rig, policy = scripted(first)
    policy.to_vcpus = 2
    rig.cycles(20)
    assert first.online == {0, 1}
    policy.to_vcpus = 4
    while first.uuid in {one.uuid for one in rig.ledger.outstanding()} or policy.to_vcpus:
        rig.cycles(1)
    assert first.online == ALL
    assert len(rig.loop._trials.docket.trials) == 1
    return rig, first


@pytest.mark.parametrize("how", ["release", "pause", "kill", "stop", "observe"])
def test_nobody_takes_back_a_grow_of_a_domain_that_is_to_be_left_alone(how: str) -> None:
    rig, first = grown_home()
    asked: dict[str, Request] = {
        "release": Release(asked=ASKED, uuid=first.uuid),
        "pause": Pause(asked=ASKED, restore=True),
        "kill": KillSwitch(asked=ASKED, thrown=True),
    }
    rig.host.begun.clear()
    if how in asked:
        rig.inbox.pending.append(asked[how])
    elif how == "observe":
        first.terms = Terms(mode=Mode.OBSERVE, guest_signals=True)
    else:
        rig.loop.restore(rig.clock.now_ns())
    rig.cycles(100)
    assert rig.host.begun == []


def test_a_harmful_grow_is_taken_back_while_the_domain_is_managed() -> None:
    rig, first = grown_home()
    rig.cycles(100)
    assert first.online == {0, 1}


def test_a_release_ends_what_waits_for_a_job_although_nothing_is_owed_yet() -> None:
    rig, first = grown_home()
    first.job = "snapshot"
    rig.host.begun.clear()
    while first.uuid not in rig.loop._agenda.courses:
        rig.cycles(1)
    rig.inbox.pending.append(Release(asked=ASKED, uuid=first.uuid))
    rig.cycles(1)
    first.job = None
    rig.cycles(20)
    assert rig.host.begun == []


@pytest.mark.parametrize("how", ["job", "release", "reboot", "destroy", "observe"])
def test_who_was_on_trial_with_a_domain_that_left_gets_everything_back(how: str) -> None:
    rig, first, second = on_trial()
    match how:
        case "job":
            first.job = "snapshot"
        case "release":
            rig.inbox.pending.append(Release(asked=ASKED, uuid=first.uuid))
        case "reboot":
            rig.host.reboot(first)
        case "destroy":
            rig.host.destroy(first)
        case _:
            first.terms = Terms(mode=Mode.OBSERVE, guest_signals=True)
    rig.cycles(4)
    assert second.online == ALL
    assert rig.ledger.outstanding() == ()
    assert not any(record.verdicts for record in rig.recorder.records)


def test_a_step_that_is_refused_for_good_gives_back_whoever_shrank_with_it() -> None:
    first, second = lock_pair()
    rig, policy = scripted(first, second)
    second.refuse = Reason.OUT_OF_BOUNDS
    policy.to_vcpus = 2
    rig.cycles(6)
    assert first.online == ALL
    assert rig.ledger.outstanding() == ()
