"""`doctor`: what is in the way of vcpud on this host and in its guests, and what to do about it."""

from __future__ import annotations

import argparse
import contextlib
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from vcpud.commands.common import output_option, say, say_json, settings_of
from vcpud.doctor.findings import Severity
from vcpud.errors import LedgerError, PartialError, UsageError, VcpudError
from vcpud.overrides import Overrides

if TYPE_CHECKING:
    from vcpud.doctor.collect import Doctor
    from vcpud.settings import Settings

_DEFAULT_URIS = {"libvirt": "qemu:///system", "xen": "xen:///system"}


def add_to(subparsers: Any, parent: argparse.ArgumentParser) -> None:
    """Add the command."""
    doctor = subparsers.add_parser(
        "doctor",
        parents=[parent],
        help="find obstacles on the host and in guests, and the remedy for each",
        description="Find what is in the way of vcpud on this host and in its guests, and say what "
        "to do about each. Needs neither the daemon nor root; says what it could not examine. "
        "Changes nothing. It asks the agents of domains in mode enforce, with guest_signals, or "
        "named here. Exit code: 0 no error found, 1 an error found, 5 no error found, but not "
        "everything could be examined.",
    )
    doctor.add_argument("domain", nargs="?", help="only this domain: name or UUID")
    output_option(doctor)
    doctor.set_defaults(handler=_doctor)


def _doctor(options: argparse.Namespace) -> None:
    settings = settings_of(options)
    with contextlib.suppress(LedgerError):
        settings = replace(settings, terms=Overrides(settings.state_dir).over(settings.terms))
    try:
        doctor = _called(settings)
    except ImportError as error:
        raise VcpudError(
            f"doctor needs libvirt's Python bindings ({error}): install python3-libvirt, or "
            "`pip install libvirt-python`"
        ) from error
    found = doctor.examine(options.domain)
    if options.output == "json":
        say_json(found.document())
    else:
        say(found.text())
    errors = sum(finding.severity is Severity.ERROR for finding in found.findings)
    if errors:
        raise VcpudError(f"{errors} error{'s' * (errors > 1)} found")
    if found.unseen:
        raise PartialError("no error found, but not everything could be examined")


def _called(settings: Settings) -> Doctor:
    """The doctor for what is configured; what looks at Xen is at hand wherever the URI says so.

    Raises:
        ImportError: libvirt's bindings are not installed.
        UsageError: The backend is none that can be looked at.
    """
    from vcpud.doctor.collect import Doctor  # noqa: PLC0415  only where libvirt is wanted
    from vcpud.doctor.xen import XenLook  # noqa: PLC0415  likewise
    from vcpud.hypervisor.connection import LibvirtLibrary  # noqa: PLC0415  likewise
    from vcpud.hypervisor.xen.library import XenLibrary  # noqa: PLC0415  likewise
    from vcpud.hypervisor.xen.roll import Roll  # noqa: PLC0415  likewise
    from vcpud.hypervisor.xen.tools import XenTools  # noqa: PLC0415  likewise

    name, _, argument = settings.backend.partition(":")
    if name not in _DEFAULT_URIS:
        raise UsageError(f"doctor examines libvirt, not the backend {name!r}")
    uri = argument or settings.backend_options.get("uri", _DEFAULT_URIS[name])
    if not uri.startswith("xen"):
        return Doctor(settings, uri, LibvirtLibrary)
    roll, tools = Roll(), XenTools()
    ignore_host = bool(settings.backend_options.get("ignore_host"))
    return Doctor(
        settings,
        uri,
        lambda where: XenLibrary(where, roll=roll, tools=tools, now_ns=time.monotonic_ns),
        xen=XenLook(tools=tools, roll=roll, ignore_host=ignore_host),
    )
