"""What the page on own policies shows works as it stands."""

from __future__ import annotations

import io
import json
import re
import sys
import tomllib
from pathlib import Path

import pytest

from vcpud import cli, policy
from vcpud.errors import ConfigError, VcpudError
from vcpud.units import NS_PER_S
from vcpud_simulator.laboratory import provenance
from vcpud_simulator.laboratory.compare import runs
from vcpud_simulator.laboratory.compare.tasks import Task

PAGE = Path(__file__).parents[3] / "docs" / "extending.md"
FILES = dict(
    re.findall(r"^```\w+\n# (\S+)\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
)

SCENARIO = """\
pcpus: 2
warmup: 0s
duration: 5s
domains:
  a: {vcpus: 4, copies: 2, workload: gobmk}
"""


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on the path with the policy of the page, as an installer would leave it."""
    project = tomllib.loads(FILES["pyproject.toml"])["project"]
    (tmp_path / "to_share.py").write_text(FILES["to_share.py"])
    about = tmp_path / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Name: {project['name']}\nVersion: {project['version']}\n")
    group, entries = next(iter(project["entry-points"].items()))
    lines = [f"[{group}]", *(f"{name} = {where}" for name, where in entries.items())]
    (about / "entry_points.txt").write_text("\n".join(lines))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "to_share", raising=False)
    return tmp_path


def simulate(folder: Path, *more: str) -> int:
    scenario = folder / "pair.yaml"
    scenario.write_text(SCENARIO)
    return cli.main(["simulate", str(scenario), "--policy", "to_share", "-o", "json", *more])


def test_the_policy_is_found_and_moves_what_waits(
    installed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert simulate(installed, "--policy-option", "delay_high=0.1") == 0
    found = json.loads(capsys.readouterr().out)
    assert {change["to_vcpus"] for change in found["changes"]} == {1}
    assert found["policy_errors"] == {}


def test_a_run_is_plotted(installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    point = {"t_s": 1, "rate": 2.5, "active_vcpus": 4}
    run = {"scenario": "s", "policy": "p", "timeline": {"db": [point]}}
    monkeypatch.setattr(sys, "stdin", io.StringIO(json.dumps(run)))
    monkeypatch.chdir(installed)
    exec(compile(FILES["plot.py"], "plot.py", "exec"), {})  # noqa: S102 - what the page shows
    assert (installed / "run.png").read_bytes().startswith(b"\x89PNG")


def test_a_policy_that_raises_has_no_result(
    installed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = FILES["to_share.py"].replace("moves = []", "moves = nonsuch")
    (installed / "to_share.py").write_text(text)
    line = text[: text.index("moves = nonsuch")].count("\n") + 1
    said = f"the policy failed in 5 cycles: NameError: name 'nonsuch' is not defined (to_share.py:{line})"
    assert simulate(installed) == 1
    out, err = capsys.readouterr()
    assert said in err
    assert json.loads(out)["policy_errors"]
    task = Task(
        key=str(installed / "pair.yaml"),
        digest="",
        seed=1,
        duration_ns=NS_PER_S,
        policy="to_share",
    )
    with pytest.raises(VcpudError, match="to_share on pair: the policy failed in"):
        runs.perform(task)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("import nonsuch_", "cannot be loaded: ModuleNotFoundError: No module named 'nonsuch_'"),
        ("x = 1 / 0", "cannot be loaded: ZeroDivisionError: division by zero (to_share.py:1)"),
        ("x =", "cannot be loaded: SyntaxError: invalid syntax (to_share.py, line 1)"),
        ("", "cannot be loaded: AttributeError"),
        ("class ToShare: pass", "(to_share:ToShare) is no dataclass"),
    ],
)
def test_a_policy_that_is_none_is_named_with_its_fault(
    installed: Path, text: str, said: str
) -> None:
    (installed / "to_share.py").write_text(text)
    with pytest.raises(ConfigError, match=re.escape(said)):
        policy.load("to_share", {})


def test_a_result_is_told_from_that_of_an_older_policy(installed: Path) -> None:
    digest = provenance.code_digest.__wrapped__
    before = digest()
    (installed / "to_share.py").write_text("# other\n")
    assert digest() != before
