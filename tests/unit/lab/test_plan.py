"""The plan of a run fits its time, and its guests are what the issue asks for."""

from lab import contest, grid, jobs, plan, sitting
from lab.faults import FAULTS
from lab.plan import HostPart
from lab.standings import LEAST_ROUNDS

HOST = HostPart(pcpus=2, cpuset="", accelerator="qemu")


def test_a_full_run_fits_into_thirty_minutes() -> None:
    shares = sum(one.budget_s for one in plan.scenarios() if not one.extra)
    total_s = shares + plan.NEIGHBOUR_S + plan.MIXED_S + sum(plan.FAULT_S.values()) + plan.COST_S
    assert total_s <= plan.FULL_S <= 30 * 60


def test_every_fault_has_a_share_of_the_time() -> None:
    assert list(plan.FAULT_S) == list(FAULTS)


def test_a_quick_run_leaves_a_margin_of_ten_minutes() -> None:
    assert plan.QUICK_S <= 0.9 * 10 * 60


def test_every_scenario_has_its_guests_and_a_name_of_its_own() -> None:
    sets = plan.guest_sets(HOST)
    names = [scenario.name for scenario in plan.scenarios()]
    assert len(set(names)) == len(names)
    for scenario in plan.scenarios():
        assert set(scenario.orders) <= {shape.name for shape in sets[scenario.guests]}


def test_domains_have_twice_as_many_vcpus_as_there_are_pcpus() -> None:
    assert [shape.vcpus for shape in plan.guest_sets(HOST)["pair"]] == [4, 4]
    assert [shape.vcpus for shape in plan.guest_sets(HOST)["mixed"]] == [4, 2]


def test_only_the_test_and_set_pair_sees_a_hypervisor() -> None:
    sets = plan.guest_sets(HOST)
    assert not any(shape.fifo_locks for shape in sets["tas"])
    assert all(shape.fifo_locks for name in ("pair", "mixed") for shape in sets[name])


def test_the_grid_has_every_static_workload_and_its_guests() -> None:
    sets = plan.guest_sets(HOST)
    for guests, orders in grid.ROWS.values():
        assert set(orders) <= {shape.name for shape in sets[guests]}
    assert all(active <= HOST.pcpus for _, active in grid.ALONE.values())


def test_what_is_measured_on_request_fits_into_its_hour() -> None:
    assert grid.MICRO_S + grid.GRID_S * len(grid.ROWS) <= grid.LIMIT_S


def test_the_jobs_fit_into_their_limit_and_are_run_on_request_only() -> None:
    assert jobs.PART_S * len(jobs.JOBS) <= jobs.LIMIT_S
    assert not set(jobs.JOBS) & set(FAULTS)
    assert not set(jobs.JOBS) & set(plan.FAULT_S)


def test_a_sitting_of_any_part_is_long_enough_for_a_verdict() -> None:
    for name, entry in contest.PARTS.items():
        assert LEAST_ROUNDS * entry.round_s < sitting.SITTING_S[name]
