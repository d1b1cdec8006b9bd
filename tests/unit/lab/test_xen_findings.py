"""What the Xen lab makes of what it has seen; none of it needs a Xen."""

from pathlib import Path

import pytest

from lab.cells import Block
from lab.outcome import Outcome
from lab.paths import LAB
from lab.xen import beneath, faults
from lab.xen.beside import advised_floor, undisturbed
from lab.xen.books import CpuBooks
from lab.xen.commands import Commands
from lab.xen.domain import PAIR, PCPUS
from lab.xen.estimate import Estimate, allowed, judge
from lab.xen.image import XEN
from lab.xen.overcommit import DEFAULT_US, RATELIMITS_US, suffix
from lab.xen.parts import parts
from lab.xen.run import FULL_S, SCHEDULERS, merged, rows, summarise
from lab.xen.simulated import DOM0_WEIGHT, slowdowns
from lab.xen.toolstack import Xen
from lab.xen.trace import Times, parse
from vcpud.doctor.facts import HostFacts, XenFacts
from vcpud.doctor.probes import examine_host
from vcpud.doctor.probes.xen import share_floor

S = 1_000_000_000
BOOTED_S = 60.0
"""What booting Xen takes where nothing is saved."""
PREPARED_S = 200.0
"""What making the image and the package takes where nothing is cached."""


def block(began_s: float, ended_s: float) -> Block:
    return Block(
        arm="managed",
        began_ns=int(began_s * S),
        ended_ns=int(ended_s * S),
        rates={},
        proxies={},
        active={},
    )


class NoXen(Xen):
    def __init__(self) -> None:
        """Nothing to open."""


def test_cpu_time_between_two_samples_is_shared_out_evenly() -> None:
    books = CpuBooks(NoXen())
    for at_s, used_s in ((0, 0.0), (10, 5.0), (20, 20.0)):
        books.enter(at_s * S, {1: int(used_s * S)})
    assert books.pcpus(1, [block(5, 15)]) == pytest.approx(1.0)
    assert books.pcpus(1, [block(0.5, 1.5), block(12, 14)]) == pytest.approx(3.5 / 3)


def test_what_a_domain_used_before_it_was_seen_or_after_is_not_known() -> None:
    books = CpuBooks(NoXen())
    books.enter(0, {1: 0})
    books.enter(10 * S, {1: 0, 2: 0})
    assert books.pcpus(2, [block(2, 4)]) is None
    assert books.pcpus(1, [block(8, 12)]) is None


def document(
    verdict: str = "pass", *, passed: bool = True, quick: bool = False
) -> dict[str, object]:
    return {
        "quick": quick,
        "schedulers": {
            "credit": {"scenarios": {"kernel_lock": {"verdicts": {"x >= 3": verdict}}}}
        },
        "faults": {"sigterm": {"passed": passed}},
        "skipped": [],
    }


def test_every_bound_and_fault_has_a_line() -> None:
    assert rows(document()) == [("pass", "credit kernel_lock: x >= 3"), ("pass", "fault sigterm")]


@pytest.mark.parametrize(
    ("found", "status"),
    [
        (document(), 0),
        (document("inconclusive"), 0),
        (document("FAIL"), 1),
        (document(passed=False), 1),
        (document() | {"skipped": ["credit beside"]}, 1),
        (document(quick=True) | {"skipped": ["fault sigterm"]}, 0),
        (document() | {"schedulers": {"credit2": {"error": "QEMU has ended"}}}, 1),
    ],
)
def test_a_run_fails_by_what_is_wrong_and_not_by_what_is_uncertain(
    found: dict[str, object], status: int
) -> None:
    assert summarise(found) == status


def test_a_run_of_some_parts_keeps_what_an_earlier_one_has_found_of_the_others() -> None:
    earlier = document()
    earlier["schedulers"] = {
        "credit": {
            "host": 1,
            "scenarios": {"beside": {"verdicts": {}}, "kernel_lock": {"verdicts": {}}},
        },
        "credit2": {"scenarios": {}},
    }
    earlier["faults"] = {"libvirtd_restart": {"passed": True}}
    found = merged(earlier, document())
    assert found["schedulers"].keys() == {"credit", "credit2"}
    assert found["schedulers"]["credit"]["scenarios"].keys() == {"beside", "kernel_lock"}
    assert found["schedulers"]["credit"]["scenarios"]["kernel_lock"]["verdicts"] == {
        "x >= 3": "pass"
    }
    assert found["faults"].keys() == {"libvirtd_restart", "sigterm"}


