"""Whatever a guest, a tenant or a platform says: a refusal that is named, never a crash."""

from __future__ import annotations

import contextlib
import json

from hypothesis import given
from hypothesis import strategies as st

from vcpud.hypervisor import agent
from vcpud.hypervisor.failures import Meaning, meaning_of
from vcpud.hypervisor.stats import COUNTER_LIMIT, parse_counters
from vcpud.hypervisor.xml import UnreadableError, parse_description
from vcpud.terms import NAMESPACE

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=12,
)
keys = st.sampled_from(
    ["state.state", "vcpu.current", "vcpu.maximum", "vcpu.0.time", "vcpu.0.delay", "vcpu.9.time",
     "vcpu..time", "vcpu.-1.time", "vcpu.99999999.time", "vcpu.0", "vcpu.٣.time"]
) | st.text(max_size=12)  # fmt: skip


@given(st.dictionaries(keys, anything))
def test_counters_are_sane_or_not_reported(raw: dict[str, object]) -> None:
    for vcpu in parse_counters(raw).vcpus:
        for value in (vcpu.run_ns, vcpu.run_delay_ns, vcpu.halt_poll_ns, vcpu.preemptions):
            assert value is None or 0 <= value < 2 * COUNTER_LIMIT


@given(st.text() | anything.map(lambda value: json.dumps({"return": value})))
def test_no_answer_of_an_agent_gets_past_its_parser_unread(reply: str) -> None:
    for read in (
        lambda: agent.parse_cpustats(reply, taken_at_ns=0, max_vcpus=4),
        lambda: agent.parse_vcpus(reply, max_vcpus=4),
        lambda: agent.parse_set_vcpus(reply),
        lambda: agent.parse_disabled(reply),
        lambda: agent.parse_handle(reply),
        lambda: agent.parse_file(reply),
    ):
        with contextlib.suppress(agent.AbsurdError):
            read()


@given(st.text())
def test_no_file_of_a_guest_gets_past_its_parser_unread(content: str) -> None:
    for read in (
        lambda: agent.parse_lock_histogram(content, taken_at_ns=0, max_vcpus=4),
        lambda: agent.parse_run_queue(content, taken_at_ns=0, max_vcpus=4),
        lambda: agent.parse_runnable(content, taken_at_ns=0),
        lambda: agent.parse_own_cost(content),
    ):
        with contextlib.suppress(agent.AbsurdError, agent.MissingError, agent.DroppedError):
            read()


@given(st.text(), st.text())
def test_metadata_is_understood_or_named(mode: str, minimum: str) -> None:
    safe = [
        text.encode("ascii", "ignore").decode().replace("&", "").replace("<", "").replace("'", "")
        for text in (mode, minimum)
    ]
    text = (
        f"<domain><name>n</name><metadata><p:policy xmlns:p='{NAMESPACE}' mode='{safe[0]}' "
        f"min='{safe[1]}'/></metadata><vcpu>2</vcpu></domain>"
    )
    try:
        found = parse_description(text)
    except UnreadableError:
        return
    assert (found.wishes is None) == (found.wishes_error is not None)


@given(st.none() | st.integers(-10, 200), st.none() | st.integers(0, 80), st.text())
def test_every_failure_means_something(code: int | None, domain: int | None, text: str) -> None:
    assert meaning_of(code, domain, text) in Meaning
