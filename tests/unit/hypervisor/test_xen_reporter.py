"""deploy/guest/vcpud-xen-report: what it writes is what dom0 reads, and it bounds itself."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from vcpud.hypervisor.xen.report import parse_report
from vcpud.thrift import DEAREST_NS, RAREST_NS, SHARE, WINDOW_NS
from vcpud.units import NS_PER_MS, NS_PER_S

pytestmark = pytest.mark.process

WRITABLE = 2048 - 1 - 24 - 8
"""What xenstored leaves a guest of its 2,048 bytes for a node: it counts its own record and a permission."""
SCRIPT = Path(__file__).parents[3] / "deploy/guest/vcpud-xen-report"
HISTOGRAM = """\
# event histogram
{ common_cpu:          0 } hitcount:         12  lat:        345
{ common_cpu:          1 } hitcount:          5  lat:         55

Totals:
    Hits: 17
    Entries: 2
    Dropped: %d
"""


class Guest:
    """A made-up /proc, and a xenstore that keeps what is written."""

    def __init__(self, root: Path, cpus: int = 2) -> None:
        self.root = root
        self.proc = root / "proc"
        self.bin = root / "bin"
        self.key = root / "key"
        self.bin.mkdir()
        (self.proc / "self").mkdir(parents=True)
        busy = "".join(f"cpu{n} {100 + n} 5 20 5000 7 1 2 9 0 0\n" for n in range(cpus))
        self.write("proc/stat", f"cpu  1 2 3 4 5 6 7 8 0 0\n{busy}intr 1 2 3\n")
        self.write("proc/uptime", "123.45 200.00\n")
        self.write("proc/self/stat", "7 (a b) S 1 1 1 0 -1 0 0 0 0 0 1 2 3 4 20 0\n")
        self.write("proc/loadavg", "0.1 0.2 0.3 4/123 999\n")
        waits = "".join(
            f"cpu{n} 0 0 0 0 0 0 100 {7_000_000 + n} 3\ndomain0 3 1 2\n" for n in range(cpus)
        )
        self.write("proc/schedstat", f"version 15\ntimestamp 1\n{waits}")
        self.write("hist", HISTOGRAM % 0)
        self.tool("xenstore-write", f'[ "$1" = data/vcpud ] && printf %s "$2" >"{self.key}"')
        self.tool("xenstore-rm", f'[ "$1" = data/vcpud ] && rm "{self.key}"')

    def write(self, path: str, text: str) -> None:
        (self.root / path).write_text(text)

    def tool(self, name: str, script: str) -> None:
        (self.bin / name).write_text(f"#!/bin/sh\n{script}\n")
        (self.bin / name).chmod(0o755)

    @property
    def environment(self) -> dict[str, str]:
        return {
            "PATH": f"{self.bin}:{os.environ['PATH']}",
            "VCPUD_PROC": str(self.proc),
            "VCPUD_HISTOGRAM": str(self.root / "hist"),
            "VCPUD_XENBUS": str(self.root),
        }

    def run(self, *words: str) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [SCRIPT, *words], capture_output=True, check=False, env=self.environment, timeout=20
        )


@pytest.fixture
def guest(tmp_path: Path) -> Guest:
    return Guest(tmp_path)


def test_what_is_written_is_what_dom0_reads(guest: Guest) -> None:
    assert guest.run("once").returncode == 0
    report = parse_report(guest.key.read_bytes(), taken_at_ns=0, max_vcpus=2)
    reading = report.reading
    assert report.up_ns == 123_450 * NS_PER_MS
    assert reading.accounting is not None
    first = reading.accounting.cpus[0]
    assert (first.user_ns, first.system_ns) == (1050 * NS_PER_MS, 230 * NS_PER_MS)
    assert (first.idle_ns, first.steal_ns) == (50_070 * NS_PER_MS, 90 * NS_PER_MS)
    assert reading.locks is not None
    assert (reading.locks.waits, reading.locks.wait_ns) == (17, 400_000)
    assert reading.run_queue is not None
    assert [cpu.wait_ns for cpu in reading.run_queue.cpus] == [7 * NS_PER_MS, 7 * NS_PER_MS]
    assert reading.runnable is not None
    assert reading.runnable.runnable == 3, "it runs itself while it looks"


def test_what_the_kernel_does_not_tell_is_left_open(guest: Guest) -> None:
    for path in ("proc/schedstat", "proc/loadavg", "hist"):
        (guest.root / path).unlink()
    environment = {**guest.environment, "VCPUD_HISTOGRAM": ""}
    done = subprocess.run(
        [SCRIPT, "show"], capture_output=True, check=True, env=environment, timeout=20
    )
    reading = parse_report(done.stdout, taken_at_ns=0, max_vcpus=2).reading
    assert (reading.locks, reading.run_queue, reading.runnable) == (None, None, None)
    assert reading.accounting is not None


def test_a_histogram_that_lost_entries_is_no_signal(guest: Guest) -> None:
    guest.write("hist", HISTOGRAM % 3)
    reading = parse_report(guest.run("show").stdout, taken_at_ns=0, max_vcpus=2).reading
    assert reading.locks is None


@pytest.mark.parametrize(
    ("cpus", "waits", "status"), [(30, True, 0), (34, False, 0), (40, False, 0), (90, False, 1)]
)
def test_a_line_is_never_longer_than_it_may_be(
    tmp_path: Path, cpus: int, waits: bool, status: int
) -> None:
    guest = Guest(tmp_path, cpus)
    long = "".join(
        f"cpu{n} 12345678901 0 12345678 1234567890 0 0 0 12345678 0 0\n" for n in range(cpus)
    )
    guest.write("proc/stat", f"{long}intr 0\n")
    guest.write(
        "proc/schedstat", "".join(f"cpu{n} 0 0 0 0 0 0 1 {10**15} 1\n" for n in range(cpus))
    )
    done = guest.run("show")
    assert done.returncode == status
    assert len(done.stdout.rstrip(b"\n")) <= WRITABLE
    if status == 0:
        reading = parse_report(done.stdout, taken_at_ns=0, max_vcpus=cpus).reading
        assert reading.accounting is not None
        assert len(reading.accounting.cpus) == cpus
        assert (reading.run_queue is not None) is waits


def test_it_writes_again_and_again_and_takes_its_line_away_at_the_end(guest: Guest) -> None:
    os.mkfifo(guest.root / "told")
    guest.tool("xenstore-write", f'printf %s "$2" >"{guest.key}"; echo >"{guest.root}/told"')
    with subprocess.Popen([SCRIPT, "run", "1"], env=guest.environment) as running:
        for _ in range(2):
            (guest.root / "told").read_text()
        assert guest.key.read_bytes().endswith(b" end")
        running.send_signal(signal.SIGTERM)
        assert running.wait(10) == 0
    assert not guest.key.exists()


TEN_SECONDS_LATER = """\
lines=$(cat "{root}/lines" 2>/dev/null || echo 0); lines=$((lines + 1)); echo $lines >"{root}/lines"
ticks=$((lines * {ticks}))
idle=$((lines * {idle})) steal=$((lines * (1000 - {ticks} - {idle})))
echo "$((100 + 10 * lines)).00 0" >"{root}/proc/uptime"
printf 'cpu%s %d 0 0 %d 0 0 0 %d 0 0\\n' ' ' $ticks $idle $steal 0 $ticks $idle $steal >"{root}/proc/stat"
echo "7 (a b) S 1 1 1 0 -1 0 0 0 0 0 0 0 $((lines * {cost})) 0 20 0" >"{root}/proc/self/stat"
"""
"""Each line costs so many ticks of 10 ms, and ten seconds pass until the next."""


@pytest.mark.parametrize("shell", ["dash", "bash"])
@pytest.mark.parametrize(
    ("figures", "pauses"),
    [
        ({"ticks": 1000, "idle": 0, "cost": 1}, (2, 2)),
        ({"ticks": 50, "idle": 0, "cost": 1}, (20, 24)),
        ({"ticks": 20, "idle": 30, "cost": 1}, (20, 24)),
        ({"ticks": 0, "idle": 1000, "cost": 1}, (2, 2)),
        ({"ticks": 1, "idle": 0, "cost": 1}, (45, 45)),
        ({"ticks": 1000, "idle": 0, "cost": 300}, (5, 5)),
    ],
    ids=["plenty", "a twentieth", "some of it idle", "idle", "next to nothing", "collapsed"],
)
def test_it_writes_as_often_as_a_hundredth_of_what_the_guest_gets_allows(
    guest: Guest, shell: str, figures: dict[str, int], pauses: tuple[int, int]
) -> None:
    found = shutil.which(shell)
    if found is None:
        pytest.skip(f"there is no {shell} here")
    guest.tool(
        "xenstore-write",
        TEN_SECONDS_LATER.format(root=guest.root, **figures),
    )
    guest.tool(
        "sleep",
        f'echo "$1" >>"{guest.root}/pauses"; [ "$(wc -l <"{guest.root}/pauses")" -lt 14 ] || kill $PPID',
    )
    subprocess.run([found, SCRIPT, "run"], check=True, env=guest.environment, timeout=20)
    slept = [int(pause) for pause in (guest.root / "pauses").read_text().split()]
    assert slept[0] == 2, "nothing is known at first"
    assert pauses[0] <= min(slept[9:]) <= max(slept[9:]) <= pauses[1]


def test_a_cpu_that_goes_offline_is_no_use_of_another(guest: Guest) -> None:
    guest.tool(
        "xenstore-write",
        TEN_SECONDS_LATER.format(root=guest.root, ticks=50, idle=0, cost=1)
        + f'[ $((lines % 2)) = 0 ] || echo "cpu1 0 0 0 5000 0 0 0 0 0 0" >>"{guest.root}/proc/stat"',
    )
    guest.tool(
        "sleep",
        f'echo "$1" >>"{guest.root}/pauses"; [ "$(wc -l <"{guest.root}/pauses")" -lt 9 ] || kill $PPID',
    )
    subprocess.run([SCRIPT, "run", "3"], check=True, env=guest.environment, timeout=20)
    assert set((guest.root / "pauses").read_text().split()) == {"3"}, "no window was ever whole"


def test_it_keeps_to_the_figures_of_the_daemon() -> None:
    found = dict(
        re.findall(r"^(share|rarest|window|dearest)=(\d+)$", SCRIPT.read_text(), re.MULTILINE)
    )
    assert int(found["share"]) == round(1 / SHARE)
    assert int(found["rarest"]) * NS_PER_S == RAREST_NS
    assert int(found["window"]) * 10 * NS_PER_MS == WINDOW_NS
    assert int(found["dearest"]) * NS_PER_MS == DEAREST_NS


@pytest.mark.parametrize(
    "words", [(), ("runs",), ("run", "0"), ("run", "0.5"), ("once", "1"), ("run", "-1")]
)
def test_more_than_one_line_a_second_cannot_be_asked_for(
    guest: Guest, words: tuple[str, ...]
) -> None:
    done = guest.run(*words)
    assert done.returncode == 2
    assert b"usage" in done.stderr


def test_where_there_is_no_xenstore_that_is_said(guest: Guest) -> None:
    environment = {**guest.environment, "VCPUD_XENBUS": str(guest.root / "nowhere")}
    done = subprocess.run(
        [SCRIPT, "once"], capture_output=True, check=False, env=environment, timeout=20
    )
    assert done.returncode == 3
    assert b"no guest of Xen" in done.stderr


def test_a_xenstore_that_refuses_is_told_by_the_status(guest: Guest) -> None:
    guest.tool("xenstore-write", "exit 1")
    assert guest.run("once").returncode == 1
