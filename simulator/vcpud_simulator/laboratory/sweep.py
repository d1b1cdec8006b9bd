"""Which parameters suit a policy: every combination, or some drawn at random, on a suite.

Problem: a policy must not be judged by parameters that its authors chose for other machines.

Approach: what is varied are the published parameters, and whether vcpud judges: a policy that its source
runs without a judge is swept without one, and without the daemon's limits, as it is compared. Each
combination is run on every scenario and seed. What scenarios gain differs by orders of
magnitude, so that a plain mean would see only the largest: in each scenario a combination counts by
its share of the best combination there, lowered by as much as some domain is below its floor. Runs
are `compare`'s own tasks and so are kept, resumed and spread over machines in the same way. Seeds are
others than a comparison's: a combination that fits one course of chance is not taken for a good one.
That scenarios are the comparison's favours who is swept.

References: J. Bergstra, Y. Bengio, "Random Search for Hyper-Parameter Optimization", JMLR 13, 2012:
why drawing beats a grid where few of many parameters matter.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import fmean
from typing import Any, Final

from vcpud import policy as policies
from vcpud.errors import UnreachableError, UsageError, VcpudError
from vcpud_simulator.laboratory.compare import scores, states, suite
from vcpud_simulator.laboratory.compare.progress import progress
from vcpud_simulator.laboratory.compare.scores import FLOOR
from vcpud_simulator.laboratory.compare.tasks import Outcome, Task, digest
from vcpud_simulator.rng import Chance
from vcpud_simulator.scenario import Scenario

SEEDS_FROM: Final = 1_000
"""How far seeds are from those that a comparison uses."""
CONNECT_S: Final = 10
"""How long a Dask scheduler is waited for."""

Options = tuple[tuple[str, Any], ...]
Space = Mapping[str, Sequence[Any]]
Execute = Callable[[Iterable[Task], str], Mapping[Task, Outcome]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A sweep.

    Attributes:
        policy: Whose parameters.
        combinations: What is tried, the one to start from first.
        keys: Scenarios.
        seeds: Runs of each.
        duration_ns: What is measured of each.
        changing_ns: The same where the load changes by itself; None for no difference.
    """

    policy: str
    combinations: tuple[Options, ...]
    keys: tuple[str, ...]
    seeds: int
    duration_ns: int
    changing_ns: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """A combination and how it did.

    Attributes:
        options: The combination.
        score: Mean share of the best combination, floors taken into account.
        over_unmanaged: Geometric mean of progress over the unmanaged host's.
        worst_domain_over_floor: Of all domains of all scenarios.
        changes: Changes a run.
    """

    options: Options
    score: float
    over_unmanaged: float
    worst_domain_over_floor: float
    changes: float


def default_space(name: str, start: Options = ()) -> dict[str, tuple[Any, ...]]:
    """Values of each number and switch among a policy's parameters, about those to start from.

    Args:
        name: The policy.
        start: Parameters to start from; others have their defaults.
    """
    policy: Any = policies.load(name, dict(start))
    values = {item.name: getattr(policy, item.name) for item in dataclasses.fields(policy)}
    return {key: tried for key, value in values.items() if len(tried := tuple(_about(value))) > 1}


