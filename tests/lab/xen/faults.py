"""Faults on Xen: those of the lab that its hypervisor has too, and guests that do not do what Xen asks of them."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from lab import faults
from lab.arms import give_back, set_online
from lab.board import OFFLINE_REFUSED, Kind, Order
from lab.faults import BOARD_S, full, managing, require, shown, wait, wait_until_shrunk
from lab.xen.domain import PAIR
from lab.xen.service import restored_by_hand
from lab.xen.toolstack import tool

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from lab.domain import Guest
    from lab.managed import Vcpud
    from lab.xen.stage import XenStage

LOCKED: Final = Order(kind=Kind.KERNEL_LOCK)
DEFAULT_WEIGHT: Final = 256
FOUND_OUT_S: Final = 240.0
RESTORED_S: Final = 90.0
TERM_S: Final = 40.0
"""What vcpud allows itself for a stop on Xen."""
WATCHED_S: Final = 45.0
XENSTORED_PID: Final = Path("/run/xenstore.pid")
XENSTORED_STOPPED_S: Final = 40.0
"""Longer than the watchdog of vcpud's unit: a loop that waits for xenstored would be killed."""
UDEV_RULE: Final = "80-vcpud-xen-cpu.rules"
_TROUBLES: Final = (
    "vcpu.change.failed",
    "vcpu.change.refused",
    "vcpu.restore.failed",
    "domain.quarantined",
)


def _words(vcpud: Vcpud, name: str) -> str:
    """Return what vcpud has said of the trouble with a domain."""
    return " ".join(
        json.dumps(entry) for entry in vcpud.named(_TROUBLES) if entry.get("domain") == name
    )


def _quarantined(vcpud: Vcpud, name: str, word: str) -> str:
    """Wait until vcpud has quarantined a domain for this reason; returns its explanation."""
    began_s = time.monotonic()
    while True:
        details = [
            str(entry.get("detail", ""))
            for entry in vcpud.named(["domain.quarantined"])
            if entry.get("domain") == name
        ]
        said = next((detail for detail in details if word in detail), None)
        if said is not None:
            return said
        require(vcpud.alive, f"vcpud ended: {vcpud.last_words()}")
        require(
            time.monotonic() - began_s < FOUND_OUT_S,
            f"{name} not quarantined for {word!r}: {_words(vcpud, name) or 'not a word'}",
        )
        time.sleep(0.5)


def _locked(stage: XenStage, set_name: str) -> tuple[list[Guest], Vcpud]:
    """Start vcpud into guests that all contend on a kernel lock."""
    stage.end_vcpud()
    guests = stage.guests(set_name)
    set_online(guests, {guest.name: guest.shape.vcpus for guest in guests})
    stage.give(guests, {guest.name: LOCKED for guest in guests})
    return guests, stage.fresh_vcpud()


def sigterm(stage: XenStage) -> str:
    """SIGTERM, perhaps in mid-change, gives everything back before the daemon ends."""
    guests, vcpud = managing(stage)
    before = shown(guests)
    began_s = time.monotonic()
    code = vcpud.stop()
    took_s = time.monotonic() - began_s
    require(code == 0, f"exit code {code}: {vcpud.last_words()}")
    require(took_s <= TERM_S, f"took {took_s:.1f} s")
    wait(lambda: all(full(guest) for guest in guests), BOARD_S, "all CPUs online")
    require(bool(vcpud.named(["vcpud.stopped"])), "no vcpud.stopped in the log")
    return f"{took_s:.1f} s; from {before} to {shown(guests)}"


def sigkill_restore(stage: XenStage) -> str:
    """After SIGKILL ``vcpud restore`` gives everything back, by hand."""
    with restored_by_hand():
        return faults.sigkill_restore(stage)


def xenstored_restart(stage: XenStage) -> str:
    """xenstored begins anew under everybody, in the only way it can: a live update takes its state along."""
    guests, vcpud = managing(stage)
    running = Path("/proc") / XENSTORED_PID.read_text().strip()
    program = (running / "exe").readlink()
    tool(str(program.with_name("xenstore-control")), "live-update", str(program))
    began = (running / "cmdline").read_text().replace("\0", " ").strip()
    require("--live" in began, f"it was not restarted: {began}")
    before = shown(guests)
    give_back(guests, vcpud, stage.pace)
    return f"{began}; given back afterwards: from {before} to {shown(guests)}"


def xenstored_stopped(stage: XenStage) -> str:
    """xenstored answers nobody for a while."""
    guests, vcpud = managing(stage)
    pid = int(XENSTORED_PID.read_text())
    os.kill(pid, signal.SIGSTOP)
    try:
        ends_s = time.monotonic() + XENSTORED_STOPPED_S
        while time.monotonic() < ends_s:
            require(vcpud.alive, f"vcpud ended: {vcpud.last_words()}")
            time.sleep(0.5)
    finally:
        os.kill(pid, signal.SIGCONT)
    before = shown(guests)
    give_back(guests, vcpud, stage.pace)
    return f"stopped for {XENSTORED_STOPPED_S:g} s; given back afterwards: from {before} to {shown(guests)}"


