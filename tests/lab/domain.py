"""One lab guest: its XML, its start and end, its board, and the lab's own way to set its active vCPUs."""

from __future__ import annotations

import contextlib
import json
import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import libvirt_qemu

import libvirt
from lab.board import HISTOGRAM_STATUS, Board, BoardTimeoutError, Order

if TYPE_CHECKING:
    from collections.abc import Iterable

    from lab.daemon import PrivateLibvirt

BOOT_S = 90.0
AGENT_TIMEOUT_S = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What a guest is made of.

    Attributes:
        name: Domain name.
        vcpus: Number of vCPUs it boots with, which is also its maximum.
        accelerator: ``qemu`` (TCG) or ``kvm``.
        fifo_locks: Hide the hypervisor, so that the guest uses its native FIFO spinlocks.
        agent: Whether the guest has an agent channel.
        memory_mib: Memory.
        cpuset: Host CPUs its vCPUs may use; all when empty.
        blocked_rpcs: Commands its agent refuses.
    """

    name: str
    vcpus: int = 4
    accelerator: str = "qemu"
    fifo_locks: bool = True
    agent: bool = True
    memory_mib: int = 256
    cpuset: str = ""
    blocked_rpcs: tuple[str, ...] = ()


def _cpu_xml(shape: Shape) -> str:
    hidden = "<feature policy='disable' name='hypervisor'/>" if shape.fifo_locks else ""
    if shape.accelerator == "kvm":
        return f"<cpu mode='host-passthrough'>{hidden}</cpu>"
    return f"<cpu mode='custom' match='exact' check='none'><model>qemu64</model>{hidden}</cpu>"


def domain_xml(shape: Shape, lab: PrivateLibvirt, board_name: str | None) -> str:
    """Return the libvirt XML of ``shape``; without a board for a domain that shall never run."""
    vcpus = "".join(
        f"<vcpu id='{number}' enabled='yes' hotpluggable='{'yes' if number else 'no'}' order='{number + 1}'/>"
        for number in range(shape.vcpus)
    )
    channel = (
        "<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>"
        if shape.agent
        else ""
    )
    board = ""
    if board_name is not None:
        model = "<model type='ivshmem-plain'/><size unit='M'>1</size>"
        # As its master the guest takes the memory along when it is saved or migrated.
        board = f"<shmem name='{board_name}' role='master'>{model}</shmem>"
    blocked = f" lab.blocked_rpcs={','.join(shape.blocked_rpcs)}" if shape.blocked_rpcs else ""
    pool = f" cpuset='{shape.cpuset}'" if shape.cpuset else ""
    return f"""\
<domain type='{shape.accelerator}'>
  <name>{shape.name}</name>
  <memory unit='MiB'>{shape.memory_mib}</memory>
  <vcpu placement='static'{pool} current='{shape.vcpus}'>{shape.vcpus}</vcpu>
  <vcpus>{vcpus}</vcpus>
  <os>
    <type arch='x86_64' machine='pc'>hvm</type>
    <kernel>{lab.kernel}</kernel>
    <initrd>{lab.initramfs}</initrd>
    <cmdline>console=ttyS0 quiet{blocked}</cmdline>
  </os>
  <features><acpi/><apic/></features>
  {_cpu_xml(shape)}
  <on_reboot>restart</on_reboot>
  <on_crash>destroy</on_crash>
  <devices>
    <emulator>/usr/bin/qemu-system-x86_64</emulator>
    <controller type='usb' model='none'/>
    <serial type='file'><source path='{lab.folders["log"] / shape.name}.console'/><target port='0'/></serial>
    {channel}
    {board}
    <memballoon model='none'/>
  </devices>
