"""A run as one HTML file: it opens without network, in any browser, at any width, light or dark.

Problem: what a policy did to a host, and why, must be shown to people who will not run anything.

Approach: everything is drawn here, as SVG in the page; a short script only adds that pointing at a
picture says what is there. Text is outside the pictures, so that these may be stretched. Whatever
comes from outside is escaped by the template, and the page's own content security policy forbids
every source and every script but the one in it.

    window = report.Window(from_ns=..., until_ns=...)
    journal = report.Journal()
    result = runner.run(scenario, policy=policy, trace=window, recorder=journal)
    report.write(path, scenario=scenario, result=result, windows=[window], journal=journal)
"""

from __future__ import annotations

import base64
import hashlib
import os
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from vcpud.errors import VcpudError
from vcpud.version import version
from vcpud_simulator.laboratory.provenance import commit
from vcpud_simulator.laboratory.report import chart, gantt
from vcpud_simulator.laboratory.report.journal import Journal
from vcpud_simulator.laboratory.report.page import Material, Moment, page
from vcpud_simulator.laboratory.report.tables import Phase
from vcpud_simulator.laboratory.report.window import Window

if TYPE_CHECKING:
    from vcpud_simulator.runner import RunResult
    from vcpud_simulator.scenario import Scenario

__all__ = ["Journal", "Moment", "Phase", "Window", "html", "write"]

_HERE = Path(__file__).parent


def write(  # noqa: PLR0913 - all but one by name
    path: Path,
    *,
    scenario: Scenario,
    result: RunResult,
    windows: Sequence[Window] = (),
    journal: Journal | None = None,
    baseline: RunResult | None = None,
    phases: Sequence[Phase] = (),
    moments: Sequence[Moment] = (),
) -> None:
    """Write a report, whole or not at all.

    Args:
        path: The file.
        scenario: What was simulated.
        result: What came out.
        windows: Stretches of the trace to draw, as the run's trace sink kept them.
        journal: What was decided, as the run's recorder kept it; None without vcpud.
        baseline: The same scenario and seed without vcpud, to compare with.
        phases: Parts of the run to be summed up by themselves, first against last.
        moments: Instants to be marked in every picture over time.

    Raises:
        VcpudError: The packages of the laboratory are missing.
        OSError: It cannot be written.
    """
    text = html(
        Material(
            scenario=scenario,
            result=result,
            windows=windows,
            journal=journal,
            baseline=baseline,
            phases=phases,
            moments=moments,
            version=version(),
            commit=commit(),
        )
    )
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".report-")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except BaseException:
        with suppress(OSError):
            Path(name).unlink()
        raise


def html(material: Material) -> str:
    """The page as text.

    Raises:
        VcpudError: The packages of the laboratory are missing.
    """
    try:
        import jinja2  # noqa: PLC0415 - of an extra
        import markupsafe  # noqa: PLC0415
    except ImportError as error:
        raise VcpudError("a report needs jinja2: pip install 'vcpud[laboratory]'") from error
    environment = jinja2.Environment(
        autoescape=True,
        loader=jinja2.FileSystemLoader(_HERE),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    script = (_HERE / "report.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return environment.get_template("report.html.j2").render(
        page=page(material),
        style=markupsafe.Markup((_HERE / "report.css").read_text(encoding="utf-8")),  # noqa: S704 - ours
        script=markupsafe.Markup(script),  # noqa: S704 - ours
        script_hash=digest,
        width=chart.WIDTH,
        chart_height=chart.HEIGHT,
        lane_height=gantt.LANE,
        percent=percent,
    )


def percent(ratio: float) -> str:
    """A share as CSS wants it."""
    return f"{100 * ratio:.4g}%"
