"""What the loop is given of one domain: a sample, made of all that its book says. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from vcpud.hypervisor.xml import AgentPort
from vcpud.model import DomainSample, Method, ShareUnit, Trouble
from vcpud.units import NS_PER_S

if TYPE_CHECKING:
    from vcpud.hypervisor.book import Book
    from vcpud.hypervisor.view import View

STALE_NS: Final = 30 * NS_PER_S
"""Three of the longest periods: counters older than that say nothing of a guest that runs."""


def sample_of(book: Book, now_ns: int, boot_grace_ns: int, boot_id: str) -> DomainSample:
    """The domain as the loop sees it.

    Args:
        book: All that is known.
        now_ns: The instant.
        boot_grace_ns: A guest is left alone for so long after its start or reboot.
        boot_id: This boot of the host: notes that were written in it are its own.
    """
    view, facts, description = book.view, book.facts, book.facts.description
    method = book.method(now_ns)
    booted_for_ns = None if book.booted_at_ns is None else max(0, now_ns - book.booted_at_ns)
    booting = booted_for_ns is not None and booted_for_ns < boot_grace_ns
    return DomainSample(
        uuid=book.uuid,
        name=facts.name,
        incarnation=book.incarnation,
        taken_at_ns=book.taken_at_ns,
        terms=book.terms,
        live_vcpus=book.live_vcpus,
        max_vcpus=book.max_vcpus,
        boots=book.boots,
        pool=book.membership.pool if book.membership is not None else "host",
        weight=facts.scheduling.weight,
        share_unit=facts.share_unit or ShareUnit.UNKNOWN,
        quota_pcpus_per_vcpu=facts.scheduling.quota_pcpus_per_vcpu,
        cap_pcpus=facts.scheduling.cap_pcpus,
        online=view.online,
        online_taken_at_ns=view.online_taken_at_ns,
        unpluggable=description.unpluggable if description is not None else frozenset(),
        method=method,
        job=book.job or view.job,
        in_flight=book.in_flight,
        booted_for_ns=booted_for_ns,
        vcpus=book.vcpus,
        cycles=book.counters.cycles if book.counters is not None else None,
        instructions=book.counters.instructions if book.counters is not None else None,
        guest=view.reading,
        troubles=_troubles(book, view, method, now_ns, booting=booting),
        handed_over=book.noted(boot_id, own=False),
        own_note=book.noted(boot_id, own=True),
    )


def _troubles(
    book: Book, view: View, method: Method, now_ns: int, *, booting: bool
) -> frozenset[Trouble]:
    description = book.facts.description
    found = set(view.troubles)
    if book.counters is not None:
        found |= book.counters.troubles
    if book.membership is not None and book.membership.trouble is not None:
        found.add(book.membership.trouble)
    conditions = {
        Trouble.PAUSED: not book.running,
        Trouble.JOB: bool(book.job or view.job),
        Trouble.BOOTING: booting,
        Trouble.ONE_VCPU: book.max_vcpus == 1,
        Trouble.NO_ACTUATOR: method is Method.NONE,
        Trouble.AGENT_MISSING: book.agent is not AgentPort.CONNECTED,
        Trouble.METADATA_INVALID: book.terms_error is not None,
        Trouble.REALTIME: description is not None and description.realtime,
        Trouble.HUNG: book.hung,
        Trouble.SLOW_COUNTERS: book.slow and description is not None and description.kvm,
        # Polls may stop coming although nothing says that libvirt is gone.
        Trouble.STALE: book.running and now_ns - book.taken_at_ns > STALE_NS,
    }
    found.update(trouble for trouble, present in conditions.items() if present)
    return frozenset(found)
