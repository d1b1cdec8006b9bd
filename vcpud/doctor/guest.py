"""Asking a guest's agent what a doctor wants to know; reading only, one command at a time."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from vcpud.doctor.facts import GuestFacts
from vcpud.doctor.probes.guest import GUEST_FILES, INTERRUPTS
from vcpud.hypervisor import agent
from vcpud.hypervisor.failures import CallFailed, Meaning

if TYPE_CHECKING:
    from collections.abc import Mapping

Ask: TypeAlias = Callable[[str], str]
"""Sends one command to the agent and returns the text of its answer; raises `CallFailed`."""

_SHOWN: Final = 80
_IRQ: Final = re.compile(r"^ *(\d{1,6}): +[\d ]*(.*)$", re.MULTILINE)
_OWN_AFFINITY: Final = re.compile(
    r"virtio|timer|rtc|acpi|i8042|ttyS|floppy|ata_|xen", re.IGNORECASE
)
"""Interrupts that follow their CPUs by themselves, or that nobody pins."""
_MOST_IRQS: Final = 12


@dataclass(slots=True)
class Interview:
    """What one agent told, and what it would not."""

    ask: Ask
    max_vcpus: int
    refusals: list[str] = field(default_factory=list)

    def hold(self) -> GuestFacts:
        """Ask everything.

        Raises:
            CallFailed: The agent does not answer at all.
        """
        version, commands = self._abilities()
        files = self._files(commands)
        files["affinities"] = self._affinities(files.get(INTERRUPTS))
        return GuestFacts(
            version=version,
            commands=commands,
            os_id=self._operating_system(commands),
            vcpus=self._vcpus(commands),
            files=files,
        )

    def _abilities(self) -> tuple[str | None, Mapping[str, bool] | None]:
        found = self._answer("guest-info")
        if not isinstance(found, dict):
            return None, None
        listed = found.get("supported_commands")
        entries = listed if isinstance(listed, list) else []
        commands = {
            str(entry.get("name"))[:_SHOWN]: entry.get("enabled") is not False
            for entry in entries
            if isinstance(entry, dict)
        }
        return str(found.get("version"))[:_SHOWN], commands or None

    def _operating_system(self, commands: Mapping[str, bool] | None) -> str | None:
        if commands is not None and not commands.get("guest-get-osinfo"):
            return None
        found = self._answer("guest-get-osinfo")
        return str(found.get("id"))[:_SHOWN] if isinstance(found, dict) else None

    def _vcpus(self, commands: Mapping[str, bool] | None) -> tuple[agent.GuestVcpu, ...] | None:
        if commands is not None and not commands.get("guest-get-vcpus"):
            return None
        try:
            answer = self.ask(agent.command("guest-get-vcpus"))
            return agent.parse_vcpus(answer, max_vcpus=self.max_vcpus)
        except (CallFailed, agent.AbsurdError) as error:
            self._refused("guest-get-vcpus", error)
            return None

    def _files(self, commands: Mapping[str, bool] | None) -> dict[str, str | None]:
        needed = ("guest-file-open", "guest-file-read", "guest-file-close")
        if commands is not None and not all(commands.get(name) for name in needed):
            self.refusals.append("files: its agent does not allow guest-file-*")
            return {}
        files: dict[str, str | None] = {}
        for path in GUEST_FILES:
            try:
                files[path] = self._file(path)
            except CallFailed as failure:
                if failure.meaning is Meaning.AGENT_FAILED:
                    self._refused(path, failure)
                    continue
                self._refused("files", failure)
                break
        return files

    def _file(self, path: str) -> str | None:
        """The content of a file, None where there is none.

        Raises:
            CallFailed: It could not be read.
        """
        try:
            opened = self.ask(agent.command("guest-file-open", path=path, mode="r"))
            handle = agent.parse_handle(opened)
        except CallFailed as failure:
            if failure.meaning is Meaning.AGENT_FAILED and "no such file" in str(failure).lower():
                return None
            raise
        except agent.AbsurdError as error:
            raise CallFailed(Meaning.AGENT_FAILED, str(error)) from error
        try:
            read = agent.command("guest-file-read", handle=handle, count=agent.FILE_LIMIT)
            return agent.parse_file(self.ask(read))
        except agent.AbsurdError as error:
            raise CallFailed(Meaning.AGENT_FAILED, str(error)) from error
        finally:
            self.ask(agent.command("guest-file-close", handle=handle))

    def _affinities(self, interrupts: str | None) -> str | None:
        """One line for each interrupt that is bound to a single CPU: `affinity 24 3 eth0-0`."""
        if not interrupts:
            return None
        found = []
        numbered = [one for one in _IRQ.findall(interrupts) if not _OWN_AFFINITY.search(one[1])]
        for number, name in numbered[:_MOST_IRQS]:
            try:
                cpus = (self._file(f"/proc/irq/{number}/smp_affinity_list") or "").strip()
            except CallFailed:
                continue
            if cpus.isdigit() and self.max_vcpus > 1:
                found.append(f"affinity {number} {cpus} {(name.split() or [''])[-1]}")
        return "\n".join(found)

    def _answer(self, command: str) -> Any:
        try:
            return agent.answer(self.ask(agent.command(command)))
        except CallFailed as failure:
            if failure.meaning not in {Meaning.AGENT_BLOCKED, Meaning.AGENT_FAILED}:
                raise
            self._refused(command, failure)
        except agent.AbsurdError as error:
            self._refused(command, error)
        return None

    def _refused(self, what: str, error: Exception) -> None:
        words = error.message if isinstance(error, CallFailed) else str(error)
        self.refusals.append(f"{what}: {words}")
