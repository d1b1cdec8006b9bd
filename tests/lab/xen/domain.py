"""One Xen guest of the lab: its XML, its board, and the lab's own way to set its active vCPUs."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import libvirt
from lab.board import BoardTimeoutError
from lab.domain import Guest, Shape
from lab.xen.board import GrantedBoard
from lab.xen.toolstack import read_key, write_keys

if TYPE_CHECKING:
    from collections.abc import Iterable

SERVED = Path("/srv/lab")
CONSOLES = Path("/var/log/xen/console")
REFERENCES_KEY = "data/vcpud-lab-board"
BOOT_S = 180.0
_ASK_AGAIN_S = 8.0
_AWAY_S = 3.0
"""Within which a busy guest has seen that a CPU is not available: two changes at once are none to it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class XenShape(Shape):
    """What a Xen guest is made of.

    Attributes:
        udev: Whether an added CPU is brought online by the guest, as a distribution's udev does.
        reporter: Whether the guest reports its own signals through xenstore.
    """

    accelerator: str = "xen"
    agent: bool = False
    memory_mib: int = 128
    udev: bool = True
    reporter: bool = True


PCPUS: Final = 2
"""Of the emulated machine: more than the cores it runs on would only make it slower."""
PAIR: Final = (XenShape(name="x1", vcpus=2 * PCPUS), XenShape(name="x2", vcpus=2 * PCPUS))
"""The guests that are up and idle in the saved machine."""


def domain_xml(shape: XenShape) -> str:
    """Return the libvirt XML of a paravirtual guest."""
    words = ["console=hvc0", "quiet", "mitigations=off"]
    words += ["nopvspin"] if shape.fifo_locks else []
    words += [] if shape.udev else ["lab.no_udev"]
    words += [] if shape.reporter else ["lab.no_reporter"]
    return f"""\
<domain type='xen'>
  <name>{shape.name}</name>
  <memory unit='MiB'>{shape.memory_mib}</memory>
  <vcpu>{shape.vcpus}</vcpu>
  <os>
    <type arch='x86_64' machine='xenpv'>linux</type>
    <kernel>{SERVED / "vmlinux"}</kernel>
    <initrd>{SERVED / "guest"}</initrd>
    <cmdline>{" ".join(words)}</cmdline>
  </os>
  <on_reboot>restart</on_reboot>
  <on_crash>destroy</on_crash>
  <devices>
    <console type='pty'><target type='xen' port='0'/></console>
  </devices>
</domain>
"""


class XenGuest(Guest):
    """A Xen domain of the lab, running from construction until ``destroy``."""

    board: GrantedBoard

    def __init__(self, connection: libvirt.virConnect, shape: XenShape) -> None:
        """Start the domain, or take over the running one; its board is there once it has booted."""
        self.shape = shape
        try:
            self.domain = connection.lookupByName(shape.name)
        except libvirt.libvirtError:
            self.domain = connection.defineXML(domain_xml(shape))
        if not self.domain.isActive():
            self.domain.create()
        self._root = f"/local/domain/{self.domid}"

    @property
    def domid(self) -> int:
        """Xen's number of the running domain."""
        number: int = self.domain.ID()
        return number

    def pid(self) -> int:
        """There is no process."""
        raise NotImplementedError

    def console(self) -> str:
        """Return what the guest wrote on its console."""
        with contextlib.suppress(OSError):
            return (CONSOLES / f"guest-{self.name}.log").read_text(errors="replace")
        return ""

    def agent(self, command: str, arguments: object = None, timeout_s: int = 0) -> Any:
        """There is no agent on Xen: it fails as a call through libvirt would."""
        raise libvirt.libvirtError(f"{command} {arguments} within {timeout_s} s: no agent on Xen")

    def wait_until_booted(self, boots: int = 1, timeout_s: float = BOOT_S) -> None:
        """Wait until the guest has granted its board, map it, and wait until it works.

        Raises:
            BoardTimeoutError: It has not.
        """
        deadline_s = time.monotonic() + timeout_s
        while not (text := read_key(f"{self._root}/{REFERENCES_KEY}")):
            if time.monotonic() > deadline_s:
                message = f"{self.name} did not boot in {timeout_s:g} s; its console ends: {self.console()[-600:]}"
                raise BoardTimeoutError(message)
            time.sleep(0.5)
        self.board = GrantedBoard(self.domid, [int(word) for word in text.split()])
        super().wait_until_booted(boots, max(1.0, deadline_s - time.monotonic()))

    def set_online(self, wanted: Iterable[int], timeout_s: float = 120.0) -> None:
        """Make exactly the vCPUs ``wanted`` available, and wait until the board shows the guest has followed.

        It is said in xenstore, where every toolstack says it; libvirt and its refusals are not
        asked. A guest that was too busy does not try again by itself: to take a CPU offline it is told
        once more; a CPU that is present and could not be brought online is announced anew only after
        it has been taken away.

        Raises:
            BoardTimeoutError: The guest's kernel still has another set online.
        """
        target = frozenset(wanted)
        deadline_s = time.monotonic() + timeout_s
        asked = False
        while (online := self.board.online) != target:
            if asked and target - online:
                self._make_available(online & target)
                time.sleep(_AWAY_S)
            self._make_available(target)
            asked = True
            again_s = time.monotonic() + _ASK_AGAIN_S
            while self.board.online != target and time.monotonic() < again_s:
                time.sleep(0.1)
            if self.board.online != target and time.monotonic() > deadline_s:
                found = sorted(self.board.online)
                raise BoardTimeoutError(f"{self.name} has {found} online, wanted {sorted(target)}")

    def _make_available(self, vcpus: frozenset[int]) -> None:
        states = {
            f"{self._root}/cpu/{vcpu}/availability": "online" if vcpu in vcpus else "offline"
            for vcpu in sorted(self.every_cpu)
        }
        write_keys(states)

    def destroy(self) -> None:
        """End the domain and remove its definition; its memory goes with its board."""
        with contextlib.suppress(libvirt.libvirtError):
            self.domain.destroy()
        with contextlib.suppress(libvirt.libvirtError):
            self.domain.undefine()
        with contextlib.suppress(AttributeError):  # it has never booted
            self.board.remove()
