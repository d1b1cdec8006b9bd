"""What is asked of an agent, in which order, how often, and what it may cost."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vcpud.hypervisor.agent import AbsurdError
from vcpud.hypervisor.failures import Meaning
from vcpud.hypervisor.guestfiles import parse_stat
from vcpud.hypervisor.reader import Reader
from vcpud.hypervisor.timetable import Pace
from vcpud.model import Trouble
from vcpud.units import NS_PER_MS, NS_PER_S

PERIOD_NS = 5 * NS_PER_S
HISTOGRAM = (
    "{{ common_cpu:          0 }} hitcount:          {waits}  lat:          {us}\n"
    "Totals:\n    Hits: 1\n    Entries: 1\n    Dropped: {dropped}\n"
)
FILES = {
    "/sys/kernel/tracing/events/synthetic/lock_spin/hist": HISTOGRAM.format(
        waits=5, us=7, dropped=0
    ),
    "/proc/schedstat": "version 15\ntimestamp 1\ncpu0 0 0 0 0 0 0 100 200 3\n",
    "/proc/loadavg": "0.00 0.00 0.00 3/70 99\n",
    "/proc/self/schedstat": "1000000 5 6\n",
}


class Agent:
    """An honest agent whose answers a test may spoil."""

    def __init__(self) -> None:
        self.files = dict(FILES)
        self.cpus: list[dict[str, Any]] = [{"cpu": 0, "user": 1, "system": 1, "idle": 1}]
        self.opened: dict[int, str] = {}
        self.handle = 1000
        self.asked: list[str] = []
        self.fails: Callable[[str], Meaning | None] = lambda _: None
        self.each_costs_ns = 0
        self.commands = 0

    def __call__(self, command: str) -> str | Meaning:
        self.commands += 1
        if self.each_costs_ns:
            self.files["/proc/self/schedstat"] = f"{self.commands * self.each_costs_ns} 5 6\n"
        request = json.loads(command)
        name, arguments = request["execute"], request.get("arguments", {})
        self.asked.append(arguments.get("path", name))
        failure = self.fails(self.asked[-1])
        if failure is not None:
            if name == "guest-file-open" and failure is Meaning.AGENT_SILENT:
                self.handle += 1
                self.opened[self.handle] = arguments["path"]
            return failure
        value: Any = {}
        if name == "guest-get-cpustats":
            value = self.cpus
        elif name == "guest-info":
            value = {"supported_commands": [{"name": "guest-exec", "enabled": False}]}
        elif name == "guest-file-open":
            if arguments["path"] not in self.files:
                return Meaning.AGENT_FAILED
            self.handle += 1
            self.opened[self.handle] = arguments["path"]
            value = self.handle
        elif name == "guest-file-read":
            content = self.files[self.opened[arguments["handle"]]].encode()
            value = {"buf-b64": base64.b64encode(content).decode(), "count": 1, "eof": True}
        elif name == "guest-file-close":
            del self.opened[arguments["handle"]]
        return json.dumps({"return": value})


class Talk:
    """A reader and an agent, and the time between them."""

    def __init__(self, *, ratio: float = 1.0, max_vcpus: int = 1) -> None:
        self.pcpus: float | None = None
        self.now_ns = 0
        self.agent = Agent()
        self.reader = Reader(
            pace=Pace(period_ns=PERIOD_NS, cost_ratio=ratio), max_vcpus=max_vcpus, now_ns=0
        )

    def session(self) -> list[str]:
        """One reading at the time it is due; returns what was asked."""
        self.reader.gets(self.pcpus, self.now_ns)
        self.now_ns = max(self.now_ns, self.reader.due_ns(self.now_ns))
        self.agent.asked.clear()
        self.reader.begin(self.now_ns)
        while (command := self.reader.next_command()) is not None:
            began_ns = self.now_ns
            self.now_ns += 10 * NS_PER_MS
            answer = self.agent(command)
            if isinstance(answer, Meaning):
                if not self.reader.failed(answer, began_ns=began_ns, ended_ns=self.now_ns):
                    break
            else:
                self.reader.answered(answer, began_ns=began_ns, ended_ns=self.now_ns)
        return list(self.agent.asked)


def test_the_accounting_comes_first_and_the_locks_second() -> None:
    asked = Talk().session()
    assert asked[:2] == [
        "guest-get-cpustats",
        "/sys/kernel/tracing/events/synthetic/lock_spin/hist",
    ]


def test_the_first_two_readings_come_at_once_and_the_third_after_a_period() -> None:
    talk = Talk()
    starts = []
    for _ in range(3):
        talk.session()
        starts.append(talk.reader.due_ns(talk.now_ns))
    assert starts[0] == NS_PER_S
    assert starts[2] - starts[1] == PERIOD_NS


def test_run_queue_and_runnable_tasks_take_turns() -> None:
    talk = Talk()
    asked = [talk.session() for _ in range(5)]
    assert ["/proc/schedstat" in one for one in asked[1:]] == [True, False, True, False]
    assert ["/proc/loadavg" in one for one in asked[1:]] == [False, True, False, True]


def test_every_part_has_the_midpoint_of_its_own_call() -> None:
    talk = Talk()
    talk.session()
    talk.session()
    reading = talk.reader.reading
    assert reading.accounting is not None
    assert reading.locks is not None
    assert reading.accounting.taken_at_ns == NS_PER_S + 5 * NS_PER_MS
    assert reading.locks.taken_at_ns == NS_PER_S + 25 * NS_PER_MS
    assert reading.latency_ns == 10 * NS_PER_MS


def test_every_handle_is_closed_even_when_reading_fails() -> None:
    talk = Talk()
    talk.agent.fails = lambda asked: Meaning.AGENT_FAILED if asked == "guest-file-read" else None
    talk.session()
    assert not talk.agent.opened


def test_a_handle_left_open_by_silence_is_closed_first_the_next_time() -> None:
    talk = Talk()
    talk.agent.fails = lambda asked: Meaning.AGENT_SILENT if asked == "guest-file-read" else None
    talk.session()
    assert talk.agent.opened
    talk.agent.fails = lambda _: None
    assert talk.session()[0] == "guest-file-close"
    assert not talk.agent.opened


def test_a_handle_whose_number_got_lost_is_found_by_the_gap_and_closed() -> None:
    talk = Talk()
    talk.session()
    hist = "/sys/kernel/tracing/events/synthetic/lock_spin/hist"
    talk.agent.fails = lambda asked: Meaning.AGENT_SILENT if asked == hist else None
    talk.session()
    assert len(talk.agent.opened) == 1
    talk.agent.fails = lambda _: None
    talk.session()
    assert not talk.agent.opened


def test_somebody_elses_handles_are_not_closed() -> None:
    talk = Talk()
    talk.session()
    talk.agent.handle += 3
    talk.agent.opened[talk.agent.handle] = "theirs"
    talk.session()
    assert list(talk.agent.opened.values()) == ["theirs"]


def test_a_histogram_that_is_not_there_is_missing_and_asked_for_rarely() -> None:
    talk = Talk()
    del talk.agent.files["/sys/kernel/tracing/events/synthetic/lock_spin/hist"]
    assert len([a for a in talk.session() if "lock_spin" in a]) == 2
    assert Trouble.LOCK_SIGNAL_MISSING in talk.reader.troubles
    assert not [a for a in talk.session() if "lock_spin" in a]


def test_dropped_entries_take_the_signal_away() -> None:
    talk = Talk()
    talk.session()
    hist = "/sys/kernel/tracing/events/synthetic/lock_spin/hist"
    talk.agent.files[hist] = HISTOGRAM.format(waits=5, us=7, dropped=1)
    talk.session()
    assert talk.reader.reading.locks is None
    assert Trouble.LOCK_SIGNAL_DROPPED in talk.reader.troubles


PREFERRED = "/sys/devices/system/cpu/preferred"


@pytest.mark.parametrize(("preferred", "by_itself"), [("0", True), ("0-1", False), ("", True)])
def test_a_guest_whose_kernel_keeps_work_off_online_cpus_manages_itself(
    preferred: str, by_itself: bool
) -> None:
    talk = Talk(max_vcpus=2)
    talk.agent.cpus = [{"cpu": cpu, "user": 1, "system": 1, "idle": 1} for cpu in (0, 1)]
    talk.agent.files[PREFERRED] = f"{preferred}\n"
    talk.session()
    assert (Trouble.SELF_MANAGED in talk.reader.troubles) is by_itself
    talk.agent.files[PREFERRED] = "0-1\n"
    talk.session()
    assert Trouble.SELF_MANAGED not in talk.reader.troubles


def test_who_is_asked_for_locks_is_asked_whether_it_manages_itself_in_debt_too() -> None:
    talk = Talk(ratio=0.002)
    talk.agent.files[PREFERRED] = "0\n"
    talk.agent.each_costs_ns = 40 * NS_PER_MS
    asked = [talk.session() for _ in range(40)]
    with_locks = [any("lock_spin" in path for path in one) for one in asked]
    assert [PREFERRED in one for one in asked] == with_locks
    assert with_locks[:2] == [True, True], "one reading of locks moves nobody"
    assert 2 < sum(with_locks) < 30, "there is no budget for each time"


def test_a_kernel_that_keeps_work_off_cpus_time_and_again_may_do_so_again() -> None:
    talk = Talk(max_vcpus=2)
    talk.agent.cpus = [{"cpu": cpu, "user": 1, "system": 1, "idle": 1} for cpu in (0, 1)]
    talk.agent.files[PREFERRED] = "0\n"
    for _ in range(2):
        talk.session()
    talk.agent.files[PREFERRED] = "0-1\n"
    for _ in range(3):
        talk.session()
    assert Trouble.SELF_MANAGED in talk.reader.troubles, "nothing is stolen from it just now"
    talk.reader.renew(rebooted=False)
    assert Trouble.SELF_MANAGED in talk.reader.troubles, "the kernel is the same"
    talk.reader.renew(rebooted=True)
    assert Trouble.SELF_MANAGED not in talk.reader.troubles


def test_a_guest_without_preferred_cpus_is_asked_once_until_it_is_another() -> None:
    talk = Talk()
    asked = [talk.session() for _ in range(20)]
    assert sum(PREFERRED in one for one in asked) == 1
    assert Trouble.SELF_MANAGED not in talk.reader.troubles
    talk.reader.renew(rebooted=True)
    talk.agent.files[PREFERRED] = "0\n"
    assert PREFERRED in talk.session()


@pytest.mark.parametrize("content", ["0-99999999999", "7", "x", "1-0,", "^"])
def test_preferred_cpus_that_cannot_be_are_absurd(content: str) -> None:
    talk = Talk(max_vcpus=2)
    talk.agent.files[PREFERRED] = content
    talk.session()
    assert any("preferred" in why for why in talk.reader.absurdities)
    assert Trouble.SELF_MANAGED not in talk.reader.troubles


STAT = "cpu  9 9 9 9 9 9 9 9 0 0\ncpu0 {} 1 20 300 5 2 1 7 0 0\ncpu3 0 0 0 0 0 0 0 0 0 0\nintr 8\n"


def test_an_agent_too_old_to_account_is_read_from_the_file_behind_it() -> None:
    talk = Talk(max_vcpus=4)
    talk.agent.files["/proc/stat"] = STAT.format(10)
    talk.agent.fails = lambda what: Meaning.AGENT_BLOCKED if what == "guest-get-cpustats" else None
    assert talk.session()[:3] == ["guest-get-cpustats", "/proc/stat", "guest-file-read"]
    found = talk.reader.reading.accounting
    assert found is not None
    assert found.online == {0, 3}
    times = found.cpus[0]
    spent = (times.user_ns, times.system_ns, times.idle_ns, times.steal_ns)
    assert spent == tuple(10 * NS_PER_MS * ticks for ticks in (11, 23, 305, 7))
    assert Trouble.AGENT_BLOCKED not in talk.reader.troubles
    assert talk.session()[0] == "/proc/stat"
    talk.agent.files["/proc/stat"] = STAT.format(10**9)
    talk.session()
    assert talk.reader.reading.accounting is None
    assert Trouble.AGENT_ABSURD in talk.reader.troubles


@pytest.mark.parametrize(
    "content", ["", "cpu0 1 2 3\n", "cpu0 1 2 3 4 5 6 7 8\n" * 2, "cpu99 1 2 3 4 5 6 7 8\n"]
)
def test_a_file_of_times_that_cannot_be_is_absurd(content: str) -> None:
    with pytest.raises(AbsurdError):
        parse_stat(content, taken_at_ns=0, max_vcpus=8)


def test_blocked_file_commands_leave_the_accounting() -> None:
    talk = Talk()
    talk.agent.fails = lambda a: Meaning.AGENT_BLOCKED if a.startswith("/") else None
    talk.session()
    assert talk.session() == ["guest-get-cpustats", "guest-info"]
    assert talk.session() == ["guest-get-cpustats"]
    assert {Trouble.AGENT_BLOCKED, Trouble.LOCK_SIGNAL_MISSING} <= talk.reader.troubles


def test_time_that_grows_faster_than_the_clock_is_absurd_and_not_used() -> None:
    talk = Talk()
    talk.session()
    talk.agent.cpus[0]["user"] = 1_000_000
    talk.session()
    assert talk.reader.reading.accounting is None
    assert Trouble.AGENT_ABSURD in talk.reader.troubles
    talk.agent.cpus[0]["user"] = 2
    talk.session()
    assert talk.reader.reading.accounting is not None
    assert Trouble.AGENT_ABSURD not in talk.reader.troubles


def test_lock_waits_that_grow_faster_than_every_cpu_together_are_absurd() -> None:
    talk = Talk()
    talk.session()
    hist = "/sys/kernel/tracing/events/synthetic/lock_spin/hist"
    talk.agent.files[hist] = HISTOGRAM.format(waits=6, us=10**12, dropped=0)
    talk.session()
    assert talk.reader.reading.locks is None
    assert any("locks" in why for why in talk.reader.absurdities)


def test_a_decreasing_counter_is_passed_on_for_others_to_judge() -> None:
    talk = Talk()
    talk.agent.cpus[0]["user"] = 500
    talk.session()
    talk.agent.cpus[0]["user"] = 5
    talk.session()
    accounting = talk.reader.reading.accounting
    assert accounting is not None
    assert accounting.cpus[0].user_ns == 5 * NS_PER_MS


def test_silence_is_answered_by_longer_and_longer_pauses() -> None:
    talk = Talk()
    talk.agent.fails = lambda _: Meaning.AGENT_SILENT
    pauses = []
    for _ in range(8):
        talk.session()
        pauses.append(talk.reader.due_ns(talk.now_ns) - talk.now_ns)
    assert pauses == sorted(pauses)
    assert pauses[-1] <= 30 * NS_PER_S
    assert Trouble.AGENT_SILENT in talk.reader.troubles


def test_after_a_change_two_readings_come_at_once() -> None:
    talk = Talk()
    for _ in range(5):
        talk.session()
    talk.reader.hurry()
    began_ns = talk.reader.due_ns(talk.now_ns)
    talk.session()
    assert talk.reader.due_ns(talk.now_ns) - began_ns == NS_PER_S


def test_a_reboot_forgets_what_the_kernel_before_said() -> None:
    talk = Talk()
    talk.session()
    talk.reader.renew(rebooted=True)
    assert talk.reader.reading.accounting is None
    assert talk.session()[0] == "guest-get-cpustats"


@given(st.lists(st.text() | st.sampled_from(list(FILES.values())), max_size=30))
def test_no_sequence_of_answers_breaks_the_reader(answers: list[str]) -> None:
    reader = Reader(pace=Pace(period_ns=1, cost_ratio=0.01), max_vcpus=4, now_ns=0)
    reader.begin(0)
    for at_ns, text in enumerate(answers):
        if reader.next_command() is None:
            reader.begin(at_ns)
        else:
            reader.answered(text, began_ns=at_ns, ended_ns=at_ns + 1)
    assert reader.reading.accounting is None
