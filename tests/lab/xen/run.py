"""A whole run on Xen: boots a machine per scheduler, gives it the job, and judges what comes back."""

from __future__ import annotations

import json
import os
import shutil
import time
from typing import TYPE_CHECKING, Any

from lab.image import output
from lab.intervals import Verdict
from lab.paths import BUILD
from lab.picture import draw
from lab.results import commit
from lab.stage import say
from lab.timeline import Moment
from lab.xen import faults, overcommit
from lab.xen.domain import PCPUS
from lab.xen.image import dom0_image
from lab.xen.job import follow, hand_in
from lab.xen.machine import MachineError, ready_machine
from lab.xen.package import installed_vcpud
from lab.xen.parts import parts
from lab.xen.simulated import slowdowns
from lab.xen.telling import Telling
from vcpud.units import NS_PER_S, NS_PER_US

if TYPE_CHECKING:
    import argparse

    from lab.xen.image import Dom0Image
    from lab.xen.machine import Machine
    from lab.xen.package import Installed

SCHEDULERS = ("credit", "credit2")
FAULTY = "credit"
"""The faults are vcpud's and the toolstack's: under one scheduler they say it all."""
FULL_S = 3300.0
QUICK_S = 560.0
"""What the measuring may last; make's own limits are 60 and 20 minutes, building and booting included."""
GRACE_S = 60.0
RESULTS = BUILD / "lab-xen.json"
PICTURE = BUILD / "lab-xen.png"


def part_names() -> list[str]:
    """Return the names ``--only`` takes."""
    return [*parts(SCHEDULERS[0], quick=False), "faults", *faults.CHECKS]


def run(options: argparse.Namespace) -> int:
    """Run the lab; returns the exit status."""
    only = set(options.only.split(",")) if options.only else set()
    unknown = only - set(part_names())
    if unknown:
        say(f"no such part: {', '.join(sorted(unknown))}; there are {', '.join(part_names())}")
        return 2
    wanted = (options.scheduler,) if options.scheduler else SCHEDULERS
    schedulers = wanted[:1] if options.quick else wanted
    image = dom0_image()
    vcpud = installed_vcpud(image.root)
    document: dict[str, Any] = {
        "commit": commit(),
        "quick": options.quick,
        "host": {
            "image": dict(image.manifest),
            "qemu": output("qemu-system-x86_64", "--version").split("\n")[0],
        },
        "schedulers": {},
        "faults": {},
        "skipped": [],
    }
    ends_s = time.monotonic() + (QUICK_S if options.quick else FULL_S)
    earlier = _earlier(document) if only else {}
    for done, scheduler in enumerate(schedulers):
        job = _job(
            only, quick=options.quick, faulty=scheduler == FAULTY or bool(options.scheduler)
        )
        later_s = sum(
            _needs_s(later, job["parts"], quick=options.quick) for later in schedulers[done + 1 :]
        )
        limit_s = ends_s - time.monotonic() - later_s
        found = _one(image, vcpud, scheduler, {**job, "limit_s": limit_s})
        document["faults"] |= found.pop("faults", {})
        document["skipped"] += [f"{scheduler} {name}" for name in found.pop("skipped", ())]
        timeline = found.pop("timeline", None)
        if timeline:
            _draw(timeline, scheduler)
        _simulate(found, scheduler)
        document["schedulers"][scheduler] = found
        _write(merged(earlier, document))
    return summarise(document)


def _job(only: set[str], *, quick: bool, faulty: bool) -> dict[str, Any]:
    names = list(parts(SCHEDULERS[0], quick=quick))
    chosen = list(faults.QUICK if quick else faults.CHECKS) if faulty else []
    if only:
        names = [name for name in names if name in only]
        chosen = [name for name in faults.CHECKS if name in only or "faults" in only]
    return {"quick": quick, "pcpus": PCPUS, "parts": names, "faults": chosen}


def _needs_s(scheduler: str, names: list[str], *, quick: bool) -> float:
    every = parts(scheduler, quick=quick)
    return sum(part.needs_s for name, part in every.items() if name in names)


def _one(
    image: Dom0Image, vcpud: Installed, scheduler: str, job: dict[str, Any]
) -> dict[str, Any]:
    """Run the job under one scheduler; whatever goes wrong is a finding."""
    say(f"\nXen, sched={scheduler}")
    try:
        with ready_machine(image, scheduler, vcpud.tree) as machine:
            (machine.job / "job.json").write_text(json.dumps(job))
            hand_in(machine, vcpud, "python3 -u -m lab.xen.inside /run/job/job.json")
            machine.begin_job()
            try:
                with Telling(machine):
                    status = follow(machine, job["limit_s"] + GRACE_S)
                error = f"the job ended with status {status}" if status else ""
            except MachineError as late:
                error = str(late)
            found = _results(machine)
            _keep_logs(machine)
    except MachineError as broken:
        error, found = str(broken), {}
    if error:
        say(f"  FAIL  {error}")
        found["error"] = error
    return found


