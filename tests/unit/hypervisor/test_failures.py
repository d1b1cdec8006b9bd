"""What libvirt's errors mean: numbers alone, words where a number has several meanings."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vcpud.hypervisor.failures import REASONS, CallFailed, Meaning, meaning_of
from vcpud.model import Reason

SEEN = [
    (8, 10, ("invalid argument: requested vcpus is greater than max allowable vcpus for the live "
     "domain: 9 > 4"), Meaning.OUT_OF_BOUNDS),
    (67, 10, ("unsupported configuration: failed to find appropriate hotpluggable vcpus to reach "
     "the desired target vcpu count"), Meaning.UNSUPPORTED),
    (84, 10, "Operation not supported: vcpu '1' can't be unplugged", Meaning.UNSUPPORTED),
    (1, 10, ("internal error: unable to execute QEMU command 'device_del': acpi: device unplug "
     "request for not supported device type: qemu64-x86_64-cpu"), Meaning.NOT_YET),
    (68, 10, ("Timed out during operation: vcpu unplug request timed out. Unplug result must be "
     "manually inspected in the domain"), Meaning.UNPLUG_PENDING),
    (68, 10, ("Timed out during operation: cannot acquire state change lock (held by "
     "monitor=remoteDispatchDomainSave)"), Meaning.BUSY),
    (9, 10, "operation failed: cannot acquire state change lock due to max_queued limit",
     Meaning.BUSY),
    (9, 10, "operation failed: vcpu unplug request was rejected by the guest", Meaning.REFUSED),
    (55, 10, "Requested operation is not valid: domain is not running", Meaning.GONE),
    (42, 10, "Domain not found: no domain with matching uuid", Meaning.GONE),
    (29, 20, "operation virDomainSetVcpusFlags forbidden for read only access", Meaning.DENIED),
    (88, 60, "access denied", Meaning.DENIED),
    (86, 10, "Guest agent is not responding: Guest agent not available for now",
     Meaning.AGENT_SILENT),
    (86, 10, "Guest agent is not responding: QEMU guest agent is not connected",
     Meaning.AGENT_SILENT),
    (74, 10, "argument unsupported: QEMU guest agent is not configured", Meaning.AGENT_ABSENT),
    (1, 10, ("internal error: unable to execute QEMU agent command 'guest-file-open': Command "
     "guest-file-open has been disabled"), Meaning.AGENT_BLOCKED),
    (1, 10, ("internal error: unable to execute QEMU agent command 'guest-get-cpustats': The "
     "command guest-get-cpustats has not been found"), Meaning.AGENT_BLOCKED),
    (1, 10, ("internal error: unable to execute QEMU agent command 'guest-set-vcpus': Command "
     "guest-set-vcpus has been disabled: the agent is in frozen state"), Meaning.AGENT_SILENT),
    (1, 10, ("internal error: unable to execute QEMU agent command 'guest-file-open': failed to "
     "open file '/nowhere' (mode: 'r'): No such file or directory"), Meaning.AGENT_FAILED),
    (38, 7, "Cannot recv data: Connection reset by peer", Meaning.LOST),
    (38, 7, ("Failed to connect socket to '/run/libvirt/libvirt-sock-ro': No such file or "
     "directory"), Meaning.LOST),
    (1, 7, "internal error: client socket is closed", Meaning.LOST),
    (38, 10, "Unable to read from monitor: Connection reset by peer", Meaning.FAILED),
    (None, None, "virDomainSetVcpusFlags() failed", Meaning.FAILED),
    (84, 0, "Operation not supported: CPU tuning is not available in session mode",
     Meaning.UNSUPPORTED),
]  # fmt: skip


@pytest.mark.parametrize(("code", "domain", "message", "meaning"), SEEN)
def test_an_error_seen_in_practice_means_what_it_meant(
    code: int | None, domain: int | None, message: str, meaning: Meaning
) -> None:
    assert meaning_of(code, domain, message) is meaning


@given(st.none() | st.integers(), st.none() | st.integers(), st.text())
def test_no_error_is_without_a_meaning_and_no_meaning_without_a_reason(
    code: int | None, domain: int | None, message: str
) -> None:
    failure = CallFailed(meaning_of(code, domain, message), message, code=code, domain=domain)
    assert isinstance(failure.reason, Reason)


def test_every_meaning_has_a_reason_for_the_loop() -> None:
    assert set(REASONS) == set(Meaning)
