"""Jobs on guests that vcpud has shrunk: migrations, saves and dumps, announced to it or not.

The other host is another libvirtd on this one, with a name, an identity and a vcpud of its own; guests travel over a
unix socket. What is online in a guest is read from its board, which travels with it.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from typing import TYPE_CHECKING, Final, Self

import libvirt
from lab.arms import give_back
from lab.bench import write_note
from lab.daemon import PrivateLibvirt
from lab.faults import BOARD_S, full, managing, require, shown, wait, wait_until_shrunk
from lab.managed import Vcpud

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from lab.domain import Guest
    from lab.stage import Stage

SLOW_MIB_S: Final = 1
"""A guest of 256 MiB then takes minutes: long enough to see what happens meanwhile."""
FAST_MIB_S: Final = 4096
AT_ONCE_S: Final = 15.0
"""A job is noticed within 5 s; a collapsed guest's agent needs some more."""
AGAIN_S: Final = 150.0
"""How long a guest may go on at full width after a job: what its agent may cost was spent by the changes before."""
MOVE_S: Final = 60.0
LIMIT_S: Final = 900.0
PART_S: Final = 120.0
_FLAGS: Final = (
    libvirt.VIR_MIGRATE_LIVE
    | libvirt.VIR_MIGRATE_PERSIST_DEST
    | libvirt.VIR_MIGRATE_UNDEFINE_SOURCE
)


class Elsewhere:
    """Another host, in libvirt's eyes."""

    def __init__(self, stage: Stage) -> None:
        """Start its libvirtd."""
        self.lab = PrivateLibvirt(stage.bench.image, apart=True)
        write_note(self.lab, {})
        self._stage = stage
        self._vcpuds: list[Vcpud] = []
        self.connection = self.lab.connect()

    def __enter__(self) -> Self:
        """Return it."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End what has come here, libvirtd, and remove what they left."""
        for vcpud in self._vcpuds:
            vcpud.end()
        with contextlib.suppress(libvirt.libvirtError):
            here = {domain.name() for domain in self.connection.listAllDomains()}
            for name in here & set(self._stage.bench.guests):
                self._stage.bench.guests[name].rebind(self.connection)
                self._stage.bench.destroy(name)
            self.connection.close()
        self.lab.stop()
        self.lab.remove()

    def vcpud(self) -> Vcpud:
        """Start a vcpud here."""
        vcpud = Vcpud(self.lab, "vcpud")
        self._vcpuds.append(vcpud)
        vcpud.start()
        return vcpud


class Move:
    """A live migration, under way from construction on."""

    def __init__(self, guest: Guest, there: Elsewhere, mib_s: int) -> None:
        """Begin it at so many MiB per second."""
        self._guest = guest
        self._there = there
        self._mib_s = mib_s
        self._error: libvirt.libvirtError | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        socket = self._there.lab.folders["run"] / "guest"
        words = {
            libvirt.VIR_MIGRATE_PARAM_URI: f"unix://{socket}",
            libvirt.VIR_MIGRATE_PARAM_BANDWIDTH: self._mib_s,
        }
        try:
            self._guest.domain.migrate3(self._there.connection, words, _FLAGS)  # type: ignore[arg-type]  # the stub says text
        except libvirt.libvirtError as error:
            self._error = error

    @property
    def running(self) -> bool:
        """Whether it is still under way."""
        return self._thread.is_alive()

    def hurry(self) -> None:
        """Let it take all the bandwidth there is."""
        self._guest.domain.migrateSetMaxSpeed(FAST_MIB_S)

    def arrive(self) -> None:
        """Wait for its end, and see the guest as what it is there.

        Raises:
            FaultError: It has failed, or takes too long.
        """
        self._thread.join(MOVE_S)
        require(not self.running, f"the migration is not over after {MOVE_S:g} s")
        require(self._error is None, f"the migration has failed: {self._error}")
        self._guest.rebind(self._there.connection)

    def call_off(self) -> None:
        """Abort it and wait for its end.

        Raises:
            FaultError: It was over before, or does not end.
        """
        self._guest.domain.abortJob()
        self._thread.join(MOVE_S)
        require(self._error is not None, "the migration was over before it was called off")


def _managing_anew(stage: Stage) -> tuple[list[Guest], Vcpud]:
    """Have a new vcpud manage two lock-bound guests: changes in quick succession spend what an agent may cost."""
    stage.end_vcpud()
    return managing(stage)


def job_appears(stage: Stage) -> str:
    """A migration begins that nobody has announced, and is called off."""
    guests, vcpud = _managing_anew(stage)
    victim, other = guests
    mark = vcpud.log_position()
    with Elsewhere(stage) as there:
        move = Move(victim, there, SLOW_MIB_S)
        took_s = wait(lambda: full(victim), AT_ONCE_S, f"all of {victim.name} under its job")
        require(move.running, "the migration was over before anything was given back")
        require(not full(other), f"{other.name} was given back as well")
        move.call_off()
    vcpud.wait_for(
        lambda: bool(vcpud.named(["domain.job.ended"], mark)),
        30.0,
        "the end of the job in the log",
    )
    require(bool(vcpud.named(["domain.job.begun"], mark)), "no domain.job.begun in the log")
    wait_until_shrunk(guests, vcpud, AGAIN_S)
    give_back(guests, vcpud)
    return f"all online {took_s:.1f} s after it began; called off, managed again, given back"