def _about(value: object) -> Iterable[Any]:
    """Half of, once and twice a number; of a ratio at most half of the way to 1."""
    if isinstance(value, bool):
        return (False, True)
    if isinstance(value, int):
        return dict.fromkeys((value // 2, value, value * 2)) if value else (0, 1)
    if isinstance(value, float):
        more = min(value * 2, (1 + value) / 2) if value < 1 else value * 2
        return dict.fromkeys(float(f"{one:.4g}") for one in (value / 2, value, more))
    return ()


def combinations(
    name: str, space: Space, *, start: Options = (), most: int | None = None, seed: int = 1
) -> tuple[Options, ...]:
    """What is tried: all there is, or so many drawn at random; what to start from always, and first.

    Args:
        name: The policy.
        space: Values by parameter.
        start: Parameters to start from, which also hold for those that are not in the space.
        most: How many beside it; None for all.
        seed: What they are drawn by.

    Raises:
        UsageError: The policy accepts none of them.
    """
    keys = list(space)
    size = math.prod(len(space[key]) for key in keys)
    policies.load(name, dict(start))
    found: dict[Options, None] = {start: None}
    if most is None or most >= size:
        chosen: Iterable[tuple[Any, ...]] = itertools.product(*(space[key] for key in keys))
    else:
        chance = Chance(seed).stream("sweep", name)
        chosen = (tuple(chance.choose(space[key]) for key in keys) for _ in range(most))
    accepted = False
    for values in chosen if keys else ():
        options = tuple({**dict(start), **dict(zip(keys, values, strict=True))}.items())
        if _accepted(name, options):
            accepted = True
            found[options] = None
    if keys and not accepted:
        policies.load(name, {**dict(start), **{key: space[key][0] for key in keys}})
        raise UsageError(f"{name} accepts none of these combinations")
    return tuple(found)


def _accepted(name: str, options: Options) -> bool:
    """Whether the policy can be built so; a threshold below its own hysteresis cannot."""
    try:
        policies.load(name, dict(options))
    except VcpudError:
        return False
    return True


def run(plan: Plan, execute: Execute) -> list[Result]:
    """Run a sweep; best first."""
    scenarios = {key: _lasting(suite.load(key), plan) for key in plan.keys}
    digests = {key: digest(suite.load(key)) for key in plan.keys}

    def task(key: str, seed: int, policy: str = "", options: Options = ()) -> Task:
        return Task(
            key=key,
            digest=digests[key],
            seed=scenarios[key].seed + SEEDS_FROM + seed,
            duration_ns=scenarios[key].duration_ns,
            policy=policy,
            options=options,
        )

    cells = [(key, seed) for key in plan.keys for seed in range(plan.seeds)]
    unmanaged = {cell: task(*cell) for cell in cells}
    managed = {
        (options, cell): task(*cell, plan.policy, options)
        for options in plan.combinations
        for cell in cells
    }
    done = execute([*unmanaged.values(), *managed.values()], f"sweep of {plan.policy}")
    gains: dict[tuple[Options, tuple[str, int]], float] = {}
    lowest: dict[tuple[Options, tuple[str, int]], float] = {}
    for (options, cell), one in managed.items():
        scenario, base = scenarios[cell[0]], done[unmanaged[cell]]
        begin_ns, end_ns = base.window_ns
        before, after = (
            progress(scenario, outcome.work, from_ns=begin_ns, until_ns=end_ns)
            for outcome in (base, done[one])
        )
        weights = {plan.name: float(plan.weight) for plan in scenario.each()}
        floors = scores.floors(before, base.run_pcpus, base.entitled_pcpus)
        gains[options, cell] = scores.weighted(after, before, weights)
        lowest[options, cell] = min(
            (after[name] / floors[name] for name in after if floors.get(name, 0.0) > 0),
            default=1.0,
        )
    best = {cell: max(gains[options, cell] for options in plan.combinations) for cell in cells}
    results = [
        Result(
            options=options,
            score=scores.geometric(
                gains[options, cell] / best[cell] * min(1.0, lowest[options, cell] / FLOOR)
                for cell in cells
            ),
            over_unmanaged=scores.geometric(gains[options, cell] for cell in cells),
            worst_domain_over_floor=min(lowest[options, cell] for cell in cells),
            changes=fmean(len(done[managed[options, cell]].changes) for cell in cells),
        )
        for options in plan.combinations
    ]
    return sorted(results, key=lambda one: -one.score)


def _lasting(scenario: Scenario, plan: Plan) -> Scenario:
    changing_ns = plan.changing_ns if states.divided(scenario) else None
    return dataclasses.replace(scenario, duration_ns=changing_ns or plan.duration_ns)


@contextmanager
def cluster(address: str | None) -> Iterator[bool]:
    """Within it, joblib's work goes to a Dask cluster; nothing changes without an address.

    Yields:
        Whether it does.

    Raises:
        VcpudError: distributed is missing.
        UnreachableError: Nobody answers at the address.
    """
    if address is None:
        yield False
        return
    try:
        import joblib  # type: ignore[import-untyped] # noqa: PLC0415 - of an extra
        from distributed import Client  # noqa: PLC0415 - of an extra
    except ImportError as error:
        raise VcpudError(
            "--dask needs distributed: pip install 'vcpud[laboratory,dask]'"
        ) from error
    try:
        client: Any = Client(address, timeout=CONNECT_S)  # type: ignore[no-untyped-call]
    except (OSError, ValueError) as error:
        raise UnreachableError(f"no Dask scheduler answers at {address}: {error}") from error
    try:
        with joblib.parallel_config(backend="dask"):
            yield True
    finally:
        client.close()
