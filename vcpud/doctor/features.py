"""What a domain's XML says that the daemon itself has no use for. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from vcpud.doctor.facts import Features
from vcpud.hypervisor.xml import document

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

_OS: Final = ".//{http://libosinfo.org/xmlns/libvirt/domain/1.0}os"
_WORDS_LIMIT: Final = 4096


def parse_features(text: str) -> Features:
    """Read a live domain's XML.

    Raises:
        UnreadableError: It is not one.
    """
    root = document(text)
    cpu = root.find("cpu")
    emulator = root.find("cputune/emulatorpin")
    system = root.find(_OS)
    return Features(
        kind=root.get("type") or "",
        os_type=(root.findtext("os/type") or "").strip(),
        pvspinlock=_state(root.find("features/pvspinlock")),
        hint_dedicated=_state(root.find("features/kvm/hint-dedicated")) is True,
        host_passthrough=cpu is not None and cpu.get("mode") == "host-passthrough",
        numa_cells=len(root.findall("cpu/numa/cell")),
        emulator_pin=None if emulator is None else emulator.get("cpuset"),
        words=_words(root),
        os_id="" if system is None else (system.get("id") or "")[:_WORDS_LIMIT],
    )


def _state(element: Element | None) -> bool | None:
    """`<x/>` and `<x state='on'/>` are on; what is not there is None."""
    return None if element is None else element.get("state", "on") == "on"


def _words(root: Element) -> str:
    parts = [root.findtext("title") or "", root.findtext("description") or ""]
    metadata = root.find("metadata")
    for element in () if metadata is None else metadata.iter():
        parts += [element.tag.rpartition("}")[2], element.text or "", *element.attrib.values()]
    return " ".join(parts)[:_WORDS_LIMIT]
