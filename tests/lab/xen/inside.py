"""The half of the Xen lab that runs in dom0: measures, and writes what it found after every part."""

from __future__ import annotations

import json
import platform
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import libvirt
from lab import faults
from lab.arms import ArmError
from lab.board import BoardTimeoutError
from lab.intervals import Verdict
from lab.managed import VcpudError
from lab.outcome import Outcome
from lab.results import finite
from lab.stage import say
from lab.xen.bench import XenBench
from lab.xen.commands import Commands
from lab.xen.faults import CHECKS, NEEDS_S
from lab.xen.parts import fits, parts
from lab.xen.stage import XenStage
from lab.xen.toolstack import ToolError, xl_info

if TYPE_CHECKING:
    from lab.faults import Finding
    from lab.xen.parts import Part

RESULTS = "results.json"
_WRONG_STATE = (ArmError, BoardTimeoutError, VcpudError, ToolError, libvirt.libvirtError)


@dataclass(slots=True, kw_only=True)
class Found:
    """What has been found so far.

    Attributes:
        path: Where it is written.
        host: Of Xen and dom0.
        scenarios: Figures and verdicts by part.
        faults: Whether passed, and what was seen.
        skipped: What did not fit into the time.
        timeline: Of the last recovery that was watched.
    """

    path: Path
    host: dict[str, Any] = field(default_factory=dict)
    scenarios: dict[str, Any] = field(default_factory=dict)
    faults: dict[str, Any] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)
    timeline: dict[str, Any] = field(default_factory=dict)

    def write(self) -> None:
        """Write it, in one step."""
        document = {key: value for key, value in asdict(self).items() if key != "path"}
        scratch = self.path.with_suffix(".new")
        scratch.write_text(json.dumps(finite(document), allow_nan=False))
        scratch.rename(self.path)


def describe() -> dict[str, Any]:
    """Return what a reader of the results needs to know of Xen and dom0."""
    told = xl_info()
    wanted = ("xen_major", "xen_minor", "xen_extra", "xen_scheduler", "nr_cpus", "xen_commandline")
    found = {key: told.get(key) for key in wanted}
    return {**found, "kernel": platform.release(), "libvirt": libvirt.getVersion()}


def _compare(stage: XenStage, name: str, part: Part, found: Found) -> None:
    try:
        outcome = part.measure(stage)
    except _WRONG_STATE as error:
        say(f"  FAIL  {name}: {error}")
        outcome = Outcome(figures={"error": str(error)})
        outcome.verdicts[f"ran: {error}"] = Verdict.FAIL
        stage.keep_logs(name)
        stage.start_over()
    else:
        stage.keep_logs(name)
    found.scenarios[name] = {
        **outcome.figures,
        "verdicts": {bound: str(verdict) for bound, verdict in outcome.verdicts.items()},
    }
    if outcome.moments:
        found.timeline = {
            "started_ns": outcome.started_ns,
            "moments": [asdict(moment) for moment in outcome.moments],
        }


def _fault(stage: XenStage, name: str) -> Finding:
    return faults.run_fault(stage, name, lambda _stage: CHECKS[name](stage))


def main() -> int:
    """Do the job described in the file that is the only argument."""
    job_file = Path(sys.argv[1])
    job = json.loads(job_file.read_text())
    found = Found(path=job_file.parent / RESULTS, host=describe())
    found.write()
    with XenBench() as bench, Commands() as commands:
        stage = XenStage(bench, commands, job["pcpus"], job["limit_s"], job_file.parent)
        try:
            chosen = {
                name: part
                for name, part in parts(
                    str(found.host["xen_scheduler"]), quick=job["quick"]
                ).items()
                if name in job["parts"]
            }
            needs_s = [part.needs_s for part in chosen.values()]
            needs_s += [NEEDS_S[name] for name in job["faults"]]
            for number, (name, part) in enumerate(chosen.items()):
                stage.reserved_s = sum(needs_s[number + 1 :])
                if not fits(stage, part.needs_s):
                    found.skipped.append(name)
                    continue
                say(f"\n{name} ({part.needs_s:.0f} s of {stage.left_s:,.0f} s left)")
                _compare(stage, name, part, found)
                found.write()
            for name in job["faults"]:
                if not fits(stage, NEEDS_S[name]):
                    found.skipped.append(f"fault {name}")
                    continue
                finding = _fault(stage, name)
                found.faults[name] = {"passed": finding.passed, "detail": finding.detail}
                found.write()
        finally:
            stage.end_vcpud()
            found.write()  # what was left out last, too
    return 0


if __name__ == "__main__":
    sys.exit(main())
