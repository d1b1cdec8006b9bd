"""A rig per test, closed whatever happens."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fakes.xen import XenGuest, XenWorld
from fakes.xen_libvirt import XenRig
from unit.hypervisor.stand_in import Guest, Rig
from unit.hypervisor.xen_host import Host


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Callable[..., Rig]]:
    """Makes rigs over a host with two pCPUs."""
    (tmp_path / "sys/devices/system/cpu").mkdir(parents=True)
    (tmp_path / "sys/devices/system/cpu/online").write_text("0-1\n")
    (tmp_path / "proc/sys/kernel/random").mkdir(parents=True)
    (tmp_path / "proc/sys/kernel/random/boot_id").write_text("boot\n")
    (tmp_path / "proc/stat").write_text(
        "cpu  10 0 20 1000 5 1 2 3 0 0\ncpu0 6 0 10 500 3 1 1 2 0 0\ncpu1 4 0 10 500 2 0 1 1 0 0\n"
        "intr 12345 0\n"
    )
    made: list[Rig] = []

    def make(*guests: Guest, **more: Any) -> Rig:
        made.append(Rig(*guests, root=tmp_path, **more))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Callable[..., Host]]:
    """Makes loops over Xen hosts, with four pCPUs unless told otherwise."""
    made: list[Host] = []

    def make(*guests: XenGuest, pcpus: int = 4, **options: Any) -> Host:
        made.append(Host(tmp_path, XenWorld(*guests, pcpus=pcpus), **options))
        return made[-1]

    yield make
    for one in made:
        one.rig.close()


@pytest.fixture
def xen_rig(tmp_path: Path) -> Iterator[Callable[..., XenRig]]:
    """Makes Xen backends over hosts of four pCPUs unless told otherwise."""
    made: list[XenRig] = []

    def make(*guests: XenGuest, pcpus: int = 4, scheduler: str = "credit", **more: Any) -> XenRig:
        world = XenWorld(*guests, pcpus=pcpus, scheduler=scheduler)
        made.append(XenRig(world, tmp_path, **more))
        return made[-1]

    yield make
    for one in made:
        one.close()
