"""The real daemon as a process: what it takes to start, and whether it grows."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

from soak.cost import record_crowd

ROUND = 600
"""Cycles of the recording that is told again and again; each time every domain starts anew."""
DOMAINS = 200
LOOKS = 60
"""How often memory is looked at over the whole run."""
READY_WITHIN_S = 60
STALLED_S = 120
"""A daemon that finishes no cycle for so long hangs."""


def settings(folder: Path, backend: str) -> Path:
    """A configuration with folders of its own."""
    for name in ("state", "run"):
        (folder / name).mkdir(mode=0o700, parents=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    config = folder / "vcpud.yaml"
    document: dict[str, Any] = {
        "backend": backend,
        "defaults": {"mode": "enforce"},
        "state_dir": str(folder / "state"),
        "runtime_dir": str(folder / "run"),
        "metrics": {"listen": f"127.0.0.1:{port}"},
        "log": {"format": "json"},
        "recording": {"enabled": True, "max_file_mib": 1, "max_files": 3},
    }
    config.write_text(json.dumps(document))
    config.chmod(0o600)
    return config


def start_cpu_s(folder: Path) -> float:
    """CPU time a daemon has used when it tells systemd that it is READY."""
    recording = record_crowd(folder / "start", DOMAINS, 60)
    config = settings(folder / "started", f"replay:{recording},speed=1")
    path = folder / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ear:
        ear.bind(str(path))
        ear.settimeout(READY_WITHIN_S)
        process = subprocess.Popen(
            [sys.executable, "-m", "vcpud", "--config", str(config), "run"],
            env={**os.environ, "NOTIFY_SOCKET": str(path)},
            stderr=subprocess.DEVNULL,
        )
        try:
            while b"READY=1" not in ear.recv(4096):
                pass
            used_s = cpu_s(process.pid)
        finally:
            process.terminate()
            process.wait(30)
    return used_s


def endure(folder: Path, cycles: int) -> list[int]:
    """Resident memory of a daemon over so many cycles, flat out, scraped all the while."""
    recording = record_crowd(folder / "round", DOMAINS, min(ROUND, cycles))
    rounds = max(1, -(-cycles // ROUND))
    config = settings(folder / "soaked", f"replay:{recording},rounds={rounds}")
    url = f"http://{json.loads(config.read_text())['metrics']['listen']}/metrics"
    memory: list[int] = []
    log = folder / "soak.log"
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", "vcpud", "--config", str(config), "run"],
            stdout=stream,
            stderr=stream,
        )
        try:
            next_cycle = most = 0.0
            grown_s = time.monotonic()
            while process.poll() is None:
                done = scraped_cycles(url)
                if done is not None and done > most:
                    most, grown_s = done, time.monotonic()
                elif time.monotonic() - grown_s > STALLED_S:
                    raise SystemExit(
                        f"no cycle in {STALLED_S} s after {most:.0f}: {log.read_text()[-2000:]}"
                    )
                if done is not None and done >= next_cycle:
                    memory.append(resident(process.pid))
                    next_cycle = done + cycles / LOOKS
                time.sleep(0.2)
        finally:
            if process.poll() is None:
                process.terminate()
                try:
                    process.wait(60)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
    if process.returncode != 0 or not memory:
        raise SystemExit(f"the daemon ended with {process.returncode}: {log.read_text()[-2000:]}")
    return memory


def scraped_cycles(url: str) -> float | None:
    """How many cycles the daemon has finished, by its own metrics."""
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310  our own loopback
            text = answer.read().decode()
    except OSError:
        return None
    for line in text.splitlines():
        if line.startswith("vcpud_poll_duration_seconds_count "):
            return float(line.split()[1])
    return None


def resident(pid: int) -> int:
    """Resident memory of a process in bytes."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def cpu_s(pid: int) -> float:
    """User and system time of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
