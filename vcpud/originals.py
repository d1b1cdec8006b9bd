"""What domains are owed: the ledger, kept true while the world goes on.

Every original is given back, or stays in the ledger and is named. One of another boot or incarnation
is never applied, and one of another hypervisor is left alone. Reboots, other people's changes and
unplugs that come late change what is owed; nothing else does.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from vcpud import owed, steer
from vcpud.agenda import Agenda
from vcpud.errors import LedgerError
from vcpud.model import DomainSample, HostSample, Mode, Original, Reason, Uuid, same_run
from vcpud.record import ForeignChange

if TYPE_CHECKING:
    from vcpud.ports import Ledger


@dataclass(slots=True)
class News:
    """What has become of originals in one cycle, for its record."""

    lost: list[Original] = field(default_factory=list)
    received: list[Original] = field(default_factory=list)
    recovered: list[Original] = field(default_factory=list)
    foreign: list[ForeignChange] = field(default_factory=list)
    error: str | None = None


class Originals:
    """The ledger, and what is known beyond it; `news` is taken by the loop at the end of a cycle."""

    def __init__(self, ledger: Ledger, agenda: Agenda) -> None:
        self._ledger = ledger
        self._agenda = agenda
        self._unplugs = owed.Unplugs()
        self._elsewhere: frozenset[Uuid] = frozenset()
        self.news = News()

    def look(self, sample: HostSample) -> None:
        """A cycle begins; what domains of another hypervisor are owed is none of this one's business."""
        self.news = News()
        others = owed.elsewhere(self._ledger.outstanding(), sample)
        self._elsewhere = frozenset([original.uuid for original in others])

    @property
    def lost(self) -> bool:
        """There was no ledger at the start."""
        return self._ledger.lost

    def everywhere(self) -> tuple[Original, ...]:
        """Every original not yet restored, of whatever hypervisor."""
        return self._ledger.outstanding()

    def outstanding(self) -> dict[Uuid, Original]:
        """Every original not yet restored, by domain."""
        return {
            original.uuid: original
            for original in self._ledger.outstanding()
            if original.uuid not in self._elsewhere
        }

    def had(self) -> dict[Uuid, int]:
        """Active vCPUs before vcpud first touched a domain, where it is owed any."""
        return {uuid: original.home_vcpus for uuid, original in self.outstanding().items()}

    def home(self, sample: DomainSample) -> frozenset[int]:
        """The guest CPUs a domain had before vcpud first touched it."""
        original = self.outstanding().get(sample.uuid)
        if original is not None and original.online is not None:
            return original.online
        return sample.active

    def remember(self, *originals: Original) -> None:
        """Before a domain is changed for the first time.

        Raises:
            LedgerError: It could not be made durable: the change must not be begun.
        """
        try:
            self._ledger.remember(*originals)
        except LedgerError as error:
            self.news.error = str(error)
            raise

    def recover(self, *originals: Original) -> None:
        """What domains were owed by a ledger that is lost.

        Raises:
            LedgerError: It could not be made durable.
        """
        self.remember(*originals)
        self.news.recovered += originals

    def forget(self, *uuids: Uuid) -> None:
        """Domains are owed nothing any more; the disk is waited for once, however many they are."""
        for uuid in uuids:
            self._unplugs.forget(uuid)
        done = self.outstanding().keys() & frozenset(uuids)
        if not done:
            return
        try:
            self._ledger.forget(*done)
        except LedgerError as error:
            self.news.error = str(error)

    def rebooted(self, domain: DomainSample) -> bool:
        """Its CPUs are online again by themselves; whether devices or a weight are still owed."""
        original = self.outstanding().get(domain.uuid)
        if original is None:
            return False
        left = original if domain.in_flight is not None else self._unplugs.end(original)
        if original.online is not None:
            left = replace(left, online=None, live_vcpus=domain.live_vcpus)
        if left.unplug_from is None and owed.is_back(domain, left):
            self.forget(domain.uuid)
            return False
        self.amend(left)
        return True

    def amend(self, original: Original) -> bool:
        """Write down what a domain is owed from now on; whether that is durable."""
        try:
            self._ledger.amend(original)
        except LedgerError as error:
            self.news.error = str(error)
            return False
        return True

    def yield_to(self, change: ForeignChange, sample: DomainSample) -> bool:
        """Somebody else changed a domain's vCPUs: what it is owed is what he leaves it.

        Who brings back what vcpud had parked sets the size: nothing is owed beyond it. Who adds what
        the domain never had, or takes some away, does that alone: what vcpud had parked besides is
        still given back, and what he took stays away.

        Returns:
            Whether nothing but a weight is owed any more: there is nothing to keep it for.
        """
        only_weight = False
        original = self.outstanding().get(sample.uuid)
        left = original
        if original is not None:
            if original.online is not None and sample.online is not None:
                home = (original.online - change.taken) | change.brought
                if change.brought & original.online:
                    home = sample.online
                left = replace(original, online=home)
            else:
                kept = original.live_vcpus - len(change.taken)
                left = replace(original, live_vcpus=sample.live_vcpus if change.brought else kept)
            try:
                if owed.is_back(sample, left) and left.weight is None:
                    self._ledger.forget(sample.uuid)
                    left = None
                else:
                    self._ledger.amend(left)
                    only_weight = bool(change.brought) and owed.is_back(
                        sample, replace(left, weight=None)
                    )
            except LedgerError as error:
                self.news.error = str(error)
        owed_vcpus = None if left is None else left.home_vcpus
        self.news.foreign.append(replace(change, owed_vcpus=owed_vcpus))
        return only_weight

    def _receive(self, domain: DomainSample, host: HostSample) -> bool:
        """Take over what a vcpud elsewhere still owed; whether there is anything to give back."""
        received = owed.received(domain, host)
        if received is None:
            return False
        try:
            self._ledger.remember(received)
        except LedgerError as error:
            self.news.error = str(error)
            return False
        self.news.received.append(received)
        return True

    def to_give_back(
        self, sample: HostSample, *, everything: bool, met: frozenset[Uuid]
    ) -> list[DomainSample]:
        """Domains that must get back what they had.

        They are no longer enforced, under a job, have just come from a vcpud elsewhere, are below
        a floor that has been raised since, or have lost a vCPU to an unplug long given up.

        Args:
            sample: What there is.
            everything: Whoever is owed anything.
            met: Who is owed anything by an earlier run of vcpud, and is met for the first time.
        """
        originals = self.outstanding()
        found = []
        for domain in sample.domains:
            original = originals.get(domain.uuid)
            if original is None:
                enforced = domain.handed_over is not None and domain.terms.mode is Mode.ENFORCE
                if enforced and self._receive(domain, sample):
                    found.append(domain)
                continue
            floor = min(domain.terms.min_vcpus, original.home_vcpus)
            unwanted = domain.terms.mode is not Mode.ENFORCE or domain.job is not None
            unwanted |= self._unplugged_late(domain, original) or len(domain.active) < floor
            if everything or domain.uuid in met or unwanted:
                found.append(domain)
        return found

    def _unplugged_late(self, domain: DomainSample, original: Original) -> bool:
        """Note that an unplug has been carried out; whether nobody waits for it any more."""
        if original.unplug_from is None or domain.live_vcpus == original.unplug_from:
            return False
        if domain.live_vcpus > original.unplug_from:  # plugged meanwhile: it is missed from there
            self.amend(replace(original, unplug_from=domain.live_vcpus))
            return False
        noted = self.amend(self._unplugs.end(original))
        return noted and domain.uuid not in self._agenda.courses

    def discard_stale(self, sample: HostSample, *, absent: frozenset[Uuid]) -> None:
        """Originals of another boot or incarnation are named and never applied.

        Args:
            sample: What is there now.
            absent: Also drop those of these that are not running: their CPUs went with them.
        """
        outstanding = self.outstanding().values()
        if not outstanding:
            return
        running = {domain.uuid: domain for domain in sample.domains}
        stale: list[Original] = []
        for original in outstanding:
            uuid, domain = original.uuid, running.get(original.uuid)
            other = domain is not None and not same_run(domain.incarnation, original.incarnation)
            gone = domain is None and uuid in absent and uuid not in sample.undescribed
            if original.boot_id != sample.boot_id or other or gone:
                stale.append(original)
                self._agenda.forget(uuid)
        self.news.lost += stale
        self.forget(*(original.uuid for original in stale))

    def forget_restored(self, sample: HostSample, settle_ns: int) -> None:
        """A domain that is back at its original, and on no course, owes nothing.

        Args:
            sample: What there is.
            settle_ns: How long a guest must have run whole to be past an unplug asked for earlier.
        """
        originals = self.outstanding()
        restored: list[Uuid] = []
        for domain in sample.domains if originals else ():
            original = originals.get(domain.uuid)
            if original is None or domain.uuid in self._agenda.courses:
                continue
            if not steer.settled(domain, self._agenda.touched_at_ns.get(domain.uuid)):
                continue
            if owed.is_back(domain, original) and self._unplugs.settled(
                domain, original, settle_ns
            ):
                restored.append(domain.uuid)
        self.forget(*restored)

    # ----------------------------------------------------------------------- unplugs under way

    def unplug_asked(self, domain: DomainSample) -> None:
        """Before a vCPU is unplugged: its guest may do it later than anybody waits.

        Raises:
            LedgerError: It could not be made durable.
        """
        original = self.outstanding().get(domain.uuid)
        if original is not None and not self.amend(self._unplugs.ask(original, domain.live_vcpus)):
            raise LedgerError(self.news.error or "")

    def unplug_refused(self, original: Original) -> None:
        """It was not begun after all."""
        self.amend(self._unplugs.refuse(original))

    def unplug_failed(self, uuid: Uuid, reason: Reason | None) -> None:
        """An unplug has failed: some failures leave open what the guest will do."""
        original = self.outstanding().get(uuid)
        if original is not None and original.unplug_from is not None:
            self.amend(self._unplugs.fail(original, reason))
