"""Every preset is a configuration as it stands."""

from __future__ import annotations

from pathlib import Path

import pytest

from vcpud import config
from vcpud.policy import names

PRESETS = sorted((Path(__file__).resolve().parents[3] / "policies/presets").glob("*.yaml"))


def test_every_policy_with_parameters_has_its_published_ones() -> None:
    published = {path.stem.removesuffix("-published") for path in PRESETS}
    assert set(names()) - {"static"} <= published


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
def test_a_preset_is_a_configuration_of_the_policy_it_is_named_after(path: Path) -> None:
    settings = config.load(path, explicit=True)
    assert settings.loop.policy_name == path.stem.partition("-")[0]
    assert path.read_text("utf-8").startswith("# "), "it says where its figures are from"
