"""What is believed of what a guest says."""

from __future__ import annotations

import json

import pytest

from vcpud.hypervisor.agent import AbsurdError
from vcpud.hypervisor.guestfiles import MissingError
from vcpud.hypervisor.statement import Part, Statement
from vcpud.units import NS_PER_S

LOAD = "1.00 1.00 1.00 3/100 77\n"


def accounting(*users: int) -> str:
    cpus = [{"cpu": n, "user": user, "system": 0, "idle": 0} for n, user in enumerate(users)]
    return json.dumps({"return": cpus})


def test_an_accounting_that_ran_ahead_of_the_clock_is_withdrawn_until_a_good_one_comes() -> None:
    said = Statement(4)
    assert said.accounting(accounting(5, 5), 0) is not None
    assert said.accounting(accounting(5, 10**9), NS_PER_S) is None
    assert said.reading.accounting is None
    assert said.absurdities == ("accounting: CPU 1 ran faster than the clock",)
    assert said.accounting(accounting(900, 900), 2 * NS_PER_S) is not None
    assert not said.absurdities


def test_one_part_that_is_absurd_leaves_the_others_as_they_were() -> None:
    said = Statement(4)
    said.accounting(accounting(5), 0)
    said.file(Part.RUNNABLE, LOAD, 0)
    with pytest.raises(AbsurdError) as absurd:
        said.file(Part.RUN_QUEUE, "cpu9 0 0 0 0 0 0 1 2 3\n", 0)
    said.refuse(Part.RUN_QUEUE, absurd.value)
    with pytest.raises(MissingError):
        said.file(Part.LOCKS, "", 0)
    assert said.reading.accounting is not None
    assert said.reading.runnable is not None
    assert said.reading.run_queue is None


def test_a_kernel_that_keeps_work_off_a_cpu_that_is_online_manages_itself() -> None:
    said = Statement(4)
    said.file(Part.PREFERRED, "0-1\n", 0)
    assert not said.manages_itself, "nobody knows what is online"
    said.accounting(accounting(5, 5, 5), 0)
    said.file(Part.PREFERRED, "0-1\n", 1)
    assert said.manages_itself
    said.file(Part.PREFERRED, "0-2\n", 2)
    assert not said.manages_itself, "it may have been in the middle of a change"
    for at_ns, preferred in ((3, "0-1\n"), (4, "0-1\n"), (5, "0-2\n")):
        said.file(Part.PREFERRED, preferred, at_ns)
    assert said.manages_itself, "seen twice in a row it may do it again"


def test_another_kernel_is_not_held_against_the_one_before() -> None:
    said = Statement(4)
    said.accounting(accounting(5), 0)
    said.forget()
    assert said.reading.accounting is None
    assert said.accounting(accounting(10**6), 1) is not None
