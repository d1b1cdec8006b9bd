"""The grid of a study: its cells, long or short, and how long each is simulated.

Pure.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Final

from vcpud.units import NS_PER_S
from vcpud_simulator.laboratory.study.cells import (
    COMPARED,
    GOBMK,
    HOST_ONLY,
    KERNEL_LOCK,
    KERNEL_PCPUS,
    KVM_PERF,
    REPORTER,
    Cell,
    Job,
    Kind,
    System,
    Wait,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """How long a cell is simulated.

    Attributes:
        warmup_ns: Before the window.
        settle_ns: More than that where vcpud is on: a policy that tries something out has by then
            seen, changed, been judged, and undone what did not help.
        window_ns: What is measured.
        screen_ns: The window in which static assignments are compared with each other.
    """

    warmup_ns: int = 3 * NS_PER_S
    settle_ns: int = 27 * NS_PER_S
    window_ns: int = 10 * NS_PER_S
    screen_ns: int = 3 * NS_PER_S


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A study.

    Attributes:
        name: For people.
        widths: vCPUs of a domain.
        overcommits: vCPUs per pCPU.
        grains_ms: Of ammp-like.
        waits: Of ammp-like.
        kernel_shapes: Width and overcommit of its kernel-lock variant, on a host of 2 pCPUs: each
            contended acquisition is an event, and there are hundreds of thousands a second.
        noise_grains_ms: Of active spin in the second table, with host noise.
        kvm_grains_ms: Of active spin on `kvm-perf`.
        blind_grains_ms: Of the platform that shows vcpud nothing of the guests.
        seeds: Runs of each cell.
        most_seeds: Of cells whose interval straddles a bound.
        timing: How long each run is.
    """

    name: str
    widths: tuple[int, ...]
    overcommits: tuple[int, ...]
    grains_ms: tuple[int, ...]
    waits: tuple[Wait, ...] = (Wait.ACTIVE, Wait.SPIN, Wait.PASSIVE)
    kernel_shapes: tuple[tuple[int, int], ...]
    noise_grains_ms: tuple[int, ...]
    kvm_grains_ms: tuple[int, ...]
    blind_grains_ms: tuple[int, ...]
    seeds: int = 3
    most_seeds: int = 6
    timing: Timing

    def only(
        self,
        *,
        widths: tuple[int, ...] | None = None,
        overcommits: tuple[int, ...] | None = None,
        grains_ms: tuple[int, ...] | None = None,
    ) -> Plan:
        """A thinner grid, or one of other figures."""
        if widths is overcommits is grains_ms is None:
            return self
        chosen = self.grains_ms if grains_ms is None else grains_ms
        noise, kvm, blind = (
            tuple(grain for grain in grains if grain in chosen)
            for grains in (self.noise_grains_ms, self.kvm_grains_ms, self.blind_grains_ms)
        )
        return dataclasses.replace(
            self,
            name=f"{self.name}, other grid",
            widths=self.widths if widths is None else widths,
            overcommits=self.overcommits if overcommits is None else overcommits,
            grains_ms=chosen,
            noise_grains_ms=noise,
            kvm_grains_ms=kvm,
            blind_grains_ms=blind,
        )

    def jobs(self, grains_ms: tuple[int, ...]) -> list[Job]:
        """gobmk-like, and ammp-like of these grains with every way to wait."""
        return [
            GOBMK,
            *(
                Job(kind=Kind.AMMP, grain_ms=grain, wait=wait)
                for grain in grains_ms
                for wait in self.waits
            ),
        ]

    def table(self, *, noise: bool = False) -> list[Cell]:
        """The comparison itself, or its repetition with host noise."""
        jobs = self.jobs(self.grains_ms)
        if noise:
            jobs = [
                GOBMK,
                *(
                    Job(kind=Kind.AMMP, grain_ms=grain, wait=Wait.ACTIVE)
                    for grain in self.noise_grains_ms
                ),
            ]
        return [
            Cell(
                job=job,
                system=system,
                width=width,
                overcommit=overcommit,
                noise=noise,
                platform=REPORTER if system.managed else "",
            )
            for job in jobs
            for width in self.widths
            for overcommit in self.overcommits
            for system in COMPARED
        ]

    def beside(self) -> list[Cell]:
        """What only S5 asks for: kernel locks on Xen, active spin on KVM, Xen without reporter."""
        found = [
            (cell, System.XEN, System.XEN_VCPUD, REPORTER)
            for cell in (
                Cell(
                    job=KERNEL_LOCK,
                    system=System.XEN,
                    width=width,
                    overcommit=overcommit,
                    pcpus=KERNEL_PCPUS,
                )
                for width, overcommit in self.kernel_shapes
            )
        ]
        spin = [
            Job(kind=Kind.AMMP, grain_ms=grain, wait=Wait.ACTIVE) for grain in self.kvm_grains_ms
        ]
        asked = [(job, System.KVM, System.KVM_VCPUD, KVM_PERF) for job in [GOBMK, *spin]]
        asked += [
            (job, System.XEN, System.XEN_VCPUD, HOST_ONLY)
            for job in self.jobs(self.blind_grains_ms)[1:]
        ]
        found += [
            (
                Cell(job=job, system=unmanaged, width=width, overcommit=overcommit),
                unmanaged,
                managed,
                platform,
            )
            for job, unmanaged, managed, platform in asked
            for width in self.widths
            for overcommit in self.overcommits
            if width > 1 and overcommit > 1
        ]
        return [
            one
            for cell, unmanaged, managed, platform in found
            for one in (cell.on(unmanaged), cell.on(managed, platform))
        ]

    def cells(self) -> list[Cell]:
        """All of them."""
        return list(dict.fromkeys([*self.table(), *self.table(noise=True), *self.beside()]))


FULL: Final = Plan(
    name="full",
    widths=(1, 2, 3, 4, 6, 8),
    overcommits=(1, 2, 3, 4),
    grains_ms=(1, 3, 10, 30, 100),
    kernel_shapes=((3, 2), (4, 2), (3, 4), (4, 4)),
    noise_grains_ms=(10,),
    kvm_grains_ms=(1, 10, 100),
    blind_grains_ms=(10,),
    timing=Timing(),
)
QUICK: Final = Plan(
    name="quick",
    widths=(2, 4),
    overcommits=(1, 2),
    grains_ms=(10,),
    kernel_shapes=((4, 4),),
    noise_grains_ms=(),
    kvm_grains_ms=(10,),
    blind_grains_ms=(),
    most_seeds=5,
    timing=Timing(
        window_ns=4 * NS_PER_S,
        screen_ns=2 * NS_PER_S,
    ),
)
