"""Metrics: complete, bounded, absent where not known, and gone with their domain."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import threading
from collections.abc import Iterable
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from fakes.crowd import crowd
from fakes.runs import Kept, collapse
from vcpud.counters import VcpuCounters, VcpuSample
from vcpud.demand import HostDemand
from vcpud.metrics import Metrics
from vcpud.metrics.catalogue import CATALOGUE
from vcpud.metrics.domains import concurrency_hazard, wait_error
from vcpud.model import HostSample, Trouble
from vcpud.plan import Plan
from vcpud.record import CycleRecord, DomainStatus, Phase, Why
from vcpud.tracks import Tracks, estimate
from vcpud.units import NS_PER_S

CHECKOUT = Path(__file__).resolve().parents[3]
Found = dict[tuple[str, ...], float]


def scraped(metrics: Metrics) -> Found:
    found: Found = {}
    for family in text_string_to_metric_families(metrics.render().decode()):
        for sample in family.samples:
            labels = [f"{key}={value}" for key, value in sorted(sample.labels.items())]
            key = (sample.name, *labels)
            assert key not in found, f"{key} twice in one scrape"
            found[key] = sample.value
    return found


def cycles(samples: Iterable[HostSample], **more: object) -> list[CycleRecord]:
    told, tracks = [], Tracks()
    for number, sample in enumerate(samples):
        tracks, demand = estimate(tracks, sample)
        told.append(
            CycleRecord(
                cycle=number + 1,
                began_ns=sample.taken_at_ns,
                ended_ns=sample.taken_at_ns + NS_PER_S // 100,
                period_ns=NS_PER_S,
                policy_name="static",
                sample=sample,
                demand=demand,
                proposed=Plan(),
                domains=tuple(
                    DomainStatus(
                        uuid=one.uuid,
                        phase=Phase.IDLE,
                        target_vcpus=len(one.active),
                        original_vcpus=None,
                    )
                    for one in sample.domains
                ),
                **more,  # type: ignore[arg-type]
            )
        )
    return told


def after(*records: CycleRecord) -> Found:
    metrics = Metrics("digest", "fake")
    for record in records:
        metrics.record(record)
    return scraped(metrics)


@pytest.fixture(scope="module")
def recovery() -> tuple[Metrics, list[CycleRecord]]:
    metrics = Metrics("digest", "fake")
    kept = Kept(metrics)
    collapse(kept, 40, calm=5)
    return metrics, kept.cycles


def test_the_recovery_shows_with_its_evidence(
    recovery: tuple[Metrics, list[CycleRecord]],
) -> None:
    found = scraped(recovery[0])
    assert found["vcpud_outcomes_total", "result=helped"] == 2
    assert found["vcpud_outcomes_total", "result=harmed"] == 0
    assert found["vcpud_domain_outcomes_total", "domain=a", "result=helped"] == 1
    assert found["vcpud_domain_last_gain_ratio", "domain=a"] > 1
    assert found["vcpud_outcome_gain_ratio_bucket", "le=+Inf", "result=helped"] == 2
    assert found["vcpud_outcome_gain_ratio_bucket", "le=0.5", "result=helped"] == 0
    assert found["vcpud_decisions_total", "action=shrink", "reason=policy"] == 2
    assert found["vcpud_decisions_total", "action=grow", "reason=restore"] == 2
    assert found["vcpud_domain_changes_total", "direction=shrink", "domain=b"] == 1
    assert found["vcpud_change_duration_seconds_count",] == 4


def test_every_metric_that_is_declared_is_there_and_no_other(
    recovery: tuple[Metrics, list[CycleRecord]],
) -> None:
    declared = {family.name.removesuffix("_total"): family for family in CATALOGUE}
    shown = {
        family.name: family
        for family in text_string_to_metric_families(recovery[0].render().decode())
        if not family.name.startswith("process_")
    }
    assert set(shown) == set(declared)
    for name, family in shown.items():
        assert (family.type, family.documentation) == (declared[name].kind, declared[name].text)
        for sample in family.samples:
            assert set(sample.labels) - {"le"} == set(declared[name].labels)


def test_names_follow_the_conventions() -> None:
    for family in CATALOGUE:
        assert family.name.startswith("vcpud_")
        assert (family.kind == "counter") == family.name.endswith("_total")
        assert not any(word in family.name for word in ("percent", "_ns", "_ms"))
        assert family.text.endswith((".", "1."))
    assert len({family.name for family in CATALOGUE}) == len(CATALOGUE)


def test_what_is_not_known_is_absent_and_never_zero() -> None:
    (first,) = cycles(crowd(4, 1))
    found = after(first)
    names = {key[0] for key in found}
    assert "vcpud_domain_used_pcpus" not in names
    assert "vcpud_domain_lock_wait_ratio" not in names
    assert "vcpud_host_runqueue_wait_ratio" not in names
    assert "vcpud_domain_sample_age_seconds" in names


def test_before_the_first_cycle_nothing_is_claimed() -> None:
    found = after()
    assert found["vcpud_up",] == 0
    assert not any(key[0].startswith("vcpud_domain_") for key in found)
    assert ("vcpud_libvirt_connected",) not in found


def test_series_of_departed_domains_disappear(
    recovery: tuple[Metrics, list[CycleRecord]],
) -> None:
    last = recovery[1][-1]
    metrics = Metrics("digest", "fake")
    for record in recovery[1]:
        metrics.record(record)
    assert [key for key in scraped(metrics) if "domain=a" in key]
    without = tuple(one for one in last.sample.domains if one.name != "a")
    metrics.record(
        dataclasses.replace(last, sample=dataclasses.replace(last.sample, domains=without))
    )
    found = scraped(metrics)
    assert not [key for key in found if "domain=a" in key]
    assert [key for key in found if "domain=b" in key]
    assert found["vcpud_outcomes_total", "result=helped"] == 2, "totals stay"


@pytest.mark.parametrize("name", ['"quoted"', "back\\slash", "new\nline", "emoji 🐙", "}", ""])
def test_any_name_makes_a_text_that_can_be_read(name: str) -> None:
    (first,) = cycles(crowd(2, 1))
    odd = dataclasses.replace(first.sample.domains[0], name=name)
    found = after(
        dataclasses.replace(
            first,
            sample=dataclasses.replace(first.sample, domains=(odd, first.sample.domains[1])),
        )
    )
    ages = [key for key in found if key[0] == "vcpud_domain_sample_age_seconds"]
    assert len(ages) == 2


def test_two_domains_of_one_shown_name_do_not_void_the_scrape() -> None:
    (first,) = cycles(crowd(3, 1))
    twins = tuple(dataclasses.replace(one, name="x" * 500) for one in first.sample.domains)
    found = after(
        dataclasses.replace(first, sample=dataclasses.replace(first.sample, domains=twins))
    )
    assert len([key for key in found if key[0] == "vcpud_domain_info"]) == 3


@pytest.mark.parametrize("why", [*Why, None])
def test_a_quarantine_has_a_bounded_reason(why: Why | None) -> None:
    (first,) = cycles(crowd(2, 1))
    one = dataclasses.replace(first.domains[0], phase=Phase.QUARANTINED, why=why, detail="x" * 99)
    found = after(dataclasses.replace(first, domains=(one, first.domains[1])))
    (key,) = [key for key in found if key[0] == "vcpud_domain_quarantined"]
    assert key[2] == f"reason={why or Why.FAILED}"


def test_troubles_and_calls_that_hang_show() -> None:
    (first,) = cycles(crowd(1, 1))
    hung = dataclasses.replace(
        first.sample.domains[0], troubles=frozenset({Trouble.HUNG, Trouble.JOB})
    )
    found = after(
        dataclasses.replace(first, sample=dataclasses.replace(first.sample, domains=(hung,)))
    )
    assert [key[2] for key in found if key[0] == "vcpud_domain_trouble"] == [
        "reason=hung",
        "reason=job",
    ]
    assert [found[key] for key in found if key[0] == "vcpud_domain_timed_out"] == [1]


def test_polls_that_fail_are_counted_and_a_reconnect_is_one() -> None:
    first, second, third = cycles(crowd(1, 3))
    lost = dataclasses.replace(second.sample, connected=False)
    found = after(
        first,
        dataclasses.replace(second, sample=lost, overruns=1, ledger_error="disk full"),
        dataclasses.replace(third, overruns=1, policy_error="ZeroDivisionError"),
    )
    assert found["vcpud_poll_errors_total", "reason=not_connected"] == 1
    assert found["vcpud_libvirt_reconnects_total",] == 1
    assert found["vcpud_poll_overruns_total",] == 1
    assert found["vcpud_journal_write_errors_total",] == 1
    assert found["vcpud_policy_errors_total",] == 1
    assert found["vcpud_libvirt_connected",] == 1
    assert found["vcpud_poll_duration_seconds_count",] == 3


def test_the_text_is_written_once_per_cycle_and_after_a_reload() -> None:
    first, second = cycles(crowd(2, 2))
    metrics = Metrics("digest", "fake")
    metrics.record(first)
    text = metrics.render()
    assert metrics.render() is text
    metrics.record(second)
    assert metrics.render() is not text
    metrics.reloaded(None)
    assert b"vcpud_config_last_reload_successful 0.0" in metrics.render()
    metrics.reloaded("other")
    assert b'vcpud_config_info{hash="other"}' in metrics.render()


def test_scrapes_while_cycles_end_are_whole() -> None:
    metrics = Metrics("digest", "fake")
    told = cycles(crowd(5, 60))
    stop = threading.Event()
    faults: list[BaseException] = []

    def scrape() -> None:
        while not stop.is_set():
            try:
                scraped(metrics)
            except Exception as error:  # noqa: BLE001  told below
                faults.append(error)

    thread = threading.Thread(target=scrape)
    thread.start()
    for record in told:
        metrics.record(record)
    stop.set()
    thread.join()
    assert not faults


# ---------------------------------------------------------------------------------- estimates


def vcpu(index: int, run_s: float | None, delay_s: float | None) -> VcpuSample:
    return VcpuSample(
        index=index,
        run_ns=None if run_s is None else round(run_s * NS_PER_S),
        run_delay_ns=None if delay_s is None else round(delay_s * NS_PER_S),
    )


def hazard(*after_: tuple[float | None, float | None]) -> float | None:
    before = VcpuCounters.of(vcpu(at, 0.0, 0.0) for at in range(len(after_)))
    now = VcpuCounters.of(vcpu(at, run, delay) for at, (run, delay) in enumerate(after_))
    return concurrency_hazard(before, now, NS_PER_S)


@pytest.mark.parametrize(
    ("times", "ratio"),
    [
        ([(1.0, 0.0), (1.0, 0.0)], 0.0),
        ([(0.0, 1.0), (0.0, 1.0)], 0.0),
        ([(1.0, 0.0), (0.0, 1.0)], 1.0),
        ([(0.5, 0.5), (0.5, 0.5)], 0.5),
        ([(0.0, 0.0), (0.0, 0.0)], 0.0),
        ([(0.5, 0.5)], 0.0),
        ([(0.5, 0.0), (0.0, 0.5)], 0.25),
    ],
)
def test_concurrency_hazard_is_some_running_while_some_wait(
    times: list[tuple[float, float]], ratio: float
) -> None:
    assert hazard(*times) == pytest.approx(ratio)


def test_errors_of_an_estimated_wait_add_in_squares() -> None:
    def estimated(*errors_s: float | None) -> VcpuCounters:
        return VcpuCounters.of(
            dataclasses.replace(
                vcpu(at, 0.0, 1.0),
                run_delay_error_ns=None if error_s is None else round(error_s * NS_PER_S),
            )
            for at, error_s in enumerate(errors_s)
        )

    window_ns = 10 * NS_PER_S
    before, now = estimated(0.3, 0.0), estimated(0.5, 0.3)
    assert wait_error(before, now, window_ns, 2) == pytest.approx(0.5 / 10 / 2)
    assert wait_error(estimated(None), estimated(None), window_ns, 1) is None, "it is counted"
    assert wait_error(before, now, 0, 2) is None
    assert wait_error(estimated(0.0), estimated(0.0), window_ns, 1) == 0.0


def test_concurrency_hazard_is_not_guessed() -> None:
    assert hazard((0.5, None)) is None
    assert hazard() is None
    one, other, later = (
        VcpuCounters.of([vcpu(*row)]) for row in ((0, 0, 0), (1, 1, 1), (0, 1, 1))
    )
    assert concurrency_hazard(one, other, NS_PER_S) is None
    assert concurrency_hazard(one, later, 0) is None


def test_lock_holder_preemption_takes_both_waits() -> None:
    metrics = Metrics("digest", "fake")
    for record in cycles(crowd(8, 30)):
        metrics.record(record)
    found = scraped(metrics)
    scores = {key[1]: value for key, value in found.items() if "lhp_score" in key[0]}
    assert scores
    for domain, score in scores.items():
        wait = found["vcpud_domain_runqueue_wait_ratio", domain]
        assert score == min(wait, found["vcpud_domain_lock_wait_ratio", domain])


# --------------------------------------------------------------------------------------- docs


def test_the_table_in_the_docs_is_that_of_the_code() -> None:
    done = subprocess.run(
        [sys.executable, str(CHECKOUT / "docs" / "generate_metrics.py"), "--check"],
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_demand_without_domains_is_no_fault() -> None:
    (first,) = cycles(crowd(1, 1))
    nothing = HostDemand(window_ns=0, pools=(), domains=())
    found = after(dataclasses.replace(first, demand=nothing, domains=()))
    assert found["vcpud_up",] == 1
