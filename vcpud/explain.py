"""Why a domain has the vCPUs it has: the last decision about it, what blocked it, what led here.

Pure. Everything comes from finished cycles, so that a recording is explained like a running host.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vcpud.model import Mode
from vcpud.record import Phase
from vcpud.status import columns
from vcpud.status import document as status_document
from vcpud.text import printable
from vcpud.units import seconds

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from vcpud.history import Happening
    from vcpud.model import Uuid
    from vcpud.plan import Outlook, Verdict
    from vcpud.record import CycleRecord

REMEDIES: Mapping[str, str] = {
    "gone": "nothing to do: it does not run",
    "mode": "set its mode to enforce: `vcpud set DOMAIN --mode enforce`, its metadata, or the "
    "configuration",
    "hold": "correct what is wrong with its data: `vcpud doctor DOMAIN` names it",
    "job": "wait until the job ends",
    "barred": "wait until the time is over, or end it with `vcpud resume DOMAIN`",
    "busy": "wait until the change under way is reached and judged",
    "stale": "nothing to do: the next decision goes by the vCPUs that it has now",
    "actuator": "give vcpud a way to change its vCPUs: `vcpud doctor DOMAIN` says what is missing",
    "cooldown": "wait until the cooldown is over: limits.shrink_cooldown, limits.grow_cooldown",
    "share": "give it a cgroup of its own (libvirt's default under systemd), so that fewer vCPUs do "
    "not cost it share",
    "quota": "replace its <vcpu_quota> by <global_quota>: the former caps each vCPU, so fewer vCPUs "
    "mean a lower cap",
    "one_move": "nothing to do: its other move goes first",
    "pace": "wait: so many changes in a minute are the most allowed (limits.max_changes_per_minute)",
    "parked": "wait until other domains have their vCPUs back, or raise limits.max_parked_ratio",
}
"""For each guard, what would have to change before it lets a resize through."""
_RESISTS = (
    "its guest must take back the vCPUs that it had; once the guest can, `vcpud resume DOMAIN` makes "
    "vcpud ask it at once"
)

_UNDER_WAY = {
    Phase.CHANGING: "is on its way to",
    Phase.UNDOING: "is being brought back to",
    Phase.RESTORING: "is being given back",
    Phase.JUDGING: "is being judged at",
    Phase.SETTLING: "is settling at",
}


def document(
    record: CycleRecord,
    verdicts: Mapping[Uuid, Verdict],
    history: Sequence[Happening],
    uuid: Uuid,
    now_ns: int,
) -> dict[str, Any] | None:
    """All there is to say of one domain, or None where it is not there.

    Args:
        record: The last finished cycle.
        verdicts: Each domain's last verdict.
        history: What happened to it, oldest first.
        uuid: Which domain.
        now_ns: When it is asked.
    """
    whole = status_document(record, verdicts, now_ns)
    domain = next((one for one in whole["domains"] if one["uuid"] == uuid), None)
    if domain is None:
        return None
    outlook = next((one for one in record.proposed.outlooks if one.uuid == uuid), None)
    return {
        "domain": domain,
        "policy": record.policy_name,
        "killed": record.killed,
        "paused": record.paused,
        "connected": record.sample.connected,
        "answer": answer(domain, outlook, record),
        "notes": _notes(whole["notes"], domain["name"]),
        "outlook": None if outlook is None else _outlook(outlook),
        "would_change": _would_change(domain, outlook, record),
        "history": [
            {
                "age_s": max(0.0, round(seconds(now_ns - one.at_ns), 1)),
                "kind": one.kind,
                "text": one.text,
            }
            for one in reversed(history)
        ],
    }


def answer(domain: Mapping[str, Any], outlook: Outlook | None, record: CycleRecord) -> str:
    """The whole explanation in one or two sentences: the first thing that stands in the way."""
    active = domain["active_vcpus"]
    stays = f"It stays at {active} active vCPU{'s' * (active != 1)}"
    wanted = None if outlook is None else outlook.wanted_vcpus
    blocked = domain["blocked"]
    reasons = (
        (not record.sample.connected, f"{stays}: the hypervisor does not answer"),
        (record.killed, f"{stays}: the kill switch is thrown, so vcpud decides nothing"),
        (record.policy_error is not None, f"{stays}: the policy failed: {record.policy_error}"),
        (domain["mode"] == Mode.OFF, f"{stays}: its mode is off ({domain['mode_source']})"),
        (domain["phase"] in _UNDER_WAY, _under_way(domain)),
        (_resists(domain), f"{stays}: {_left_alone(domain)}"),
        (domain["hold"] is not None, f"{stays}: vcpud cannot decide about it: {domain['hold']}"),
        (
            bool(blocked),
            f"{stays}, though the policy would change it: "
            + "; ".join(
                f"the guard {one['guard']} blocks that ({one['detail']})" for one in blocked
            ),
        ),
        (
            domain["phase"] in {Phase.PAUSED, Phase.RELEASED, Phase.QUARANTINED},
            f"{stays}: {_left_alone(domain)}",
        ),
        (
            domain["mode"] == Mode.OBSERVE and wanted not in (None, active),
            (
                f"{stays}: vcpud only observes it ({domain['mode_source']}); the policy would give it "
                f"{wanted}{_waits(outlook)}"
            ),
        ),
        (domain["phase"] == Phase.BACKING_OFF, f"{stays}: {_backs_off(domain)}"),
        (
            wanted == active and outlook is not None,
            f"{stays}: {_why_not(outlook) or 'the policy wants no other number'}",
        ),
        (wanted is not None, f"It has {active}, the policy wants {wanted}{_waits(outlook)}"),
    )
    return next((text for is_so, text in reasons if is_so), f"{stays}: the policy changes nothing")


def text(document: Mapping[str, Any]) -> str:
    """The document for a terminal."""
    domain = document["domain"]
    lines = [
        (
            f"{printable(domain['name'])} ({domain['uuid']}): {domain['active_vcpus']} of "
            f"{domain['max_vcpus']} vCPUs active, mode {domain['mode']} "
            f"({printable(domain['mode_source'])}), policy {document['policy']}"
        ),
        f"{printable(document['answer'], 400)}.",
    ]
    lines += _inputs_text(document)
    # A daemon of before an upgrade has none.
    lines += [f"  note: {printable(one, 400)}" for one in document.get("notes", ())]
    outlook = document["outlook"]
    if outlook is not None and outlook["prospects"]:
        lines += ["", "numbers of vCPUs weighed (predicted progress over today's):"]
        rows = [
            (
                ">" if one["vcpus"] == outlook["wanted_vcpus"] else "",
                str(one["vcpus"]),
                "-" if one["gain_ratio"] is None else f"{one['gain_ratio'] + 1:.2f}x",
                "now" if one["vcpus"] == domain["active_vcpus"] else "",
                printable(one["note"], 120),
            )
            for one in outlook["prospects"]
        ]
        lines += [f"  {row}" for row in columns(rows)]
    if document["would_change"]:
        lines += ["", "what would have to change:"]
        lines += [f"  {printable(one, 400)}" for one in document["would_change"]]
    lines += ["", "what happened last:"]
    lines += [
        f"  {one['age_s']:>6.0f} s ago  {one['kind']:8}  {printable(one['text'], 300)}"
        for one in document["history"][:12]
    ] or ["  nothing yet"]
    return "\n".join(lines)


def _inputs_text(document: Mapping[str, Any]) -> list[str]:
    outlook, domain = document["outlook"], document["domain"]
    if outlook is not None and outlook["inputs"]:
        inputs = outlook["inputs"]
    else:
        names = (
            "entitled_pcpus",
            "used_pcpus",
            "run_delay_pcpus",
            "lock_wait_ratio",
            "queued_tasks",
            "progress_pcpus",
        )
        inputs = {name: domain[name] for name in names}
    rows = [
        (name, "not reported" if value is None else f"{value:.4g}")
        for name, value in inputs.items()
    ]
    lines = ["", "figures that the decision is based on:", *(f"  {row}" for row in columns(rows))]
    if domain["troubles"]:
        lines.append(f"  missing or wrong: {', '.join(domain['troubles'])}")
    return lines


def _notes(notes: Sequence[str], name: str) -> list[str]:
    """What the backend says of this domain alone."""
    about = f"{name}: "
    return [note.removeprefix(about) for note in notes if note.startswith(about)]


def _outlook(outlook: Outlook) -> dict[str, Any]:
    return {
        "wanted_vcpus": outlook.wanted_vcpus,
        "inputs": {
            name: None if value is None else round(value, 6) for name, value in outlook.inputs
        },
        "prospects": [
            {"vcpus": one.vcpus, "gain_ratio": one.gain_ratio, "note": one.note}
            for one in outlook.prospects
        ],
        "why_not_more": outlook.why_not_more,
        "why_not_fewer": outlook.why_not_fewer,
        "would_change": outlook.would_change,
        "waits_for": outlook.waits_for,
    }


def _why_not(outlook: Outlook | None) -> str:
    if outlook is None:
        return ""
    parts = (
        ("not fewer", outlook.why_not_fewer),
        ("not more", outlook.why_not_more),
    )
    return "; ".join(f"{word}: {why}" for word, why in parts if why)


def _waits(outlook: Outlook | None) -> str:
    return (
        f" and waits for {outlook.waits_for}" if outlook is not None and outlook.waits_for else ""
    )


def _backs_off(domain: Mapping[str, Any]) -> str:
    left_s = domain["phase_left_s"]
    again = "" if left_s is None else f"; vcpud tries nothing for another {left_s:.0f} s"
    return f"the last move did not help{again}"


def _under_way(domain: Mapping[str, Any]) -> str:
    word = _UNDER_WAY.get(domain["phase"], "")
    detail = f": {domain['detail']}" if domain["detail"] else ""
    target = domain["target_vcpus"]
    return f"It {word} {target} vCPU{'s' * (target != 1)}{detail}"


def _left_alone(domain: Mapping[str, Any]) -> str:
    detail = f"{domain['phase']}, {domain['detail'] or 'by an operator'}"
    if _resists(domain):
        detail += f"; vcpud asks it again to take back the {domain['original_vcpus']} it had"
    return detail


def _resists(domain: Mapping[str, Any]) -> bool:
    """Whether it is quarantined because it does not take back what it had."""
    return bool(domain["phase"] == Phase.QUARANTINED and domain["failures"])


def _would_change(
    domain: Mapping[str, Any], outlook: Outlook | None, record: CycleRecord
) -> list[str]:
    found = []
    if record.killed:
        found.append("kill switch: remove the file")
    if domain["hold"] is not None:
        found.append(REMEDIES["hold"])
    if domain["phase"] in {Phase.PAUSED, Phase.RELEASED, Phase.QUARANTINED}:
        found.append(_RESISTS if _resists(domain) else REMEDIES["barred"])
    found += [
        f"{block['guard']}: {REMEDIES[block['guard']]}"
        for block in domain["blocked"]
        if block["guard"] in REMEDIES
    ]
    if domain["mode"] != Mode.ENFORCE and not any("mode" in one[:5] for one in found):
        found.append(f"mode: {REMEDIES['mode']}")
    if outlook is not None and outlook.would_change:
        found.append(outlook.would_change)
    return [one.replace("DOMAIN", domain["name"]) for one in dict.fromkeys(found)]
