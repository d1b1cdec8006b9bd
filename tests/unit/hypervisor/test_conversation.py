"""What is known through a guest's agent, while the loop and a worker are both at it."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from unit.hypervisor.stand_in import Guest, HandClock, StandIn
from vcpud.hypervisor import conversation
from vcpud.hypervisor.conversation import Conversation
from vcpud.hypervisor.patience import Patience
from vcpud.hypervisor.timetable import Pace
from vcpud.hypervisor.view import View
from vcpud.hypervisor.workers import Crew
from vcpud.units import NS_PER_S


def test_nothing_of_the_kernel_before_a_reboot_is_known_after_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = HandClock()
    crew = Crew(
        "test",
        open_link=lambda: StandIn(Guest("a")).open(writable=True),
        now_ns=clock.now_ns,
        size=1,
        supervised=False,
    )
    talk = Conversation(
        "a",
        crew,
        pace=Pace(period_ns=5 * NS_PER_S, cost_ratio=0.002),
        patience=Patience(call_s=2.0, agent_s=5.0),
        max_vcpus=4,
        now_ns=clock.now_ns,
    )
    reboot = threading.Thread(target=talk.renew, kwargs={"rebooted": True})

    def made_slowly(**known: Any) -> View:
        if known.get("online"):
            reboot.start()
            reboot.join(0.2)
        return View(**known)

    monkeypatch.setattr(conversation, "View", made_slowly)
    talk._saw(frozenset({0, 1}), clock.now_ns())
    reboot.join()
    assert talk.view.online is None
    crew.close()
