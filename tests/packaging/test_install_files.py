"""What `make install` and the package bring beside the program is where the rest says it is."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml

CHECKOUT = Path(__file__).resolve().parents[2]


def installed(into: Path, *settings: str) -> Path:
    """Install below a folder; nothing of the environment is made anew for that."""
    words = ["make", "--silent", "--old-file=.venv/.project", "install-files"]
    done = subprocess.run(
        [*words, f"DESTDIR={into}", "PREFIX=/usr", *settings],
        check=False,
        capture_output=True,
        text=True,
        cwd=CHECKOUT,
    )
    assert done.returncode == 0, done.stderr
    return into


def runbook_links(root: Path) -> list[str]:
    document = yaml.safe_load((root / "usr/share/vcpud/prometheus/alerts.yml").read_text())
    return [
        rule["annotations"]["runbook_url"]
        for group in document["groups"]
        for rule in group["rules"]
    ]


@pytest.mark.process
def test_the_links_of_the_alerts_lead_to_a_page_that_is_installed(tmp_path: Path) -> None:
    links = [urlsplit(link) for link in runbook_links(installed(tmp_path))]
    assert links
    for link in links:
        assert link.scheme == "file"
        page = (tmp_path / link.path.removeprefix("/")).read_text()
        assert f"\n## {link.fragment}\n".lower() in page.lower()


@pytest.mark.process
def test_whatever_the_program_tells_people_to_look_at_is_installed(tmp_path: Path) -> None:
    root = installed(tmp_path)
    sources = list((CHECKOUT / "vcpud").rglob("*.py"))
    told = {
        found
        for path in sources
        for found in re.findall(r"/usr/share/[\w./-]*\w", path.read_text())
    }
    assert "/usr/share/vcpud/guest/vcpud-lock-histogram" in told
    assert [path for path in sorted(told) if not (root / path[1:]).exists()] == []
    for path in sources:
        assert not re.search(r"see (deploy|docs|systemd)/", path.read_text()), path


@pytest.mark.process
def test_a_site_says_where_its_runbook_is(tmp_path: Path) -> None:
    links = runbook_links(installed(tmp_path, "RUNBOOK=https://wiki.example.org/vcpud"))
    assert links
    assert all(link.startswith("https://wiki.example.org/vcpud#vcpud") for link in links)


@pytest.mark.process
def test_links_and_pictures_of_installed_pages_lead_somewhere(tmp_path: Path) -> None:
    pages = sorted((installed(tmp_path) / "usr/share/doc/vcpud").rglob("*.md"))
    assert {"README.md", "faq.md"} <= {page.name for page in pages}
    lost = [
        f"{page}: {link}"
        for page in pages
        for link in re.findall(r"\]\((?!https:)([^)#]+)", page.read_text())
        if not (page.parent / link).exists()
    ]
    assert lost == []
