"""What libvirt tells by itself -> raw events. Called on libvirt's thread: it only hands on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeAlias

import libvirt
from vcpud.hypervisor.link import Happening, Listener, RawEvent

Callback: TypeAlias = Callable[..., None]
"""As libvirt calls it: the connection, the domain, and what each kind of event adds."""

_STARTED: Final = frozenset({libvirt.VIR_DOMAIN_EVENT_STARTED})
_STOPPED: Final = frozenset({libvirt.VIR_DOMAIN_EVENT_STOPPED})
"""Not CRASHED: a panic of the guest, after which its QEMU may stay, or run it anew (`on_crash`)."""
_AGENT_CONNECTED: Final = libvirt.VIR_CONNECT_DOMAIN_EVENT_AGENT_LIFECYCLE_STATE_CONNECTED
_SIMPLE: Final = {
    libvirt.VIR_DOMAIN_EVENT_ID_REBOOT: Happening.REBOOT,
    libvirt.VIR_DOMAIN_EVENT_ID_METADATA_CHANGE: Happening.METADATA,
    libvirt.VIR_DOMAIN_EVENT_ID_MIGRATION_ITERATION: Happening.JOB_PROGRESS,
    libvirt.VIR_DOMAIN_EVENT_ID_JOB_COMPLETED: Happening.JOB_COMPLETED,
    libvirt.VIR_DOMAIN_EVENT_ID_TUNABLE: Happening.STATE,
}


def domain_callbacks(listener: Listener) -> dict[int, Callback]:
    """By the number of its event, what is to be registered for every domain."""

    def tell(happening: Happening, domain: libvirt.virDomain, detail: str = "") -> None:
        listener(RawEvent(happening, str(domain.UUIDString()), str(domain.name()), detail))

    def lifecycle(_: object, domain: libvirt.virDomain, event: int, detail: int, *__: Any) -> None:
        if event in _STARTED:
            happening = Happening.STARTED
        else:
            happening = Happening.STOPPED if event in _STOPPED else Happening.STATE
        tell(happening, domain, f"{event}.{detail}")

    def agent(_: object, domain: libvirt.virDomain, state: int, *__: Any) -> None:
        up = state == _AGENT_CONNECTED
        tell(Happening.AGENT_UP if up else Happening.AGENT_DOWN, domain)

    def simple(happening: Happening) -> Callback:
        return lambda _connection, domain, *_: tell(happening, domain)

    return {
        libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE: lifecycle,
        libvirt.VIR_DOMAIN_EVENT_ID_AGENT_LIFECYCLE: agent,
        **{number: simple(happening) for number, happening in _SIMPLE.items()},
    }


def close_callback(listener: Listener) -> Callback:
    """What is to be registered for the end of a connection."""
    return lambda *_: listener(RawEvent(Happening.CLOSED))
