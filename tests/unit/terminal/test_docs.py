"""What the documentation says is so: generated pages are fresh, examples are accepted."""

from __future__ import annotations

import importlib.util
import re
import shlex
import sys
from pathlib import Path
from types import ModuleType

import pytest

from vcpud import cli, config

DOCS = Path(__file__).parents[3] / "docs"
PAGES = sorted(DOCS.glob("*.md"))
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)\s:]+)\)")
_HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)
FOLDERS = ("docs", "deploy", "policies", "simulator", "systemd", "tests", "vcpud")
READ = sorted(
    [*DOCS.parent.glob("*.md"), *(p for one in FOLDERS for p in (DOCS.parent / one).rglob("*.md"))]
)
"""Whatever people read."""


def generator(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, DOCS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    if str(DOCS) not in sys.path:  # as it is where the generator is run as a script
        sys.path.append(str(DOCS))
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def blocks(kind: str) -> list[tuple[str, str]]:
    return [
        (page.name, text)
        for page in PAGES
        for found, text in _BLOCK.findall(page.read_text())
        if found == kind
    ]


@pytest.mark.parametrize("name", ["compared", "configuration", "events"])
def test_a_generated_page_is_what_its_generator_writes(name: str) -> None:
    fresh = generator(f"generate_{name}").page()
    assert (DOCS / f"{name}.md").read_text() == fresh, f"run docs/generate_{name}.py"


def test_every_key_is_described() -> None:
    lines = (DOCS / "configuration.md").read_text().splitlines()
    rows = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    keys = {row[0]: row for row in rows if len(row) == 3 and row[0].startswith("`")}
    assert {"`foreign`", "`kill_switch`", "`limits.max_parked_ratio`"} <= set(keys)
    assert not [row[0] for row in keys.values() if not all(row)]


@pytest.mark.parametrize(("page", "text"), blocks("yaml"))
def test_a_configuration_that_is_shown_is_accepted(page: str, text: str, tmp_path: Path) -> None:
    path = tmp_path / "vcpud.yaml"
    path.write_text(text)
    path.chmod(0o600)
    assert config.load(path, explicit=True).files, page


@pytest.mark.parametrize(
    ("page", "line"),
    [
        (page, line)
        for page, text in blocks("sh")
        for line in text.splitlines()
        if line.startswith("vcpud ")
    ],
)
def test_a_command_that_is_shown_is_one(page: str, line: str) -> None:
    options = cli._parser().parse_args(shlex.split(line, comments=True)[1:])
    assert callable(options.handler), page


def anchors(page: Path) -> set[str]:
    """What may stand behind the # of a link to a page."""
    headings = _HEADING.findall(_BLOCK.sub("", page.read_text()))
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", READ, ids=lambda page: str(page.relative_to(DOCS.parent)))
def test_what_a_page_points_to_is_there(page: Path) -> None:
    missing = []
    for link in _LINK.findall(page.read_text()):
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            missing.append(link)
    assert missing == []


@pytest.mark.parametrize(
    ("page", "folder"),
    [
        ("vcpud/README.md", "vcpud"),
        ("vcpud/README.md", "vcpud/hypervisor"),
        ("policies/README.md", "policies/vcpud_policies"),
        ("simulator/README.md", "simulator/vcpud_simulator"),
    ],
)
def test_a_component_says_what_each_of_its_modules_is_for(page: str, folder: str) -> None:
    named = set(re.findall(r"`([a-z_0-9]+)(?:\.py|/)?`", (DOCS.parent / page).read_text()))
    modules = {
        path.stem for path in (DOCS.parent / folder).iterdir() if path.suffix in ("", ".py")
    }
    assert modules - {"__init__", "__pycache__", "__main__"} <= named
