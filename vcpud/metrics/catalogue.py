"""Every metric, declared once: the exposition text and docs/metrics.md are made from this.

Base units, ratios from 0 to 1, bounded labels. What is not known is an absent series.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Family:
    """One metric with all its series.

    Attributes:
        name: As scraped; counters end in `_total`.
        kind: What Prometheus calls its type.
        text: One sentence for people.
        labels: In the order in which they are written.
    """

    name: str
    kind: Literal["gauge", "counter", "histogram"]
    text: str
    labels: tuple[str, ...] = ()


def _gauge(name: str, text: str, *labels: str) -> Family:
    return Family(name, "gauge", text, labels)


def _counter(name: str, text: str, *labels: str) -> Family:
    return Family(name, "counter", text, labels)


def _histogram(name: str, text: str, *labels: str) -> Family:
    return Family(name, "histogram", text, labels)


# -------------------------------------------------------------------------------- the daemon

BUILD_INFO = _gauge("vcpud_build_info", "The version of vcpud; always 1.", "version")
CONFIG_INFO = _gauge("vcpud_config_info", "The configuration in force; always 1.", "hash")
RELOAD_OK = _gauge(
    "vcpud_config_last_reload_successful",
    "1 when the last attempt to read the configuration succeeded, else 0.",
)
RELOAD_AT = _gauge(
    "vcpud_config_last_reload_success_timestamp_seconds",
    "When the configuration in force was read.",
)
UP = _gauge("vcpud_up", "1 once the loop has finished a cycle, else 0.")
PAUSED = _gauge("vcpud_paused", "1 while an operator has paused all decisions, else 0.")
REQUESTS = _counter("vcpud_requests_total", "Requests of operators to the running daemon.", "verb")
POLICY_ERRORS = _counter(
    "vcpud_policy_errors_total", "Cycles in which the policy failed; vcpud decides nothing then."
)
JOURNAL_ERRORS = _counter(
    "vcpud_journal_write_errors_total",
    "Cycles in which vcpud could not write originals durably; it changes nothing then.",
)

# ------------------------------------------------------------------------------- the samples

PERIOD = _gauge("vcpud_poll_period_seconds", "Configured time from one cycle to the next.")
POLL_TIME = _histogram("vcpud_poll_duration_seconds", "Time one cycle of the control loop took.")
POLL_ERRORS = _counter(
    "vcpud_poll_errors_total",
    "Cycles without fresh samples, by reason: not_connected, failed.",
    "reason",
)
OVERRUNS = _counter(
    "vcpud_poll_overruns_total", "Cycles that began late because the one before took too long."
)
LAST_GOOD = _gauge(
    "vcpud_last_successful_poll_timestamp_seconds", "When the hypervisor last answered."
)
CONNECTED = _gauge("vcpud_libvirt_connected", "1 while the hypervisor answers, else 0.")
RECONNECTS = _counter(
    "vcpud_libvirt_reconnects_total",
    "How often the connection to the hypervisor was lost and made again.",
)
LOST_THREADS = _gauge(
    "vcpud_lost_threads",
    "Calls that vcpud has given up and that are still blocked in the hypervisor's library.",
)

# ----------------------------------------------------------------------------------- the host

OVERCOMMIT = _gauge(
    "vcpud_host_overcommit_ratio", "Active vCPUs per pCPU that is available to them.", "pool"
)
HOST_WAIT = _gauge(
    "vcpud_host_runqueue_wait_ratio",
    "Time vCPUs waited for a pCPU, per active vCPU and unit of time.",
    "pool",
)
POOL_PCPUS = _gauge("vcpud_pool_pcpus", "pCPUs of the pool.", "pool")

# ------------------------------------------------------------------- decisions and what became

DECISIONS = _counter(
    "vcpud_decisions_total",
    "Resizes decided on, whether allowed or blocked, by who decided: policy, undo (the judge), restore.",
    "action",
    "reason",
)
BLOCKED = _counter("vcpud_blocked_total", "Resizes that a guard blocked.", "guard")
CHANGES = _counter(
    "vcpud_changes_total",
    "Changes of active vCPUs and how they ended: reached, failed, or why refused.",
    "direction",
    "method",
    "result",
)
CHANGE_TIME = _histogram(
    "vcpud_change_duration_seconds", "Time from the request for a change until it was read back."
)
OUTCOMES = _counter(
    "vcpud_outcomes_total",
    "Judged moves by what they did to the guests' progress: helped, neutral, harmed, unknown.",
    "result",
)
GAIN = _histogram(
    "vcpud_outcome_gain_ratio",
    "Evidence of judged moves: progress after over progress before, minus 1.",
    "result",
)
ROLLBACKS = _counter("vcpud_rollbacks_total", "Judged moves that were undone.")
FOREIGN = _counter(
    "vcpud_foreign_changes_total", "Changes of a domain's vCPUs made by somebody else."
)
DOMAINS_CHANGED = _gauge(
    "vcpud_domains_changed", "Domains that vcpud changed and has not given back."
)
RESTORE_FAILURES = _counter(
    "vcpud_restore_failures_total",
    "Attempts to give a domain back its original that failed.",
)

# -------------------------------------------------------------------------------- each domain

DOMAIN_INFO = _gauge(
    "vcpud_domain_info",
    "What vcpud may do with the domain, and by which means (tier); always 1.",
    "domain",
    "uuid",
    "hypervisor",
    "tier",
    "mode",
    "pool",
)
DOMAIN_VCPUS = _gauge(
    "vcpud_domain_vcpus",
    "vCPUs, by kind: active now; target of a change under way; original before vcpud changed it; min and max allowed.",
    "domain",
    "kind",
)
DOMAIN_WAIT = _gauge(
    "vcpud_domain_runqueue_wait_ratio",
    "Time its vCPUs waited for a pCPU, per active vCPU and unit of time, smoothed.",
    "domain",
)
DOMAIN_WAIT_ERROR = _gauge(
    "vcpud_domain_runqueue_wait_error_ratio",
    "Standard error of that wait since the last scrape, where it is estimated and not counted (Xen).",
    "domain",
)
DOMAIN_HAZARD = _gauge(
    "vcpud_domain_concurrency_hazard_ratio",
    "Share of time in which some of its vCPUs ran while others waited for a pCPU: an estimate from "
    "both times, as if its vCPUs ran and waited independently.",
    "domain",
)
DOMAIN_LHP = _gauge(
    "vcpud_domain_lhp_score_ratio",
    "Lock-holder preemption: the smaller of its lock wait and its run-queue wait, because there is "
    "none without both.",
    "domain",
)
DOMAIN_LOCK_WAIT = _gauge(
    "vcpud_domain_lock_wait_ratio",
    "Time for which its guest waited for spinlocks, per active vCPU and unit of time (spin share).",
    "domain",
)
DOMAIN_YIELDS = _counter(
    "vcpud_domain_directed_yields_total",
    "Yield hypercalls of its vCPUs: a proxy for lock and IPI waits.",
    "domain",
)
DOMAIN_ENTITLED = _gauge(
    "vcpud_domain_entitled_pcpus",
    "pCPUs that its weight guarantees it now, given what the others want.",
    "domain",
)
DOMAIN_USED = _gauge("vcpud_domain_used_pcpus", "pCPUs it uses, smoothed.", "domain")
DOMAIN_PROGRESS = _gauge(
    "vcpud_domain_progress_pcpus",
    "Progress proxy: CPU time consumed times the guest's user share, per unit of time.",
    "domain",
)
DOMAIN_QUEUED = _gauge(
    "vcpud_domain_queued_tasks", "Tasks waiting on its guest's run queues, on average.", "domain"
)
DOMAIN_STEAL = _gauge(
    "vcpud_domain_steal_ratio",
    "Share of its vCPUs' time that its guest calls stolen.",
    "domain",
)
DOMAIN_AGE = _gauge(
    "vcpud_domain_sample_age_seconds", "Age of the counters that the host has of it.", "domain"
)
DOMAIN_TIMED_OUT = _gauge(
    "vcpud_domain_timed_out",
    "1 while calls to the hypervisor for it do not return, else 0.",
    "domain",
)
DOMAIN_TROUBLE = _gauge(
    "vcpud_domain_trouble",
    "1 for each reason why vcpud cannot rely on the domain or on one of its signals.",
    "domain",
    "reason",
)
DOMAIN_QUARANTINED = _gauge(
    "vcpud_domain_quarantined",
    "1 while vcpud leaves it alone, by reason: failed (changes fail), silent (no answer), foreign "
    "(somebody else changed it).",
    "domain",
    "reason",
)
DOMAIN_CHANGES = _counter(
    "vcpud_domain_changes_total",
    "Changes of its active vCPUs that were reached, by direction.",
    "domain",
    "direction",
)
DOMAIN_OUTCOMES = _counter(
    "vcpud_domain_outcomes_total", "Judged moves it was part of, by outcome.", "domain", "result"
)
DOMAIN_GAIN = _gauge(
    "vcpud_domain_last_gain_ratio",
    "Evidence of its last judged move: progress after over progress before, minus 1.",
    "domain",
)

CATALOGUE: tuple[Family, ...] = tuple(
    value for value in tuple(globals().values()) if isinstance(value, Family)
)
"""All of them, in the order of this file."""
