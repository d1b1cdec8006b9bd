"""The agent of a simulated guest: when it wakes, and when it does not."""

from __future__ import annotations

from typing import Any, cast

from vcpud_simulator.platform import Signal
from vcpud_simulator.reporter import Reporter


class Kernel:
    """As much of a guest as an agent that sleeps needs."""

    def __init__(self) -> None:
        self.host = self
        self.engine = self
        self.now_ns = 0
        self.cpus = (self,)
        self.woken = 0
        self.pending: list[Any] = []

    def spawn(self, name: str, program: Any, *, system: bool) -> str:
        """The agent's task; here only its name."""
        del program, system
        return name

    def sleep(self, task: Any) -> None:
        """The task sleeps until it is woken."""

    def wake(self, task: Any, cpu: Any) -> None:
        """Counted."""
        del task, cpu
        self.woken += 1

    def interrupt(self, handler: Any) -> None:
        """A vCPU that does not run takes it later."""
        self.pending.append(handler)


def test_an_interrupt_that_comes_after_its_question_was_answered_wakes_nobody() -> None:
    kernel = Kernel()
    agent = Reporter(cast("Any", kernel), 1000)
    agent.ask((Signal.LOCKS,), lambda _: None, lambda: None)
    agent._questions.clear()  # it was awake, and has answered before the interrupt was taken
    agent.begin(cast("Any", kernel), cast("Any", "agent"))
    kernel.pending.pop()(kernel)
    assert kernel.woken == 0
    agent.ask((Signal.LOCKS,), lambda _: None, lambda: None)
    kernel.pending.pop()(kernel)
    assert kernel.woken == 1
