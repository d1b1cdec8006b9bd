"""libvirt itself: its connections and its errors.

Calls release the GIL and may block; who calls, and for how long, is `workers`' concern. A
connection is used by one thread at a time, so that the five requests libvirtd takes at once from
one client are never exhausted.
References: libvirt API; PLATFORM facts on libvirt 9.0 to 12 in the docs.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any, Final, NoReturn, TypeVar, cast

import libvirt_qemu

import libvirt
from vcpud.hypervisor.eventloop import LOOP
from vcpud.hypervisor.events import close_callback, domain_callbacks
from vcpud.hypervisor.failures import CallFailed, Meaning, meaning_of
from vcpud.hypervisor.link import Control, ControlState, Link, Listener, Row, VcpuState
from vcpud.hypervisor.vcpuinfo import read_vcpus
from vcpud.model import Uuid
from vcpud.terms import NOTE_NAMESPACE

T = TypeVar("T")

_NOTE_PREFIX: Final = "vcpud-note"
_KEEPALIVE_S: Final = 5
_KEEPALIVE_COUNT: Final = 3
_REMEMBERED_DOMAINS: Final = 4096

_COUNTERS: Final = libvirt.VIR_DOMAIN_STATS_VCPU | libvirt.VIR_DOMAIN_STATS_PERF
"""Of perf events only those are read that the domain has switched on."""
_BULK_FLAGS: Final = (
    libvirt.VIR_CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT
    | libvirt.VIR_CONNECT_GET_ALL_DOMAINS_STATS_ACTIVE
)
"""By state, one suspended to memory would not be listed: libvirt files it under "other"."""
_JOBS: Final = {
    libvirt.VIR_DOMAIN_JOB_OPERATION_START: "start",
    libvirt.VIR_DOMAIN_JOB_OPERATION_SAVE: "save",
    libvirt.VIR_DOMAIN_JOB_OPERATION_RESTORE: "restore",
    libvirt.VIR_DOMAIN_JOB_OPERATION_MIGRATION_IN: "migration_in",
    libvirt.VIR_DOMAIN_JOB_OPERATION_MIGRATION_OUT: "migration_out",
    libvirt.VIR_DOMAIN_JOB_OPERATION_SNAPSHOT: "snapshot",
    libvirt.VIR_DOMAIN_JOB_OPERATION_SNAPSHOT_REVERT: "snapshot_revert",
    libvirt.VIR_DOMAIN_JOB_OPERATION_DUMP: "dump",
    9: "backup",
    10: "snapshot_delete",
}
_ACTIVE_JOBS: Final = frozenset({libvirt.VIR_DOMAIN_JOB_BOUNDED, libvirt.VIR_DOMAIN_JOB_UNBOUNDED})
_CONTROLS: Final = {
    libvirt.VIR_DOMAIN_CONTROL_OK: Control.FREE,
    libvirt.VIR_DOMAIN_CONTROL_JOB: Control.JOB,
    libvirt.VIR_DOMAIN_CONTROL_OCCUPIED: Control.OCCUPIED,
}


class LibvirtLibrary:
    """Opens connections to one libvirt."""

    def __init__(self, uri: str) -> None:
        """Start libvirt's event loop.

        Args:
            uri: Which libvirt.
        """
        self._uri = uri
        LOOP.acquire()
        self._closed = False

    def open(self, *, writable: bool) -> Link:
        return self._open(writable=writable)

    def listen(self, listener: Listener) -> Link:
        link = self._open(writable=False)
        try:
            link.listen(listener)
        except CallFailed:
            link.close()
            raise
        return link

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            LOOP.release()

    def _open(self, *, writable: bool) -> LibvirtLink:
        try:
            opened = libvirt.open(self._uri) if writable else libvirt.openReadOnly(self._uri)
        except libvirt.libvirtError as error:
            failure = _failure(error)
            if failure.meaning not in {Meaning.DENIED, Meaning.LOST}:
                failure = CallFailed(
                    Meaning.LOST, failure.message, code=failure.code, domain=failure.domain
                )
            raise failure from error
        return self._link(opened)

    def _link(self, connection: libvirt.virConnect) -> LibvirtLink:
        return LibvirtLink(connection)


class LibvirtLink:
    """One connection to libvirt."""

    def __init__(self, connection: libvirt.virConnect) -> None:
        self._connection = connection
        self._domains: dict[Uuid, libvirt.virDomain] = {}
        self._uuids: dict[int, Uuid] = {}
        self._callbacks: list[int] = []
        self._told_of_close = False
        with contextlib.suppress(libvirt.libvirtError):
            # Not supported by libvirt's in-process drivers.
            connection.setKeepAlive(_KEEPALIVE_S, _KEEPALIVE_COUNT)

    def alive(self) -> bool:
        try:
            return bool(self._connection.isAlive())
        except libvirt.libvirtError:
            return False

    def close(self) -> None:
        self._domains.clear()
        for callback in self._callbacks:
            with contextlib.suppress(libvirt.libvirtError):
                self._connection.domainEventDeregisterAny(callback)
        self._callbacks.clear()
        if self._told_of_close:
            self._told_of_close = False
            with contextlib.suppress(libvirt.libvirtError):
                # Else it keeps a reference of its own to the connection, which then stays open.
                self._connection.unregisterCloseCallback()
        with contextlib.suppress(libvirt.libvirtError):
            self._connection.close()

    def hypervisor_version(self) -> int:
        return int(self._ask(self._connection.getVersion))

    def library_version(self) -> int:
        return int(self._ask(self._connection.getLibVersion))

    def driver(self) -> str:
        return str(self._ask(self._connection.getType))

    def bulk(self, *, counters: bool) -> list[Row]:
        groups = libvirt.VIR_DOMAIN_STATS_STATE
        if counters:
            groups |= _COUNTERS
        # Without NOWAIT one busy domain would hold up the answer for all by 30 s.
        return self._rows(
            self._ask(lambda: self._connection.getAllDomainStats(groups, _BULK_FLAGS))
        )

    def some(self, uuids: tuple[Uuid, ...]) -> list[Row]:
        groups = libvirt.VIR_DOMAIN_STATS_STATE | _COUNTERS
        flags = libvirt.VIR_CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT
        domains = [self._domain(uuid) for uuid in uuids]
        return self._rows(
            self._ask(lambda: self._connection.domainListGetStats(domains, groups, flags))
        )

    def name(self, uuid: Uuid) -> str:
        return str(self._domain(uuid).name())

    def xml(self, uuid: Uuid) -> str:
        return str(self._of(uuid, lambda domain: domain.XMLDesc(0)))

    def scheduler(self, uuid: Uuid) -> dict[str, Any]:
        live = libvirt.VIR_DOMAIN_AFFECT_LIVE
        found = self._of(uuid, lambda domain: domain.schedulerParametersFlags(live))
        return cast("dict[str, Any]", found)

    def control(self, uuid: Uuid) -> ControlState:
        found = self._of(uuid, lambda domain: domain.controlInfo())
        state, _, for_ms = cast("tuple[int, int, int]", tuple(found))
        return ControlState(_CONTROLS.get(state, Control.ERROR), for_ms)

    def job(self, uuid: Uuid) -> str | None:
        found = cast("dict[str, Any]", self._of(uuid, lambda domain: domain.jobStats()))
        if found.get("type") not in _ACTIVE_JOBS:
            return None
        return _JOBS.get(found.get(libvirt.VIR_DOMAIN_JOB_OPERATION, 0), "job")

    def ping(self, uuid: Uuid) -> None:
        # I/O threads are asked of QEMU itself on every accelerator, without side effects.
        domain = self._domain(uuid)
        flags = libvirt.VIR_CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT
        groups = libvirt.VIR_DOMAIN_STATS_IOTHREAD
        self._ask(lambda: self._connection.domainListGetStats([domain], groups, flags))

    def agent(self, uuid: Uuid, command: str, timeout_s: int) -> str:
        def ask(domain: libvirt.virDomain) -> str:
            try:
                # The explicit timeout matters: libvirt's default is to wait for ever.
                return str(libvirt_qemu.qemuAgentCommand(domain, command, timeout_s, 0))
            except UnicodeDecodeError as error:
                # A guest may answer what is no text, and its error may be none: as it came, for
                # those who judge what guests say.
                return error.object.decode(errors="replace")

        return self._of(uuid, ask)

    def states(self, uuid: Uuid, most: int) -> tuple[VcpuState, ...]:
        def read(domain: libvirt.virDomain) -> tuple[VcpuState, ...]:
            try:
                found = read_vcpus(cast("int", domain.c_pointer()), most)
            except OSError as error:
                raise CallFailed(Meaning.UNSUPPORTED, str(error)) from error
            if found is None:
                raise libvirt.libvirtError("virDomainGetVcpus() failed")
            return found

        return self._of(uuid, read)

    def live_vcpus(self, uuid: Uuid) -> int:
        live = libvirt.VIR_DOMAIN_AFFECT_LIVE
        return int(self._of(uuid, lambda domain: domain.vcpusFlags(live)))

    def set_live_vcpus(self, uuid: Uuid, count: int) -> None:
        live = libvirt.VIR_DOMAIN_AFFECT_LIVE
        self._of(uuid, lambda domain: domain.setVcpusFlags(count, live))

    def set_note(self, uuid: Uuid, note: str | None) -> None:
        kind, live = libvirt.VIR_DOMAIN_METADATA_ELEMENT, libvirt.VIR_DOMAIN_AFFECT_LIVE
        # libvirt's way of removing an element is to set none, which its annotations do not know.
        text: Any = note
        key: Any = None if note is None else _NOTE_PREFIX
        self._of(uuid, lambda domain: domain.setMetadata(kind, text, key, NOTE_NAMESPACE, live))

    def set_weight(self, uuid: Uuid, weight: int) -> None:
        live = libvirt.VIR_DOMAIN_AFFECT_LIVE
        parameters = {"cpu_shares": weight}
        self._of(uuid, lambda domain: domain.setSchedulerParametersFlags(parameters, live))

    def listen(self, listener: Listener) -> None:
        """Register for every event that changes what vcpud must know.

        Raises:
            CallFailed: The connection cannot report events.
        """
        connection = self._connection
        for number, callback in domain_callbacks(listener).items():
            self._callbacks.append(
                self._ask(
                    lambda number=number, callback=callback: connection.domainEventRegisterAny(  # type: ignore[misc]
                        None, number, callback, None
                    )
                )
            )
        self._ask(lambda: connection.registerCloseCallback(close_callback(listener), None))
        self._told_of_close = True

    def _rows(self, found: list[tuple[libvirt.virDomain, dict[str, Any]]]) -> list[Row]:
        """Rows by UUID, each spelt out once: libvirt never uses the id of a run again."""
        uuids = self._uuids
        if len(uuids) > 2 * len(found) + _REMEMBERED_DOMAINS:
            uuids.clear()
        rows = []
        for domain, raw in found:
            number = domain.ID()
            uuid = uuids.get(number)
            if uuid is None:
                uuid = uuids[number] = domain.UUIDString()
            rows.append(Row(uuid, number, raw))
        return rows

    def _domain(self, uuid: Uuid) -> libvirt.virDomain:
        known = self._domains.get(uuid)
        if known is None:
            if len(self._domains) >= _REMEMBERED_DOMAINS:
                self._domains.clear()
            known = self._ask(lambda: self._connection.lookupByUUIDString(uuid))
            self._domains[uuid] = known
        return known

    def _of(self, uuid: Uuid, ask: Callable[[libvirt.virDomain], T]) -> T:
        domain = self._domain(uuid)
        try:
            return self._ask(lambda: ask(domain))
        except CallFailed as failure:
            if failure.meaning is Meaning.GONE:
                self._domains.pop(uuid, None)
            raise

    def _ask(self, ask: Callable[[], T]) -> T:
        try:
            return ask()
        except libvirt.libvirtError as error:
            self._fail(error)

    def _fail(self, error: libvirt.libvirtError) -> NoReturn:
        failure = _failure(error)
        if failure.meaning is Meaning.FAILED and not self.alive():
            failure = CallFailed(
                Meaning.LOST, failure.message, code=failure.code, domain=failure.domain
            )
        raise failure from error


def _failure(error: libvirt.libvirtError) -> CallFailed:
    code, domain = error.get_error_code(), error.get_error_domain()
    message = error.get_error_message() or str(error)
    return CallFailed(meaning_of(code, domain, message), message, code=code, domain=domain)
