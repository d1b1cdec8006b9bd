"""The report in a real browser: it renders, complains of nothing, fetches nothing, at every width."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from browser.chromium import Page, browser, program
from fakes.material import EVIL, material
from vcpud import config, policy
from vcpud_simulator.laboratory import demo, demo_screen, report
from vcpud_simulator.laboratory.reading import read_scenario

pytestmark = [pytest.mark.browser, pytest.mark.process]

KEPT = Path("build/browser")
"""Where the pictures of the last check are, for people to look at."""
WIDTHS = (1280, 400)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    if program() is None and not os.environ.get("VCPUD_NOTHING_SKIPPED"):
        pytest.skip("no Chromium here: make report-check installs one")
    with browser(tmp_path_factory.mktemp("chromium")) as tab:
        yield tab


@pytest.fixture(scope="module")
def demonstrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a real run, with decisions."""
    path = tmp_path_factory.mktemp("report") / "demo.html"
    name = config.defaults().loop.policy_name
    demo.play(
        scenario=read_scenario(demo.SCENARIO),
        policy=policy.load(name, {}),
        policy_name=name,
        screen=demo_screen.Silent(),
        report_path=path,
    )
    return path


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report full of words that try to be more."""
    path = tmp_path_factory.mktemp("report") / "hostile.html"
    path.write_text(report.html(material(names=(EVIL, "x" * 300), reason=EVIL)), encoding="utf-8")
    return path


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("which", ["demonstrated", "hostile"])
def test_it_renders_without_a_complaint_or_a_request_and_fits_the_width(
    page: Page, which: str, width: int, dark: bool, request: pytest.FixtureRequest
) -> None:
    path: Path = request.getfixturevalue(which)
    page.open(path, width=width, dark=dark)
    KEPT.mkdir(parents=True, exist_ok=True)
    (KEPT / f"{which}-{width}-{'dark' if dark else 'light'}.png").write_bytes(page.screenshot())
    assert page.complaints == []
    assert page.requests == [path.as_uri()]
    assert page.evaluate("document.documentElement.scrollWidth") == width
    beyond = page.evaluate(
        "[...document.querySelectorAll('td, th, figcaption, p, li, output, .name, h1, h2')]"
        ".filter(e => e.getBoundingClientRect().right > innerWidth + 1 && e.offsetParent"
        " && getComputedStyle(e).position !== 'absolute' && !e.closest('thead'))"
        ".map(e => e.textContent.slice(0, 40))"
    )
    assert beyond == []


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_no_picture_is_empty(page: Page, demonstrated: Path, width: int, dark: bool) -> None:
    page.open(demonstrated, width=width, dark=dark)
    boxes = page.evaluate(
        "[...document.querySelectorAll('figure')].map(f => {"
        " const b = (f.querySelector('.area') || f.querySelector('.lanes svg')"
        ").getBoundingClientRect();"
        " return {x: b.x, y: b.y + scrollY, width: b.width, height: b.height} })"
    )
    assert len(boxes) == 8, "four figures over time, two windows with two pictures each"
    for box in boxes:
        assert box["width"] > width / 2
        assert box["height"] > 10
        image = Image.open(io.BytesIO(page.screenshot(box))).convert("RGB")
        colours = image.getcolors(image.width * image.height)
        assert colours is not None
        vivid = sum(count for count, rgb in colours if isinstance(rgb, tuple) and _vivid(rgb))
        assert vivid > 100, "a domain's colour is on it"


def _vivid(rgb: tuple[int, ...]) -> bool:
    return max(rgb) - min(rgb) > 60


def test_the_pictures_agree_with_the_figures(page: Page, demonstrated: Path) -> None:
    page.open(demonstrated, width=1280)
    shares = page.evaluate(
        "[...document.querySelectorAll('section.who')].map(s => {"
        " const runs = [...s.querySelectorAll('[data-gantt=pCPUs] g path:first-of-type')];"
        " const spins = [...s.querySelectorAll('[data-gantt=pCPUs] .spin')];"
        " const width = all => all.reduce((sum, p) => sum + p.getBBox().width, 0);"
        " return [width(runs), width(spins)] })"
    )
    (run_before, spin_before), (run_after, spin_after) = shares
    assert run_before == pytest.approx(2_000, rel=0.02), "two pCPUs that are always busy"
    assert spin_before > 0.9 * run_before
    assert run_after == pytest.approx(2_000, rel=0.05)
    assert spin_after < 0.01 * run_after


@pytest.mark.parametrize("width", WIDTHS)
def test_text_and_lines_can_be_told_from_their_ground(
    page: Page, demonstrated: Path, width: int
) -> None:
    for dark in (False, True):
        page.open(demonstrated, width=width, dark=dark)
        for selector, least in (
            ("h1", 7.0), ("p.lead", 7.0), (".note", 4.5), ("td", 7.0), (".lanes .name", 3.0),
        ):  # fmt: skip
            words = page.evaluate(
                f"(() => {{ const e = document.querySelector({selector!r});"
                " let g = e; while (getComputedStyle(g).backgroundColor === 'rgba(0, 0, 0, 0)')"
                " g = g.parentElement;"
                " return [getComputedStyle(e).color, getComputedStyle(g).backgroundColor] })()"
            )
            assert contrast(*words) >= least, (selector, dark, words)


def contrast(ink: str, ground: str) -> float:
    """The contrast ratio of WCAG 2."""

    def luminance(colour: str) -> float:
        parts = [int(one) / 255 for one in colour[4:-1].split(",")]
        red, green, blue = (
            one / 12.92 if one <= 0.04045 else ((one + 0.055) / 1.055) ** 2.4 for one in parts
        )
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    light, dark = sorted((luminance(ink), luminance(ground)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_pointing_at_a_picture_says_what_is_there(page: Page, demonstrated: Path) -> None:
    page.open(demonstrated, width=1280)
    x, y = page.evaluate(
        "(() => { const e = document.querySelector('.area'); e.scrollIntoView({block: 'center'});"
        " const b = e.getBoundingClientRect();"
        " return [b.x + b.width / 2, b.y + b.height / 2] })()"
    )
    page.point_at(x, y)
    said = page.evaluate("document.querySelector('figure.plot output').textContent")
    assert said.startswith("30 s: mail ")
    assert ", build " in said
    x, y = page.evaluate(
        "(() => { const e = document.querySelector('figure.gantt');"
        " e.scrollIntoView({block: 'center'});"
        " const b = e.querySelector('g').getBoundingClientRect();"
        " return [b.x + b.width / 2, b.y + 2] })()"
    )
    page.point_at(x, y)
    said = page.evaluate("document.querySelector('figure.gantt output').textContent")
    assert " ms, " in said
    assert "spinning" in said
    assert page.complaints == []


def test_hostile_words_do_nothing(page: Page, hostile: Path) -> None:
    page.open(hostile, width=1280)
    assert page.evaluate("document.querySelectorAll('script').length") == 2
    assert page.evaluate("document.querySelectorAll('img').length") == 0
    assert "alert(1)" in page.evaluate("document.body.innerText")
    assert page.complaints == []


def test_the_check_itself_notices_a_page_that_is_not_well(page: Page, tmp_path: Path) -> None:
    """A check that cannot fail proves nothing: an exception, a refused script, a foreign request."""
    path = tmp_path / "unwell.html"
    path.write_text(
        "<!doctype html><title>x</title><script>setTimeout(() => missing(), 0)</script>"
        "<img src='http://192.0.2.1/x.png'><p style='width: 2000px'>wide</p>",
        encoding="utf-8",
    )
    page.open(path, width=400)
    page.evaluate("new Promise(done => setTimeout(done, 50))")
    assert any("missing is not defined" in one for one in page.complaints)
    assert "http://192.0.2.1/x.png" in page.requests
    assert page.evaluate("document.documentElement.scrollWidth") > 400
