"""A live domain's XML -> what vcpud needs to know of it. Pure, and safe with hostile text.

libvirt writes the document, but a domain's owner chooses much of what stands in it, the
metadata above all. Document type declarations (and with them entity bombs) are refused, the
size is bounded.
References: libvirt docs/formatdomain.rst.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final
from xml.etree import ElementTree as ET

from vcpud.hypervisor.cpusets import cpu_number, format_cpuset, parse_cpuset
from vcpud.hypervisor.stats import VCPU_LIMIT
from vcpud.model import Mode, Original, Uuid, same_run
from vcpud.terms import NAMESPACE, NOTE_NAMESPACE, Wishes

XML_LIMIT: Final = 4 * 1024 * 1024
"""Characters; libvirt itself refuses to store much more."""

_POLICY: Final = f"{{{NAMESPACE}}}policy"
_NOTE: Final = f"{{{NOTE_NAMESPACE}}}owed"
_AGENT_PORT: Final = "org.qemu.guest_agent.0"
_REALTIME: Final = frozenset({"fifo", "rr"})
_DIGITS: Final = 18
_SHOWN: Final = 40


class UnreadableError(ValueError):
    """The document is not a domain that can be understood; says why."""


class AgentPort(StrEnum):
    """The guest agent's channel."""

    ABSENT = "absent"
    DISCONNECTED = "disconnected"
    CONNECTED = "connected"


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """What a domain is owed, written where it travels with the domain.

    Attributes:
        boot_id: Boot of the host that it was written on.
        incarnation: The run of the domain that it was written for.
        online: Guest CPUs to be online, None where vCPUs were taken out as devices.
        live_vcpus: vCPUs to be present.
        weight: What it is to weigh, None where that was never changed.
    """

    boot_id: str
    incarnation: str
    online: frozenset[int] | None
    live_vcpus: int
    weight: int | None = None

    def is_of(self, boot_id: str, incarnation: str) -> bool:
        """Whether it was written on this boot of this host for this run."""
        return self.boot_id == boot_id and same_run(self.incarnation, incarnation)

    def original(self, uuid: Uuid, name: str) -> Original:
        """What the domain had, as the ledger would have it."""
        return Original(
            boot_id=self.boot_id,
            uuid=uuid,
            name=name,
            incarnation=self.incarnation,
            online=self.online,
            live_vcpus=self.live_vcpus,
            weight=self.weight,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """What the XML says of one running domain.

    Attributes:
        name: For people.
        kvm: False under TCG.
        max_vcpus: The domain's own maximum.
        live_vcpus: vCPUs present.
        unpluggable: Present vCPUs that can be taken out as devices.
        affinities: Per present vCPU the pCPUs it may use; None stands for all.
        agent: The agent's channel.
        realtime: Some vCPU has a real-time scheduling class.
        shares: `<cputune><shares>`, None when not set.
        quota_pcpus_per_vcpu: `<quota>` over `<period>`, None when unlimited.
        cap_pcpus: `<global_quota>` over `<global_period>`, None when unlimited.
        wishes: What vcpud's own metadata element asks for, None when there is none.
        wishes_error: Why that element cannot be followed.
        note: What a vcpud, here or elsewhere, has written down that it owes the domain.
        os_type: hvm; on Xen also linux or xen (PV) and xenpvh.
    """

    name: str
    kvm: bool
    max_vcpus: int
    live_vcpus: int
    unpluggable: frozenset[int]
    affinities: tuple[frozenset[int] | None, ...]
    agent: AgentPort
    realtime: bool
    shares: int | None
    quota_pcpus_per_vcpu: float | None
    cap_pcpus: float | None = None
    wishes: Wishes | None
    wishes_error: str | None
    note: Note | None = None
    os_type: str = ""

    def within(self, cpusets: tuple[frozenset[int], ...]) -> Description:
        """What the cgroups of its vCPUs leave of its affinities, where that is told of each."""
        if len(cpusets) != len(self.affinities):
            return self
        pairs = zip(self.affinities, cpusets, strict=True)
        return replace(
            self,
            affinities=tuple(
                cpuset if said is None else said & cpuset or said for said, cpuset in pairs
            ),
        )


def parse_description(text: str) -> Description:
    """Read a live domain's XML.

    Raises:
        UnreadableError: It is not one.
    """
    root = document(text)
    if root.tag != "domain":
        raise UnreadableError(f"the root is <{root.tag[:_SHOWN]}>, not <domain>")
    max_vcpus, live = _vcpu_counts(root)
    present, unpluggable = _vcpus(root, live)
    wishes, wishes_error = _wishes(root)
    return Description(
        name=(root.findtext("name") or "")[:VCPU_LIMIT],
        kvm=root.get("type") == "kvm",
        max_vcpus=max_vcpus,
        live_vcpus=live,
        unpluggable=unpluggable,
        affinities=_affinities(root, present),
        agent=_agent(root),
        realtime=any(
            sched.get("scheduler") in _REALTIME for sched in root.iterfind("cputune/vcpusched")
        ),
        shares=_positive(root.findtext("cputune/shares")),
        quota_pcpus_per_vcpu=_quota(root, ""),
        cap_pcpus=_quota(root, "global_"),
        wishes=wishes,
        wishes_error=wishes_error,
        note=_note(root),
        os_type=(root.findtext("os/type") or "").strip()[:_SHOWN],
    )


def format_note(original: Original) -> str:
    """The metadata element that says what a domain is owed."""
    element = ET.Element(
        "owed",
        {"boot": original.boot_id, "run": original.incarnation, "live": str(original.live_vcpus)},
    )
    if original.online is not None:
        element.set("online", format_cpuset(original.online))
    if original.weight is not None:
        element.set("weight", str(original.weight))
    return ET.tostring(element, encoding="unicode")


def document(text: str) -> ET.Element:
    """Parse a document that somebody else wrote.

    Raises:
        UnreadableError: It is too large, not well-formed, or declares a document type.
    """
    if len(text) > XML_LIMIT:
        raise UnreadableError(f"more than {XML_LIMIT} characters")
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise UnreadableError("it declares a document type")
    try:
        return ET.fromstring(text)  # noqa: S314  no declaration, no entities
    except (ET.ParseError, ValueError) as error:
        raise UnreadableError(f"not well-formed: {error}") from error


def _positive(text: str | None) -> int | None:
    digits = (text or "").strip()
    if not (digits.isascii() and digits.isdigit() and len(digits) <= _DIGITS):
        return None
    return int(digits) or None


def _vcpu_counts(root: ET.Element) -> tuple[int, int]:
    element = root.find("vcpu")
    maximum = _positive(element.text) if element is not None else None
    if element is None or maximum is None or maximum > VCPU_LIMIT:
        raise UnreadableError("<vcpu> names no usable number")
    current = element.get("current")
    live = maximum if current is None else _positive(current)
    if live is None or live > maximum:
        raise UnreadableError("<vcpu current=> names no usable number")
    return maximum, live


def _vcpus(root: ET.Element, live: int) -> tuple[tuple[int, ...], frozenset[int]]:
    """Ids of the vCPUs present, and of those that can be unplugged."""
    listed = root.findall("vcpus/vcpu")
    if not listed:
        return tuple(range(live)), frozenset()
    present: set[int] = set()
    unpluggable: set[int] = set()
    for vcpu in listed:
        try:
            index = cpu_number(vcpu.get("id", ""))
        except ValueError as error:
            raise UnreadableError(f"<vcpus>: {error}") from error
        if vcpu.get("enabled") == "yes":
            present.add(index)
            if vcpu.get("hotpluggable") == "yes" and index:
                unpluggable.add(index)
    return tuple(sorted(present)), frozenset(unpluggable)


def _affinities(root: ET.Element, present: tuple[int, ...]) -> tuple[frozenset[int] | None, ...]:
    try:
        element = root.find("vcpu")
        cpuset = element.get("cpuset") if element is not None else None
        common = parse_cpuset(cpuset) if cpuset else None
        pins = {
            cpu_number(pin.get("vcpu", "")): parse_cpuset(pin.get("cpuset", ""))
            for pin in root.iterfind("cputune/vcpupin")
        }
    except ValueError as error:
        raise UnreadableError(f"a set of pCPUs: {error}") from error
    return tuple(pins.get(index, common) for index in present)


def _agent(root: ET.Element) -> AgentPort:
    for target in root.iterfind("devices/channel/target"):
        if target.get("name") == _AGENT_PORT:
            connected = target.get("state") == "connected"
            return AgentPort.CONNECTED if connected else AgentPort.DISCONNECTED
    return AgentPort.ABSENT


def _quota(root: ET.Element, whose: str) -> float | None:
    quota = _positive(root.findtext(f"cputune/{whose}quota"))
    period = _positive(root.findtext(f"cputune/{whose}period"))
    return quota / period if quota is not None and period is not None else None


def _wishes(root: ET.Element) -> tuple[Wishes | None, str | None]:
    """vcpud's own metadata: an opt-in is followed to the letter or not at all."""
    metadata = root.find("metadata")
    ours = [
        child
        for child in (metadata if metadata is not None else ())
        if child.tag.startswith(f"{{{NAMESPACE}}}")
    ]
    if not ours:
        return None, None
    if len(ours) > 1 or ours[0].tag != _POLICY:
        return None, "expected one <policy> element in vcpud's namespace"
    try:
        return _policy(ours[0]), None
    except ValueError as error:
        return None, str(error)


def _policy(element: ET.Element) -> Wishes:
    unknown = sorted(set(element.keys()) - {"mode", "min", "max"})
    if unknown:
        raise ValueError(f"unknown attribute {unknown[0][:_SHOWN]!r}; there are mode, min, max")
    mode = element.get("mode")
    if mode is not None and mode not in set(Mode):
        raise ValueError(f"mode={mode[:_SHOWN]!r}; it is one of {', '.join(Mode)}")
    bounds: dict[str, int | None] = {}
    for key in ("min", "max"):
        text = element.get(key)
        count = None if text is None else _positive(text[:_SHOWN])
        if text is not None and (count is None or count > VCPU_LIMIT):
            raise ValueError(f"{key}={text[:_SHOWN]!r}; it is a number of vCPUs, at least 1")
        bounds[key] = count
    floor, ceiling = bounds["min"], bounds["max"]
    if floor is not None and ceiling is not None and floor > ceiling:
        raise ValueError(f"min={floor} is more than max={ceiling}")
    return Wishes(mode=None if mode is None else Mode(mode), min_vcpus=floor, max_vcpus=ceiling)


def _note(root: ET.Element) -> Note | None:
    """A note that makes no sense is none: it only ever asks for what a domain has anyway."""
    element = root.find(f"metadata/{_NOTE}")
    if element is None:
        return None
    online, live = element.get("online"), _positive((element.get("live") or "")[:_SHOWN])
    if live is None or live > VCPU_LIMIT:
        return None
    try:
        cpus = None if online is None else parse_cpuset(online)
    except ValueError:
        return None
    return Note(
        boot_id=(element.get("boot") or "")[:_SHOWN],
        incarnation=(element.get("run") or "")[:_SHOWN],
        online=cpus,
        live_vcpus=live,
        weight=_positive((element.get("weight") or "")[:_SHOWN]),
    )
