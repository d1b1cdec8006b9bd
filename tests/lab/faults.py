"""Faults, each with its own check inside the guest.

Every fault starts from vcpud managing two guests that contend on a kernel lock and have been shrunk. What the guests'
kernels have online is read from their boards, never asked of vcpud or of the agent.
"""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import libvirt
from lab.arms import give_back, set_online
from lab.board import AGENT_OFF, AGENT_PID, OFFLINE_REFUSED, REBOOT_REQUEST, Kind, Order
from lab.managed import Vcpud
from lab.stage import say

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lab.domain import Guest
    from lab.stage import Stage

LOCKED = Order(kind=Kind.KERNEL_LOCK)
SHRUNK_S = 120.0
TERM_S = 10.0
QEMU_STOPPED_S = 60.0
PERIOD_S = 1.0
BOARD_S = 15.0
"""A collapsed guest writes to its board late; how long giving back took is judged apart."""


class FaultError(Exception):
    """A check failed; the message says which."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """How one fault went.

    Attributes:
        passed: Whether every check held.
        detail: What was seen, or which check failed.
    """

    passed: bool
    detail: str


def require(held: bool, what: str) -> None:
    """Raise ``FaultError`` saying ``what`` unless ``held``."""
    if not held:
        raise FaultError(what)


def wait(reached: Callable[[], bool], within_s: float, what: str) -> float:
    """Wait until ``reached``; returns the seconds it took, raises ``FaultError`` when it takes too long."""
    began_s = time.monotonic()
    while not reached():
        require(time.monotonic() - began_s < within_s, f"{what}: not within {within_s:g} s")
        time.sleep(0.05)
    return time.monotonic() - began_s


def full(guest: Guest) -> bool:
    """Whether a guest's kernel has every CPU online that it booted with."""
    return guest.board.online == guest.every_cpu


def shown(guests: Sequence[Guest]) -> str:
    """Return what guests have online, for people."""
    return ", ".join(f"{guest.name} {sorted(guest.board.online)}" for guest in guests)


def wait_until_shrunk(guests: Sequence[Guest], vcpud: Vcpud, within_s: float = SHRUNK_S) -> None:
    """Wait until vcpud has taken CPUs from each of ``guests``."""
    began_s = time.monotonic()
    while any(full(guest) for guest in guests):
        require(vcpud.alive, f"vcpud ended: {vcpud.last_words()}")
        require(
            time.monotonic() - began_s < within_s,
            f"vcpud has not shrunk every guest within {within_s:g} s: {shown(guests)}",
        )
        time.sleep(0.1)


def managing(stage: Stage, set_name: str = "pair") -> tuple[list[Guest], Vcpud]:
    """Have vcpud manage two lock-bound guests and have shrunk them; reuses one that does."""
    guests = stage.guests(set_name)
    vcpud = stage.paused_vcpud(guests)
    stage.give(guests, {guest.name: LOCKED for guest in guests})
    vcpud.resume()
    wait_until_shrunk(guests, vcpud)
    return guests, vcpud


def libvirtd_restart(stage: Stage) -> str:
    """The daemon under vcpud goes and comes back."""
    guests, vcpud = managing(stage)
    mark = vcpud.log_position()
    stage.bench.restart_libvirtd()
    vcpud.wait_for(
        lambda: bool(vcpud.named(["libvirt.connected"], mark)), 60.0, "a new connection"
    )
    require(
        bool(vcpud.named(["libvirt.disconnected"], mark)), "no libvirt.disconnected in the log"
    )
    vcpud.wait_for(
        lambda: vcpud.metrics("vcpud_libvirt_connected") == [1.0], 10.0, "vcpud_libvirt_connected"
    )
    require(vcpud.metrics("vcpud_libvirt_reconnects_total")[0] >= 1, "no reconnect was counted")
    give_back(guests, vcpud, stage.pace)
    return f"reconnected; given back afterwards: {shown(guests)}"


