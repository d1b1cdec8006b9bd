"""What `vcpud simulate` does: one scenario from its first instant to its last, or a list of all."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final

from vcpud import policy as policies
from vcpud.commands.common import say, say_json
from vcpud.errors import ConfigError, UsageError, VcpudError
from vcpud.model import Refused
from vcpud.status import columns
from vcpud.text import printable
from vcpud.units import NS_PER_MS, NS_PER_S, duration_text, seconds
from vcpud.version import version
from vcpud_simulator.laboratory.commands.common import report_path
from vcpud_simulator.laboratory.compare import suite
from vcpud_simulator.laboratory.provenance import commit
from vcpud_simulator.laboratory.reading import read_scenario, scenario_names
from vcpud_simulator.runner import UNMANAGED, RunResult, run
from vcpud_simulator.scenario import Scenario, faults

if TYPE_CHECKING:
    from vcpud.plan import Verdict
    from vcpud.policy import Policy
    from vcpud_simulator.runner import Decided, DomainResult

_WINDOW_NS: Final = 400 * NS_PER_MS
"""Stretch of the trace that a report draws at either end of the run."""
_HEAD: Final = (
    "DOMAIN", "ITERATIONS/S", "ACTIVE", "ENTITLED", "USED", "USEFUL", "SPINNING", "RUN DELAY",
)  # fmt: skip


def simulate(options: argparse.Namespace) -> None:
    """Run one scenario and say what came of it.

    Raises:
        ConfigError: The scenario is wrong.
        UsageError: What is asked of it makes no sense.
        VcpudError: The policy raised errors; what came of the run has been said.
    """
    scenario = _scenario(options)
    policy = _policy(options)
    watch: dict[str, Any] = {}
    if options.report is not None:
        watch = _watch(options, scenario)
    began_s = time.monotonic()
    with _progress(scenario.title or scenario.name) as progress:
        try:
            result = run(
                scenario,
                policy=policy,
                policy_name=options.policy,
                assignment=options.assignment,
                progress=progress,
                **watch.get("run", {}),
            )
        except ValueError as error:
            raise UsageError(str(error)) from error
    took_s = time.monotonic() - began_s
    if options.report is not None:
        watch["write"](result)
    if options.output == "json":
        say_json(document(result, scenario, took_s))
    else:
        say(text(result, scenario, took_s))
        if options.report is not None:
            say(f"report: {options.report}")
    if result.policy_failed:
        raise VcpudError(result.policy_failed)


def list_scenarios(options: argparse.Namespace) -> None:
    """Say which scenarios come with vcpud."""
    scenarios = [read_scenario(name) for name in scenario_names()]
    if options.output == "json":
        say_json(
            [
                {"name": one.name, "kind": str(one.kind), "tags": one.tags, "title": one.title}
                for one in scenarios
            ]
        )
        return
    rows = [("NAME", "KIND", "TITLE"), *((o.name, str(o.kind), o.title) for o in scenarios)]
    say("\n".join(columns(rows)))


# ------------------------------------------------------------------------------- what is asked


def _scenario(options: argparse.Namespace) -> Scenario:
    scenario = suite.load(options.scenario)
    instead: dict[str, Any] = {}
    if options.scheduler not in {None, scenario.scheduler}:
        instead = {"scheduler": options.scheduler, "scheduler_options": {}}
    if options.seed is not None:
        instead["seed"] = options.seed
    if options.duration is not None:
        instead["duration_ns"] = options.duration
    scenario = dataclasses.replace(scenario, **instead)
    wrong = [f"--{key[0]}: {message}" for key, message in faults(scenario)]
    if wrong:
        raise UsageError("\n".join(wrong))
    return scenario


def _policy(options: argparse.Namespace) -> Policy[Any] | None:
    if options.policy == UNMANAGED:
        if options.policy_option:
            raise UsageError("--policy-option needs a policy: name it with --policy")
        return None
    try:
        return policies.load(options.policy, dict(options.policy_option))
    except ConfigError as error:
        raise UsageError(str(error)) from error


# ------------------------------------------------------------------------------- while it runs


@contextlib.contextmanager
def _progress(title: str) -> Iterator[Callable[[int, int], None] | None]:
    """A bar on standard error, where that is a terminal and rich is there."""
    if not sys.stderr.isatty():
        yield None
        return
    try:
        from rich.console import Console  # noqa: PLC0415 - of an extra
        from rich.progress import Progress  # noqa: PLC0415
    except ImportError:
        yield None
        return
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(printable(title, 60), total=None)
        yield lambda done, whole: bar.update(task, completed=seconds(done), total=seconds(whole))


def _watch(options: argparse.Namespace, scenario: Scenario) -> dict[str, Any]:
    """What a report needs kept while the run goes on, and what writes it."""
    from vcpud_simulator.laboratory import report  # noqa: PLC0415 - needs an extra
    from vcpud_simulator.trace import Tee  # noqa: PLC0415

    options.report = report_path(options.report)
    end_ns = scenario.warmup_ns + scenario.duration_ns
    first_ns = min(NS_PER_S, max(0, end_ns - 2 * _WINDOW_NS))
    windows = [
        report.Window(from_ns=from_ns, until_ns=from_ns + _WINDOW_NS)
        for from_ns in (first_ns, end_ns - _WINDOW_NS)
        if from_ns >= 0
    ]
    journal = report.Journal() if options.policy != UNMANAGED else None

    def write(result: RunResult) -> None:
        report.write(
            options.report, scenario=scenario, result=result, windows=windows, journal=journal
        )

    return {"run": {"trace": Tee(*windows), "recorder": journal}, "write": write}


# ------------------------------------------------------------------------------- what came out


def text(result: RunResult, scenario: Scenario, took_s: float) -> str:
    """The result for a terminal."""
    begin_ns, end_ns = result.window_ns
    host = (
        f"{result.pcpus} pCPUs, {scenario.scheduler}, {scenario.platform}, "
        f"policy {result.policy}, seed {result.seed}: "
        f"{duration_text(end_ns - begin_ns)} after {duration_text(begin_ns)}"
    )
    lines = [printable(scenario.title or scenario.name, 300), host, ""]
    lines += columns([_HEAD, *(_row(name, one) for name, one in result.domains.items())])
    for name, one in result.domains.items():
        if one.responses_ns:
            times = ", ".join(
                f"{percent} % {at_ns / NS_PER_MS:.3g} ms"
                for percent, at_ns in one.responses_ns.items()
            )
            lines.append(f"  {printable(name)} answers: {times}")
    if result.changes or result.verdicts:
        told = [(one.at_ns, change_text(one)) for one in result.changes]
        told += [(one.at_ns, verdict_text(one, result)) for one in result.verdicts]
        lines += ["", *(f"{seconds(at_ns):8.2f} s  {what}" for at_ns, what in sorted(told))]
    cost = (
        f"{seconds(end_ns):g} s simulated in {took_s:.1f} s, {result.events:,} events, "
        f"trace {result.trace_hash[:12]}, vcpud {version()} ({commit()})"
    )
    return "\n".join([*lines, "", cost])


def _row(name: str, one: DomainResult) -> tuple[str, ...]:
    return (
        printable(name),
        f"{one.rate:,.4g}" if one.rate < 1e4 else f"{one.rate:,.0f}",  # noqa: PLR2004
        f"{one.mean_active_vcpus:.2f}",
        f"{one.entitled_pcpus:.2f}",
        f"{one.run_pcpus:.2f}",
        f"{one.useful_pcpus:.2f}",
        f"{one.spin_pcpus:.2f}",
        f"{one.run_delay_pcpus:.2f}",
    )


def change_text(one: Decided) -> str:
    """One change for people."""
    record = one.record
    refused = ""
    if isinstance(record.effect, Refused):
        refused = f" REFUSED ({record.effect.reason}: {printable(record.effect.detail)})"
    return (
        f"{printable(record.name)}: {record.from_vcpus} to {record.to_vcpus} active vCPUs, "
        f"{record.purpose}{refused}: {printable(record.reason, 300)}"
    )


def verdict_text(one: Verdict, result: RunResult) -> str:
    """One verdict for people."""
    names = {change.record.uuid: change.record.name for change in result.changes}
    whose = ", ".join(names.get(resize.uuid, resize.uuid) for resize in one.move.resizes)
    kept = "kept" if one.kept else "undone"
    return f"{printable(whose, 300)}: {one.outcome}, {kept}: {printable(one.detail, 300)}"


def document(result: RunResult, scenario: Scenario, took_s: float) -> dict[str, Any]:
    """The result as JSON; durations in seconds."""
    return {
        "commit": commit(),
        "version": version(),
        "scenario": result.scenario,
        "scheduler": scenario.scheduler,
        "platform": scenario.platform,
        "policy": result.policy,
        "seed": result.seed,
        "pcpus": result.pcpus,
        "window_s": [seconds(at_ns) for at_ns in result.window_ns],
        "domains": {name: _plain(one) for name, one in result.domains.items()},
        "changes": [
            {
                "at_s": seconds(one.at_ns),
                "decision_id": one.record.decision_id,
                "domain": one.record.name,
                "purpose": str(one.record.purpose),
                "from_vcpus": one.record.from_vcpus,
                "to_vcpus": one.record.to_vcpus,
                "accepted": one.accepted,
                "reason": one.record.reason,
            }
            for one in result.changes
        ],
        "verdicts": [
            {
                "at_s": seconds(one.at_ns),
                "decision_id": one.decision_id,
                "outcome": str(one.outcome),
                "gain_ratio": one.gain_ratio,
                "kept": one.kept,
                "detail": one.detail,
            }
            for one in result.verdicts
        ],
        "policy_errors": dict(result.policy_errors),
        "timeline": {
            name: [_plain(point) for point in points] for name, points in result.timeline.items()
        },
        "events": result.events,
        "trace_hash": result.trace_hash,
        "took_s": round(took_s, 3),
    }


def _plain(value: Any) -> dict[str, Any]:
    """A dataclass of figures with its durations in seconds."""
    plain: dict[str, Any] = {}
    for item in dataclasses.fields(value):
        found, word = getattr(value, item.name), item.name
        if word == "responses_ns":
            plain["responses_s"] = {str(percent): seconds(ns) for percent, ns in found.items()}
        elif word.endswith("_ns"):
            plain[f"{word.removesuffix('_ns')}_s"] = seconds(found)
        else:
            plain[word] = found
    return plain
