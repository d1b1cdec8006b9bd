"""Guests to work with by hand: brought up, loaded, and left running until the command is interrupted."""

from __future__ import annotations

import shlex
import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from lab.bench import Bench, notes
from lab.board import Board, Kind, Order
from lab.domain import Shape

if TYPE_CHECKING:
    import argparse

    from lab.domain import Guest

_REPORT_S = 5.0


def _order(options: argparse.Namespace) -> Order:
    return Order(
        kind=Kind[options.workload.upper()],
        threads=options.threads or options.vcpus,
        grain=options.grain,
        pause=options.pause,
        lock_rounds=options.lock_rounds,
    )


def _instructions(bench: Bench) -> str:
    lab = bench.lab
    variables = " ".join(f"{name}={shlex.quote(value)}" for name, value in lab.environment.items())
    runs_as = (
        f"as user {lab.account.uid} (this command runs as root)" if lab.account.drop else "as you"
    )
    return (
        f"guests:      {' '.join(bench.guests)}\n"
        f"uri:         {lab.uri}\n"
        f"             read-only and read-write, for root and for the daemon's user alike\n"
        f"virsh:       virsh -c '{lab.uri}' list\n"
        f"environment: {variables}\n"
        f"             in which qemu:///session reaches the same libvirtd, {runs_as}\n"
        f"scratch:     {lab.root} (consoles and libvirtd's log under log/)\n"
        f"orders:      python -m lab order --workload independent [--domain NAME]\n"
        f"end:         Ctrl-C, SIGTERM, or: python -m lab down"
    )


def up(options: argparse.Namespace) -> int:
    """Bring guests up with a workload and report their rates until SIGINT or SIGTERM."""
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    shapes = [
        Shape(
            name=f"lab{number}",
            vcpus=options.vcpus,
            fifo_locks=not options.tas,
            agent=not options.no_agent,
        )
        for number in range(1, options.domains + 1)
    ]
    with Bench() as bench:
        guests = bench.start(shapes)
        for guest in guests:
            guest.board.give(_order(options))
        print(_instructions(bench), flush=True)
        _report(guests, stop)
    return 0


def _report(guests: list[Guest], stop: threading.Event) -> None:
    before = {guest.name: guest.board.progress() for guest in guests}
    while not stop.wait(_REPORT_S):
        parts = []
        for guest in guests:
            now, then = guest.board.progress(), before[guest.name]
            rate = (now.iterations - then.iterations) / (now.taken_at_ns - then.taken_at_ns) * 1e9
            before[guest.name] = now
            parts.append(f"{guest.name} {rate:,.1f} it/s on CPUs {sorted(guest.board.online)}")
        print("; ".join(parts), flush=True)


def order(options: argparse.Namespace) -> int:
    """Give guests that are up another workload."""
    given = 0
    for _, note in notes():
        boards = note["boards"]
        assert isinstance(boards, dict)
        for name, path in boards.items():
            if options.domain in (None, name):
                Board(Path(path)).give(_order(options))
                given += 1
    print(f"{given} guests have the new order")
    return 0 if given else 1
