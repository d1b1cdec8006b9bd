"""What a probe says: a finding with its remedy, and the examination as a whole."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, TypeAlias

from vcpud.text import printable

if TYPE_CHECKING:
    from vcpud.doctor.facts import DomainFacts


class Severity(StrEnum):
    """How much a finding matters."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that stands in the way, or that an operator should know.

    Attributes:
        code: Stable, for scripts.
        severity: `error`: vcpud cannot do its work here. `warning`: it works worse, or at a
            risk. `note`: worth knowing.
        subject: "host", or the domain's name.
        text: What is the case.
        remedy: What to do about it.
    """

    code: str
    severity: Severity
    subject: str
    text: str
    remedy: str


Findings: TypeAlias = Iterator[Finding]


def on_host(code: str, severity: Severity, text: str, remedy: str) -> Finding:
    """A finding of the host."""
    return Finding(code=code, severity=severity, subject="host", text=text, remedy=remedy)


def about(facts: DomainFacts, code: str, severity: Severity, text: str, remedy: str) -> Finding:
    """A finding of a domain or its guest."""
    return Finding(code=code, severity=severity, subject=facts.name, text=text, remedy=remedy)


@dataclass(frozen=True, slots=True, kw_only=True)
class Unseen:
    """Something that could not be looked at.

    Attributes:
        subject: "host", or the domain's name.
        what: What was not seen.
        why: Why not, and what would show it.
    """

    subject: str
    what: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Examination:
    """All that was found."""

    findings: tuple[Finding, ...]
    unseen: tuple[Unseen, ...]
    domains: tuple[str, ...]

    def document(self) -> dict[str, Any]:
        """For `-o json`."""
        return {
            "domains": list(self.domains),
            "findings": [asdict(finding) for finding in self.findings],
            "unseen": [asdict(one) for one in self.unseen],
        }

    def text(self) -> str:
        """For a terminal: by subject, gravest first."""
        lines: list[str] = []
        for subject in ("host", *self.domains):
            found = [one for one in self.findings if one.subject == subject]
            unseen = [one for one in self.unseen if one.subject == subject]
            if not found and not unseen:
                lines.append(f"{printable(subject)}: nothing in the way")
                continue
            lines.append(f"{printable(subject)}:")
            for finding in sorted(found, key=lambda one: list(Severity).index(one.severity)):
                lines.append(f"  {finding.severity}: {printable(finding.text, 400)}")
                lines.append(f"    -> {printable(finding.remedy, 400)}  [{finding.code}]")
            lines += [
                f"  not seen: {printable(one.what, 200)}: {printable(one.why, 300)}"
                for one in unseen
            ]
        counts = {
            severity: sum(one.severity is severity for one in self.findings)
            for severity in Severity
        }
        lines.append(
            ", ".join(
                f"{count} {severity}{'s' * (count != 1)}" for severity, count in counts.items()
            )
        )
        return "\n".join(lines)
