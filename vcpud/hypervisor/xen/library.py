"""libvirt's Xen driver behind the backend's own narrow `Link`.

What the driver does not have is put together from what it has: instead of bulk statistics each
domain is asked in turn, weights come in Xen's own parameters, and how many vCPUs are present comes
from the roll, because the driver only repeats what it was asked for.
References: libvirt src/libxl/libxl_driver.c (flags of scheduler parameters must be 0; per-CPU
statistics are per vCPU, and libxlDomainGetPerCPUStats fills in none of a second batch; virNodeGetInfo
counts pCPUs, dom0's /sys only dom0's vCPUs).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, cast

import libvirt
from vcpud.hypervisor.connection import LibvirtLibrary, LibvirtLink
from vcpud.hypervisor.failures import CallFailed, Meaning
from vcpud.hypervisor.link import Control, ControlState, Row
from vcpud.hypervisor.xen.questions import LIST, Questions
from vcpud.hypervisor.xen.roll import DOM0, Weighing
from vcpud.limits import MAX_WEIGHT
from vcpud.units import NS_PER_MS, NS_PER_S

if TYPE_CHECKING:
    from vcpud.hypervisor.xen.roll import Roll
    from vcpud.hypervisor.xen.tools import Toolstack
    from vcpud.model import Uuid

TAKEN_AT: Final = "taken_at_ns"
"""When a row's counters were read: domains are asked one after the other."""
ONE_BATCH: Final = 128
"""libvirt-python asks for statistics of so many vCPUs at once, and fails in the second batch on Xen."""
NOT_LISTED: Final = (
    "libvirt does not list its domains: a call that has not ended keeps one of them locked"
)
_PCPUS: Final = 2
_TOOLS_REST_NS: Final = 60 * NS_PER_S
_PERCENT: Final = 100


class XenLibrary(LibvirtLibrary):
    """Opens connections to one libvirt on Xen, which all write into one roll."""

    def __init__(
        self, uri: str, *, roll: Roll, tools: Toolstack, now_ns: Callable[[], int]
    ) -> None:
        super().__init__(uri)
        self._roll = roll
        self._tools = tools
        self._now_ns = now_ns
        self._questions = Questions()

    def _link(self, connection: libvirt.virConnect) -> XenLink:
        return XenLink(connection, self._roll, self._tools, self._questions, self._now_ns)


