"""vcpud's commands in dom0 without the time it takes to load them.

Problem: to start Python and load vcpud takes ten seconds and more under an emulator, for every command of an operator.
Approach: one process has loaded them, and forks for each; what runs is the command line of the package, all of it.
"""

from __future__ import annotations

import importlib
import json
import os
import select
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    from collections.abc import Sequence

TREE: Final = Path("/usr/lib/vcpud")
"""Where the package has the program."""
LOADING_S: Final = 120.0
_ENCODING: Final = "utf-8"


class Commands:
    """Runs vcpud's commands; loads them with the first."""

    def __init__(self) -> None:
        """Nothing is loaded yet."""
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        """Begin to load them."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding=_ENCODING,
        )
        return self

    def __exit__(self, *_: object) -> None:
        """End the process that has loaded them."""
        if self._process is not None:
            with self._process:  # which closes the pipes, and waits
                self._process.kill()
            self._process = None

    def run(self, words: Sequence[str], within_s: float) -> subprocess.CompletedProcess[str]:
        """Run one command to its end.

        Raises:
            TimeoutExpired: It has not ended in time.
        """
        if self._process is None or self._process.poll() is not None:
            self.__enter__()
        process = self._process
        assert process is not None
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(words) + "\n")
        process.stdin.flush()
        if not select.select([process.stdout], [], [], within_s)[0]:
            self.__exit__()
            raise subprocess.TimeoutExpired(["vcpud", *words], within_s)
        answer = json.loads(process.stdout.readline())
        return subprocess.CompletedProcess(
            ["vcpud", *words], answer["status"], answer["out"], answer["err"]
        )


def _serve() -> None:
    sys.path.insert(0, str(TREE))
    from vcpud import cli  # noqa: PLC0415  in dom0 the package's own

    # A command loads what it needs when it is named, which is to be done by now.
    for module in (*(f"vcpud.commands.{name}" for name in cli.MODULES), "vcpud.config"):
        importlib.import_module(module)
    for line in sys.stdin:
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            child = os.fork()
            if child == 0:
                os.dup2(out.fileno(), 1)
                os.dup2(err.fileno(), 2)
                try:
                    status = cli.main(json.loads(line))
                except SystemExit as error:  # of argparse
                    status = error.code if isinstance(error.code, int) else 1
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(status)
            _, ended = os.waitpid(child, 0)
            said = []
            for stream in (out, err):
                stream.seek(0)
                said.append(stream.read().decode(_ENCODING, errors="replace"))
        answer = {"status": os.waitstatus_to_exitcode(ended), "out": said[0], "err": said[1]}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    _serve()
