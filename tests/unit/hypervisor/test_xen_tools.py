"""xl, xenstore, the roll, and how often questions may be asked."""

from __future__ import annotations

import os
import threading
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakes.xen import XenGuest, XenWorld
from fakes.xen_libvirt import FakeXenLibrary
from vcpud.hypervisor.failures import CallFailed, Meaning
from vcpud.hypervisor.link import Link, VcpuState
from vcpud.hypervisor.workers import Losses
from vcpud.hypervisor.xen.ration import Ration
from vcpud.hypervisor.xen.roll import FROZEN_NS, IGNORED_NS, RECHECK_NS, Roll, Weighing
from vcpud.hypervisor.xen.sampler import LONGEST_SLOT_NS, Sampler
from vcpud.hypervisor.xen.tools import (
    XenTools,
    parse_rate_limit_us,
    parse_vcpu_list,
    parse_version,
)
from vcpud.units import NS_PER_MS, NS_PER_S

VCPU_LIST = """\
Name                                ID  VCPU   CPU State   Time(s) Affinity (Hard / Soft)
Domain-0                             0     0    1   r--      52.8  all / all
guest one                            1     0    0   -b-       3.2  all / all
guest one                            1     1    0   ---       1.4  0-1 / all
guest one                            1     2    -   --p       0.9  all / all
guest one                            1     3    -   --p       0.0  all / all
x    7     0    0   r--   1.0  all   2     0    1   r--       8.8  all / all
"""
INFO = """\
host                   : dom0
xen_major              : 4
xen_version            : 4.17.7
xen_scheduler          : credit2
xen_commandline        : dom0_mem=1024M sched=credit2 loglvl=all: yes
"""


def test_who_is_online_is_read_from_xl_vcpu_list() -> None:
    found = parse_vcpu_list(VCPU_LIST)
    assert found == {0: frozenset({0}), 1: frozenset({0, 1}), 2: frozenset({0})}


@given(st.text(max_size=400))
def test_any_other_text_around_it_changes_nothing(text: str) -> None:
    assert parse_vcpu_list(f"{text}\n{VCPU_LIST}") == {
        **parse_vcpu_list(text),
        **parse_vcpu_list(VCPU_LIST),
    }


def test_xens_version_is_read_from_xl_info() -> None:
    assert parse_version(INFO) == "4.17.7"
    assert parse_version("") == ""


def test_of_several_pools_the_longest_rate_limit_counts() -> None:
    pools = "Cpupool Pool-0: ratelimit=1000us\nCpupool own: ratelimit=25000us\n"
    assert parse_rate_limit_us(pools) == 25_000
    assert parse_rate_limit_us("Cpupool Pool-0: tslice=30ms ratelimit=1000us") is None
    assert parse_rate_limit_us("") is None


def xl(folder: Path, script: str) -> XenTools:
    """The tools with an xl that does this."""
    program = folder / "xl"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return XenTools(path=f"{folder}:{os.environ['PATH']}")


@pytest.mark.process
def test_xl_is_given_numbers_only_and_its_refusals_are_told(tmp_path: Path) -> None:
    tools = xl(tmp_path, f'echo "$@" >>{tmp_path}/asked; [ "$1" != vcpu-set ]')
    assert tools.online() == {}
    with pytest.raises(CallFailed, match="xl vcpu-set"):
        tools.set_vcpus(3, 4)
    asked = (tmp_path / "asked").read_text().splitlines()
    assert asked == ["vcpu-list", "vcpu-set --ignore-host 3 4"]


@pytest.mark.process
def test_the_way_past_the_refusal_counts_only_where_it_was_tried_out(tmp_path: Path) -> None:
    assert xl(tmp_path, "echo '-i, --ignore-host  Do not limit'").can_ignore_host()
    assert not xl(tmp_path, "echo 'Usage: xl vcpu-set'").can_ignore_host()
    assert not xl(tmp_path, "exit 1").can_ignore_host()


