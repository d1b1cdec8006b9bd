"""What a guest's agent answers -> parts of a reading. Pure; the guest is not trusted.

A guest may lie, and a broken one may answer anything. Every parser bounds the size before it
reads, accepts only numbers that a machine can produce, and raises `AbsurdError` otherwise: an
absurd part is not used at all. Differences over time are judged in `vcpud.heard`; only growth
faster than any clock is refused before (`plausible`).
Reference: QEMU qga/qapi-schema.json.
"""

from __future__ import annotations

import base64
import binascii
import json
from typing import Any, Final, NamedTuple

from vcpud.guest import CpuAccounting, CpuTimes
from vcpud.units import NS_PER_MS

REPLY_LIMIT: Final = 2 * 1024 * 1024
"""Characters of one answer; the largest honest one is some 100 KiB."""
FILE_LIMIT: Final = 256 * 1024
"""Bytes asked for of one file."""
AMOUNT_LIMIT: Final = 2**62
"""Nanoseconds, milliseconds or counts: more than the life of a machine."""
_SHOWN: Final = 60


class AbsurdError(ValueError):
    """The answer is nothing that an honest agent on a working machine would send."""


class GuestVcpu(NamedTuple):
    """One CPU as `guest-get-vcpus` lists it."""

    number: int
    online: bool
    can_offline: bool


def command(name: str, **arguments: Any) -> str:
    """The text of one agent command; underscores stand for the dashes of its arguments."""
    request: dict[str, Any] = {"execute": name}
    if arguments:
        request["arguments"] = {key.replace("_", "-"): value for key, value in arguments.items()}
    return json.dumps(request)


def answer(text: str) -> Any:
    """The `return` member of an answer.

    Raises:
        AbsurdError: Too large, not JSON, or without one.
    """
    if len(text) > REPLY_LIMIT:
        raise AbsurdError(f"an answer of {len(text)} characters")
    try:
        reply = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise AbsurdError(f"not JSON: {text[:_SHOWN]!r}") from error
    if not isinstance(reply, dict) or "return" not in reply:
        raise AbsurdError(f"no answer: {text[:_SHOWN]!r}")
    return reply["return"]


def parse_cpustats(text: str, *, taken_at_ns: int, max_vcpus: int) -> CpuAccounting:
    """Read the answer to `guest-get-cpustats`: milliseconds per online CPU.

    Nice time counts as user, interrupts as system, waiting for I/O as idle. Time that the guest
    in turn gives to guests of its own is part of user already.

    Args:
        text: The answer.
        taken_at_ns: Midpoint of the call.
        max_vcpus: The domain's maximum: more CPUs, or other ids, cannot be.

    Raises:
        AbsurdError: It cannot be true.
    """
    cpus = []
    for entry in _entries(answer(text), max_vcpus):
        index = _amount(entry, "cpu", max_vcpus)
        steal = entry.get("steal")
        cpus.append(
            CpuTimes(
                index=index,
                user_ns=_sum_ms(entry, "user", "nice"),
                system_ns=_sum_ms(entry, "system", "irq", "softirq"),
                idle_ns=_sum_ms(entry, "idle", "iowait"),
                steal_ns=None if steal is None else _sum_ms(entry, "steal"),
            )
        )
    cpus.sort(key=lambda cpu: cpu.index)
    distinct([cpu.index for cpu in cpus])
    return CpuAccounting(taken_at_ns=taken_at_ns, cpus=tuple(cpus))


def parse_vcpus(text: str, *, max_vcpus: int) -> tuple[GuestVcpu, ...]:
    """Read the answer to `guest-get-vcpus`.

    Raises:
        AbsurdError: It cannot be true.
    """
    found = []
    for entry in _entries(answer(text), max_vcpus):
        online, can_offline = entry.get("online"), entry.get("can-offline", False)
        if not isinstance(online, bool) or not isinstance(can_offline, bool):
            raise AbsurdError("a CPU neither online nor offline")
        index = _amount(entry, "logical-id", max_vcpus)
        found.append(GuestVcpu(index, online, can_offline))
    if not any(vcpu.online for vcpu in found):
        raise AbsurdError("no CPU online")
    found.sort()
    distinct([vcpu.number for vcpu in found])
    return tuple(found)


def parse_set_vcpus(text: str) -> int:
    """Read the answer to `guest-set-vcpus`: how many of the list were processed.

    Raises:
        AbsurdError: It is not a count.
    """
    value = answer(text)
    if type(value) is not int or not 0 <= value < AMOUNT_LIMIT:
        raise AbsurdError("not a count of CPUs")
    return value


def parse_disabled(text: str) -> frozenset[str]:
    """Read the answer to `guest-info`: names of the commands that are switched off.

    Raises:
        AbsurdError: It is not a list of commands.
    """
    value = answer(text)
    commands = value.get("supported_commands") if isinstance(value, dict) else None
    if not isinstance(commands, list):
        raise AbsurdError("no list of commands")
    return frozenset(
        str(entry.get("name"))[:_SHOWN]
        for entry in commands
        if isinstance(entry, dict) and entry.get("enabled") is False
    )


def parse_handle(text: str) -> int:
    """Read the answer to `guest-file-open`.

    Raises:
        AbsurdError: It is not a handle.
    """
    value = answer(text)
    if type(value) is not int or not 0 <= value < AMOUNT_LIMIT:
        raise AbsurdError("not a handle")
    return value


def parse_file(text: str) -> str:
    """Read the answer to `guest-file-read`.

    Raises:
        AbsurdError: Not text, not whole, or larger than was asked for.
    """
    value = answer(text)
    encoded = value.get("buf-b64") if isinstance(value, dict) else None
    if not isinstance(encoded, str):
        raise AbsurdError("no content")
    try:
        content = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError) as error:
        raise AbsurdError("content that is not base64") from error
    if len(content) > FILE_LIMIT:
        raise AbsurdError(f"{len(content)} bytes where {FILE_LIMIT} were asked for")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise AbsurdError("content that is not text") from error


def _entries(value: Any, limit: int) -> list[dict[str, Any]]:
    """A list of one to `limit` objects; those of another type (`linux` or nothing) are refused."""
    if not isinstance(value, list) or not 1 <= len(value) <= limit:
        raise AbsurdError(f"not a list of 1 to {limit} CPUs")
    for entry in value:
        if not isinstance(entry, dict):
            raise AbsurdError("a CPU that is not an object")
    return value


def _amount(entry: dict[str, Any], key: str, limit: int = AMOUNT_LIMIT) -> int:
    value = entry.get(key)
    if type(value) is not int or not 0 <= value < limit:
        raise AbsurdError(f"{key} is {str(value)[:_SHOWN]}")
    return value


def _sum_ms(entry: dict[str, Any], first: str, *more: str) -> int:
    total = _amount(entry, first) + sum(_amount(entry, key) for key in more if key in entry)
    if total * NS_PER_MS >= AMOUNT_LIMIT:
        raise AbsurdError(f"{first} is {total} ms")
    return total * NS_PER_MS


def distinct(indices: list[int]) -> None:
    """Check that no CPU is told of twice.

    Raises:
        AbsurdError: One is.
    """
    if len(set(indices)) != len(indices):
        raise AbsurdError("the same CPU twice")