def agent_killed(stage: Stage) -> str:
    """One guest's agent dies while the guest is shrunk, and comes back later."""
    guests, vcpud = managing(stage)
    victim, other = guests
    mark = vcpud.log_position()
    victim.board.write(AGENT_OFF, 1)
    wait(lambda: victim.board.read(AGENT_PID) == 0, 10.0, "the agent's end")
    try:
        said = vcpud.wait_for(lambda: _mentions(vcpud, victim.name, mark), 30.0, "word of it")
        require(vcpud.alive, "vcpud ended")
        require(not full(other), "the other guest is not managed any more")
    finally:
        victim.board.write(AGENT_OFF, 0)
    wait(lambda: victim.board.read(AGENT_PID) != 0, 10.0, "the agent's return")
    give_back(guests, vcpud, stage.pace)
    return f"said so after {said:.1f} s; given back once it returned: {shown(guests)}"


def _mentions(vcpud: Vcpud, name: str, since: int) -> bool:
    """Whether the log has a line on a trouble with a domain."""
    words = ("domain.agent.down", "signal.hold", "vcpu.change.failed", "vcpu.change.refused")
    return any(
        entry.get("domain") == name
        and (entry.get("event") in words or str(entry.get("event", "")).startswith("domain."))
        for entry in vcpud.events(since)
    )


def qemu_stopped_60s(stage: Stage) -> str:
    """One QEMU process stops for a minute; the other domain must not notice.

    Not in the middle of a change: a guest that goes on with half of its CPUs, beside one that was given
    all of its back meanwhile, has collapsed, and its agent can be silent for longer than is waited here.
    """
    guests, vcpud = managing(stage)
    vcpud.wait_for(lambda: "changing" not in vcpud.phases(), 30.0, "end of the change")
    victim, other = guests
    pid = victim.pid()
    ages_s: list[float] = []
    quarantined = False
    os.kill(pid, signal.SIGSTOP)
    try:
        ends_s = time.monotonic() + QEMU_STOPPED_S
        while time.monotonic() < ends_s:
            time.sleep(PERIOD_S / 2)
            ages_s += _reading_age_s(vcpud, other.name)
            quarantined = _troubled(vcpud, victim.name)
    finally:
        os.kill(pid, signal.SIGCONT)
    require(vcpud.alive, "vcpud ended")
    seen = len(ages_s) * PERIOD_S / QEMU_STOPPED_S
    require(seen > 1.0, f"the metrics of {other.name} could be read only {len(ages_s)} times")
    require(quarantined, f"{victim.name} was not reported as quarantined or timed out at the end")
    recovered = wait(lambda: not _troubled(vcpud, victim.name), 90.0, f"recovery of {victim.name}")
    late = f"the other domain's readings were at most {max(ages_s):.1f} s old"
    require(max(ages_s) <= 2 * PERIOD_S, late)
    give_back(guests, vcpud, stage.pace)
    return f"{late}; recovered {recovered:.0f} s after SIGCONT; {shown(guests)}"


def _reading_age_s(vcpud: Vcpud, name: str) -> list[float]:
    """Return how old a domain's reading is now; empty when vcpud does not say.

    vcpud tells its age at the end of the last cycle and when that was: a loop that stands still
    must not look young.
    """
    ages = vcpud.metrics("vcpud_domain_sample_age_seconds", domain=name)
    cycles = vcpud.metrics("vcpud_last_successful_poll_timestamp_seconds")
    return [age + max(0.0, time.time() - at) for age, at in zip(ages, cycles, strict=False)]


def _troubled(vcpud: Vcpud, name: str) -> bool:
    return any(
        1.0 in vcpud.metrics(metric, domain=name)
        for metric in ("vcpud_domain_quarantined", "vcpud_domain_timed_out")
    )