def migrated_live(stage: Stage) -> str:
    """A shrunk guest leaves for another vcpud: it is whole when it goes, and managed there."""
    guests, vcpud = _managing_anew(stage)
    victim, other = guests
    uuid = victim.domain.UUIDString()
    with Elsewhere(stage) as there:
        receiver = there.vcpud()
        move = Move(victim, there, SLOW_MIB_S)
        took_s = wait(lambda: full(victim), AT_ONCE_S, f"all of {victim.name} under its job")
        move.hurry()
        move.arrive()
        vcpud.wait_for(lambda: not _owes(vcpud, uuid), 30.0, "the end of what was owed here")
        wait_until_shrunk([victim], receiver, AGAIN_S)
        require(receiver.stop() == 0, f"the other vcpud's stop: {receiver.last_words()}")
        wait(lambda: full(victim), BOARD_S, f"all of {victim.name} after that stop")
        require(vcpud.alive, "vcpud ended")
    wait_until_shrunk([other], vcpud, AGAIN_S)
    give_back([other], vcpud)
    return (
        f"all online {took_s:.1f} s after it began; managed and given back there; {shown([other])}"
    )


def _owes(vcpud: Vcpud, uuid: str) -> bool:
    return uuid in {entry["uuid"] for entry in vcpud.status()["outstanding"]}


def arrives_shrunk(stage: Stage) -> str:
    """A guest leaves shrunk, because its vcpud was killed: the one where it arrives gives back."""
    guests, vcpud = _managing_anew(stage)
    victim, other = guests
    vcpud.stop(signal.SIGKILL)
    with Elsewhere(stage) as there:
        receiver = there.vcpud()
        before = shown([victim])
        require(not full(victim), f"not shrunk when it left: {before}")
        Move(victim, there, FAST_MIB_S).arrive()
        receiver.wait_for(
            lambda: bool(receiver.named(["domain.received"])), 30.0, "domain.received in the log"
        )
        took_s = wait(lambda: full(victim), AT_ONCE_S, f"all of {victim.name} where it arrived")
        require(receiver.stop() == 0, f"the other vcpud's stop: {receiver.last_words()}")
    done = vcpud.command("restore")
    require(done.returncode == 0, f"restore: {done.returncode}, {done.stderr.strip()}")
    wait(lambda: full(other), BOARD_S, f"all of {other.name} after a restore")
    return f"left as {before}, whole {took_s:.1f} s after its note was read"


def release_then_save(stage: Stage) -> str:
    """A guest is released, saved, and restored."""
    guests, vcpud = _managing_anew(stage)
    victim, other = guests
    boots = victim.board.boots
    vcpud.told("release", victim.name, "--wait", "--for", "10m")
    wait(lambda: full(victim), BOARD_S, f"all of {victim.name} once released")
    _saved_and_restored(victim)
    require(full(victim), f"restored as {shown([victim])}")
    require(victim.board.boots == boots, "it was booted, not restored")
    require(vcpud.alive, "vcpud ended")
    wait_until_shrunk([other], vcpud, AGAIN_S)
    give_back(guests, vcpud)
    return f"saved whole, restored whole; {shown(guests)}"


def saved_shrunk(stage: Stage) -> str:
    """A guest is saved unannounced, which stops it at once; vcpud gives back once it is restored."""
    guests, vcpud = _managing_anew(stage)
    victim, _ = guests
    mark = vcpud.log_position()
    before = shown([victim])
    _saved_and_restored(victim)
    vcpud.wait_for(
        lambda: bool(vcpud.named(["domain.received"], mark)), 30.0, "domain.received in the log"
    )
    took_s = wait(lambda: full(victim), AT_ONCE_S, f"all of {victim.name} once restored")
    wait_until_shrunk(guests, vcpud, AGAIN_S)
    give_back(guests, vcpud)
    return f"saved as {before}, whole {took_s:.1f} s after its note was read, managed again"


def _saved_and_restored(guest: Guest) -> None:
    guest.domain.managedSave()
    ticks = guest.board.ticks
    guest.domain.create()
    wait(lambda: guest.board.ticks > ticks, BOARD_S, f"a sign of life of {guest.name}")


def dump_appears(stage: Stage) -> str:
    """A shrunk guest's memory is dumped, which stops it for a moment; nothing is lost."""
    guests, vcpud = _managing_anew(stage)
    victim, _ = guests
    path = stage.bench.lab.folders["data"] / "dump"
    form = libvirt.VIR_DOMAIN_CORE_DUMP_FORMAT_RAW
    victim.domain.coreDumpWithFormat(str(path), form, libvirt.VIR_DUMP_MEMORY_ONLY)
    size_mib = path.stat().st_size >> 20
    path.unlink()
    require(size_mib > 0, "nothing was dumped")
    require(vcpud.alive, "vcpud ended")
    wait_until_shrunk(guests, vcpud, AGAIN_S)
    give_back(guests, vcpud)
    return f"{size_mib} MiB dumped; managed all the same, given back: {shown(guests)}"


JOBS: dict[str, Callable[[Stage], str]] = {
    "job_appears": job_appears,
    "release_then_save": release_then_save,
    "saved_shrunk": saved_shrunk,
    "dump_appears": dump_appears,
    "migrated_live": migrated_live,
    "arrives_shrunk": arrives_shrunk,
}
"""In the order in which they are run: the first ones share their guests."""
