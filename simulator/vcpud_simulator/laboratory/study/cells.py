"""The cells of the study: which domains run what on which hypervisor.

Problem: the grid has some 1,500 cells; it must be clear what each is, which were never possible
with the product they are named after, and which are one and the same run.

Approach: a cell is a value. Every domain of a host has the same width and job. `same_run` maps a
cell to one that is physically the same: a team of one never waits, a domain of one vCPU has no
sibling to be co-scheduled with, and relaxed co-scheduling differs from strict only where pCPUs are
short.

References: G. Southern, "Symmetric Multiprocessing Virtualization", MSc thesis, George Mason
University, 2008, whose comparison is repeated; docs/study.md says what was chosen.

Pure.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

REPORTER: Final = "xen-reporter"
HOST_ONLY: Final = "xen"
KVM_PERF: Final = "kvm-perf"

PCPUS: Final = 8
ESX3_VCPUS: Final = 4
"""The widest domain of ESX 3.x (vSphere 4 allowed 8)."""
ESX2_VCPUS: Final = 2
"""The widest domain of ESX 2.x, whose co-scheduling was the strict one."""


class System(StrEnum):
    """Who schedules."""

    BARE = "bare"
    XEN = "xen-3.2"
    ESX_STRICT = "esx-strict"
    ESX_RELAXED = "esx-relaxed-3.x"
    XEN_VCPUD = "xen-3.2+vcpud"
    KVM = "kvm"
    KVM_VCPUD = "kvm+vcpud"

    @property
    def managed(self) -> bool:
        """Whether vcpud is on."""
        return self in {System.XEN_VCPUD, System.KVM_VCPUD}


UNMANAGED: Final = {System.XEN_VCPUD: System.XEN, System.KVM_VCPUD: System.KVM}
"""The same host without vcpud."""
COMPARED: Final = (System.XEN, System.ESX_STRICT, System.ESX_RELAXED, System.XEN_VCPUD)


class Kind(StrEnum):
    """What a domain works on."""

    GOBMK = "gobmk-like"
    AMMP = "ammp-like"


class Wait(StrEnum):
    """How early threads of a team wait; KERNEL: for a FIFO spinlock of the guest's kernel."""

    NONE = "none"
    ACTIVE = "active"
    SPIN = "spin-3ms-then-futex"
    PASSIVE = "passive"
    KERNEL = "kernel-lock"


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What every domain of a cell works on.

    Attributes:
        kind: Independent or synchronising.
        grain_ms: Compute time of a thread between synchronisations; 0 for gobmk-like.
        wait: How its threads wait for each other.
    """

    kind: Kind
    grain_ms: int = 0
    wait: Wait = Wait.NONE

    def __str__(self) -> str:
        return f"{self.kind} {self.grain_ms} ms {self.wait}" if self.grain_ms else str(self.kind)


GOBMK: Final = Job(kind=Kind.GOBMK)
KERNEL_LOCK: Final = Job(kind=Kind.AMMP, grain_ms=1, wait=Wait.KERNEL)
KERNEL_PCPUS: Final = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One host of the study.

    Attributes:
        job: What every domain does, one thread a vCPU.
        system: Who schedules.
        width: vCPUs of each domain.
        overcommit: vCPUs per pCPU, as near as whole domains come; at 1 never more than one.
        noise: Whether the host has work of its own (1 % of each pCPU in short bursts).
        platform: What the hypervisor and the guests show vcpud; "" where it is off.
        pcpus: Of the host.
    """

    job: Job
    system: System
    width: int
    overcommit: int
    noise: bool = False
    platform: str = ""
    pcpus: int = PCPUS

    @property
    def domains(self) -> int:
        """How many there are."""
        if self.system is System.BARE:
            return 1
        vcpus = self.pcpus * self.overcommit
        fits = vcpus // self.width
        return fits if self.overcommit == 1 else (2 * vcpus + self.width) // (2 * self.width)

    @property
    def vcpus(self) -> int:
        """Of all domains."""
        return self.domains * self.width

    @property
    def fair_pcpus(self) -> float:
        """What all domains together can get."""
        return min(self.pcpus, self.vcpus)

    @property
    def extrapolated(self) -> bool:
        """Whether the product did not allow domains that wide."""
        return (self.system is System.ESX_RELAXED and self.width > ESX3_VCPUS) or (
            self.system is System.ESX_STRICT and self.width > ESX2_VCPUS
        )

    def on(self, system: System, platform: str = "") -> Cell:
        """The same domains elsewhere."""
        return dataclasses.replace(self, system=system, platform=platform)

    @property
    def bare(self) -> Cell:
        """One such domain on pCPUs of its own under a hypervisor that costs nothing.

        Of the kernel-lock variant one thread: it hardly contends on as many pCPUs as there are.
        """
        return dataclasses.replace(
            self,
            system=System.BARE,
            width=1 if self.job.wait is Wait.KERNEL else self.width,
            overcommit=1,
            noise=False,
            platform="",
            pcpus=PCPUS,
        )

    def __str__(self) -> str:
        noisy = ", host noise" if self.noise else ""
        shown = f" ({self.platform})" if self.platform else ""
        return (
            f"{self.job}, {self.domains} x {self.width} vCPUs on {self.pcpus} pCPUs "
            f"({self.overcommit}x), {self.system}{shown}{noisy}"
        )


def same_run(cell: Cell) -> Cell:
    """The cell that stands for all that are physically the same run."""
    job, system = cell.job, cell.system
    if cell.width == 1 and job.wait in {Wait.SPIN, Wait.PASSIVE}:
        job = dataclasses.replace(job, wait=Wait.ACTIVE)
    if system is System.ESX_RELAXED and not cell.noise and (
        cell.width == 1 or cell.vcpus <= cell.pcpus
    ):  # fmt: skip
        system = System.ESX_STRICT
    return dataclasses.replace(cell, job=job, system=system)


def assignments(cell: Cell) -> list[tuple[int, ...]]:
    """Joint constant counts to try, up to exchanging domains, which are alike.

    The same count for all, and the one that fills the pCPUs exactly where whole shares do not.
    """
    domains = cell.domains
    found = [(count,) * domains for count in range(1, cell.width + 1)]
    base, more = divmod(cell.pcpus, domains)
    if more and 0 < base < cell.width:
        found.append((base + 1,) * more + (base,) * (domains - more))
    return found
