"""The `libvirt:` section of the configuration: every key, its unit and its default, once."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from vcpud.errors import ConfigError
from vcpud.units import NS_PER_S

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True, kw_only=True)
class LibvirtOptions:
    """How libvirt is reached and how patient vcpud is with it.

    Attributes:
        uri: Which libvirt; a local one, because processes and cgroups are looked at too.
        call_deadline_ns: Longest wait for a call that no guest has a part in.
        agent_period_ns: Spacing of the readings through a guest's agent.
        agent_timeout_ns: How long libvirt waits for the agent's answer to one command.
        agent_cost_ratio: CPU time the agent may use for vcpud, per unit of time, on average.
        workers: Threads, each with a connection of its own, that talk to agents.
        boot_grace_ns: A guest is left alone for so long after its start or reboot.
        resync_ns: Spacing of full looks at a domain that no event has announced a change of.
        unplug_emulated: Unplug vCPUs of emulated domains (TCG) as devices, too. QEMU never
            finishes such an unplug and dies of the next plug: for laboratories only.
        handover_notes: Write what a domain is owed into its live metadata while vCPUs are parked,
            so that it is given back after a migration or a save.
    """

    uri: str = "qemu:///system"
    call_deadline_ns: int = 2 * NS_PER_S
    agent_period_ns: int = 5 * NS_PER_S
    agent_timeout_ns: int = 5 * NS_PER_S
    agent_cost_ratio: float = 0.002
    workers: int = 8
    boot_grace_ns: int = 10 * NS_PER_S
    resync_ns: int = 60 * NS_PER_S
    unplug_emulated: bool = False
    handover_notes: bool = True


OptionsT = TypeVar("OptionsT", bound=LibvirtOptions)


def hypervisor_name(uri: str) -> str:
    """What the ledger calls a libvirt: its URI without how its socket is reached.

    Not the UUID that libvirt gives its host: where the firmware has none that libvirt may read, it
    draws one at each start. The ledger tells boots of this host apart itself.
    """
    scheme, separator, rest = uri.partition("://")
    return f"{scheme.partition('+')[0]}{separator}{rest}"


def read_options(section: Mapping[str, Any], argument: str, kind: type[OptionsT]) -> OptionsT:
    """Fill in what the configuration leaves out.

    Args:
        section: The backend's section, durations in nanoseconds under `KEY_ns`.
        argument: What stood behind the colon of `--backend NAME:URI`; it wins over `uri`.
        kind: The backend's own options.

    Raises:
        ConfigError: A key that does not exist, all of them named.
    """
    known = {field.name for field in dataclasses.fields(kind)}
    unknown = sorted(set(section) - known)
    if unknown:
        raise ConfigError("\n".join(f"libvirt.{key}: there is no such key" for key in unknown))
    options = kind(**section)
    return dataclasses.replace(options, uri=argument) if argument else options