def test_every_fault_has_its_share_of_the_time() -> None:
    assert faults.NEEDS_S.keys() == faults.CHECKS.keys()
    assert set(faults.QUICK) <= faults.CHECKS.keys()


def test_a_whole_run_has_time_for_everything() -> None:
    measured_s = sum(
        part.needs_s for scheduler in SCHEDULERS for part in parts(scheduler, quick=False).values()
    )
    needs_s = measured_s + sum(faults.NEEDS_S.values())
    assert needs_s + len(SCHEDULERS) * BOOTED_S <= FULL_S
    assert PREPARED_S + FULL_S <= 3600.0


def test_dom0_weighs_what_the_doctor_would_advise_there() -> None:
    words = (XEN / "dom0" / "lab-job").read_text()
    assert f"xl sched-credit2 -d Domain-0 -w {DOM0_WEIGHT}\n" in words
    weight = 256
    seen = XenFacts(
        scheduler="credit2",
        dom0_weight=weight,
        dom0_vcpus=1,
        lightest=weight,
        heaviest=weight,
        guests_weight=weight * sum(shape.vcpus for shape in PAIR),
    )
    host = HostFacts(uri="xen:///system", driver="Xen", pcpus=frozenset(range(PCPUS)), xen=seen)
    (remedy,) = (one.remedy for one in examine_host(host) if one.code == "dom0-weight")
    assert f"-d Domain-0 -w {DOM0_WEIGHT}`" in remedy


@pytest.mark.parametrize(
    ("exact", "error", "limit"), [(0.9, 0.0, 0.09), (0.1, 0.0, 0.03), (0.5, 0.1, 0.3)]
)
def test_an_estimate_may_be_off_by_the_widest_of_three_margins(
    exact: float, error: float, limit: float
) -> None:
    assert allowed(exact, error) == pytest.approx(limit)


def test_estimates_are_held_against_the_trace_vcpu_by_vcpu() -> None:
    outcome = Outcome()
    exact = {("x1", 0): 0.5, ("x1", 1): 0.0}
    said = {
        ("x1", 0): Estimate(ratio=0.45, error=0.0),
        ("x1", 1): Estimate(ratio=0.06, error=0.01),
    }
    judge(outcome, exact, said)
    assert outcome.figures["worst_error_over_allowed"] == pytest.approx(2.0)


@pytest.mark.parametrize(("exact", "said"), [(None, Estimate(ratio=0.5, error=0.0)), (0.5, None)])
def test_a_vcpu_that_nothing_is_known_of_leaves_no_figure_to_pass(
    exact: float | None, said: Estimate | None
) -> None:
    outcome = Outcome()
    judge(outcome, {("x1", 0): exact}, {("x1", 0): said} if said else {})
    assert "worst_error_over_allowed" not in outcome.figures


def test_the_simulated_set_up_shows_what_the_seed_found() -> None:
    found = slowdowns("credit", 2, 2_000_000, 0.1, 1_000_000)
    assert found["independent"] == pytest.approx(1.0, abs=0.05)
    assert found["synchronising"] > 1.5


def test_what_is_judged_of_overcommit_has_the_plain_name_and_the_rest_says_its_rate_limit() -> (
    None
):
    assert RATELIMITS_US.keys() == set(SCHEDULERS)
    endings = [suffix("credit2", limit_us) for limit_us in RATELIMITS_US["credit2"]]
    assert endings == ["", "_at_1ms"]
    assert suffix("credit", DEFAULT_US) == ""


def test_the_lab_sets_the_floor_that_the_doctor_advises() -> None:
    assert [advised_floor(vcpus) for vcpus in (1, 2, 3, 4)] == [1, 1, 2, 2]
    assert all(advised_floor(vcpus) == share_floor(vcpus) for vcpus in range(1, 17))


STAT = """\
cpu  100 20 30 4000 50 6 7 8 900 90
cpu0 50 10 15 2000 25 3 3 4 450 45
"""


def test_what_the_machine_beneath_did_is_told_in_ticks() -> None:
    assert beneath.machine_ticks(STAT) == (163, 8)  # all but idle, waiting, stolen and told twice
    process = "7 (a) b) c) S 1 7 7 0 -1 4194560 99 0 0 0 321 45 0 0 20 0 9"
    assert beneath.process_ticks(process) == 366


