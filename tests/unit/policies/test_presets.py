"""Every preset is a configuration as it stands."""

from __future__ import annotations

import argparse
import re
import shlex
from pathlib import Path

import pytest

from vcpud import config
from vcpud.policy import names
from vcpud_simulator.laboratory.commands.compare import contestant
from vcpud_simulator.laboratory.commands.sweep import add_to, plan_of

PRESETS = sorted((Path(__file__).resolve().parents[3] / "policies/presets").glob("*.yaml"))


def test_every_policy_with_parameters_has_its_published_ones() -> None:
    published = {path.stem.removesuffix("-published") for path in PRESETS}
    assert set(names()) - {"static"} <= published


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
def test_a_preset_is_a_configuration_of_the_policy_it_is_named_after(path: Path) -> None:
    settings = config.load(path, explicit=True)
    assert settings.loop.policy_name == path.stem.partition("-")[0]
    assert path.read_text("utf-8").startswith("# "), "it says where its figures are from"


@pytest.mark.parametrize(
    "path", [path for path in PRESETS if path.stem.endswith("-best")], ids=lambda path: path.stem
)
def test_a_swept_preset_names_the_sweep_that_found_it(path: Path) -> None:
    head = path.read_text("utf-8")
    assert re.search(r"^# as published [\d.]+\. Made at [0-9a-f]{40} by$", head, re.MULTILINE)
    [line] = re.findall(r"^#   vcpud (sweep .*)$", head, re.MULTILINE)
    words = shlex.split(line)
    assert words[:2] == ["sweep", path.stem.removesuffix("-best")]
    parser = argparse.ArgumentParser()
    add_to(parser.add_subparsers(), argparse.ArgumentParser(add_help=False))
    tried = plan_of(parser.parse_args(words)).combinations
    assert dict(contestant(str(path)).options) in [dict(options) for options in tried]