def guest_rebooted(stage: Stage) -> str:
    """A shrunk guest reboots inside the same QEMU and comes back with every CPU."""
    guests, vcpud = managing(stage)
    victim = guests[0]
    boots = victim.board.boots
    mark = vcpud.log_position()
    victim.board.write(REBOOT_REQUEST, victim.board.read(REBOOT_REQUEST) + 1)
    victim.wait_until_booted(boots + 1)
    vcpud.wait_for(
        lambda: bool(vcpud.named(["domain.rebooted"], mark)), 30.0, "domain.rebooted in the log"
    )
    victim.wait_until_agent()
    wait_until_shrunk(guests, vcpud)
    give_back(guests, vcpud, stage.pace)
    return f"seen as a new incarnation and managed again; given back: {shown(guests)}"


def domain_destroyed_between_decision_and_change(stage: Stage) -> str:
    """A domain disappears after vcpud has decided on a change and before it is made."""
    stage.end_vcpud()
    guests = stage.guests("pair")
    survivor, victim = guests
    set_online(guests, {guest.name: guest.shape.vcpus for guest in guests})
    stage.give(guests, {guest.name: LOCKED for guest in guests})
    vcpud = stage.fresh_vcpud()
    mark = vcpud.log_position()
    uuid = victim.domain.UUIDString()
    began_s = time.monotonic()
    while not any(
        entry.get("domain") == victim.name for entry in vcpud.named(["vcpu.change"], mark)
    ):
        require(time.monotonic() - began_s < SHRUNK_S, f"no change of {victim.name} was decided")
        time.sleep(0.005)
    seen = "before the change" if full(victim) else "during the change"
    stage.bench.destroy(victim.name)
    wait_until_shrunk([survivor], vcpud)
    vcpud.wait_for(
        lambda: uuid not in {entry["uuid"] for entry in vcpud.status()["outstanding"]},
        30.0,
        "the end of the destroyed domain's ledger entry",
    )
    give_back([survivor], vcpud, stage.pace)
    return f"destroyed {seen}; the other was managed and given back: {shown([survivor])}"


def sigterm(stage: Stage) -> str:
    """SIGTERM gives everything back before the process ends."""
    guests, vcpud = managing(stage)
    before = shown(guests)
    began_s = time.monotonic()
    code = vcpud.stop(within_s=TERM_S + 5)
    took_s = time.monotonic() - began_s
    require(code == 0, f"exit code {code}: {vcpud.last_words()}")
    require(took_s <= TERM_S, f"took {took_s:.1f} s")
    wait(lambda: all(full(guest) for guest in guests), BOARD_S, "all CPUs online")
    require(bool(vcpud.named(["vcpud.stopped"])), "no vcpud.stopped in the log")
    return f"{took_s:.1f} s; from {before} to {shown(guests)}"


def sigkill_restore(stage: Stage) -> str:
    """After SIGKILL ``vcpud restore`` gives everything back."""
    guests, vcpud = managing(stage)
    vcpud.stop(signal.SIGKILL)
    before = shown(guests)
    require(not any(full(guest) for guest in guests), f"not shrunk when killed: {before}")
    began_s = time.monotonic()
    done = vcpud.command("restore")
    took_s = time.monotonic() - began_s
    require(done.returncode == 0, f"restore: {done.returncode}, {done.stderr.strip()}")
    wait(lambda: all(full(guest) for guest in guests), BOARD_S, "all CPUs online")
    return f"{took_s:.1f} s; from {before} to {shown(guests)}"


