"""The verbs of the control socket: which there are, what each takes, and how what is given is read.

Whatever a peer sends is foreign: a field that is unknown, or is not what it has to be, is refused
with what was expected instead.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vcpud.errors import UsageError
from vcpud.model import Mode
from vcpud.terms import Wishes
from vcpud.text import meant
from vcpud.units import NS_PER_S

if TYPE_CHECKING:
    from vcpud.model import Uuid
    from vcpud.record import CycleRecord

FIELDS: dict[str, tuple[str, ...]] = {
    "status": (),
    "explain": ("domain",),
    "set": ("domain", "mode", "min", "max", "reset"),
    "pause": ("domain", "for_ns", "restore"),
    "resume": ("domain",),
    "restore": ("domain", "wait", "wait_ns"),
    "release": ("domain", "for_ns", "wait", "wait_ns"),
    "hold": ("for_ns",),
    "reload": (),
}
"""The fields that each verb takes."""
_MAX_NS = 366 * 86_400 * NS_PER_S
_MAX_VCPUS = 4096


def verb_of(ask: dict[str, Any]) -> str:
    """Which verb is asked for, with no fields but its own.

    Raises:
        UsageError: There is no such verb, or it has no such field.
    """
    verb = ask.get("verb")
    if not isinstance(verb, str) or verb not in FIELDS:
        raise UsageError(f"there is no verb {str(verb)[:40]!r}{meant(str(verb)[:40], FIELDS)}")
    known = {"verb", *FIELDS[verb]}
    if unknown := sorted(set(ask) - known):
        raise UsageError(f"{verb}: unknown field {unknown[0][:40]!r}")
    return verb


def uuid_of(word: object, record: CycleRecord) -> Uuid:
    """The domain that is meant: by its UUID, or by the name of one that runs or is owed something.

    Raises:
        UsageError: There is none.
    """
    if not isinstance(word, str):
        raise UsageError("domain: expected a name or a UUID")
    known = {original.name: original.uuid for original in record.outstanding}
    known |= {domain.name: domain.uuid for domain in record.sample.domains}
    if word in known:
        return known[word]
    if word.lower() in known.values():
        return word.lower()
    raise UsageError(f"there is no domain {word[:80]!r} on this host{meant(word[:80], known)}")


def name_of(uuid: Uuid, record: CycleRecord) -> str:
    """What people call it."""
    known = {original.uuid: original.name for original in record.outstanding}
    known |= {domain.uuid: domain.name for domain in record.sample.domains}
    return known.get(uuid, uuid)


def wishes(ask: dict[str, Any], uuid: Uuid, record: CycleRecord) -> Wishes | None:
    """What `set` asks for; None stands for taking back what was set.

    Raises:
        UsageError: It asks for nothing, or for what cannot be.
    """
    mode, counts = ask.get("mode"), {word: ask.get(word) for word in ("min", "max")}
    asked = mode is not None or any(count is not None for count in counts.values())
    if ask.get("reset") is True:
        if asked:
            raise UsageError("set: either new terms or --reset")
        return None
    if not asked:
        raise UsageError("set: nothing to set: give a mode, a minimum or a maximum, or --reset")
    if mode is not None and (type(mode) is not str or mode not in set(Mode)):
        raise UsageError(f"set: mode: expected one of {', '.join(Mode)}")
    own = next((d.max_vcpus for d in record.sample.domains if d.uuid == uuid), None)
    for word, count in counts.items():
        if count is None:
            continue
        if type(count) is not int or not 1 <= count <= _MAX_VCPUS:
            raise UsageError(f"set: {word}: expected a number of vCPUs, at least 1")
        if own is not None and count > own:
            raise UsageError(f"set: {word}: the domain has {own} vCPUs at most")
    floor, ceiling = counts["min"], counts["max"]
    if floor is not None and ceiling is not None and floor > ceiling:
        raise UsageError(f"set: a minimum of {floor} is more than a maximum of {ceiling}")
    return Wishes(mode=None if mode is None else Mode(mode), min_vcpus=floor, max_vcpus=ceiling)


def duration_ns(ask: dict[str, Any], field: str) -> int | None:
    """How long, where that is given.

    Raises:
        UsageError: That is no time, or too long a time.
    """
    value = ask.get(field)
    if value is None:
        return None
    if type(value) is not int or not 0 < value <= _MAX_NS:
        raise UsageError(f"{field}: expected nanoseconds up to {_MAX_NS}")
    return value
