"""A recording as a backend: the world as it was, in front of the loop as it is.

Problem: what would another policy, or another configuration, have decided? Approach: the unchanged
control loop is given recorded samples by a clock that the recording drives. The past cannot be
changed: a change that was made then, in the same cycle, is accepted and its result shows in the
samples that follow; any other is refused as a dry run, and is what the replay is about.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from vcpud.backend import Backend, BackendOptions
from vcpud.errors import UsageError, VcpudError
from vcpud.events import HostEvent
from vcpud.model import (
    Accepted,
    Change,
    DomainSample,
    Effect,
    HostSample,
    Reason,
    Refused,
    SetLive,
    SetOnline,
    Uuid,
)
from vcpud.ports import RESTORE_NS, Wake
from vcpud.record import CycleRecord
from vcpud.recording.files import CutError, Heading, Recording, found
from vcpud.requests import Request
from vcpud.terms import TermsBook, Wishes
from vcpud.units import NS_PER_S

_MAX_ROUNDS = 1_000_000
_SPEEDS = (0.001, 1_000_000.0)


class Tape:
    """Where a replay stands in its recording, which may be several files and many rounds."""

    def __init__(self, paths: Sequence[Path], *, rounds: int = 1) -> None:
        """Open the first file.

        Args:
            paths: Files, or folders of them.
            rounds: How often to tell it.

        Raises:
            VcpudError: It cannot be read.
        """
        self._paths = found(paths)
        self._rounds = rounds
        self._recording = Recording(self._paths[0])
        self.heading: Heading = self._recording.heading
        self._cycles = self._all()
        self._next = next(self._cycles, None)
        if self._next is None:
            raise VcpudError(f"{self._paths[0]}: {self.cut or 'no cycle was recorded'}")
        self.now_ns = self._next.began_ns
        self.current: CycleRecord = self._next
        self.cut: CutError | None
        self.ended = False

    def _all(self) -> Iterator[CycleRecord]:
        """Every cycle but those of a stop, after which a daemon knew nothing of what was before."""
        self.cut = None
        shift_ns = lives = 0
        for turn in range(self._rounds):
            began_ns = last_ns = None
            stopped = False
            for place, path in enumerate(self._paths):
                if turn or place:
                    self._recording.close()
                    self._recording = Recording(path)
                stopped = False
                for record in self._recording.cycles(shift_ns, f"+{lives}" if lives else ""):
                    if last_ns is not None and record.began_ns < last_ns:
                        raise UsageError(f"{path}: begins before the file named ahead of it ends")
                    began_ns = record.began_ns if began_ns is None else began_ns
                    last_ns = record.began_ns
                    stopped = record.stopping
                    if not stopped:
                        yield record
                lives += stopped
                self.cut = self.cut or self._recording.cut
            lives += not stopped  # a new round is a new life in any case
            if began_ns is not None and last_ns is not None:
                shift_ns += last_ns - began_ns + self.heading.period_ns

    def wind(self) -> bool:
        """On to the next cycle; False at the end, where time goes on and nothing else does."""
        if self._next is None:
            self.ended = True
            return False
        self.current = self._next
        self.now_ns = max(self.now_ns, self.current.began_ns)
        self._next = next(self._cycles, None)
        return True

    def close(self) -> None:
        """Let go of the file that is open."""
        self._recording.close()

    def next_at_ns(self) -> int | None:
        """When the next cycle began."""
        return None if self._next is None else self._next.began_ns


class ReplayClock:
    """The `Clock` port: each wait ends with the next recorded cycle, whenever that was.

    `speed` is recorded time per real time; None goes as fast as it can.
    """

    def __init__(
        self,
        tape: Tape,
        speed: float | None = None,
        sleep: Callable[[float], None] = time.sleep,
        real_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._tape = tape
        self._speed = speed
        self._sleep = sleep
        self._real_ns = real_ns
        self._began_ns = (real_ns(), tape.now_ns)

    def now_ns(self) -> int:
        return self._tape.now_ns

    def wait_until(self, deadline_ns: int) -> Wake:
        if self._tape.ended:
            self._tape.now_ns = max(self._tape.now_ns, deadline_ns)
            return Wake.TIMER
        at_ns = self._tape.next_at_ns()
        if at_ns is not None and self._speed is not None:
            real_ns, recorded_ns = self._began_ns
            passed_ns = self._real_ns() - real_ns
            left_ns = (at_ns - recorded_ns) / self._speed - passed_ns
            if left_ns > 0:
                self._sleep(left_ns / NS_PER_S)
        return Wake.EVENT if self._tape.wind() else Wake.STOP


class ReplayedHypervisor:
    """The `Hypervisor` port over a tape."""

    def __init__(self, tape: Tape, book: TermsBook | None) -> None:
        """Prepare.

        Args:
            tape: The recording.
            book: Terms that hold instead of the recorded ones, or None for those.
        """
        self._tape = tape
        self._terms = None if book is None else _Terms(book)
        self._after: dict[Uuid, Change] = {}
        self.restore_ns = RESTORE_NS

    def adopt(self, book: TermsBook) -> None:
        """Use these terms from the next sample on."""
        self._terms = _Terms(book)

    def sample(self) -> HostSample:
        record = self._tape.current
        self._tape.now_ns = max(self._tape.now_ns, record.ended_ns)
        sample = record.sample
        if self._terms is not None:
            sample = self._terms.applied(sample)
        if self._tape.ended and self._after:
            now_ns = self._tape.now_ns
            domains = tuple(
                _changed(one, self._after[one.uuid], now_ns) if one.uuid in self._after else one
                for one in sample.domains
            )
            sample = dataclasses.replace(sample, taken_at_ns=now_ns, domains=domains)
        return sample

    def begin(self, change: Change) -> Effect:
        if self._tape.ended:  # what was changed is given back, and only that can be seen
            self._after[change.uuid] = change
            return Accepted()
        for made in self._tape.current.changes:
            if made.change == change:
                return made.effect
        return Refused(Reason.DRY_RUN, "it was not done when this was recorded")

    def events(self) -> tuple[HostEvent, ...]:
        return () if self._tape.ended else self._tape.current.events


class _Terms:
    """Terms of a configuration in place of those recorded, by domain."""

    def __init__(self, book: TermsBook) -> None:
        self._book = book
        self._made: dict[int, tuple[DomainSample, DomainSample]] = {}

    def applied(self, sample: HostSample) -> HostSample:
        made = {}
        for domain in sample.domains:
            known = self._made.get(id(domain))
            made[id(domain)] = (
                known if known is not None and known[0] is domain else (domain, self._one(domain))
            )
        self._made = made  # a sample that did not change stays the same object
        return dataclasses.replace(sample, domains=tuple(one for _, one in made.values()))

    def _one(self, domain: DomainSample) -> DomainSample:
        recorded = domain.terms
        wishes = None
        if recorded.source == "metadata":
            wishes = Wishes(
                mode=recorded.mode,
                min_vcpus=recorded.min_vcpus,
                max_vcpus=recorded.max_vcpus,
            )
        terms = self._book.terms(domain.uuid, domain.name, wishes)
        return domain if terms == recorded else dataclasses.replace(domain, terms=terms)


def _changed(domain: DomainSample, change: Change, now_ns: int) -> DomainSample:
    match change:
        case SetOnline(online=online):
            return dataclasses.replace(
                domain, taken_at_ns=now_ns, online=online, online_taken_at_ns=now_ns
            )
        case SetLive(count=count):
            return dataclasses.replace(domain, taken_at_ns=now_ns, live_vcpus=count)
        case _:
            return dataclasses.replace(domain, taken_at_ns=now_ns, weight=change.weight)


class ReplayInbox:
    """The `Inbox` port: what operators asked then."""

    def __init__(self, tape: Tape) -> None:
        self._tape = tape

    def drain(self) -> tuple[Request, ...]:
        return () if self._tape.ended else self._tape.current.requests


# --------------------------------------------------------------------------------- the backend


@dataclass(frozen=True, slots=True)
class _ReplayBackend:
    hypervisor: ReplayedHypervisor
    clock: ReplayClock
    tape: Tape

    def adopt(self, terms: TermsBook) -> None:
        self.hypervisor.adopt(terms)

    def close(self) -> None:
        self.tape.close()


def open_backend(options: BackendOptions) -> Backend:
    """`--backend replay:FILE[,speed=X][,rounds=N]`.

    Raises:
        UsageError: The argument makes no sense.
        VcpudError: The recording cannot be read.
    """
    path, speed, rounds = _parsed(options.argument)
    tape = Tape([path], rounds=rounds)
    return _ReplayBackend(
        ReplayedHypervisor(tape, options.terms),
        ReplayClock(tape, speed),
        tape,
    )


def _parsed(argument: str) -> tuple[Path, float | None, int]:
    words = argument.split(",")
    speed: float | None = None
    rounds = 1
    try:
        while len(words) > 1:
            key, equals, value = words[-1].partition("=")
            if key == "speed" and equals:
                speed = float(value)
            elif key == "rounds" and equals:
                rounds = int(value)
            else:
                break
            words.pop()
    except ValueError as error:
        raise UsageError(f"replay: {words[-1]!r}: expected a number") from error
    if not words[0]:
        raise UsageError("replay: name a recording: replay:FILE[,speed=X][,rounds=N]")
    if speed is not None and not _SPEEDS[0] <= speed <= _SPEEDS[1]:
        raise UsageError(f"replay: speed must be {_SPEEDS[0]:g} to {_SPEEDS[1]:g}")
    if not 1 <= rounds <= _MAX_ROUNDS:
        raise UsageError(f"replay: rounds must be 1 to {_MAX_ROUNDS}")
    return Path(",".join(words)), speed, rounds
