"""Units. Inside vcpud every instant and duration is an integer number of nanoseconds."""

import re
from fractions import Fraction

NS_PER_US = 1_000
NS_PER_MS = 1_000_000
NS_PER_S = 1_000_000_000


def seconds(duration_ns: int) -> float:
    """A duration in seconds, for people, logs and Prometheus."""
    return duration_ns / NS_PER_S


def ns(duration_s: float) -> int:
    """A duration in nanoseconds from seconds as written in a configuration file."""
    return round(duration_s * NS_PER_S)


_NS_PER_UNIT = {
    "ns": 1,
    "us": NS_PER_US,
    "ms": NS_PER_MS,
    "s": NS_PER_S,
    "m": 60 * NS_PER_S,
    "min": 60 * NS_PER_S,
    "h": 3600 * NS_PER_S,
    "d": 86400 * NS_PER_S,
}
_DURATION_PART = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)(ns|us|ms|s|min|m|h|d)")
_DURATION = re.compile(rf"(?:{_DURATION_PART.pattern})(?:\s*{_DURATION_PART.pattern}){{0,3}}")


def parse_duration(text: str) -> int:
    """Nanoseconds of a duration as people write it: "500ms", "2s", "1.5s", "5m", "1h 30m".

    Raises:
        ValueError: It is not a duration, or has no unit.
    """
    stripped = text.strip()
    if not _DURATION.fullmatch(stripped):
        raise ValueError(f'expected a duration like "500ms", "2s" or "5m", not {text[:40]!r}')
    parts = _DURATION_PART.findall(stripped)
    return sum(round(Fraction(amount) * _NS_PER_UNIT[unit]) for amount, unit in parts)


def duration_text(duration_ns: int) -> str:
    """A duration as `parse_duration` reads it, in the largest unit that needs no fraction."""
    for unit in ("h", "m", "s", "ms", "us"):
        if duration_ns and duration_ns % _NS_PER_UNIT[unit] == 0:
            return f"{duration_ns // _NS_PER_UNIT[unit]}{unit}"
    return f"{duration_ns}ns" if duration_ns else "0s"