def test_how_often_translated_code_was_thrown_away_is_read_from_qemu() -> None:
    told = "Statistics:\r\nTB flush count      2\r\nTB invalidate count 35\r\n"
    assert beneath.flush_count(told) == 2
    assert beneath.flush_count("[not TCG]") is None


def told(qemu: float | None, flushes: float | None = 0.0) -> dict[str, float | None]:
    return {beneath.QEMU: qemu, beneath.FLUSHES: flushes}


@pytest.mark.parametrize(
    ("blocks", "fine"),
    [
        ([told(1.9), told(1.85), told(0.7), told(1.95)], [True, True, False, True]),
        ([told(1.9), told(1.9, 1.0), told(1.9)], [True, False, True]),
        ([told(0.6), told(0.62), told(0.58)], [True, True, True]),  # no worse than the others
        ([told(None, None), told(1.9)], [True, True]),
        ([], []),
    ],
)
def test_a_block_is_disturbed_by_what_was_beneath_it_and_by_nothing_else(
    blocks: list[dict[str, float | None]], fine: list[bool]
) -> None:
    assert undisturbed(blocks) == fine


@pytest.mark.parametrize("text", [None, "", "{"])
def test_nothing_is_told_from_beneath_where_nobody_tells(text: str | None, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / beneath.FILE).write_text(text)
    assert beneath.counters(tmp_path) == {}
    books = CpuBooks(NoXen())
    assert set(books.told_of(block(0, 1)).values()) == {None}


def test_every_block_says_what_was_beneath_it() -> None:
    books = CpuBooks(NoXen())
    # What is told is now more, now less out of date: ten seconds here may be five there.
    for at_s, there_s, used_s, flushes in ((0, 100, 0, 2), (10, 110, 15, 2), (20, 115, 25, 4)):
        counters: dict[int | str, int] = {1: 0, beneath.AT: there_s * S, beneath.FLUSHES: flushes}
        books.enter(at_s * S, counters | {beneath.QEMU: used_s * S})
    found = books.told_of(block(5, 15))
    assert found[beneath.QEMU] == pytest.approx(12.5 / 7.5)
    assert found[beneath.FLUSHES] == pytest.approx(1.0)
    assert found[beneath.OTHERS] is None


SUMMARY = """\
Total time: 61.20 seconds (using cpu speed 2.40 GHz)
|-- Domain 1 --|
 Runstates:
     blocked:      31  0.21s  16257142 {  5000|  9000| 90000}
    full run:       3  0.01s    800000 {   100|   200|   300}
-- v0 --
 Runstates:
     running:    4172 15.00s   8640000 {  1000|  2000|  3000}
    runnable:    4171 45.00s  25920000 {  1000|  2000|  3000}
          wake:     100  0.50s    120000 {  1000|  2000|  3000}
       preempt:    4071 44.50s    260000 {  1000|  2000|  3000}
     blocked:       2  0.00s     10000 {  1000|  2000|  3000}
 cpu affinity:     912    4000 {  1000|  2000|  3000}
   [0]:     500    4000 {  1000|  2000|  3000}
-- v1 --
 Runstates:
     offline:       1 60.00s 144000000 {  1000|  2000|  3000}
|-- Domain 0 --|
 Runstates:
-- v0 --
 Runstates:
     running:     900  6.00s     16000 {  1000|  2000|  3000}
     blocked:     900 54.00s    140000 {  1000|  2000|  3000}
"""


def test_a_trace_says_how_every_vcpu_spent_its_time() -> None:
    times = parse(SUMMARY)
    assert times.keys() == {(1, 0), (1, 1), (0, 0)}
    assert times[1, 0].runnable_ratio == pytest.approx(0.75)
    assert times[1, 1].runnable_ratio == 0.0
    assert times[1, 0].served_ratio == pytest.approx(0.25)
    assert times[0, 0].blocked == pytest.approx(54.0)


def test_nothing_traced_of_a_vcpu_is_not_a_wait_of_zero() -> None:
    assert Times().runnable_ratio is None
    assert Times(blocked=1.0).served_ratio is None, "who wants nothing is not served"


def test_commands_run_in_a_process_that_has_them_loaded_as_they_would_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(LAB.parent))
    with Commands() as commands:
        told = commands.run(["version"], 60.0)
        wrong = commands.run(["no-such-command"], 60.0)
    assert (told.returncode, told.stderr) == (0, "")
    assert "vcpud" in told.stdout
    assert wrong.returncode == 2
    assert "no-such-command" in wrong.stderr