def ledger_disk_full(stage: Stage) -> str:
    """No room for the ledger: no change; room again: vcpud manages."""
    stage.end_vcpud()
    guests = stage.guests("pair")
    set_online(guests, {guest.name: guest.shape.vcpus for guest in guests})
    stage.give(guests, {guest.name: LOCKED for guest in guests})
    vcpud = stage.fresh_vcpud(small_disk=True)
    mark = vcpud.log_position()
    _fill(vcpud)
    changed = [entry for entry in vcpud.named(["vcpu.change"]) if entry.get("domain")]
    require(not changed, "vcpud changed a guest before the disk could be filled")
    vcpud.wait_for(
        lambda: bool(vcpud.named(["ledger.failed", "vcpu.change.refused"], mark)),
        SHRUNK_S,
        "word of the ledger in the log",
    )
    time.sleep(5.0)
    require(all(full(guest) for guest in guests), f"changed all the same: {shown(guests)}")
    errors = vcpud.metrics("vcpud_journal_write_errors_total")
    require(bool(errors) and errors[0] > 0, "vcpud_journal_write_errors_total did not rise")
    vcpud.filler().unlink()
    wait_until_shrunk(guests, vcpud)
    give_back(guests, vcpud, stage.pace)
    stage.end_vcpud()
    return f"no change while full ({errors[0]:g} failed writes), managed afterwards"


def _fill(vcpud: Vcpud) -> None:
    with vcpud.filler().open("wb", buffering=0) as stream:
        try:
            while True:
                stream.write(b"\0" * 512)
        except OSError:
            return


def unplug_timeout(stage: Stage) -> str:
    """An agent that may not set vCPUs and a kernel that refuses every eject."""
    stage.end_vcpud()
    guests = stage.guests("stubborn")
    willing, stubborn = guests
    set_online([willing], {willing.name: willing.shape.vcpus})
    stubborn.board.write(OFFLINE_REFUSED, 1)
    time.sleep(1.0)
    stage.give(guests, {guest.name: LOCKED for guest in guests})
    vcpud = stage.fresh_vcpud(libvirt_options={"unplug_emulated": True})
    try:
        vcpud.wait_for(
            lambda: any(
                entry.get("domain") == stubborn.name
                for entry in vcpud.named(["vcpu.change.failed", "domain.quarantined"])
            ),
            90.0,
            f"a failed change of {stubborn.name} in the log",
        )
        wait_until_shrunk([willing], vcpud)
        require(full(stubborn), f"{stubborn.name} lost a CPU: {shown([stubborn])}")
    finally:
        stubborn.board.write(OFFLINE_REFUSED, 0)
    code = vcpud.stop(within_s=TERM_S + 5)
    wait(lambda: all(full(guest) for guest in guests), 5.0, f"all online ({shown(guests)})")
    live = stubborn.domain.vcpusFlags(libvirt.VIR_DOMAIN_AFFECT_LIVE)
    require(live == stubborn.shape.vcpus, f"libvirt counts {live} vCPUs of {stubborn.name}")
    require(code == 0, f"exit code {code}: {vcpud.last_words()}")
    return f"failed visibly, the other was managed; all back: {shown(guests)}"


FAULTS: dict[str, Callable[[Stage], str]] = {
    "libvirtd_restart": libvirtd_restart,
    "agent_killed": agent_killed,
    "guest_rebooted": guest_rebooted,
    "qemu_stopped_60s": qemu_stopped_60s,
    "sigterm": sigterm,
    "sigkill_restore": sigkill_restore,
    "ledger_disk_full": ledger_disk_full,
    "domain_destroyed_between_decision_and_change": domain_destroyed_between_decision_and_change,
    "unplug_timeout": unplug_timeout,
}
"""In the order in which they are run: the first ones share a vcpud that lives on."""


def run_fault(stage: Stage, name: str, check: Callable[[Stage], str]) -> Finding:
    """Run one fault; whatever goes wrong, the next one can be run after it."""
    began_s = time.monotonic()
    try:
        finding = Finding(passed=True, detail=check(stage))
    except FaultError as error:
        finding = Finding(passed=False, detail=str(error))
    except Exception as error:  # noqa: BLE001  a broken check is a failed fault, not a lost run
        finding = Finding(passed=False, detail=f"{type(error).__name__}: {error}")
    if not finding.passed:
        stage.keep_logs(name)
        stage.end_vcpud()  # the next one starts anew
    took_s = time.monotonic() - began_s
    say(f"  {'pass' if finding.passed else 'FAIL':<5} {name} ({took_s:.0f} s): {finding.detail}")
    return finding
