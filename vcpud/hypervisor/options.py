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
        uri: URI of libvirt. It must be local, because vcpud also reads processes and cgroups.
        call_deadline_ns: Longest wait for a call in which no guest takes part.
        agent_period_ns: Time between two readings through a guest's agent.
        agent_timeout_ns: How long libvirt waits for the agent's answer to one command.
        agent_cost_ratio: CPU time that the agent may use for vcpud, per unit of time, on average. In a guest that gets
            little it may use less: a hundredth of what the guest gets.
        workers: Number of threads that talk to agents, each with a connection of its own.
        boot_grace_ns: How long vcpud leaves a guest alone after its start or reboot.
        resync_ns: Time between two full looks at a domain, if no event announces a change.
        unplug_emulated: Unplug vCPUs of emulated domains (TCG) as devices, too. QEMU never finishes
            such an unplug, and crashes at the next plug: only for laboratories.
        handover_notes: While vCPUs are parked, write what a domain is owed into its live metadata,
            so that it gets them back after a migration or a save.
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
