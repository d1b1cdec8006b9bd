"""What a failed libvirt call means: error codes and messages -> one word that decides.

Pure. The numbers are libvirt's public `virErrorNumber`, which never change; where one number
has several meanings (68 above all) the message decides. libvirtd translates its messages by its
own locale; a text that is not recognised falls back to the cautious meaning of its number.
References: libvirt include/libvirt/virterror.h; src/qemu/qemu_hotplug.c, qemu_agent.c.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from vcpud.model import Reason


class Meaning(StrEnum):
    """Why a call failed, in the words that decide what to do next."""

    GONE = "gone"
    LOST = "lost"
    HUNG = "hung"
    BUSY = "busy"
    REFUSED = "refused"
    UNSUPPORTED = "unsupported"
    DENIED = "denied"
    OUT_OF_BOUNDS = "out_of_bounds"
    NOT_YET = "not_yet"
    UNPLUG_PENDING = "unplug_pending"
    AGENT_ABSENT = "agent_absent"
    AGENT_SILENT = "agent_silent"
    AGENT_BLOCKED = "agent_blocked"
    AGENT_FAILED = "agent_failed"
    FAILED = "failed"


REASONS: Final[dict[Meaning, Reason]] = {
    Meaning.GONE: Reason.GONE,
    Meaning.LOST: Reason.NOT_CONNECTED,
    Meaning.HUNG: Reason.HUNG,
    Meaning.BUSY: Reason.JOB,
    Meaning.REFUSED: Reason.FAILED,
    Meaning.UNSUPPORTED: Reason.UNSUPPORTED,
    Meaning.DENIED: Reason.DENIED,
    Meaning.OUT_OF_BOUNDS: Reason.OUT_OF_BOUNDS,
    Meaning.NOT_YET: Reason.FAILED,
    Meaning.UNPLUG_PENDING: Reason.TIMEOUT,
    Meaning.AGENT_ABSENT: Reason.NO_ACTUATOR,
    Meaning.AGENT_SILENT: Reason.AGENT_SILENT,
    Meaning.AGENT_BLOCKED: Reason.UNSUPPORTED,
    Meaning.AGENT_FAILED: Reason.FAILED,
    Meaning.FAILED: Reason.FAILED,
}


class CallFailed(Exception):  # noqa: N818  a refusal by libvirt is an outcome, not a defect
    """A call to libvirt did not succeed.

    Attributes:
        meaning: What it means.
        code: libvirt's error number, None when there is none.
        domain: Which part of libvirt reported it (`virErrorDomain`).
        message: libvirt's own words.
    """

    def __init__(
        self, meaning: Meaning, message: str, *, code: int | None = None, domain: int | None = None
    ) -> None:
        super().__init__(f"{meaning}: {message}")
        self.meaning = meaning
        self.code = code
        self.domain = domain
        self.message = message

    @property
    def reason(self) -> Reason:
        """The same in the vocabulary of the loop."""
        return REASONS[self.meaning]


_FROM_RPC: Final = 7
_FROM_QEMU: Final = 10
"""A broken connection is QEMU's then, not ours."""

_BY_CODE: Final[dict[int, Meaning]] = {
    3: Meaning.UNSUPPORTED,  # NO_SUPPORT
    5: Meaning.LOST,  # NO_CONNECT: no driver or daemon for this URI
    6: Meaning.LOST,  # INVALID_CONN
    8: Meaning.OUT_OF_BOUNDS,  # INVALID_ARG
    29: Meaning.DENIED,  # OPERATION_DENIED: a read-only connection
    39: Meaning.LOST,  # RPC
    42: Meaning.GONE,  # NO_DOMAIN
    45: Meaning.DENIED,  # AUTH_FAILED
    55: Meaning.GONE,  # OPERATION_INVALID: not running any more
    67: Meaning.UNSUPPORTED,  # CONFIG_UNSUPPORTED: nothing hot-pluggable left
    68: Meaning.BUSY,  # OPERATION_TIMEOUT: state change lock not acquired, nothing done
    74: Meaning.UNSUPPORTED,  # ARGUMENT_UNSUPPORTED
    79: Meaning.DENIED,  # AUTH_CANCELLED
    84: Meaning.UNSUPPORTED,  # OPERATION_UNSUPPORTED
    86: Meaning.AGENT_SILENT,  # AGENT_UNRESPONSIVE
    88: Meaning.DENIED,  # ACCESS_DENIED
    94: Meaning.DENIED,  # AUTH_UNAVAILABLE
    112: Meaning.AGENT_SILENT,  # AGENT_COMMAND_TIMEOUT, libvirt 11.2
    113: Meaning.AGENT_FAILED,  # AGENT_COMMAND_FAILED, libvirt 11.2
}

_LOST_WORDS: Final = (
    "client socket is closed",
    "keepalive timeout",
    "cannot recv data",
    "cannot write data",
    "connection reset",
    "broken pipe",
    "end of file while reading",
    "failed to connect socket",
    "unable to connect to",
)

_BY_WORDS: Final[tuple[tuple[int | None, str, Meaning], ...]] = (
    (68, "unplug request timed out", Meaning.UNPLUG_PENDING),
    (1, "unplug request for not supported device type", Meaning.NOT_YET),
    (9, "max_queued", Meaning.BUSY),
    (9, "rejected by the guest", Meaning.REFUSED),
    (None, "guest agent is not configured", Meaning.AGENT_ABSENT),
    (None, "guest agent is not connected", Meaning.AGENT_SILENT),
    (None, "guest agent is not available", Meaning.AGENT_SILENT),
    (None, "guest agent command timed out", Meaning.AGENT_SILENT),
    # Every command is switched off while a backup has the file systems frozen, and no longer.
    (None, "is in frozen state", Meaning.AGENT_SILENT),
)

_AGENT_COMMAND: Final = "agent command"
_BLOCKED_WORDS: Final = (
    "has been disabled",
    "has not been found",
    "commandnotfound",
    "commanddisabled",
    "unknown command",
    "is not allowed",
)


def meaning_of(code: int | None, domain: int | None, message: str) -> Meaning:
    """Translate one libvirt error.

    Args:
        code: `virErrorNumber`, None when libvirt gave none.
        domain: `virErrorDomain`.
        message: The text.
    """
    words = message.lower()
    for wanted_code, phrase, meaning in _BY_WORDS:
        if phrase in words and wanted_code in {None, code}:
            return meaning
    if _AGENT_COMMAND in words:
        # The agent's own error: a command that the guest's operator has switched off, or one
        # that failed (typically: no such file). A missing file is "No such file", never "found".
        blocked = any(phrase in words for phrase in _BLOCKED_WORDS)
        return Meaning.AGENT_BLOCKED if blocked else Meaning.AGENT_FAILED
    if domain == _FROM_RPC and code in {1, 38}:
        return Meaning.LOST
    if (
        domain != _FROM_QEMU
        and code in {None, 1, 38}
        and any(phrase in words for phrase in _LOST_WORDS)
    ):
        return Meaning.LOST
    return _BY_CODE.get(code, Meaning.FAILED) if code is not None else Meaning.FAILED