def test_without_xl_and_without_xenstore_that_is_said(tmp_path: Path) -> None:
    tools = XenTools(path=str(tmp_path))
    with pytest.raises(CallFailed, match="no xl here") as failed:
        tools.online()
    assert failed.value.meaning is Meaning.UNSUPPORTED
    with pytest.raises(CallFailed, match="xenstore"):
        tools.report(1)


# ------------------------------------------------------------------------------- the roll

AT_NS = 1_000 * NS_PER_S


def roll(*, count: int = 4) -> Roll:
    """A roll with one domain that was asked about."""
    made = Roll()
    made.counted(1, [100] * 4, count, AT_NS)
    made.told({1: frozenset(range(count))}, AT_NS)
    return made


def test_a_domain_never_asked_about_is_in_doubt() -> None:
    made = Roll()
    made.counted(1, [100] * 4, 2, AT_NS)
    assert made.online(1) == {0, 1}, "libvirt's count, until Xen is asked"
    assert made.doubtful(AT_NS)
    made.told({1: frozenset({0, 1, 2})}, AT_NS)
    assert made.online(1) == {0, 1, 2}
    assert not made.doubtful(AT_NS)


def test_an_offline_vcpu_that_ran_is_online_at_once() -> None:
    made = roll(count=2)
    made.counted(1, [200, 200, 100, 150], 2, AT_NS + NS_PER_S)
    assert made.online(1) == {0, 1, 3}
    assert made.doubtful(AT_NS + NS_PER_S)


def test_an_online_vcpu_that_stands_still_is_looked_into() -> None:
    made = roll()
    for second in range(1, 20):
        at_ns = AT_NS + second * NS_PER_S
        made.counted(1, [100 + second] * 3 + [100], 4, at_ns)
        assert made.doubtful(at_ns) is (at_ns - AT_NS > FROZEN_NS)
    assert made.online(1) == {0, 1, 2, 3}, "until Xen says otherwise"


def test_libvirts_count_that_changes_is_looked_into_and_so_is_age() -> None:
    made = roll()
    made.counted(1, [200] * 4, 3, AT_NS + NS_PER_S)
    assert made.doubtful(AT_NS + NS_PER_S)
    made.told({1: frozenset(range(3))}, AT_NS + NS_PER_S)
    late_ns = AT_NS + RECHECK_NS + 2 * NS_PER_S
    made.counted(1, [300] * 3 + [200], 3, late_ns)
    assert made.doubtful(late_ns)


def test_where_xen_was_never_asked_libvirts_count_is_followed() -> None:
    made = Roll()
    made.counted(1, [100] * 4, 4, AT_NS)
    made.counted(1, [200, 200, 100, 100], 2, AT_NS + NS_PER_S)
    assert made.online(1) == {0, 1}


def test_a_vcpu_that_was_asked_to_go_counts_as_gone_unless_it_stays_for_long() -> None:
    made = roll()
    made.asked_to_go(1, frozenset({2, 3}), AT_NS)
    assert made.live(1, AT_NS + NS_PER_S) == 2
    made.asked_to_go(1, frozenset({2, 3}), AT_NS + IGNORED_NS)
    assert made.live(1, AT_NS + IGNORED_NS + NS_PER_S) == 4, "its guest does not follow"
    made.told({1: frozenset({0, 1})}, AT_NS + IGNORED_NS)
    assert made.live(1, AT_NS + 2 * IGNORED_NS) == 2


def test_busy_time_never_falls_when_a_domain_ends() -> None:
    made = Roll()
    assert made.busy_ns is None
    made.host(4, {0: 10, 1: 100, 2: 50})
    assert made.busy_ns == 160
    made.host(4, {0: 20, 2: 60})
    assert made.busy_ns == 180
    made.host(4, {0: 20, 2: 60, 3: 7})
    assert made.busy_ns == 187
    assert made.pcpus == 4


def test_a_domain_that_could_not_be_asked_in_between_has_not_run_all_its_life_at_once() -> None:
    made = roll()
    made.host(4, {0: 10, 1: 100})
    made.host(4, {0: 20})
    made.host(4, {0: 30, 1: 105})
    assert made.busy_ns == 110 + 20 + 5


