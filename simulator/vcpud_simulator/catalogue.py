"""Names, as scenarios write them, and what they stand for: one line each.

A new scheduler, workload or kind of lock becomes known to scenarios, commands and studies here and
nowhere else. The fields of a workload's dataclass are its keys in a scenario.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

from vcpud_simulator.entities import Scheduler
from vcpud_simulator.guest.locks import (
    ParavirtualLock,
    PreemptableLock,
    QueuedLock,
    Spinlock,
    UnfairLock,
)
from vcpud_simulator.schedulers.cfs import Cfs
from vcpud_simulator.schedulers.credit import Credit
from vcpud_simulator.schedulers.credit2 import Credit2
from vcpud_simulator.schedulers.credit_xen32 import CreditXen32
from vcpud_simulator.schedulers.eevdf import Eevdf
from vcpud_simulator.schedulers.esx_relaxed import EsxRelaxed3, EsxRelaxed4
from vcpud_simulator.schedulers.esx_strict import EsxStrict
from vcpud_simulator.schedulers.round_robin import RoundRobin
from vcpud_simulator.workloads.ammp import AmmpLike
from vcpud_simulator.workloads.base import Workload
from vcpud_simulator.workloads.bursty import Bursty
from vcpud_simulator.workloads.database import Database
from vcpud_simulator.workloads.descriptors import Descriptors
from vcpud_simulator.workloads.files import Files
from vcpud_simulator.workloads.gobmk import GobmkLike
from vcpud_simulator.workloads.hackbench import HackbenchLike
from vcpud_simulator.workloads.kernbench import KernbenchLike
from vcpud_simulator.workloads.noise import Idle, Noise
from vcpud_simulator.workloads.phased import Phased
from vcpud_simulator.workloads.rogue import Rogue
from vcpud_simulator.workloads.schbench import Schbench
from vcpud_simulator.workloads.web import WebServer

SCHEDULERS: Final[Mapping[str, Callable[..., Scheduler]]] = {
    "credit_xen32": CreditXen32,
    "credit": Credit,
    "credit2": Credit2,
    "esx_strict": EsxStrict,
    "esx_relaxed_3x": EsxRelaxed3,
    "esx_relaxed": EsxRelaxed4,
    "cfs": partial(Cfs, groups=False),
    "cfs_groups": Cfs,
    "cfs_balance": partial(Cfs, siblings_apart=True),
    "eevdf": partial(Eevdf, groups=False),
    "eevdf_groups": Eevdf,
    "round_robin": RoundRobin,
}

WORKLOADS: Final[Mapping[str, type[Workload]]] = {
    "ammp": AmmpLike,
    "bursty": Bursty,
    "database": Database,
    "descriptors": Descriptors,
    "files": Files,
    "gobmk": GobmkLike,
    "hackbench": HackbenchLike,
    "kernbench": KernbenchLike,
    "idle": Idle,
    "noise": Noise,
    "phased": Phased,
    "rogue": Rogue,
    "schbench": Schbench,
    "web": WebServer,
}

LOCKS: Final[Mapping[str, type[Spinlock]]] = {
    "queued": QueuedLock,
    "unfair": UnfairLock,
    "preemptable": PreemptableLock,
    "paravirtual": ParavirtualLock,
}
