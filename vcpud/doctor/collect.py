"""Collecting facts: libvirt, agents, files of the host, the running daemon. Reads only, never long.

Every call to libvirt runs on a thread of its own and is given up past its deadline: a doctor
must say that something hangs, not hang with it.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from vcpud.client import ask as ask_daemon
from vcpud.doctor.facts import DomainFacts, Features, GuestFacts, HostFacts
from vcpud.doctor.features import parse_features
from vcpud.doctor.findings import Examination, Finding, Unseen
from vcpud.doctor.guest import Interview
from vcpud.doctor.hostfiles import HostFiles
from vcpud.doctor.probes import examine_domain, examine_host
from vcpud.doctor.probes.host import XEN
from vcpud.errors import UnreachableError, UsageError
from vcpud.hypervisor.failures import CallFailed, Meaning
from vcpud.hypervisor.options import hypervisor_name
from vcpud.hypervisor.xml import AgentPort, UnreadableError, parse_description
from vcpud.ledger import FileLedger
from vcpud.lock import ledger_folder
from vcpud.model import Mode
from vcpud.text import meant

if TYPE_CHECKING:
    from vcpud.doctor.xen import XenLook
    from vcpud.hypervisor.link import Library, Link
    from vcpud.settings import Settings

T = TypeVar("T")

DEADLINE_S: Final = 10.0
"""Longest wait for one call; an agent in a collapsed guest needs several seconds."""
AGENT_S: Final = 5
_DAEMON_S: Final = 5.0


class Doctor:
    """One examination."""

    def __init__(  # noqa: PLR0913  what an examination needs, two of it for tests
        self,
        settings: Settings,
        uri: str,
        open_library: Callable[[str], Library],
        *,
        root: Path = Path("/"),
        deadline_s: float = DEADLINE_S,
        xen: XenLook | None = None,
    ) -> None:
        """Prepare; nothing is asked yet.

        Args:
            settings: The configuration, with what `vcpud set` has set.
            uri: Which libvirt.
            open_library: Opens it.
            root: Where /proc and /sys are, which tests replace.
            deadline_s: Longest wait for one call.
            xen: How to look at what only a Xen host has.
        """
        self._xen = xen
        self._settings = settings
        self._uri = uri
        self._open_library = open_library
        self._files = HostFiles(root)
        self._deadline_s = deadline_s
        self._unseen: list[Unseen] = []
        self._writable = False
        self._denied: str | None = None
        self._hung = False
        self._gone = False

    def examine(self, word: str | None = None) -> Examination:
        """Look at the host, and at every running domain or at one.

        Args:
            word: A domain's name or UUID, or None for all.

        Raises:
            UsageError: There is no such domain.
            UnreachableError: A domain was named, and libvirt does not answer.
        """
        with contextlib.ExitStack() as stack:
            link, why = self._connect(stack)
            return self._examined(link, why, word)

    def _examined(self, link: Link | None, why: str, word: str | None) -> Examination:
        host = self._host(link, why)
        if link is None:
            if word is not None:
                raise UnreachableError(f"libvirt does not answer on {self._uri}: {why}")
            self._missed("host", "the domains", "libvirt does not answer")
            unseen = tuple(self._unseen)
            return Examination(findings=examine_host(host), unseen=unseen, domains=())
        running = self._running(link, word)
        host = self._with_xen(link, host, [uuid for uuid, _ in running])
        findings = list(examine_host(host))
        names = []
        for uuid, name in running:
            names.append(name)
            if self._hung and not self._still_there(link):
                self._missed(name, "everything", "libvirt hangs")
                continue
            findings += self._domain(link, uuid, name, host, asked=word is not None)
        return Examination(
            findings=tuple(findings), unseen=tuple(self._unseen), domains=tuple(names)
        )

    # ------------------------------------------------------------------------------ the host

    def _connect(self, stack: contextlib.ExitStack) -> tuple[Link | None, str]:
        """A connection that may change, else one that may look, else None and why not."""
        try:
            library = self._open_library(self._uri)
            stack.callback(self._let_go, library.close)
            try:
                link = self._within(lambda: library.open(writable=True))
                self._writable, self._denied = True, None
            except CallFailed as failure:
                self._denied = failure.message
                link = self._within(lambda: library.open(writable=False))
        except CallFailed as failure:
            return None, failure.message
        stack.callback(self._let_go, link.close)
        return link, ""

    def _let_go(self, close: Callable[[], None]) -> None:
        """Close, unless something hangs: closing would wait for it."""
        if not self._hung:
            with contextlib.suppress(CallFailed):
                self._within(close)

    def _host(self, link: Link | None, why: str) -> HostFacts:
        daemon: str | None = ""
        try:
            ask_daemon(self._settings.runtime_dir, "status", timeout_s=_DAEMON_S)
        except UnreachableError as error:
            daemon = str(error)
        ledger = self._ledger()
        return HostFacts(
            uri=self._uri,
            backend=self._settings.backend.partition(":")[0],
            unreachable=None if link is not None else why,
            denied=None if link is None else self._denied,
            driver=None if link is None else self._told(link.driver),
            libvirt_version=None if link is None else self._told(link.library_version),
            hypervisor_version=None if link is None else self._told(link.hypervisor_version),
            daemon=daemon,
            killed=os.path.lexists(self._settings.kill_switch),
            ledger=None if ledger is None else ledger.fault,
            elsewhere=() if ledger is None else self._elsewhere(ledger),
            cgroup_unified=self._files.cgroup_unified(),
            pcpus=self._files.online_pcpus(),
            isolated=self._files.isolated(),
            nohz_full=self._files.nohz_full(),
            numa=self._files.numa(),
            ple_gap=self._files.ple_gap(),
            controllers=self._files.controllers(),
        )

    def _with_xen(self, link: Link, host: HostFacts, uuids: list[str]) -> HostFacts:
        """On Xen /sys tells of dom0's vCPUs: pCPUs and all else come from Xen."""
        if self._xen is None or host.driver != XEN:
            return host
        return replace(
            host,
            xen=self._xen.host(link, uuids, self._within, self._missed),
            pcpus=frozenset(range(self._xen.roll.pcpus)),
            isolated=frozenset(),
            nohz_full=frozenset(),
            numa=(),
        )

    def _ledger(self) -> FileLedger | None:
        folder = ledger_folder(self._settings.state_dir, self._settings.runtime_dir)
        if folder.exists() and not os.access(folder, os.R_OK | os.X_OK):
            self._missed("host", "the ledger", f"no right to read {folder}: run this as root")
            return None
        return FileLedger(folder, read_only=True)

    def _elsewhere(self, ledger: FileLedger) -> tuple[str, ...]:
        here = hypervisor_name(self._uri)
        return tuple(
            f"{one.name} of {one.hypervisor}"
            for one in ledger.outstanding()
            if one.hypervisor not in ("", here)
        )

    # --------------------------------------------------------------------------- the domains

    def _running(self, link: Link, word: str | None) -> list[tuple[str, str]]:
        named: list[tuple[str, str]] = []
        try:
            for row in self._within(lambda: link.bulk(counters=False)):
                try:
                    named.append((row.uuid, self._within(lambda row=row: link.name(row.uuid))))  # type: ignore[misc]
                except CallFailed as failure:
                    if failure.meaning is not Meaning.GONE:
                        raise  # what has stopped meanwhile is not missed
        except CallFailed as failure:
            self._missed("host", "the domains", failure.message)
            return []
        if word is None:
            return sorted(named, key=lambda one: one[1])
        chosen = [one for one in named if word in one or word.lower() == one[0]]
        if not chosen:
            names = [name for _, name in named]
            raise UsageError(f"there is no running domain {word!r}{meant(word, names)}")
        return chosen

    def _domain(
        self, link: Link, uuid: str, name: str, host: HostFacts, *, asked: bool
    ) -> tuple[Finding, ...]:
        try:
            text = self._within(lambda: link.xml(uuid))
        except CallFailed as failure:
            self._missed(name, "its description", failure.message)
            return ()
        description, error, features = None, None, Features()
        try:
            description, features = parse_description(text), parse_features(text)
        except UnreadableError as wrong:
            error = str(wrong)
        wishes = None if description is None else description.wishes
        terms = self._settings.terms.terms(uuid, name, wishes)
        pid = self._files.qemu_pids().get(uuid)
        if pid is None and host.driver == "QEMU":
            why = "its QEMU is not to be found in /proc (hidepid, or it runs on another host)"
            self._missed(name, "its process", why)
        if pid is not None and description is not None:
            description = description.within(self._files.cpusets(pid))
        guest = None
        if description is not None and description.agent is AgentPort.CONNECTED:
            wanted = asked or terms.mode is Mode.ENFORCE or terms.guest_signals
            guest = self._guest(link, uuid, name, description.max_vcpus, wanted=wanted)
        xen = None
        if self._xen is not None and host.driver == XEN and description is not None:
            xen = self._xen.domain(
                link,
                uuid,
                name,
                max_vcpus=description.max_vcpus,
                within=self._within,
                missed=self._missed,
            )
        facts = DomainFacts(
            name=name,
            uuid=uuid,
            terms=terms,
            description=description,
            error=error,
            features=features,
            share_unit=None if pid is None else self._files.share_unit(pid),
            realtime=None if pid is None else self._files.realtime(pid),
            guest=guest,
            xen=xen,
        )
        return examine_domain(facts, host)

    def _guest(
        self, link: Link, uuid: str, name: str, max_vcpus: int, *, wanted: bool
    ) -> GuestFacts | None:
        if not self._writable:
            why = "only who may change a domain may ask its agent: run this as root"
            self._missed(name, "its guest", why)
            return None
        if not wanted:
            why = f"the domain is only observed: `vcpud doctor {name}` asks its agent"
            self._missed(name, "its guest", why)
            return None
        interview = Interview(
            ask=lambda command: self._within(lambda: link.agent(uuid, command, AGENT_S)),
            max_vcpus=max_vcpus,
        )
        try:
            guest = interview.hold()
        except CallFailed as failure:
            self._missed(name, "its guest", failure.message)
            return None
        for refusal in interview.refusals:
            what, _, why = refusal.partition(": ")
            self._missed(name, f"in the guest, {what}", why)
        return guest

    # -------------------------------------------------------------------------------- calls

    def _told(self, ask: Callable[[], T]) -> T | None:
        try:
            return self._within(ask)
        except CallFailed as failure:
            self._missed("host", "a version", failure.message)
            return None

    def _still_there(self, link: Link) -> bool:
        """Whether libvirt answers though a call hangs: one QEMU may, without the others."""
        if not self._gone:
            try:
                self._within(link.library_version)
            except CallFailed as failure:
                self._gone = failure.meaning is Meaning.HUNG
        return not self._gone

    def _within(self, call: Callable[[], T]) -> T:
        """Make a call on a thread that can be given up.

        Raises:
            CallFailed: It failed, or has not been answered.
        """
        box: list[Any] = []

        def run() -> None:
            try:
                box.append(("ok", call()))
            except Exception as error:  # noqa: BLE001  raised again where it is waited for
                box.append(("failed", error))

        thread = threading.Thread(target=run, name="doctor", daemon=True)
        thread.start()
        thread.join(self._deadline_s)
        if not box:
            self._hung = True
            raise CallFailed(Meaning.HUNG, f"no answer within {self._deadline_s:g} s")
        kind, value = box[0]
        if kind == "failed":
            raise value
        result: T = value
        return result

    def _missed(self, subject: str, what: str, why: str) -> None:
        self._unseen.append(Unseen(subject=subject, what=what, why=why))
