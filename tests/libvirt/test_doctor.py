"""`vcpud doctor` over the real library, through its in-process test driver."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from vcpud import cli

pytestmark = pytest.mark.libvirt

HOST = Path(__file__).with_name("host.xml")


def doctor(
    capsys: pytest.CaptureFixture[str], folder: Path, *words: str
) -> tuple[int, dict[str, Any], str]:
    where = ["--state-dir", str(folder), "--runtime-dir", str(folder)]
    code = cli.main(
        ["doctor", *where, "--backend", f"libvirt:test://{HOST}", "-o", "json", *words]
    )
    out, err = capsys.readouterr()
    return code, json.loads(out) if out else {}, err


def test_what_the_test_driver_lacks_is_found(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    code, document, err = doctor(capsys, tmp_path)
    assert code == 1
    assert " found" in err
    assert document["domains"] == ["first", "second"]
    found = {(finding["subject"], finding["code"]) for finding in document["findings"]}
    assert {("host", "driver-unknown"), ("first", "agent-missing")} <= found
    assert all(finding["remedy"] for finding in document["findings"])


def test_one_domain_is_looked_at_by_its_name(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    _, document, _ = doctor(capsys, tmp_path, "second")
    assert document["domains"] == ["second"]
    code, _, err = doctor(capsys, tmp_path, "third")
    assert code == 2
    assert "there is no running domain 'third'" in err


def test_only_libvirt_is_looked_at(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["doctor", "--backend", "simulated"]) == 2
    assert "examines libvirt" in capsys.readouterr().err
