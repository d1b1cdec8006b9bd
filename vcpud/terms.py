"""Which terms hold for a domain: deny-list, `vcpud set`, metadata, selectors, defaults, in order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase

from vcpud.model import Mode, Terms, Uuid

NAMESPACE = "https://vcpud.org/xmlns/domain/1.0"
"""XML namespace of the per-domain metadata element `<vcpud:policy mode= min= max=>`."""
NOTE_NAMESPACE = "https://vcpud.org/xmlns/note/1.0"
"""XML namespace of the note that says what a domain is owed while vCPUs are parked."""


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
        overrides: What an operator has set for single domains while vcpud runs.
    """

    default: Terms = field(default_factory=Terms)
    selectors: tuple[Selector, ...] = ()
    denied: tuple[str, ...] = ()
    metadata: bool = True
    overrides: Mapping[Uuid, Wishes] = field(default_factory=dict)

    def terms(self, uuid: Uuid, name: str, wishes: Wishes | None) -> Terms:
        """The terms in force for one domain."""
        pattern = self.denied_by(uuid, name)
        if pattern is not None:
            return Terms(mode=Mode.OFF, source=f"denied:{pattern}")
        terms = self._configured(uuid, name, wishes)
        override = self.overrides.get(uuid)
        return terms if override is None else _overridden(terms, override)

    def denied_by(self, uuid: Uuid, name: str) -> str | None:
        """The pattern of the deny-list that a domain is on, if any."""
        return next((p for p in self.denied if p == uuid or fnmatchcase(name, p)), None)

    def _configured(self, uuid: Uuid, name: str, wishes: Wishes | None) -> Terms:
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


def _overridden(terms: Terms, override: Wishes) -> Terms:
    """The operator of the host has the last word; a floor above the ceiling lifts it."""
    min_vcpus = override.min_vcpus or terms.min_vcpus
    max_vcpus = override.max_vcpus or terms.max_vcpus
    if max_vcpus is not None and max_vcpus < min_vcpus:
        if override.min_vcpus is None:
            min_vcpus = max_vcpus
        else:
            max_vcpus = min_vcpus
    return replace(
        terms,
        mode=override.mode or terms.mode,
        min_vcpus=min_vcpus,
        max_vcpus=max_vcpus,
        source="set",
    )
