"""Samples of recordings in format 1, told as format 2 has them.

There every vCPU was a value of its own, its counters stood together, and a domain's own
differences stood before them without a list around them.
"""

from __future__ import annotations

from operator import attrgetter
from typing import Any

from vcpud.counters import COUNTERS, VcpuCounters, VcpuSample
from vcpud.recording.codec import UnreadableError, plain, read

FORMAT = 1
_HEAD = 5
_ROW = attrgetter(*COUNTERS, "run_delay_error_ns")


def told(was: VcpuCounters, entry: Any) -> Any:
    """What a line says of a domain whose counters were these."""
    if type(entry) is dict:
        return in_full(entry)
    if type(entry) is not list:
        return entry
    return [entry[:_HEAD], *_by_column(was, entry[_HEAD:])]


def in_full(domain: dict[str, Any]) -> dict[str, Any]:
    """A domain written in full."""
    vcpus = read(tuple[VcpuSample, ...], domain.get("vcpus", []))
    return domain | {"vcpus": plain(VcpuCounters.of(vcpus))}


def _by_column(was: VcpuCounters, changes: list[Any]) -> list[Any]:
    """vCPU after vCPU, those that are reported -> column after column."""
    if changes and len(changes) == len(was.counts) and not was.errors_ns:
        width = len(was.counts) // len(was)
        return [count for number in range(width) for count in changes[number::width]]
    left = changes[::-1]
    rows = [
        [None if count is None else left.pop() for count in _ROW(vcpu)]
        for vcpu in (was if changes else ())
    ]
    if left:
        raise UnreadableError("counters of other vCPUs")
    return [count for column in zip(*rows, strict=True) for count in column if count is not None]