</domain>
"""


class Guest:
    """A domain of the lab, running from construction until ``destroy``."""

    def __init__(self, connection: libvirt.virConnect, lab: PrivateLibvirt, shape: Shape) -> None:
        """Create the board and start the domain."""
        self.shape = shape
        self.lab = lab
        owner = (lab.account.uid, lab.account.gid) if lab.account.drop else None
        self.board = Board.create(f"vcpud-lab-{os.getpid()}-{shape.name}", owner=owner)
        try:
            self.domain = connection.defineXML(domain_xml(shape, lab, self.board.path.name))
            self.domain.create()
        except libvirt.libvirtError:
            self.board.remove()
            raise

    @property
    def name(self) -> str:
        """The domain's name."""
        return self.shape.name

    @property
    def every_cpu(self) -> frozenset[int]:
        """The CPUs the guest booted with."""
        return frozenset(range(self.shape.vcpus))

    def pid(self) -> int:
        """Return the process id of the domain's QEMU, from the file libvirt keeps it in."""
        return int(
            (self.lab.folders["run"] / "libvirt" / "qemu" / "run" / f"{self.name}.pid").read_text()
        )

    def rebind(self, connection: libvirt.virConnect) -> None:
        """Look the domain up again on a new connection."""
        self.domain = connection.lookupByName(self.name)

    def wait_until_booted(self, boots: int = 1, timeout_s: float = BOOT_S) -> None:
        """Wait until the guest has reached its workload for the ``boots``-th time and published its CPUs.

        Raises:
            BoardTimeoutError: It has not.
        """
        deadline_s = time.monotonic() + timeout_s
        while not (self.board.booted and self.board.boots >= boots and self.board.online):
            if time.monotonic() > deadline_s:
                message = f"{self.name} did not boot in {timeout_s:g} s; its console ends: {self.console()[-600:]}"
                raise BoardTimeoutError(message)
            time.sleep(0.05)

    def wait_until_agent(self, timeout_s: float = BOOT_S) -> None:
        """Wait until the guest's agent answers a ping.

        Raises:
            BoardTimeoutError: It has not.
        """
        deadline_s = time.monotonic() + timeout_s
        while True:
            try:
                self.agent("guest-ping", timeout_s=5)
            except libvirt.libvirtError as error:
                if time.monotonic() > deadline_s:
                    message = (
                        f"the agent of {self.name} did not answer in {timeout_s:g} s: {error}"
                    )
                    raise BoardTimeoutError(message) from error
                time.sleep(0.2)
            else:
                return

    def console(self) -> str:
        """Return what the guest wrote on its serial console."""
        try:
            return (self.lab.folders["log"] / f"{self.name}.console").read_text(errors="replace")
        except FileNotFoundError:
            return ""

    def histogram_armed(self) -> bool:
        """Whether ``vcpud-lock-histogram arm`` succeeded when the guest booted."""
        return self.board.read(HISTOGRAM_STATUS) == 0

    def agent(
        self, command: str, arguments: object = None, timeout_s: int = AGENT_TIMEOUT_S
    ) -> Any:
        """Return what the guest's agent answers to ``command``.

        Raises:
            libvirt.libvirtError: The agent did not answer, or refused.
        """
        request: dict[str, object] = {"execute": command}
        if arguments is not None:
            request["arguments"] = arguments
        reply = libvirt_qemu.qemuAgentCommand(self.domain, json.dumps(request), timeout_s, 0)
        return json.loads(reply)["return"]

    def order(self, order: Order, timeout_s: float = 120.0) -> None:
        """Give the guest an order and wait until it is carried out.

        Raises:
            BoardTimeoutError: It was not in time.
        """
        self.board.give(order)
        deadline_s = time.monotonic() + timeout_s
        while not self.board.applied:
            if time.monotonic() > deadline_s:
                message = f"{self.name} did not take up {order} in {timeout_s:g} s"
                raise BoardTimeoutError(message)
            time.sleep(0.02)

    def set_online(self, wanted: Iterable[int], timeout_s: float = 120.0) -> None:
        """Make exactly the CPUs ``wanted`` online, through the agent, and wait until the board shows it.

        The agent is asked again when it did not answer in time: in a collapsed guest a reply can take seconds.

        Raises:
            BoardTimeoutError: The guest's kernel still has another set online.
        """
        target = frozenset(wanted)
        deadline_s = time.monotonic() + timeout_s
        while self.board.online != target:
            changes = [
                {"logical-id": cpu, "online": cpu in target}
                for cpu in sorted(self.every_cpu)
                if (cpu in target) != (cpu in self.board.online)
            ]
            with contextlib.suppress(libvirt.libvirtError):
                self.agent("guest-set-vcpus", {"vcpus": changes}, timeout_s=30)
            settled_s = time.monotonic() + 2.0
            while self.board.online != target and time.monotonic() < settled_s:
                time.sleep(0.02)
            if self.board.online != target and time.monotonic() > deadline_s:
                message = (
                    f"{self.name} has {sorted(self.board.online)} online, wanted {sorted(target)}"
                )
                raise BoardTimeoutError(message)

    def destroy(self) -> None:
        """End the domain and remove its definition and its board."""
        with contextlib.suppress(libvirt.libvirtError):
            self.domain.destroy()
        with contextlib.suppress(libvirt.libvirtError):
            self.domain.undefine()
        self.board.remove()