def test_a_domain_that_libvirt_does_not_list_is_a_stranger_until_it_does() -> None:
    made = roll()
    made.told({0: frozenset({0}), 1: frozenset({0}), 7: frozenset({0})}, AT_NS)
    assert made.strangers == {7}
    made.counted(7, [1], 1, AT_NS)
    made.told({0: frozenset({0}), 1: frozenset({0}), 7: frozenset({0})}, AT_NS)
    assert made.strangers == frozenset()


def test_domains_that_have_gone_leave_nothing() -> None:
    made = roll()
    made.weighed("a", 1, Weighing(scheduler="credit", weight=256))
    assert made.number("a") == 1
    made.keep(frozenset())
    assert made.online(1) == frozenset()
    assert made.number("a") is None
    assert made.weighing(1) is None
    assert made.libvirt_count(1) == 0


# ------------------------------------------------------------------------------- questions


def test_questions_become_rarer_as_they_cost_more_and_never_too_rare() -> None:
    ration = Ration(ratio=0.01, least_ns=100 * NS_PER_MS, most_ns=10 * NS_PER_S)
    assert ration.spacing_ns(1) == 100 * NS_PER_MS
    for number in range(25):
        ration.spent(12 * NS_PER_MS)
        haste_ns = 120 * NS_PER_MS if number < 24 else 1200 * NS_PER_MS
        assert ration.spacing_ns(1) == haste_ns, (
            f"{number}: half a minute's worth in three seconds"
        )
    ration.spent(5 * NS_PER_S)
    assert ration.spacing_ns(1) == 1200 * NS_PER_MS, (
        "one that was held up says nothing of the cost"
    )
    for _ in range(20):
        ration.spent(5 * NS_PER_S)
    assert ration.spacing_ns(1) == 10 * NS_PER_S
    assert Ration(ratio=0.0, least_ns=1, most_ns=5).spacing_ns(1) == 1, "one shows what it costs"
    idle = Ration(ratio=0.0, least_ns=1, most_ns=5)
    idle.spent(1)
    assert idle.spacing_ns(1) == 5


