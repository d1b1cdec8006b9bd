"""What a guest tells a doctor, whatever it tells."""

from __future__ import annotations

import base64
import json
import time
from typing import Any

import pytest

from vcpud.doctor.guest import Interview
from vcpud.doctor.probes.guest import INTERRUPTS
from vcpud.hypervisor.agent import FILE_LIMIT


def telling(interrupts: str) -> Interview:
    """An interview with a guest that has these interrupts, each bound to CPU 3."""

    def ask(command: str) -> str:
        request = json.loads(command)
        arguments = request.get("arguments", {})
        found: Any = {}
        if request["execute"] == "guest-file-open":
            found = 1 if arguments["path"] == INTERRUPTS else 2
        elif request["execute"] == "guest-file-read":
            content = interrupts[:FILE_LIMIT] if arguments["handle"] == 1 else "3"
            found = {"buf-b64": base64.b64encode(content.encode()).decode()}
        return json.dumps({"return": found})

    return Interview(ask=ask, max_vcpus=4)


@pytest.mark.parametrize("filler", ["\n", " ", "\t", "24: ", "24: \t\n"])
def test_no_table_of_interrupts_takes_longer_to_read_than_it_is_long(filler: str) -> None:
    interview = telling(filler * FILE_LIMIT)
    began_s = time.process_time()
    interview.hold()
    assert time.process_time() - began_s < 1.0


def test_an_interrupt_without_a_name_is_one_all_the_same() -> None:
    assert telling("24: \t\n").hold().files["affinities"] == "affinity 24 3 "
