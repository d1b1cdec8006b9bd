"""Which terms hold for a domain: deny-list, metadata, selectors and defaults, in that order."""

from __future__ import annotations

from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from vcpud.model import Mode, Terms, Uuid

NAMESPACE = "https://vcpud.org/xmlns/domain/1.0"
"""XML namespace of the per-domain metadata element `<vcpud:policy mode= min= max=>`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What a domain's metadata asks for; each attribute may be absent."""

    mode: Mode | None = None
    min_vcpus: int | None = None
    max_vcpus: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Selector:
    """Terms for the domains it matches: by exact UUID, or by a glob on the name."""

    pattern: str
    terms: Terms

    def matches(self, uuid: Uuid, name: str) -> bool:
        return self.pattern == uuid or fnmatchcase(name, self.pattern)


@dataclass(frozen=True, slots=True, kw_only=True)
class TermsBook:
    """All that the operator has said about domains.

    Attributes:
        default: For domains that nothing else names.
        selectors: Tried in order; the first match counts.
        denied: Patterns of domains that are off whatever their metadata says.
        metadata: Whether a domain's own metadata may opt it in.
    """

    default: Terms = field(default_factory=Terms)
    selectors: tuple[Selector, ...] = ()
    denied: tuple[str, ...] = ()
    metadata: bool = True

    def terms(self, uuid: Uuid, name: str, wishes: Wishes | None) -> Terms:
        """The terms in force for one domain."""
        for pattern in self.denied:
            if pattern == uuid or fnmatchcase(name, pattern):
                return Terms(mode=Mode.OFF, source=f"denied:{pattern}")
        chosen = next((s for s in self.selectors if s.matches(uuid, name)), None)
        base = self.default if chosen is None else chosen.terms
        if wishes is None or not self.metadata:
            return base
        min_vcpus = max(base.min_vcpus, wishes.min_vcpus or 1)
        ceilings = [n for n in (base.max_vcpus, wishes.max_vcpus) if n is not None]
        max_vcpus = max(min_vcpus, min(ceilings)) if ceilings else None
        return Terms(
            mode=wishes.mode or base.mode,
            min_vcpus=min_vcpus,
            max_vcpus=max_vcpus,
            guest_signals=base.guest_signals,
            source="metadata",
        )
