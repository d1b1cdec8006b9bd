"""The other end of the control socket: how commands ask a running vcpud."""

from __future__ import annotations

import contextlib
import json
import socket
import time
from typing import TYPE_CHECKING, Any

from vcpud.errors import (
    ConfigError,
    PartialError,
    UnreachableError,
    UsageError,
    VcpudError,
)

if TYPE_CHECKING:
    from pathlib import Path

SOCKET_NAME = "vcpud.sock"
_MAX_ANSWER = 64 * 1024 * 1024
_ERRORS = {
    error.exit_code: error for error in (UsageError, ConfigError, UnreachableError, PartialError)
}


class NotRunningError(UnreachableError):
    """No vcpud listens; commands may go on without one."""


def ask(runtime_dir: Path, verb: str, *, timeout_s: float = 45.0, **fields: Any) -> dict[str, Any]:
    """Ask the running vcpud, and wait for its answer.

    Args:
        runtime_dir: Where its socket is.
        verb: One of `vcpud.verbs.FIELDS`.
        timeout_s: How long to wait for the answer.
        **fields: What the verb takes; those that are None are left out.

    Raises:
        NotRunningError: Nobody listens.
        UnreachableError: It does not answer, or not in time, or may not be asked.
        VcpudError: What it answered instead.
    """
    path = runtime_dir / SOCKET_NAME
    request = {"verb": verb} | {key: value for key, value in fields.items() if value is not None}
    try:
        answer = _exchange(path, request, timeout_s)
    except (FileNotFoundError, ConnectionRefusedError) as error:
        raise NotRunningError(f"vcpud does not run (nobody listens on {path})") from error
    except PermissionError as error:
        raise UnreachableError(
            f"no right to talk to vcpud on {path}: join its group, or run this as root"
        ) from error
    except ConnectionResetError as error:
        raise UnreachableError(f"vcpud refused the connection to {path}") from error
    except TimeoutError as error:
        raise UnreachableError(
            f"vcpud did not answer within {timeout_s:g} s: it is stuck or very busy, see "
            "`systemctl status vcpud`"
        ) from error
    except BlockingIOError as error:
        raise UnreachableError(
            f"vcpud takes no connections on {path}: it is stuck or very busy, see "
            "`systemctl status vcpud`"
        ) from error
    except (OSError, ValueError) as error:
        raise UnreachableError(f"cannot ask vcpud on {path}: {error}") from error
    if answer.get("ok") is not True:
        kind = _ERRORS.get(answer.get("code", 1), VcpudError)
        raise kind(str(answer.get("error", "vcpud refused")))
    return answer


def _exchange(path: Path, request: dict[str, Any], timeout_s: float) -> dict[str, Any]:
    deadline_s = time.monotonic() + timeout_s
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as peer:
        peer.settimeout(timeout_s)
        peer.connect(str(path))
        # Whoever is turned away finds the reason waiting, though nobody reads what he asks.
        with contextlib.suppress(BrokenPipeError):
            peer.sendall(json.dumps(request).encode() + b"\n")
        parts: list[bytes] = []
        size = 0
        while not parts or not parts[-1].endswith(b"\n"):
            # The deadline is for the whole answer: one that trickles in must not hold us for ever.
            peer.settimeout(max(deadline_s - time.monotonic(), 0.001))
            part = peer.recv(65536)
            if not part or size > _MAX_ANSWER:
                break
            parts.append(part)
            size += len(part)
    if not parts or not parts[-1].endswith(b"\n"):
        raise ValueError("its answer broke off")
    answer = json.loads(b"".join(parts))
    if not isinstance(answer, dict):
        raise ValueError("its answer is not an object")  # noqa: TRY004  malformed, not mistyped
    return answer