def _results(machine: Machine) -> dict[str, Any]:
    path = machine.job / "results.json"
    if not path.exists():
        return {}
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def _keep_logs(machine: Machine) -> None:
    BUILD.mkdir(exist_ok=True)
    for path in machine.job.glob("lab-xen-*.log"):
        shutil.copyfile(path, BUILD / path.name)


def _draw(timeline: dict[str, Any], scheduler: str) -> None:
    moments = [Moment(**moment) for moment in timeline["moments"]]
    caption = f"Two Xen guests contend on a kernel lock (sched={scheduler}); vcpud is started at 0"
    BUILD.mkdir(exist_ok=True)
    draw(moments, timeline["started_ns"], PICTURE.with_stem(f"lab-xen-{scheduler}"), caption)


def _simulate(found: dict[str, Any], scheduler: str) -> None:
    """Put beside what overcommit costs real guests what it costs simulated ones in the same set-up."""
    measured = found.get("scenarios", {}).get("overcommit", {})
    simulated: dict[str, float] = {}
    for ratelimit_us in overcommit.RATELIMITS_US[scheduler]:
        ending = overcommit.suffix(scheduler, ratelimit_us)
        used = measured.get("pcpus_used", {}).get(f"synchronising pair{ending}", {})
        dom0_pcpus, rate = used.get("dom0"), measured.get(f"independent_alone_rate{ending}")
        if dom0_pcpus is None or not rate:
            continue
        grain_ns = round(PCPUS / rate * NS_PER_S)
        figures = slowdowns(scheduler, PCPUS, grain_ns, dom0_pcpus, ratelimit_us * NS_PER_US)
        for name, value in figures.items():
            simulated[f"{name}{ending}"] = value
            say(
                f"  {name} work on overcommitted pCPUs, rate limit {ratelimit_us / 1_000:g} ms: "
                f"{measured[f'{name}_slowdown{ending}']:.3g} times slower, simulated {value:.3g}"
            )
    if simulated:
        measured["simulated"] = simulated


def _earlier(document: dict[str, Any]) -> dict[str, Any]:
    """Return the results of an earlier run of the same commit in the same machine, for what this one leaves out."""
    if not RESULTS.exists():
        return {}
    found: dict[str, Any] = json.loads(RESULTS.read_text())
    same = ("commit", "host", "quick")
    return found if all(found.get(key) == document[key] for key in same) else {}


def merged(earlier: dict[str, Any], document: dict[str, Any]) -> dict[str, Any]:
    """Return ``document`` with the parts and faults of an earlier one that it does not have."""
    schedulers = dict(earlier.get("schedulers", {}))
    for name, results in document["schedulers"].items():
        scenarios = schedulers.get(name, {}).get("scenarios", {}) | results.get("scenarios", {})
        schedulers[name] = results | {"scenarios": scenarios}
    return document | {
        "schedulers": schedulers,
        "faults": earlier.get("faults", {}) | document["faults"],
    }


def _write(document: dict[str, Any]) -> None:
    BUILD.mkdir(exist_ok=True)
    scratch = RESULTS.with_suffix(f".{os.getpid()}")
    scratch.write_text(json.dumps(document, indent=2, allow_nan=False) + "\n")
    scratch.rename(RESULTS)


def rows(document: dict[str, Any]) -> list[tuple[str, str]]:
    """Return a verdict and what it is on, for everything a run should have shown."""
    found = []
    for scheduler, results in document["schedulers"].items():
        if "error" in results:
            found.append((str(Verdict.FAIL), f"{scheduler}: {results['error']}"))
        found += [
            (verdict, f"{scheduler} {name}: {bound}")
            for name, scenario in results.get("scenarios", {}).items()
            for bound, verdict in scenario["verdicts"].items()
        ]
    found += [
        (str(Verdict.PASS if finding["passed"] else Verdict.FAIL), f"fault {name}")
        for name, finding in document["faults"].items()
    ]
    found += [("not run", name) for name in document["skipped"]]
    return found


def summarise(document: dict[str, Any]) -> int:
    """Print every verdict; returns the exit status."""
    say("")
    for verdict, what in rows(document):
        say(f"{verdict:<13} {what}")
    say(f"\nwritten: {RESULTS}")
    # A slow machine leaves parts of the short form out; that must not block a good change.
    wrong = {str(Verdict.FAIL)} if document["quick"] else {str(Verdict.FAIL), "not run"}
    return 1 if any(verdict in wrong for verdict, _ in rows(document)) else 0
