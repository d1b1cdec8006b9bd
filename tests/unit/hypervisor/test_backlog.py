"""What waits for a thread, and who is held back from having one."""

from __future__ import annotations

from vcpud.hypervisor.backlog import Backlog
from vcpud.hypervisor.errands import Errand
from vcpud.hypervisor.quarantine import FIRST_SPELL_NS, LONGEST_SPELL_NS, Quarantine


def errand(uuid: str, *, urgent: bool = False) -> Errand:
    return Errand(uuid=uuid, run=lambda _: None, given_up=lambda: None, urgent=urgent)


def test_the_urgent_come_first_and_all_others_in_their_order() -> None:
    backlog = Backlog()
    for one in (errand("a"), errand("b"), errand("c", urgent=True)):
        backlog.add(one)
    taken = [backlog.take((), only_urgent=False) for _ in range(4)]
    assert [one.uuid if one else None for one in taken] == ["c", "a", "b", None]


def test_a_busy_domain_and_what_is_not_urgent_are_passed_over() -> None:
    backlog = Backlog()
    for one in (errand("a", urgent=True), errand("b"), errand("b", urgent=True)):
        backlog.add(one)
    assert backlog.has_urgent("b")
    taken = backlog.take({"a"}, only_urgent=True)
    assert (taken.uuid if taken else None, backlog.ready) == ("b", 2)
    assert backlog.take({"a"}, only_urgent=True) is None


def test_what_is_for_later_is_taken_when_it_is_due_the_earliest_first() -> None:
    backlog = Backlog()
    for at_ns, uuid in ((30, "c"), (10, "a"), (20, "b")):
        backlog.postpone(errand(uuid), at_ns)
    assert backlog.next_ns == 10
    assert [one.uuid for one in backlog.take_due(20)] == ["a", "b"]
    assert backlog.next_ns == 30


def test_all_of_a_domain_is_taken_out_and_nothing_of_the_others() -> None:
    backlog = Backlog()
    backlog.add(errand("a"))
    backlog.add(errand("b"))
    backlog.postpone(errand("a", urgent=True), 2)
    backlog.postpone(errand("a"), 1)
    backlog.postpone(errand("b"), 3)
    assert [one.uuid for one in backlog.take_ready_of("a")] == ["a"]
    assert [one.urgent for one in backlog.take_later_of("a")] == [False, True]
    assert (backlog.ready, backlog.next_ns) == (1, 3)


def test_each_spell_is_twice_as_long_up_to_a_limit_and_a_pardon_begins_anew() -> None:
    held = Quarantine()
    spells = [held.begin("a", f"reason {n}", 0) for n in range(6)]
    assert spells[:3] == [FIRST_SPELL_NS, 2 * FIRST_SPELL_NS, 4 * FIRST_SPELL_NS]
    assert spells[-1] == LONGEST_SPELL_NS
    assert (held.why("a"), held.why("b")) == ("reason 5", "")
    assert held.everybody() == {"a"}
    assert held.end("a")
    assert not held.end("a")
    assert held.begin("a", "again", 7) == 7 + FIRST_SPELL_NS