def request_ignored(stage: XenStage) -> str:
    """A guest whose kernel takes no CPU offline: quarantined, and it keeps them all."""
    guests = stage.guests("pair")
    willing, deaf = guests
    deaf.board.write(OFFLINE_REFUSED, 1)
    time.sleep(2.0)
    try:
        guests, vcpud = _locked(stage, "pair")
        said = _quarantined(vcpud, deaf.name, "does not follow")
        wait_until_shrunk([willing], vcpud)
        require(full(deaf), f"{deaf.name} lost a CPU: {shown([deaf])}")
    finally:
        deaf.board.write(OFFLINE_REFUSED, 0)
    give_back(guests, vcpud, stage.pace)
    return f"{said}; the other was managed; all back: {shown(guests)}"


def udev_missing(stage: XenStage) -> str:
    """A guest that does not bring added CPUs online: quarantined by name, and it stays owed and is asked on."""
    guests, vcpud = _locked(stage, "no_udev")
    willing, bare = guests
    wait_until_shrunk([willing, bare], vcpud)
    vcpud.pause()
    said = _quarantined(vcpud, bare.name, UDEV_RULE)
    (domain,) = (one for one in vcpud.status()["domains"] if one["name"] == bare.name)
    require(domain["phase"] == "quarantined", f"its phase is {domain['phase']}")
    gauge = vcpud.metrics("vcpud_domain_quarantined", domain=bare.name, reason="failed")
    require(gauge == [1.0], f"vcpud_domain_quarantined is {gauge}")
    explained = vcpud.told("explain", bare.name)
    require(UDEV_RULE in explained, f"not explained: {explained[-600:]}")
    asked = len(_asked(vcpud, bare.name))
    wait(lambda: len(_asked(vcpud, bare.name)) > asked, RESTORED_S, f"{bare.name} asked again")
    wait(lambda: full(willing), RESTORED_S, f"{willing.name} given back")
    owed = {entry["name"] for entry in vcpud.status()["outstanding"]}
    require(owed == {bare.name}, f"owed are {sorted(owed)}, not only {bare.name}")
    stage.end_vcpud()
    stage.bench.destroy(bare.name)
    return f"{said}; the other was given back: {shown([willing])}"


def _asked(vcpud: Vcpud, name: str) -> list[object]:
    """What vcpud has asked of a domain so far."""
    return [entry for entry in vcpud.named(["vcpu.change"]) if entry.get("domain") == name]


def refused_above_host(stage: XenStage) -> str:
    """Without ``ignore_host`` a domain wider than the host is never shrunk: it could not be grown again."""
    stage.ignore_host = False
    try:
        guests, vcpud = _locked(stage, "pair")
        ends_s = time.monotonic() + WATCHED_S
        while time.monotonic() < ends_s:
            require(vcpud.alive, f"vcpud ended: {vcpud.last_words()}")
            require(all(full(guest) for guest in guests), f"shrunk: {shown(guests)}")
            time.sleep(0.5)
        words = _words(vcpud, guests[0].name) + vcpud.told("explain", guests[0].name)
        require("ignore_host" in words, f"nothing said of ignore_host: {words[-600:]}")
    finally:
        stage.ignore_host = True
        stage.end_vcpud()
    return f"said why, and changed nothing for {WATCHED_S:g} s: {shown(guests)}"


def _weight(guest: Guest) -> int:
    parameters: Any = guest.domain.schedulerParameters()  # annotated wrongly upstream
    return int(parameters["weight"])


def _weights_kept(check: Callable[[XenStage], str]) -> Callable[[XenStage], str]:
    """Return ``check`` with one thing more to hold: every domain has the weight it was created with."""

    def checked(stage: XenStage) -> str:
        said = check(stage)
        guests = stage.bench.guests.values()
        wait(
            lambda: all(_weight(guest) == DEFAULT_WEIGHT for guest in guests),
            RESTORED_S,
            "all weights back",
        )
        return said

    return checked


SETS: Final = {
    "no_udev": (PAIR[0], dataclasses.replace(PAIR[1], name="bare", udev=False)),
}
CHECKS: Final[Mapping[str, Callable[[XenStage], str]]] = {
    "sigkill_restore": _weights_kept(sigkill_restore),
    "sigterm": _weights_kept(sigterm),
    "libvirtd_restart": _weights_kept(faults.libvirtd_restart),
    "xenstored_restart": _weights_kept(xenstored_restart),
    "xenstored_stopped": _weights_kept(xenstored_stopped),
    "request_ignored": request_ignored,
    "refused_above_host": refused_above_host,
    "domain_destroyed_between_decision_and_change": (
        faults.domain_destroyed_between_decision_and_change
    ),
    "udev_missing": udev_missing,
}
"""In the order in which they are run: to boot a guest takes a minute, so those that lose one come last."""
NEEDS_S: Final[Mapping[str, float]] = {
    "sigkill_restore": 60.0,
    "sigterm": 60.0,
    "libvirtd_restart": 90.0,
    "xenstored_restart": 60.0,
    "xenstored_stopped": 110.0,
    "request_ignored": 130.0,
    "refused_above_host": 90.0,
    "domain_destroyed_between_decision_and_change": 90.0,
    "udev_missing": 280.0,
}
QUICK: Final = ("sigterm",)
