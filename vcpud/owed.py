"""What domains are owed, and what a guest may still take from them after all.

Pure. An unplug that libvirt has given up waiting for may still be carried out by the guest, without
a word and at any time (virsh setvcpus says so itself). So what a domain had stays owed until the
vCPU is seen gone and has been plugged back, or the domain has rebooted or ended. A vcpud that finds
such an entry when it starts forgets it once it has seen the domain run whole for a while.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from vcpud import steer
from vcpud.model import (
    DomainSample,
    HostSample,
    Method,
    Original,
    Reason,
    Trouble,
    Uuid,
    same_run,
)
from vcpud.text import printable
from vcpud.units import NS_PER_S

SETTLE_NS = 600 * NS_PER_S
"""A guest that has run whole for so long since vcpud started will not carry out an older unplug.

One that has collapsed does everything late, and libvirt's 5 s say nothing: it costs nothing to look.
"""
AWAITED_NS = 15 * NS_PER_S
"""The same where somebody waits for it: `vcpud restore` has 20 s where the package is removed."""
_OPEN_ENDED = frozenset({Reason.TIMEOUT, Reason.HUNG, Reason.NOT_CONNECTED})
"""Failures after which the guest may still do what it was asked."""


def of_this_run(note: Original, domain: DomainSample, host: HostSample) -> Original:
    """What a note says, as an original of the domain as it runs here and now."""
    return replace(
        note,
        boot_id=host.boot_id,
        uuid=domain.uuid,
        name=domain.name,
        incarnation=domain.incarnation,
        hypervisor=host.hypervisor,
    )


def recovered(domain: DomainSample, host: HostSample) -> Original | None:
    """What a domain's own note says it is owed, as far as that can be true; None where nothing is.

    It says nothing of an unplug that may still come.
    """
    note = domain.own_note
    if note is None or note.live_vcpus > domain.max_vcpus:
        return None
    return _credible(note, domain, host)


def received(domain: DomainSample, host: HostSample) -> Original | None:
    """The same of the note of a vcpud elsewhere, or of an earlier run, once it is told what is online.

    Devices are not plugged for it: who writes a domain's metadata could have more of them than it
    ever had.
    """
    note = domain.handed_over
    if note is None:
        return None
    if note.online is None:
        return _credible(note, domain, host) if domain.method is Method.XENSTORE else None
    return _credible(note, domain, host) if domain.online is not None else None


def _credible(note: Original, domain: DomainSample, host: HostSample) -> Original | None:
    """What can be true of a note.

    Whoever may write a domain's metadata may have written it, so it asks for nothing beyond the
    domain's own maximum, and takes nothing away. A weight was raised while vCPUs were parked, so it
    asks for less weight, never for more.
    """
    original = of_this_run(note, domain, host)
    if note.online is None:
        if not domain.live_vcpus < note.live_vcpus <= domain.max_vcpus:
            return None
        weighs = note.weight is not None and domain.weight_adjustable
        weight = min(note.weight or domain.weight, domain.weight) if weighs else None
        return replace(original, weight=weight)
    home = note.online & frozenset(range(domain.max_vcpus))
    online = domain.online or frozenset()
    if home <= online:
        return None
    return replace(original, online=home | online, live_vcpus=domain.live_vcpus, weight=None)


def elsewhere(outstanding: Iterable[Original], sample: HostSample) -> tuple[Original, ...]:
    """What was taken from domains of another hypervisor than the one that is looked at.

    That this one does not have them says nothing. One that it runs is meant all the same: the same
    run of the same domain, whatever name its hypervisor went by when that was written down.
    """
    others = [one for one in outstanding if one.hypervisor not in ("", sample.hypervisor)]
    if not others or not sample.hypervisor:
        return ()
    runs = {domain.uuid: domain.incarnation for domain in sample.domains}
    return tuple(
        one
        for one in others
        if one.boot_id != sample.boot_id
        or one.uuid not in runs
        or not same_run(one.incarnation, runs[one.uuid])
    )


def reminder(outstanding: Iterable[Original], sample: HostSample) -> str:
    """What has to be done about originals of another hypervisor, for people; "" where none is."""
    whose = [f"{one.name} of {one.hypervisor}" for one in elsewhere(outstanding, sample)]
    if not whose:
        return ""
    return (
        f"kept for {', '.join(sorted(whose))}, but vcpud is now configured for {sample.hypervisor}: "
        "set `uri` and `backend` as they were; then a start or `vcpud restore` gives it back"
    )


def left_text(left: Iterable[Original], sample: HostSample | None) -> str:
    """Who is still owed something at the end, and what gives it back where that takes more."""
    names = ", ".join(sorted(printable(one.name) for one in left))
    told = "" if sample is None else reminder(left, sample)
    return f"not given back, still in the ledger: {names}" + (f" ({told})" if told else "")


def is_back(sample: DomainSample, original: Original) -> bool:
    """Whether a domain has now what it is owed."""
    if original.weight is not None and sample.weight != original.weight:
        return False
    if original.online is None:
        return sample.live_vcpus >= original.live_vcpus
    return steer.is_whole(sample, original.online)


def unplug_pending(sample: DomainSample | None, original: Original) -> bool:
    """Whether a domain has all it is owed, but for an unplug that its guest may still carry out."""
    return (
        original.unplug_from is not None
        and sample is not None
        and sample.in_flight is None
        and is_back(sample, original)
    )


def lacking(outstanding: Iterable[Original], sample: HostSample) -> tuple[Original, ...]:
    """Who is still to be given something back; not who may merely lose it once more."""
    running = {domain.uuid: domain for domain in sample.domains} if sample.connected else {}
    return tuple(
        original
        for original in outstanding
        if not unplug_pending(running.get(original.uuid), original)
    )


class Unplugs:
    """What this vcpud knows of unplugs whose end nobody has seen, beyond what is in the ledger.

    Originals go in and come out as they are to be written down; nothing is written here.
    """

    def __init__(self) -> None:
        self._asked: dict[Uuid, bool] = {}
        """Domains asked by this vcpud, and whether an earlier unplug was open then."""
        self._whole_since_ns: dict[Uuid, int] = {}

    def ask(self, original: Original, live_vcpus: int) -> Original:
        """Before an unplug is begun."""
        open_before = original.unplug_from is not None
        self._asked[original.uuid] = open_before
        return original if open_before else replace(original, unplug_from=live_vcpus)

    def refuse(self, original: Original) -> Original:
        """An unplug was not begun: what was open before still is, and nothing else."""
        return original if self._asked.get(original.uuid, True) else self.end(original)

    def fail(self, original: Original, reason: Reason | None) -> Original:
        """An unplug has failed; some failures leave open what the guest will do."""
        open_ended = reason is None or reason in _OPEN_ENDED
        return original if open_ended else self.refuse(original)

    def end(self, original: Original) -> Original:
        """The vCPU is gone, or the guest has begun anew."""
        self.forget(original.uuid)
        return replace(original, unplug_from=None)

    def forget(self, uuid: Uuid) -> None:
        """The domain owes nothing, or is gone."""
        self._asked.pop(uuid, None)
        self._whole_since_ns.pop(uuid, None)

    def settled(self, sample: DomainSample, original: Original, settle_ns: int) -> bool:
        """Whether a domain that is whole will stay so.

        What this vcpud has asked for itself stays open: it costs nothing to go on looking.

        Args:
            sample: The domain.
            original: What it is owed.
            settle_ns: For how long it must have run whole.
        """
        if original.unplug_from is None:
            return True
        uuid = sample.uuid
        if uuid in self._asked or Trouble.PAUSED in sample.troubles:
            self._whole_since_ns.pop(uuid, None)
            return False
        since_ns = self._whole_since_ns.setdefault(uuid, sample.taken_at_ns)
        return sample.taken_at_ns - since_ns >= settle_ns
