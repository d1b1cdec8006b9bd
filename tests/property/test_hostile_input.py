"""Whatever a guest, a tenant or a platform says: a refusal that is named, never a crash."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

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
