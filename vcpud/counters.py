"""Host-side counters of a domain's vCPUs, column after column.

Problem: every cycle sums, differences and writes down some five counters of each vCPU of each
domain; an object per vCPU costs more to make than all that is done with it. Approach: one flat
tuple a domain, over which C goes in one call; who looks at a single vCPU is given an object then.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from vcpud.swift import maker

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

Column: TypeAlias = tuple[int | None, ...]
"""One counter of every vCPU."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VcpuSample:
    """Host-side counters of one vCPU.

    Attributes:
        index: libvirt's vCPU id; ids may be sparse.
        run_ns: Time on a pCPU, 10 ms granularity on KVM (`vcpu.N.time`).
        run_delay_ns: Time runnable but not on a pCPU (`vcpu.N.delay`); what the guest calls steal.
        halt_poll_ns: Part of run_ns burnt by halt polling while the guest was idle.
        preemptions: Times the host took the pCPU away (`preemption_reported + _other`).
        directed_yields: Yield hypercalls attempted; a *proxy* for lock and IPI waits.
        run_delay_error_ns: Standard error of run_delay_ns where that is estimated (Xen), None where
            it is counted. Errors add in squares, so that of the difference of two samples is
            the square root of the difference of their squares.
    """

    index: int
    run_ns: int | None
    run_delay_ns: int | None
    halt_poll_ns: int | None = None
    preemptions: int | None = None
    directed_yields: int | None = None
    run_delay_error_ns: int | None = None


COUNTERS: Final = ("run_ns", "run_delay_ns", "halt_poll_ns", "preemptions", "directed_yields")
"""The columns, in their order."""
_RUN, _DELAY, _HALT_POLL, _PREEMPTIONS, _YIELDS = range(len(COUNTERS))
_ROW = attrgetter(*COUNTERS)


@dataclass(frozen=True, slots=True, kw_only=True)
class VcpuCounters:
    """The counters of all vCPUs of a domain; a sequence of `VcpuSample` to who wants one.

    Attributes:
        indices: libvirt's vCPU ids, ascending.
        counts: A column for each of `COUNTERS`, one behind the other, each as long as `indices`;
            those at the end that no vCPU reports are left out.
        errors_ns: `run_delay_error_ns` of each vCPU, empty where none is estimated.
    """

    indices: tuple[int, ...] = ()
    counts: Column = ()
    errors_ns: Column = ()

    @classmethod
    def of(cls, vcpus: Iterable[VcpuSample]) -> VcpuCounters:
        """Those of these vCPUs."""
        vcpus = tuple(vcpus)
        errors_ns = tuple([vcpu.run_delay_error_ns for vcpu in vcpus])
        return cls.of_columns(
            tuple([vcpu.index for vcpu in vcpus]),
            list(zip(*map(_ROW, vcpus), strict=True)),
            errors_ns,
        )

    @classmethod
    def of_columns(
        cls, indices: tuple[int, ...], columns: list[Column], errors_ns: Column = ()
    ) -> VcpuCounters:
        """Those in these columns, the first of `COUNTERS` and as many as there are."""
        while columns and not any(count is not None for count in columns[-1]):
            columns = columns[:-1]
        estimated = any(error_ns is not None for error_ns in errors_ns)
        counts = tuple(chain.from_iterable(columns))
        return make_counters(indices, counts, errors_ns if estimated else ())

    def __len__(self) -> int:
        return len(self.indices)

    def __iter__(self) -> Iterator[VcpuSample]:
        columns = map(self._column, range(len(COUNTERS)))
        return map(_make_vcpu, self.indices, *columns, self.errors_ns or self._nothing)

    def __getitem__(self, place: int) -> VcpuSample:
        return tuple(self)[place]

    @property
    def run_ns(self) -> Column:
        return self._column(_RUN)

    @property
    def run_delay_ns(self) -> Column:
        return self._column(_DELAY)

    @property
    def yields(self) -> int | None:
        """Directed yields of all vCPUs that tell theirs, None where none does."""
        width = len(self.indices)
        counts: tuple[Any, ...] = self.counts[width * _YIELDS :]
        try:
            found: int | None = sum(counts) if counts else None
        except TypeError:  # a None among them
            found = sum([count for count in counts if count is not None])
        return found

    @property
    def _nothing(self) -> Column:
        return (None,) * len(self.indices)

    def _column(self, number: int) -> Column:
        width = len(self.indices)
        return self.counts[width * number : width * (number + 1)] or self._nothing

    def totals(self) -> tuple[int | None, int | None]:
        """Run time and run delay of all vCPUs together, each None where one does not tell it."""
        width = len(self.indices)
        counts: tuple[Any, ...] = self.counts
        if 0 < 2 * width <= len(counts):
            try:
                return sum(counts[:width]), sum(counts[width : 2 * width])
            except TypeError:
                pass  # some vCPU does not tell
        return _total(self.run_ns), _total(self.run_delay_ns)


def _total(column: Column) -> int | None:
    known = [count for count in column if count is not None]
    return sum(known) if 0 < len(known) == len(column) else None


make_counters = maker(VcpuCounters)
"""A constructor by position, for who makes many."""
_make_vcpu = maker(VcpuSample)
NO_COUNTERS: Final = VcpuCounters()
