"""Asking a running daemon from a terminal: list, explain, set, the kill switch."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from unit.rim.machine import Machine
from vcpud.errors import LedgerError, UsageError
from vcpud.explain import REMEDIES
from vcpud.guard import GUARDS
from vcpud.model import Mode, SetOnline
from vcpud.overrides import Overrides
from vcpud.terms import Selector, TermsBook, Wishes
from vcpud.units import NS_PER_S

pytestmark = pytest.mark.sockets


def at(machine: Machine, second: int, *words: str) -> list[tuple[int, str, str]]:
    """Have a command given while the daemon runs; its result once it has run."""
    results: list[tuple[int, str, str]] = []
    machine.clock.after(second * NS_PER_S, lambda: results.append(machine.vcpud(*words)))
    return results


def see(machine: Machine, second: int, look: Callable[[], object]) -> list[object]:
    seen: list[object] = []
    machine.clock.after(second * NS_PER_S, lambda: seen.append(look()))
    return seen


def test_domains_are_listed_with_what_may_be_done_with_each(machine: Machine) -> None:
    machine.configure(domains={"db": {"mode": "observe"}}, deny=["web"])
    text = at(machine, 5, "list")
    document = at(machine, 6, "list", "-o", "json")
    machine.vcpud("run")
    ((code, out, _),) = text
    assert code == 0
    lines = [line.split() for line in out.splitlines()]
    assert lines[1][:3] == ["db", "observe", "config:db"]
    assert lines[2][:3] == ["web", "off", "denied:web"]
    ((_, out, _),) = document
    assert [one["name"] for one in json.loads(out)] == ["db", "web"]


def test_a_domain_is_explained_while_it_is_managed(machine: Machine) -> None:
    told = at(machine, 25, "explain", "db")
    document = at(machine, 26, "explain", machine.db.uuid, "-o", "json")
    nobody = at(machine, 27, "explain", "dd")
    machine.vcpud("run")
    ((code, out, _),) = told
    assert code == 0
    assert "1 of 4 vCPUs active" in out
    assert "figures that the decision is based on" in out
    assert "4 -> 1 helped, kept" in out
    ((_, out, _),) = document
    explained = json.loads(out)
    assert explained["domain"]["name"] == "db"
    assert explained["outlook"]["wanted_vcpus"] == 1
    assert {one["kind"] for one in explained["history"]} >= {"decide", "done", "verdict"}
    ((code, _, err),) = nobody
    assert code == 2
    assert "there is no domain 'dd' on this host; there are: db, web" in err


def test_the_guard_that_stands_in_the_way_is_named_with_what_would_end_it(
    machine: Machine,
) -> None:
    machine.configure(limits={"max_parked_ratio": 0.0})
    told = at(machine, 15, "explain", "db")
    machine.vcpud("run")
    ((_, out, _),) = told
    assert "the policy would change it: the guard parked blocks that" in out
    assert "limits.max_parked_ratio" in out


def test_an_explanation_without_the_daemon_looks_for_itself(machine: Machine) -> None:
    code, out, _ = machine.vcpud("explain", "db", "--backend", "fake")
    assert code == 0
    assert "figures that the decision is based on" in out
    assert machine.vcpud("explain", "dd", "--backend", "fake")[0] == 2
    code, _, err = machine.vcpud("explain", "db")
    assert code == 4
    assert "systemctl start vcpud" in err


def test_every_guard_has_a_word_on_what_would_end_it() -> None:
    assert set(GUARDS) | {"gone", "one_move", "pace", "parked"} <= set(REMEDIES)


# ------------------------------------------------------------------------------------- set


def test_what_is_set_holds_at_once_and_over_restarts_until_it_is_taken_back(
    machine: Machine,
) -> None:
    done = at(machine, 15, "set", "db", "--mode", "observe")
    later = see(machine, 25, lambda: (len(machine.db.online), len(machine.web.online)))
    machine.vcpud("run")
    assert done[0][:2] == (0, "db: mode observe, until `vcpud set db --reset`\n")
    assert later == [(4, 1)]
    machine.host.begun.clear()
    machine.clock.stop_at(machine.clock.now_ns() + 30 * NS_PER_S)
    source = at(machine, 15, "list", "-o", "json")
    back = at(machine, 16, "set", "db", "--reset")
    machine.vcpud("run")
    ((_, out, _),) = source
    assert json.loads(out)[0]["mode_source"] == "set"
    assert back[0][0] == 0
    assert Overrides(machine.state).of(machine.db.uuid) is None
    shrunk = {c.uuid for c in machine.host.begun if isinstance(c, SetOnline) and len(c.online) < 4}
    assert shrunk == {machine.db.uuid, machine.web.uuid}


def test_a_floor_that_is_set_is_kept(machine: Machine) -> None:
    at(machine, 15, "set", "db", "--min", "3")
    seen = [see(machine, second, lambda: len(machine.db.online)) for second in (14, 18, 28)]
    machine.vcpud("run")
    assert seen[0] == [1]
    assert all(count >= 3 for one in seen[1:] for count in one if isinstance(count, int))


def test_setting_what_the_configuration_denies_is_done_in_vain_and_said_so(
    machine: Machine,
) -> None:
    machine.configure(deny=["db"])
    done = at(machine, 5, "set", "db", "--mode", "enforce")
    machine.vcpud("run")
    ((code, _, err),) = done
    assert code == 5
    assert "the configuration denies it all the same: db" in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("db",), "nothing to set"),
        (("db", "--min", "2", "--reset"), "either --min or --reset"),
        (("db", "--min", "9"), "has 4 vCPUs at most"),
        (("db", "--min", "3", "--max", "2"), "a minimum of 3 is more than a maximum of 2"),
        (("nobody", "--min", "1"), "there is no domain 'nobody'"),
        (("db", "--mode", "on"), "invalid choice"),
        (("db", "--min", "0"), "expected a number from 1"),
    ],
)
def test_terms_without_sense_are_refused(
    machine: Machine, words: tuple[str, ...], message: str
) -> None:
    done = at(machine, 3, "set", *words)
    machine.clock.stop_at(machine.clock.now_ns() + 5 * NS_PER_S)
    machine.vcpud("run")
    ((code, _, err),) = done
    assert code == 2
    assert message in err


def test_the_last_word_is_the_operator_s_but_for_the_deny_list() -> None:
    set_by_hand = {"u": Wishes(mode=Mode.OFF), "v": Wishes(min_vcpus=6), "w": Wishes(max_vcpus=1)}
    book = TermsBook(
        selectors=(Selector(pattern="*", terms=TermsBook().default),),
        denied=("no-*",),
        overrides=set_by_hand,
    )
    wishes = Wishes(mode=Mode.ENFORCE, min_vcpus=2, max_vcpus=4)
    assert book.terms("u", "a", wishes).mode is Mode.OFF
    assert book.terms("u", "no-a", wishes).source == "denied:no-*"
    lifted = book.terms("v", "a", wishes)
    assert (lifted.min_vcpus, lifted.max_vcpus, lifted.source) == (6, 6, "set")
    lowered = book.terms("w", "a", wishes)
    assert (lowered.min_vcpus, lowered.max_vcpus) == (1, 1)
    assert book.terms("x", "a", wishes).source == "metadata"


@pytest.mark.parametrize(
    "content",
    [
        "{",
        "[]",
        '{"schema": 9, "domains": {}}',
        '{"schema": 1, "domains": {"u": {"mode": "on"}}}',
        '{"schema": 1, "domains": {"u": {"min_vcpus": 0}}}',
        '{"schema": 1, "domains": {"u": {"other": 1}}}',
    ],
)
def test_terms_that_cannot_be_read_back_are_not_guessed(machine: Machine, content: str) -> None:
    (machine.state / "terms.json").write_text(content)
    with pytest.raises(LedgerError, match="cannot be understood: remove it"):
        Overrides(machine.state)
    code, _, err = machine.vcpud("run")
    assert code == 1
    assert "terms.json cannot be understood" in err
    assert machine.host.begun == []


def test_terms_are_set_for_a_bounded_number_of_domains(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vcpud.overrides._MAX_DOMAINS", 1)
    overrides = Overrides(machine.state)
    overrides.put("u", Wishes(min_vcpus=2))
    with pytest.raises(UsageError, match="reset some"):
        overrides.put("v", Wishes(min_vcpus=2))
    overrides.put("u", None)
    assert Overrides(machine.state).of("u") is None


# ----------------------------------------------------------------------------- kill switch


def test_the_kill_switch_is_a_file_and_needs_nobody_s_consent(machine: Machine) -> None:
    machine.clock.after(15 * NS_PER_S, machine.kill_switch.touch)
    thrown = see(machine, 25, lambda: (len(machine.db.online), len(machine.web.online)))
    status = at(machine, 26, "status")
    machine.clock.after(27 * NS_PER_S, machine.kill_switch.unlink)
    machine.clock.stop_at(machine.clock.now_ns() + 50 * NS_PER_S)
    back = see(machine, 45, lambda: (len(machine.db.online), len(machine.web.online)))
    machine.vcpud("run")
    assert thrown == [(4, 4)]
    assert "KILL SWITCH THROWN" in status[0][1]
    assert back == [(1, 1)]


def test_a_kill_switch_that_lies_there_at_the_start_is_seen_before_anything_is_done(
    machine: Machine,
) -> None:
    machine.kill_switch.touch()
    machine.vcpud("run")
    assert machine.host.begun == []


# ------------------------------------------------------------------------ answers in JSON


def test_whoever_asks_in_json_is_answered_in_json(machine: Machine) -> None:
    machine.configure(policy={"name": "static"})
    answers = [at(machine, 5, verb, "-o", "json") for verb in ("reload", "status", "list")]
    machine.vcpud("run")
    for ((code, out, _),) in answers:
        assert code == 0
        json.loads(out)
    machine.changed(machine.db)
    code, out, _ = machine.vcpud("restore", "-o", "json")
    assert (code, json.loads(out)) == (
        0,
        {"given_back": ["db"], "gone": [], "left": [], "unplug_pending": [], "elsewhere": ""},
    )