@pytest.mark.parametrize(("among", "spacing_ms"), [(1, 100), (5, 20), (10, 20), (100, 20)])
def test_who_shares_the_looks_is_looked_at_as_often_as_the_share_allows(
    among: int, spacing_ms: int
) -> None:
    ration = Ration(ratio=0.01, least_ns=100 * NS_PER_MS, most_ns=10 * NS_PER_S)
    for _ in range(1500):  # all of the advance
        ration.spent(NS_PER_MS // 5)
    assert ration.spacing_ns(among) == spacing_ms * NS_PER_MS


class Stuck(FakeXenLibrary):
    """What libvirt is asked of one domain it answers when it pleases."""

    def __init__(self, answer: threading.Event | None, *what: Any, **more: Any) -> None:
        super().__init__(*what, **more)
        self._answer = answer

    def open(self, *, writable: bool) -> Link:
        link = super().open(writable=writable)
        ask = link.states

        def states(uuid: str, most: int) -> tuple[VcpuState, ...]:
            if uuid == "a" and self._answer is not None:
                self._answer.wait(30)
            return ask(uuid, most)

        vars(link)["states"] = states
        return link


class Looking:
    """A sampler over two domains or more, each look costing the clock 10 ms."""

    def __init__(
        self,
        *others: XenGuest,
        ratio: float = 0.01,
        answer: threading.Event | None = None,
        cost_ns: int = 10 * NS_PER_MS,
    ) -> None:
        pair = XenGuest("a", number=1), XenGuest("b", number=2, busy=False)
        self.world = XenWorld(*pair, *others)
        self.done = threading.Event()
        self.library = Stuck(answer, self.world, Roll(), cost_ns=cost_ns, told=self.done.set)
        self.sampler = Sampler(
            self.library,
            ratio=ratio,
            period_ns=100 * NS_PER_MS,
            deadline_s=2.0,
            now_ns=self.world.now_ns,
            losses=Losses(),
            supervised=False,
            random=Random(1),  # noqa: S311  no secret
        )

    def pass_s(self, duration_s: int) -> None:
        """Let time pass in which nobody polls."""
        for _ in range(4 * duration_s):
            self.world.pass_s(0.25)
            self.sampler.supervise()
            self.done.wait(0.002)

    def until(self, looks: int) -> list[tuple[str, int]]:
        """Let time pass until so many looks were taken."""
        self.sampler.watch({"a": 4, "b": 4})
        found: list[tuple[str, int]] = []
        for _ in range(5_000):
            self.done.wait(0.002)
            self.done.clear()
            found += [(look.uuid, look.at_ns) for look in self.sampler.fetch()]
            if len(found) >= looks:
                return found
            self.world.pass_s(0.05)
            self.sampler.supervise()
        raise AssertionError(f"only {len(found)} looks")


def test_looks_take_turns_and_stay_within_what_they_may_cost() -> None:
    looking = Looking()
    try:
        found = looking.until(72)
    finally:
        looking.sampler.close(1.0)
    names = [uuid for uuid, _ in found]
    assert names == (["b", "a"] * len(names))[: len(names)]
    steady = [at_ns for _, at_ns in found[32:]]  # the first half minute's worth comes at once
    spacing_ns = (steady[-1] - steady[0]) / (len(steady) - 1)
    assert spacing_ns >= 0.9 * 10 * NS_PER_MS / 0.01
    gaps = {b - a for a, b in pairwise(steady)}
    assert len(gaps) > 10, "and at no even spacing"


def test_a_domain_that_has_gone_does_not_end_the_looks_at_others() -> None:
    looking = Looking(ratio=1.0)
    try:
        del looking.world.guests["a"]
        assert {uuid for uuid, _ in looking.until(3)} == {"b"}
    finally:
        looking.sampler.close(1.0)


def test_a_domain_that_libvirt_hangs_on_does_not_end_the_looks_at_others() -> None:
    answer = threading.Event()
    looking = Looking(ratio=1.0, answer=answer)
    try:
        found = looking.until(12)
    finally:
        answer.set()
        looking.sampler.close(1.0)
    assert {uuid for uuid, _ in found} == {"b"}
    assert max(late - early for (_, early), (_, late) in pairwise(found)) < 3 * NS_PER_S


def test_a_dozen_domains_are_looked_at_as_often_together_as_costs_allow() -> None:
    names = [f"c{number}" for number in range(3, 13)]
    looking = Looking(
        *(XenGuest(name, number=int(name[1:]), vcpus=1) for name in names),
        ratio=1.0,
        cost_ns=NS_PER_MS,
    )
    looking.sampler.watch(dict.fromkeys(looking.world.guests, 1))
    try:
        for _ in range(200):
            looking.world.pass_s(0.005)
            looking.sampler.supervise()
            looking.done.wait(0.002)
            looking.done.clear()
        found = looking.sampler.fetch()
    finally:
        looking.sampler.close(1.0)
    assert len(found) > 25, "the spacing of one domain would allow a dozen"
    assert {look.uuid for look in found} == looking.world.guests.keys()


def test_while_libvirt_is_away_nobody_looks_until_whoever_polls_it_says_it_is_back() -> None:
    looking = Looking(ratio=1.0)
    try:
        looking.until(3)
        looking.world.down = True
        looking.pass_s(10)
        tries = looking.library.tries
        looking.pass_s(60)
        assert looking.library.tries == tries <= 2, "once to find out"
        looking.world.down = False
        looking.sampler.fetch()
        looking.pass_s(10)
        assert looking.sampler.fetch() == []
        assert len(looking.until(3)) >= 3
    finally:
        looking.sampler.close(1.0)


def test_nobody_to_look_at_is_nothing_to_do() -> None:
    looking = Looking()
    looking.sampler.watch({})
    looking.world.pass_s(LONGEST_SLOT_NS / NS_PER_S)
    looking.sampler.supervise()
    assert looking.sampler.fetch() == []
    looking.sampler.close(1.0)
