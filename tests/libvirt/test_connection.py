"""The real library, through its in-process test driver: listing, XML, events, errors."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

import libvirt_qemu
import pytest

import libvirt
from vcpud.backend import Backend, BackendOptions
from vcpud.events import EventKind
from vcpud.hypervisor import open_backend
from vcpud.hypervisor.agent import AbsurdError, parse_file
from vcpud.hypervisor.connection import LibvirtLibrary, LibvirtLink
from vcpud.hypervisor.failures import CallFailed, Meaning
from vcpud.hypervisor.link import Control, Happening, RawEvent, VcpuWord
from vcpud.hypervisor.xml import format_note, parse_description
from vcpud.model import Mode, Original, Reason, Refused, SetOnline
from vcpud.terms import NAMESPACE, TermsBook
from vcpud.units import NS_PER_S

pytestmark = pytest.mark.libvirt

HOST = Path(__file__).with_name("host.xml")
FIRST = "11111111-1111-1111-1111-111111111111"
SECOND = "22222222-2222-2222-2222-222222222222"
NOBODY = "33333333-3333-3333-3333-333333333333"


@pytest.fixture
def library() -> Iterator[LibvirtLibrary]:
    found = LibvirtLibrary(f"test://{HOST}")
    yield found
    found.close()


@pytest.fixture
def link(library: LibvirtLibrary) -> Iterator[LibvirtLink]:
    found = library.open(writable=True)
    assert isinstance(found, LibvirtLink)
    yield found
    found.close()


def test_running_domains_are_listed_with_their_states(link: LibvirtLink) -> None:
    rows = {row.uuid: row for row in link.bulk(counters=True)}
    assert set(rows) == {FIRST, SECOND}
    assert all(row.raw["state.state"] == 1 for row in rows.values())


def test_a_guest_suspended_to_memory_is_listed_and_one_shut_off_is_not(tmp_path: Path) -> None:
    host = tmp_path / "host.xml"
    space = "xmlns:test='http://libvirt.org/schemas/domain/test/1.0'"
    text = HOST.read_text(encoding="utf-8").replace("type='test'", f"type='test' {space}")
    for state in (7, 5):  # suspended by the guest's power management, shut off
        text = text.replace("</os>\n", f"</os><test:runstate>{state}</test:runstate>", 1)
    host.write_text(text, encoding="utf-8")
    library = LibvirtLibrary(f"test://{host}")
    link = library.open(writable=False)
    try:
        (only,) = link.bulk(counters=True)
    finally:
        link.close()
        library.close()
    assert (only.uuid, only.raw["state.state"]) == (FIRST, 7)


class Told:
    """A connection that keeps what is to be called when something happens."""

    def __init__(self) -> None:
        self.callbacks: dict[int, Callable[..., None]] = {}
        self.references = 1

    def setKeepAlive(self, *_: int) -> None:  # noqa: N802  libvirt's own name
        return

    def domainEventRegisterAny(  # noqa: N802  libvirt's own name
        self, _domain: None, number: int, callback: Callable[..., None], _opaque: None
    ) -> int:
        self.callbacks[number] = callback
        return number

    def domainEventDeregisterAny(self, number: int) -> None:  # noqa: N802  libvirt's own name
        del self.callbacks[number]

    def registerCloseCallback(self, *_: object) -> None:  # noqa: N802  libvirt's own name
        self.references += 1

    def unregisterCloseCallback(self) -> None:  # noqa: N802  libvirt's own name
        self.references -= 1

    def close(self) -> int:
        self.references -= 1
        return self.references


@pytest.mark.parametrize(
    ("event", "happening"),
    [
        (libvirt.VIR_DOMAIN_EVENT_STOPPED, Happening.STOPPED),
        (libvirt.VIR_DOMAIN_EVENT_CRASHED, Happening.STATE),
    ],
)
def test_a_guest_that_panics_has_not_stopped_its_qemu_may_run_it_anew(
    link: LibvirtLink, event: int, happening: Happening
) -> None:
    told = Told()
    heard: list[RawEvent] = []
    LibvirtLink(cast("libvirt.virConnect", told)).listen(heard.append)
    domain = link._domain(FIRST)
    told.callbacks[libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE](told, domain, event, 0, None)
    assert [(one.happening, one.uuid) for one in heard] == [(happening, FIRST)]


def test_nothing_holds_a_connection_for_events_once_it_is_closed() -> None:
    told = Told()
    link = LibvirtLink(cast("libvirt.virConnect", told))
    link.listen(lambda _event: None)
    link.close()
    assert (told.callbacks, told.references) == ({}, 0)


def test_an_answer_of_a_guest_that_is_no_text_is_handed_on_to_be_judged(
    link: LibvirtLink, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answered(*_: object) -> str:
        # What QEMU's agent may put into a string and libvirt 9.0 passes on as it came.
        return b'{"return": {"buf-b64": "\xed\xb0\x80"}}'.decode()

    monkeypatch.setattr(libvirt_qemu, "qemuAgentCommand", answered)
    answer = link.agent(FIRST, '{"execute": "guest-file-read"}', 1)
    with pytest.raises(AbsurdError):
        parse_file(answer)


def test_a_live_description_is_understood(link: LibvirtLink) -> None:
    first, second = (parse_description(link.xml(uuid)) for uuid in (FIRST, SECOND))
    assert (first.live_vcpus, first.max_vcpus) == (2, 8)
    assert second.affinities == (frozenset(range(4)),) * 4
    assert link.name(FIRST) == "first"


def test_live_vcpus_are_set_and_read_back(link: LibvirtLink) -> None:
    link.set_live_vcpus(FIRST, 3)
    assert link.live_vcpus(FIRST) == 3


def test_more_vcpus_than_the_maximum_are_out_of_bounds(link: LibvirtLink) -> None:
    with pytest.raises(CallFailed) as failure:
        link.set_live_vcpus(FIRST, 9)
    assert failure.value.meaning is Meaning.OUT_OF_BOUNDS
    assert failure.value.code == 8


def test_a_read_only_connection_changes_nothing(library: LibvirtLibrary) -> None:
    found = library.open(writable=False)
    try:
        with pytest.raises(CallFailed) as failure:
            found.set_live_vcpus(FIRST, 1)
        assert failure.value.meaning is Meaning.DENIED
        assert found.live_vcpus(FIRST) == 2
    finally:
        found.close()


def test_a_domain_that_does_not_exist_is_gone(link: LibvirtLink) -> None:
    with pytest.raises(CallFailed) as failure:
        link.xml(NOBODY)
    assert failure.value.meaning is Meaning.GONE


def test_what_a_driver_cannot_do_is_unsupported(link: LibvirtLink) -> None:
    with pytest.raises(CallFailed) as failure:
        link.agent(FIRST, '{"execute": "guest-ping"}', 1)
    assert failure.value.meaning in {Meaning.UNSUPPORTED, Meaning.FAILED}


def test_a_control_interface_that_is_free_says_so_or_is_not_there(link: LibvirtLink) -> None:
    try:
        control = link.control(FIRST).control
    except CallFailed as failure:
        control = None
        meaning: Meaning | None = failure.meaning
    else:
        meaning = None
    assert (control, meaning) in {(Control.FREE, None), (None, Meaning.UNSUPPORTED)}


def test_a_libvirt_that_is_not_there_is_lost() -> None:
    library = LibvirtLibrary("qemu+unix:///session?socket=/nowhere/libvirt-sock")
    try:
        with pytest.raises(CallFailed) as failure:
            library.open(writable=False)
        assert failure.value.meaning is Meaning.LOST
    finally:
        library.close()


def test_events_arrive_with_the_domain_they_concern(link: LibvirtLink) -> None:
    heard: queue.SimpleQueue[RawEvent] = queue.SimpleQueue()
    link.listen(heard.put)
    domain = link._domain(FIRST)
    domain.setMetadata(2, "<policy mode='off'/>", "vcpud", NAMESPACE, 1)
    domain.suspend()
    domain.destroy()
    found = [heard.get(timeout=10) for _ in range(3)]
    assert [event.happening for event in found] == [
        Happening.METADATA,
        Happening.STATE,
        Happening.STOPPED,
    ]
    assert {(event.uuid, event.name) for event in found} == {(FIRST, "first")}


def test_nothing_is_left_running_after_the_last_close(library: LibvirtLibrary) -> None:
    names = {thread.name for thread in threading.enumerate()}
    assert "libvirt-events" in names
    library.close()
    assert "libvirt-events" not in {thread.name for thread in threading.enumerate()}


@pytest.fixture
def backend() -> Iterator[Backend]:
    opened = open_backend(
        BackendOptions(
            terms=TermsBook(),
            writable=False,
            now_ns=time.monotonic_ns,
            wake=lambda: None,
            period_ns=10 * NS_PER_S,
            argument=f"test://{HOST}",
        )
    )
    yield opened
    opened.close()


def test_the_whole_backend_samples_a_host(backend: Backend) -> None:
    sample = backend.hypervisor.sample()
    assert [domain.name for domain in sample.domains] == ["first", "second"]
    assert all(domain.terms.mode is Mode.OBSERVE for domain in sample.domains)
    assert sample.connected
    assert backend.clock is None
    assert [event.kind for event in backend.hypervisor.events()] == [EventKind.CONNECTED]
    change = SetOnline(uuid=FIRST, online=frozenset({0}))
    effect = backend.hypervisor.begin(change)
    assert isinstance(effect, Refused)
    assert effect.reason is Reason.DENIED


def test_a_note_is_kept_beside_the_domains_own_metadata_until_it_is_removed(
    link: LibvirtLink,
) -> None:
    owed = Original(
        boot_id="b", uuid=FIRST, name="first", incarnation="1:2", online=None, live_vcpus=2
    )
    link.set_note(FIRST, format_note(owed))
    note = parse_description(link.xml(FIRST)).note
    assert note is not None
    assert (note.boot_id, note.incarnation, note.live_vcpus) == ("b", "1:2", 2)
    link.set_note(FIRST, None)
    assert parse_description(link.xml(FIRST)).note is None
    link.set_note(FIRST, None)


def test_the_library_says_what_it_is(link: LibvirtLink) -> None:
    assert link.library_version() >= 7_002_000
    assert link.driver() == "TEST"


def test_what_vcpus_do_is_told_without_the_wrapper_that_xen_breaks(link: LibvirtLink) -> None:
    states = link.states(FIRST, 64)
    assert [state.number for state in states] == list(range(len(states)))
    assert len(states) > 1
    assert {state.word for state in states} == {VcpuWord.RUNNING}
    assert all(state.run_ns > 0 for state in states)
    assert len(link.states(FIRST, 1)) == 1
    with pytest.raises(CallFailed) as failed:
        link.states(NOBODY, 4)
    assert failed.value.meaning is Meaning.GONE
