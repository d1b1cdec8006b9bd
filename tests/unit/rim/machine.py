"""A host, its folders and the command line: whole commands in this process, on a fake host."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fakes.host import BOOT_ID, FakeDomain, FakeHost
from fakes.ports import SimulatedClock
from vcpud import cli
from vcpud.ledger import FileLedger
from vcpud.model import Method, Original
from vcpud.units import NS_PER_S


@dataclass
class Entry:
    """An entry point that leads to one host."""

    name: str
    host: FakeHost

    def load(self) -> Any:
        return self.host.open


class Machine:
    """A host, its folders, and the command line."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self.capsys = capsys
        self.state = folder / "state"
        self.run_dir = folder / "run"
        self.kill_switch = folder / "disabled"
        for path in (folder, self.state, self.run_dir):
            path.mkdir(mode=0o700, exist_ok=True)
        self.configure()
        self.db = FakeDomain(name="db", vcpus=4, lock_bound=True)
        self.web = FakeDomain(name="web", vcpus=4, lock_bound=True)
        self.clock = SimulatedClock(stop_after_ns=30 * NS_PER_S)
        self.host = FakeHost(self.db, self.web, clock=self.clock)

    def configure(self, **more: Any) -> None:
        settings = {
            "backend": "fake",
            "defaults": {"mode": "enforce"},
            "metrics": {"enabled": False},
            "state_dir": str(self.state),
            "runtime_dir": str(self.run_dir),
            "kill_switch": str(self.kill_switch),
        }
        path = self.folder / "vcpud.yaml"
        path.write_text(json.dumps(settings | more))
        path.chmod(0o600)

    def vcpud(self, *words: str) -> tuple[int, str, str]:
        try:
            code = cli.main(["--config", str(self.folder / "vcpud.yaml"), *words])
        except SystemExit as stop:
            code = int(str(stop.code))
        out, err = self.capsys.readouterr()
        assert "Traceback" not in err
        return code, out, err

    def changed(self, domain: FakeDomain) -> None:
        """As an earlier vcpud left it: one vCPU, and the original in the ledger."""
        original = Original(
            boot_id=BOOT_ID,
            uuid=domain.uuid,
            name=domain.name,
            incarnation=domain.incarnation,
            online=domain.online,
            live_vcpus=domain.vcpus,
            hypervisor=self.host.called,
        )
        FileLedger(self.state).remember(original)
        domain.online = frozenset({0})

    def unplug_given_up(self, domain: FakeDomain) -> None:
        """As an earlier vcpud left it: whole, and an unplug that may still come."""
        domain.method = Method.HOTPLUG
        original = Original(
            boot_id=BOOT_ID,
            uuid=domain.uuid,
            name=domain.name,
            incarnation=domain.incarnation,
            online=None,
            live_vcpus=domain.vcpus,
            unplug_from=domain.vcpus,
        )
        FileLedger(self.state).remember(original)

    @property
    def ledger(self) -> set[str]:
        return {original.name for original in FileLedger(self.state).outstanding()}
