"""Live XML of domains, some of it written by people who mean no good."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vcpud.hypervisor.xml import AgentPort, UnreadableError, parse_description
from vcpud.model import Mode
from vcpud.terms import NAMESPACE, Wishes

VCPUS = """<vcpus>
  <vcpu id='0' enabled='yes' hotpluggable='no' order='1'/>
  <vcpu id='1' enabled='yes' hotpluggable='yes' order='2'/>
  <vcpu id='4' enabled='yes' hotpluggable='yes' order='3'/>
  <vcpu id='5' enabled='no' hotpluggable='yes'/>
</vcpus>"""


def domain(inside: str = "", vcpu: str = "<vcpu current='3'>8</vcpu>", kind: str = "kvm") -> str:
    return f"<domain type='{kind}' id='7'><name>db1</name>{vcpu}{inside}</domain>"


def policy(attributes: str) -> str:
    return f"<metadata><v:policy xmlns:v='{NAMESPACE}' {attributes}/></metadata>"


def test_counts_and_what_can_be_unplugged_are_read() -> None:
    found = parse_description(domain(VCPUS))
    assert (found.live_vcpus, found.max_vcpus) == (3, 8)
    assert found.unpluggable == {1, 4}
    assert found.kvm


def test_without_a_list_of_vcpus_nothing_can_be_unplugged() -> None:
    assert parse_description(domain(vcpu="<vcpu>4</vcpu>")).unpluggable == frozenset()


def test_vcpu_0_is_never_unpluggable_whatever_the_list_says() -> None:
    listed = "<vcpus><vcpu id='0' enabled='yes' hotpluggable='yes'/></vcpus>"
    assert parse_description(domain(listed)).unpluggable == frozenset()


def test_pins_go_before_the_common_cpuset() -> None:
    tune = "<cputune><vcpupin vcpu='1' cpuset='6'/></cputune>"
    found = parse_description(domain(tune, vcpu="<vcpu cpuset='0-3,^2'>2</vcpu>"))
    assert found.affinities == (frozenset({0, 1, 3}), frozenset({6}))


def test_shares_quota_and_real_time_are_read() -> None:
    tune = """<cputune><shares>2048</shares><period>100000</period><quota>50000</quota>
        <vcpusched vcpus='0' scheduler='fifo' priority='1'/></cputune>"""
    found = parse_description(domain(tune))
    assert (found.shares, found.quota_pcpus_per_vcpu, found.realtime) == (2048, 0.5, True)


def test_an_unlimited_quota_is_none() -> None:
    tune = "<cputune><period>100000</period><quota>-1</quota></cputune>"
    assert parse_description(domain(tune)).quota_pcpus_per_vcpu is None


def test_the_ceiling_of_the_whole_domain_is_read_apart_from_that_of_each_vcpu() -> None:
    tune = """<cputune><global_period>100000</global_period><global_quota>150000</global_quota>
        </cputune>"""
    found = parse_description(domain(tune))
    assert (found.cap_pcpus, found.quota_pcpus_per_vcpu) == (1.5, None)


@pytest.mark.parametrize(
    ("state", "port"),
    [("state='connected'", AgentPort.CONNECTED), ("", AgentPort.DISCONNECTED)],
)
def test_the_agents_channel_is_found(state: str, port: AgentPort) -> None:
    target = f"<target type='virtio' name='org.qemu.guest_agent.0' {state}/>"
    text = domain(f"<devices><channel type='unix'>{target}</channel></devices>")
    assert parse_description(text).agent is port


def test_a_domain_without_the_channel_has_no_agent() -> None:
    assert parse_description(domain()).agent is AgentPort.ABSENT


def test_metadata_of_its_own_is_read_as_wishes() -> None:
    found = parse_description(domain(policy("mode='enforce' min='2' max='4'")))
    assert found.wishes == Wishes(mode=Mode.ENFORCE, min_vcpus=2, max_vcpus=4)
    assert found.wishes_error is None


def test_other_peoples_metadata_is_none_of_our_business() -> None:
    other = "<metadata><x:thing xmlns:x='https://example.org/x' mode='nonsense'/></metadata>"
    found = parse_description(domain(other))
    assert found.wishes is None
    assert found.wishes_error is None


@pytest.mark.parametrize(
    "attributes",
    ["mode='on'", "min='0'", "min='-1'", "max='many'", "min='4' max='2'", "mod='enforce'",
     "max='99999999999999999999999'", "min='1_0'", "min='٣'"],
)  # fmt: skip
def test_metadata_that_cannot_be_followed_says_why(attributes: str) -> None:
    found = parse_description(domain(policy(attributes)))
    assert found.wishes is None
    assert found.wishes_error


def test_two_elements_in_our_namespace_are_not_followed() -> None:
    twice = policy("mode='off'").replace("</metadata>", f"<b xmlns='{NAMESPACE}'/></metadata>")
    assert parse_description(domain(twice)).wishes_error


BOMB = "<!DOCTYPE d [<!ENTITY a 'aaaaaaaaaa'><!ENTITY b '&a;&a;&a;&a;'>]><domain>&b;</domain>"


@pytest.mark.parametrize(
    "text",
    ["", "no xml", "<domain>", "<network/>", BOMB, "<domain><vcpu>0</vcpu></domain>",
     "<domain><vcpu>x</vcpu></domain>", "<domain><vcpu current='9'>4</vcpu></domain>",
     domain(vcpu="<vcpu cpuset='0-99999999'>4</vcpu>"), domain(vcpu="<vcpu>5000</vcpu>"),
     " " * 5_000_000],
)  # fmt: skip
def test_a_document_that_cannot_be_a_domain_is_refused(text: str) -> None:
    with pytest.raises(UnreadableError):
        parse_description(text)


@given(st.text())
def test_no_text_raises_anything_else(text: str) -> None:
    with pytest.raises(UnreadableError):
        parse_description(text)


@given(st.text(alphabet="abce='<>/&; 0123456789\"-", max_size=80))
def test_no_content_of_a_domain_raises_anything_else(text: str) -> None:
    try:
        parse_description(domain(text))
    except UnreadableError:
        return
