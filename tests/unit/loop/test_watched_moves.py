"""Changes of a policy that nobody judges, under the loop: each is told how it ended, and binds nobody."""

from __future__ import annotations

from dataclasses import replace

from unit.loop.scripted import Wants
from unit.loop.test_control import Rig, lock_pair
from vcpud.plan import Outcome, Verdict
from vcpud.record import Phase, Purpose


def wanting() -> tuple[Rig, Wants, list[str]]:
    """A pair that was seen for a while, and somebody who may want something."""
    pair = lock_pair()
    rig, wants = Rig(*pair), Wants({})
    limits = replace(rig.settings.limits, shrink_cooldown_ns=0)
    rig.settings = replace(rig.settings, policy=wants, policy_name="wants", limits=limits)
    rig.loop = rig.new_loop()
    rig.cycles(20)
    return rig, wants, [domain.uuid for domain in pair]


def verdicts(rig: Rig) -> list[Verdict]:
    return [verdict for record in rig.recorder.records for verdict in record.verdicts]


def test_every_change_ends_with_a_verdict_and_none_is_undone() -> None:
    rig, wants, uuids = wanting()
    wants.wanted = dict.fromkeys(uuids, 1)
    rig.cycles(5)
    phases = {status.phase for status in rig.recorder.last.domains}
    assert phases.isdisjoint({Phase.JUDGING, Phase.BACKING_OFF}), "nobody waits for it"
    rig.cycles(100)
    found = verdicts(rig)
    assert {verdict.outcome for verdict in found} == {Outcome.HELPED}
    assert sorted(resize.uuid for one in found for resize in one.move.resizes) == sorted(uuids)
    assert all(verdict.kept and "useful pCPUs" in verdict.detail for verdict in found)
    purposes = {change.purpose for one in rig.recorder.records for change in one.changes}
    assert purposes == {Purpose.DECIDE}


def test_steps_that_follow_each_other_say_that_they_do() -> None:
    rig, wants, (first, _) = wanting()
    for count in (3, 2, 1):
        wants.wanted = {first: count}
        rig.cycles(2)
    rig.cycles(100)
    ended = [(one.move.resizes[0].to_vcpus, str(one.outcome), one.kept) for one in verdicts(rig)]
    assert [one[0] for one in ended] == [3, 2, 1]
    assert ended[:2] == [(3, "unknown", True), (2, "unknown", True)]
    assert ended[2][1] != "harmed"
    assert all("changed again" in one.detail for one in verdicts(rig)[:2])
