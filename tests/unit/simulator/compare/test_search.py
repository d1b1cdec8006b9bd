"""What the oracle's search looks at, and for how long."""

from __future__ import annotations

from pathlib import Path

from unit.simulator.compare.made_up import SCENARIO, S, steady
from unit.simulator.compare.test_campaign import Executor
from vcpud_simulator.laboratory.compare.campaign import Campaign
from vcpud_simulator.laboratory.compare.plan import Contestant, Plan
from vcpud_simulator.laboratory.compare.tasks import Outcome, Task


def test_floors_are_those_of_a_long_look_at_the_unmanaged_host(tmp_path: Path) -> None:
    """In a short one chance may promise a domain what it can have on no host."""
    path = tmp_path / "wide.yaml"
    path.write_text(
        SCENARIO.replace("db: {vcpus: 4,", "db: {vcpus: 8,").replace(
            "mail: {vcpus: 4,", "mail: {vcpus: 7,"
        )
    )

    def lucky(task: Task) -> Outcome:
        """Fewer vCPUs of `db` are better for `mail` and, but for chance, no worse for `db`."""
        db = dict(task.counts or (("db", 8), ("mail", 7)))["db"]
        short = task.duration_ns == 2 * S
        chance = (100.0 if task.counts is None else 1.0 * db) if short else 0.0
        return steady(task, {"db": 100.0 + chance, "mail": 100.0 / db})

    executor = Executor(lucky)
    plan = Plan(
        keys=(str(path),), contestants=(Contestant(label="p", policy="p"),), seeds=1, finalists=1
    )
    [card] = Campaign(plan, executor).run()
    assert card.oracle.startswith("db 1, ")
    plain = [one for one in executor.tasks if not one.policy and one.counts is None]
    assert [one.duration_ns // S for one in plain] == [600, 8, 2], "the short one as all others"