class XenLink(LibvirtLink):
    """One connection to libvirt on Xen."""

    def __init__(
        self,
        connection: libvirt.virConnect,
        roll: Roll,
        tools: Toolstack,
        questions: Questions,
        now_ns: Callable[[], int],
    ) -> None:
        super().__init__(connection)
        self._roll = roll
        self._tools = tools
        self._questions = questions
        self._now_ns = now_ns
        self._rests_until_ns: int | None = None

    def bulk(self, *, counters: bool) -> list[Row]:
        rows: list[Row] = []
        ran_ns: dict[int, int] = {}
        for uuid, number, domain in self._listed():
            row = Row(uuid, number, {})
            # One that nobody gets an answer about is there, and nothing is known of it.
            if self._questions.open_since_ns(uuid) is None:
                try:
                    with self._questions.asked(uuid, self._now_ns()):
                        self._ask_one(row, domain, ran_ns, counters=counters)
                except CallFailed as failure:
                    if failure.meaning is Meaning.GONE:
                        continue
                    if failure.meaning is not Meaning.FAILED:
                        raise
                    row.raw.clear()  # nor is anything of one that is being torn down
            if number != DOM0:
                rows.append(row)
        self._roll.keep(frozenset(row.number for row in rows))
        self._roll.host(int(self._ask(self._connection.getInfo)[_PCPUS]), ran_ns)
        if counters:
            self._call_roll([row.number for row in rows])
        for row in rows:
            live = self._roll.live(row.number, self._now_ns())
            if live:
                row.raw["vcpu.current"] = live
        return rows

    def scheduler(self, uuid: Uuid) -> dict[str, Any]:
        # Looked up anew: a domain that was started anew keeps its UUID and gets another id.
        domain = self._ask(lambda: self._connection.lookupByUUIDString(uuid))
        name = str(self._ask(domain.schedulerType)[0])
        found: dict[str, Any] = {}
        try:
            found = cast("dict[str, Any]", self._ask(domain.schedulerParameters))
        except CallFailed as failure:
            if failure.meaning not in {Meaning.FAILED, Meaning.UNSUPPORTED}:
                raise  # the others are of schedulers without weights
        weight, cap = _weight(found.get("weight")), found.get("cap")
        weighing = Weighing(scheduler=name, weight=weight, cap_pcpus=_pcpus(cap))
        self._roll.weighed(uuid, int(domain.ID()), weighing)
        told = {"cpu_shares": weight, "global_quota": cap, "global_period": _PERCENT}
        return {key: value for key, value in told.items() if value is not None}

    def control(self, uuid: Uuid) -> ControlState:
        # There is no QEMU between libvirt and a vCPU, but a domain may be locked within libvirt.
        since_ns = self._questions.open_since_ns(uuid)
        if since_ns is None:
            return ControlState(Control.FREE, 0)
        return ControlState(Control.OCCUPIED, (self._now_ns() - since_ns) // NS_PER_MS)

    def set_weight(self, uuid: Uuid, weight: int) -> None:
        self._of(uuid, lambda domain: domain.setSchedulerParameters({"weight": weight}))

    def _listed(self) -> list[tuple[Uuid, int, libvirt.virDomain | None]]:
        """All running domains; while libvirt does not list them, those it has listed last."""
        questions = self._questions
        if questions.open_since_ns(LIST) is not None:
            if not questions.listed:
                raise CallFailed(Meaning.HUNG, NOT_LISTED)
            return [(uuid, number, None) for uuid, number in questions.listed.items()]
        active = libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE
        with questions.asked(LIST, self._now_ns()):
            domains = self._ask(lambda: self._connection.listAllDomains(active))
        found = [(str(one.UUIDString()), int(one.ID()), one) for one in domains]
        running = [one for one in found if one[1] >= DOM0]
        questions.listed = {uuid: number for uuid, number, _ in running}
        return [*running]

    def _ask_one(
        self,
        row: Row,
        domain: libvirt.virDomain | None,
        ran_ns: dict[int, int],
        *,
        counters: bool,
    ) -> None:
        """Ask about one domain, which may have to be looked up.

        Raises:
            CallFailed: With GONE where another run of it, or none, is all there is.
        """
        number, raw = row.number, row.raw
        if domain is None:
            domain = self._ask(lambda: self._connection.lookupByUUIDString(row.uuid))
            if int(domain.ID()) != number:
                raise CallFailed(Meaning.GONE, "it has been started anew meanwhile")
        told: Any = self._ask(domain.info)
        state, _, _, count, total_ns = told
        ran_ns[number] = int(total_ns)
        if number == DOM0:
            return
        raw["state.state"] = int(state)
        if counters:
            asked_ns = self._now_ns()
            times = self._run_times(domain, row)
            at_ns = raw[TAKEN_AT] = (asked_ns + self._now_ns()) // 2
            raw |= {f"vcpu.{index}.time": time_ns for index, time_ns in enumerate(times)}
            raw["vcpu.maximum"] = len(times)
            self._roll.counted(number, times, int(count), at_ns)

    def _run_times(self, domain: libvirt.virDomain, row: Row) -> list[int]:
        """Of each vCPU, by its id."""
        most = self._roll.size(row.number) or int(self._ask(domain.maxVcpus))
        if most > ONE_BATCH:
            return [state.run_ns for state in self.states(row.uuid, most)]
        found: Any = self._ask(lambda: domain.getCPUStats(False))
        return [int(one["cpu_time"]) for one in found]

    def _call_roll(self, numbers: list[int]) -> None:
        """Ask Xen who is online, where there is doubt; where it cannot be asked, rarely try."""
        now_ns = self._now_ns()
        if not self._roll.doubtful(now_ns) or now_ns < self._roll.silent_until_ns:
            return
        # A xenstored that is silent may keep this thread: whoever polls instead is not to ask it, too.
        self._roll.silent_until_ns = now_ns + _TOOLS_REST_NS
        if self._rests_until_ns is None or now_ns >= self._rests_until_ns:
            try:
                self._roll.told(self._tools.online(), now_ns)
            except CallFailed:
                self._rests_until_ns = now_ns + _TOOLS_REST_NS
        with contextlib.suppress(CallFailed):  # no xenstore: who is online is known all the same
            for number in numbers:
                leaving = self._tools.leaving(number, self._roll.size(number))
                self._roll.asked_to_go(number, leaving, now_ns)
        self._roll.silent_until_ns = 0


def _weight(told: object) -> int | None:
    """A weight that Xen can have.

    Of a domain in a CPU pool whose scheduler has none libvirt tells -1, unsigned.
    """
    return told if type(told) is int and 0 < told <= MAX_WEIGHT else None


def _pcpus(cap: object) -> float | None:
    """Xen's cap counts hundredths of a pCPU; 0 is none."""
    return cap / _PERCENT if type(cap) is int and cap > 0 else None
