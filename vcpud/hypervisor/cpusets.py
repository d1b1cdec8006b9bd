"""Sets of CPUs as libvirt and Linux write them -> frozen sets, and back. Pure, and safe with hostile text."""

from __future__ import annotations

from typing import Final

_PCPU_LIMIT: Final = 16384
_NAMED_LIMIT: Final = 2 * _PCPU_LIMIT
_SHOWN: Final = 40


def parse_cpuset(text: str) -> frozenset[int]:
    """Read a set of CPUs as libvirt and Linux write it, such as `0-3,^2,8`.

    Raises:
        ValueError: It is not one.
    """
    chosen: set[int] = set()
    excluded: set[int] = set()
    named = 0
    for raw in text.strip().split(","):
        part = raw.strip()
        first, dash, last = part.removeprefix("^").partition("-")
        low = cpu_number(first)
        span = range(low, (cpu_number(last) if dash else low) + 1)
        # Who writes the same ones again and again wants them to be added again and again.
        named += max(len(span), 1)
        if named > _NAMED_LIMIT:
            raise ValueError("a set of CPUs that names too many")
        (excluded if part.startswith("^") else chosen).update(span)
    return frozenset(chosen - excluded)


def format_cpuset(cpus: frozenset[int]) -> str:
    """The shortest spelling of a set of CPUs, ascending."""
    parts: list[str] = []
    ordered = sorted(cpus)
    start = 0
    for position, cpu in enumerate(ordered):
        following = ordered[position + 1] if position + 1 < len(ordered) else None
        if following != cpu + 1:
            first = ordered[start]
            parts.append(str(first) if first == cpu else f"{first}-{cpu}")
            start = position + 1
    return ",".join(parts)


def cpu_number(text: str) -> int:
    """Read the number of one CPU.

    Raises:
        ValueError: It is none.
    """
    if not (text.isascii() and text.isdigit() and len(text) <= len(str(_PCPU_LIMIT))):
        raise ValueError(f"{text[:_SHOWN]!r} is not a CPU")
    if int(text) >= _PCPU_LIMIT:
        raise ValueError(f"there is no CPU {text}")
    return int(text)
