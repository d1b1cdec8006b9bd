"""Answers of real agents, and of agents that lie."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import json
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vcpud.hypervisor import agent, guestfiles

RECORDED = Path(__file__).parents[2] / "data/agent"
SITUATIONS = ["idle", "collapsed"]


def recorded(situation: str, name: str) -> str:
    return (RECORDED / f"{situation}-{name}").read_text()


def returned(value: Any) -> str:
    return json.dumps({"return": value})


def cpu(index: int = 0, **more: Any) -> dict[str, Any]:
    return {"cpu": index, "type": "linux", "user": 5, "system": 6, "idle": 7, **more}


@pytest.mark.parametrize("situation", SITUATIONS)
def test_a_real_accounting_names_the_cpus_that_are_online(situation: str) -> None:
    found = agent.parse_cpustats(
        recorded(situation, "guest-get-cpustats.json"), taken_at_ns=9, max_vcpus=4
    )
    assert found.online == {0, 1, 2, 3}
    assert found.taken_at_ns == 9
    assert all(one.user_ns % 10_000_000 == 0 for one in found.cpus)


def test_nice_counts_as_user_and_interrupts_as_system() -> None:
    text = returned([cpu(nice=10, irq=1, softirq=2, iowait=4, steal=3)])
    (found,) = agent.parse_cpustats(text, taken_at_ns=0, max_vcpus=1).cpus
    assert (found.user_ns, found.system_ns) == (15_000_000, 9_000_000)
    assert (found.idle_ns, found.steal_ns) == (11_000_000, 3_000_000)


def test_steal_that_is_not_reported_is_not_zero() -> None:
    (found,) = agent.parse_cpustats(returned([cpu()]), taken_at_ns=0, max_vcpus=1).cpus
    assert found.steal_ns is None


@pytest.mark.parametrize("situation", SITUATIONS)
def test_a_real_list_of_vcpus_is_read(situation: str) -> None:
    found = agent.parse_vcpus(recorded(situation, "guest-get-vcpus.json"), max_vcpus=4)
    assert [vcpu.number for vcpu in found if vcpu.online] == [0, 1, 2, 3]


@pytest.mark.parametrize("situation", SITUATIONS)
def test_a_real_agent_has_no_command_switched_off_that_is_needed(situation: str) -> None:
    disabled = agent.parse_disabled(recorded(situation, "guest-info.json"))
    assert "guest-set-vcpus" not in disabled


def test_a_real_lock_histogram_is_summed_in_nanoseconds() -> None:
    content = agent.parse_file(recorded("collapsed", "lock-hist-reply.json"))
    found = guestfiles.parse_lock_histogram(content, taken_at_ns=3, max_vcpus=4)
    assert found.waits == 535 + 529 + 534 + 526
    assert found.wait_ns == (20_908_942 + 20_890_246 + 20_972_197 + 20_807_908) * 1000


@pytest.mark.parametrize("situation", SITUATIONS)
def test_a_real_schedstat_tells_the_wait_of_every_cpu(situation: str) -> None:
    content = agent.parse_file(recorded(situation, "schedstat-reply.json"))
    found = guestfiles.parse_run_queue(content, taken_at_ns=0, max_vcpus=4)
    assert [one.index for one in found.cpus] == [0, 1, 2, 3]
    assert all(one.wait_ns > 0 for one in found.cpus)


@pytest.mark.parametrize("situation", SITUATIONS)
def test_a_real_load_average_counts_tasks_without_the_agent_itself(situation: str) -> None:
    content = agent.parse_file(recorded(situation, "loadavg-reply.json"))
    runnable = int(content.split()[3].split("/")[0])
    assert guestfiles.parse_runnable(content, taken_at_ns=0).runnable == runnable - 1


def test_entries_that_were_dropped_make_the_histogram_worthless() -> None:
    content = recorded("collapsed", "lock-hist.txt").replace("Dropped: 0", "Dropped: 3")
    with pytest.raises(guestfiles.DroppedError):
        guestfiles.parse_lock_histogram(content, taken_at_ns=0, max_vcpus=4)


def test_a_file_that_holds_no_histogram_means_the_signal_is_missing() -> None:
    with pytest.raises(guestfiles.MissingError):
        guestfiles.parse_lock_histogram("", taken_at_ns=0, max_vcpus=4)


LIES = [
    "", "[]", "{}", "null", "{", '{"return": {}}', '{"return": []}', '{"error": {}}',
    "[" * 100_000, returned("x" * 3_000_000),
    returned([cpu(user=-1)]), returned([cpu(user=2**70)]), returned([cpu(user=1.5)]),
    returned([cpu(user=True)]), returned([cpu(user="5")]), returned([cpu(-1)]),
    returned([cpu(4)]), returned([cpu(0), cpu(0)]), returned([cpu(n) for n in range(5)]),
    returned([1]), returned([cpu(nice=-5)]), returned([cpu(steal=-5)]),
    '{"return": [' + "9" * 5000 + "]}",
]  # fmt: skip


@pytest.mark.parametrize("text", LIES)
def test_an_accounting_that_cannot_be_is_absurd(text: str) -> None:
    with pytest.raises(agent.AbsurdError):
        agent.parse_cpustats(text, taken_at_ns=0, max_vcpus=4)


@pytest.mark.parametrize("filler", ["\n", " ", "\t", "Dropped: 1", "cpu0 ", "1.1 ", "0-16383,"])
def test_no_file_of_a_guest_takes_longer_to_read_than_it_is_long(filler: str) -> None:
    content = (filler * agent.FILE_LIMIT)[: agent.FILE_LIMIT]
    began_s = time.process_time()
    for parse in (
        lambda: guestfiles.parse_lock_histogram(content, taken_at_ns=0, max_vcpus=4),
        lambda: guestfiles.parse_run_queue(content, taken_at_ns=0, max_vcpus=4),
        lambda: guestfiles.parse_runnable(content, taken_at_ns=0),
        lambda: guestfiles.parse_preferred(content, max_vcpus=4),
        lambda: guestfiles.parse_own_cost(content),
    ):
        with contextlib.suppress(
            agent.AbsurdError, guestfiles.MissingError, guestfiles.DroppedError
        ):
            parse()
    assert time.process_time() - began_s < 0.5


@pytest.mark.parametrize(
    "content",
    [
        "!!!",
        "AAA",
        base64.b64encode(b"\xff\xfe").decode(),
        base64.b64encode(bytes(300_000)).decode(),
    ],
)
def test_content_that_is_not_text_is_absurd(content: str) -> None:
    with pytest.raises(agent.AbsurdError):
        agent.parse_file(returned({"buf-b64": content, "count": 1, "eof": True}))


@pytest.mark.parametrize(
    "line",
    ["{ common_cpu:          9 } hitcount:          1  lat:          1",
     "{ common_cpu:          0 } hitcount:          1  lat: 18446744073709551615",
     ("{ common_cpu:          0 } hitcount:          1  lat:          1\n"
     "{ common_cpu:          0 } hitcount:          1  lat:          1")],
)  # fmt: skip
def test_a_histogram_that_cannot_be_is_absurd(line: str) -> None:
    with pytest.raises(agent.AbsurdError):
        guestfiles.parse_lock_histogram(f"{line}\n    Dropped: 0\n", taken_at_ns=0, max_vcpus=4)


def test_a_guest_without_any_cpu_online_is_absurd() -> None:
    text = returned([{"logical-id": n, "online": False, "can-offline": True} for n in range(4)])
    with pytest.raises(agent.AbsurdError):
        agent.parse_vcpus(text, max_vcpus=4)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(
        st.sampled_from(["cpu", "user", "system", "idle", "online", "logical-id", "buf-b64",
                         "supported_commands", "name", "enabled"]), inner),
    max_leaves=20,
)  # fmt: skip


@given(JSON | st.text())
def test_no_answer_breaks_a_parser(value: Any) -> None:
    for text in (returned(value), str(value)):
        for parse in (
            lambda text: agent.parse_cpustats(text, taken_at_ns=0, max_vcpus=4),
            lambda text: agent.parse_vcpus(text, max_vcpus=4),
            agent.parse_set_vcpus,
            agent.parse_disabled,
            agent.parse_handle,
            agent.parse_file,
        ):
            try:
                parse(text)
            except agent.AbsurdError:
                continue


FILE = st.text() | st.lists(
    st.sampled_from(["cpu", "cpu0 ", "cpu3 ", "cpu77 ", "0 ", "1 2 3 4 5 6 7 8 9", "-1 ", "9" * 19, "0.00 ",
                     "3/70 ", "{ common_cpu: 0 } hitcount: ", " lat: ", "    Dropped: ", "0-3,", "\n"]),
    max_size=40,
).map("".join)  # fmt: skip


@given(FILE)
def test_no_file_breaks_a_parser_and_no_amount_in_it_passes_a_machines_life(content: str) -> None:
    for parse in (
        lambda text: guestfiles.parse_lock_histogram(text, taken_at_ns=0, max_vcpus=4),
        lambda text: guestfiles.parse_run_queue(text, taken_at_ns=0, max_vcpus=4),
        lambda text: guestfiles.parse_stat(text, taken_at_ns=0, max_vcpus=4),
        lambda text: guestfiles.parse_runnable(text, taken_at_ns=0),
        lambda text: guestfiles.parse_preferred(text, max_vcpus=4),
        guestfiles.parse_own_cost,
    ):
        try:
            found = parse(content)
        except (agent.AbsurdError, guestfiles.MissingError, guestfiles.DroppedError):
            continue
        assert all(0 <= amount < agent.AMOUNT_LIMIT for amount in _amounts(found))


def _amounts(found: Any) -> list[int]:
    """Every number in what was understood."""
    if isinstance(found, frozenset | tuple):
        return [amount for one in found for amount in _amounts(one)]
    if dataclasses.is_dataclass(found):
        return _amounts(tuple(getattr(found, field.name) for field in dataclasses.fields(found)))
    return [] if found is None else [found]
