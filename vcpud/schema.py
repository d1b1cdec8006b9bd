"""What may be written in a configuration: sections, keys, bounds. The only module that knows pydantic.

A key that is not here is a mistake; a duration is written with its unit. Limits are those of
`vcpud.limits`, so that a new one is configurable at once.
"""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any, Final, Literal, get_type_hints

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidationError,
    create_model,
    model_validator,
)

from vcpud.limits import Foreign, Limits
from vcpud.model import Mode
from vcpud.settings import KILL_SWITCH, RUNTIME_DIR, STATE_DIR, Listen
from vcpud.units import NS_PER_MS, NS_PER_S, duration_text, parse_duration

_DAY_NS = 86_400 * NS_PER_S
_MAX_VCPUS = 4096
_MAX_PORT = 65535


def _duration(value: object) -> object:
    if isinstance(value, str):
        return parse_duration(value)
    if type(value) is int and value == 0:
        return 0
    raise ValueError('expected a duration with its unit, like "500ms", "2s" or "5m"')


def _between(low_ns: int, high_ns: int) -> AfterValidator:
    def check(value: int) -> int:
        if not low_ns <= value <= high_ns:
            raise ValueError(f"expected {duration_text(low_ns)} to {duration_text(high_ns)}")
        return value

    return AfterValidator(check)


def _absolute(value: str) -> str:
    if not value.startswith("/") or "\0" in value:
        raise ValueError("expected an absolute path")
    return value


def _listen(value: str) -> str:
    split_listen(value)
    return value


def split_listen(value: str) -> Listen:
    """An address and a port.

    Raises:
        ValueError: It is something else.
    """
    host, colon, port = value.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if (
        not colon
        or not host
        or not port.isascii()
        or not port.isdigit()
        or int(port[:9]) > _MAX_PORT
    ):
        raise ValueError('expected ADDRESS:PORT, like "127.0.0.1:9756"')
    return Listen(host, int(port))


_AnyDuration = Annotated[int, BeforeValidator(_duration), PlainSerializer(duration_text)]
_Duration = Annotated[_AnyDuration, _between(0, _DAY_NS)]
_Timeout = Annotated[_AnyDuration, _between(10 * NS_PER_MS, 600 * NS_PER_S)]
_Count = Annotated[int, Field(strict=True, ge=1, le=_MAX_VCPUS)]
_Ratio = Annotated[float, Field(strict=True, ge=0, le=1)]
_Flag = Annotated[bool, Field(strict=True)]
_Text = Annotated[str, Field(strict=True, min_length=1, max_length=512)]
_Path = Annotated[_Text, AfterValidator(_absolute)]


_LONGEST_PERIOD_NS = 10 * NS_PER_S
"""Only finished cycles feed systemd's watchdog, which waits 30 s."""


class Section(BaseModel):
    """Keys that are known, and no others."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class PolicySection(Section):
    """Which policy, and its own options: those the policy checks itself."""

    model_config = ConfigDict(extra="allow")
    name: _Text = "adaptive"


class LibvirtSection(Section):
    """Every key may be absent: the backend knows its own defaults."""

    uri: _Text | None = None
    call_deadline: _Timeout | None = None
    agent_period: _Timeout | None = None
    agent_timeout: _Timeout | None = None
    agent_cost_ratio: _Ratio | None = None
    workers: _Count | None = None
    boot_grace: _Duration | None = None
    resync: _Timeout | None = None
    unplug_emulated: _Flag | None = None
    handover_notes: _Flag | None = None


class XenSection(Section):
    """What only the backend `xen` has; `libvirt:` holds for it too."""

    sampling_cost_ratio: _Ratio | None = None
    sampling_period: _Timeout | None = None
    ignore_host: _Flag | None = None


class TermsSection(Section):
    """What may be done with a domain; what is absent is inherited."""

    mode: Mode | None = None
    min_vcpus: _Count | None = None
    max_vcpus: _Count | None = None
    guest_signals: _Flag | None = None


class MetricsSection(Section):
    """Where metrics and health are served."""

    enabled: _Flag = True
    listen: Annotated[_Text, AfterValidator(_listen)] = "127.0.0.1:9756"
    tls_certificate: _Path | None = None
    tls_key: _Path | None = None
    tls_client_ca: _Path | None = None

    @model_validator(mode="after")
    def _whole(self) -> MetricsSection:
        files = (self.tls_certificate, self.tls_key)
        if None in files and any((*files, self.tls_client_ca)):
            raise ValueError("TLS takes tls_certificate and tls_key, both")
        return self


class RecordingSection(Section):
    """Whether and where cycles are written down."""

    enabled: _Flag = False
    directory: _Path | None = None
    max_file_mib: Annotated[int, Field(strict=True, ge=1, le=1024)] = 32
    max_files: Annotated[int, Field(strict=True, ge=2, le=10_000)] = 24


class LogSection(Section):
    """Form and level of the log."""

    format: Literal["auto", "json", "text"] = "auto"
    level: Literal["debug", "info", "warning", "error"] = "info"


class Fixed(Section):
    """A configuration but for its limits."""

    backend: _Text = "libvirt"
    period: Annotated[_AnyDuration, _between(100 * NS_PER_MS, _LONGEST_PERIOD_NS)] = NS_PER_S
    on_stop: Literal["restore", "keep"] = "restore"
    foreign: Foreign = Foreign.ADOPT
    policy: PolicySection = PolicySection()
    libvirt: LibvirtSection = LibvirtSection()
    xen: XenSection = XenSection()
    defaults: TermsSection = TermsSection()
    domains: dict[_Text, TermsSection] = {}
    deny: tuple[_Text, ...] = ()
    metadata: _Flag = True
    metrics: MetricsSection = MetricsSection()
    recording: RecordingSection = RecordingSection()
    log: LogSection = LogSection()
    state_dir: _Path = str(STATE_DIR)
    runtime_dir: _Path = str(RUNTIME_DIR)
    kill_switch: _Path = str(KILL_SWITCH)
    socket_group: _Text = "vcpud"


def _limits_section() -> type[Section]:
    """The fields of `vcpud.limits.Limits`, so that a new limit is configurable at once."""
    hints = get_type_hints(Limits)
    fields: dict[str, Any] = {}
    for item in dataclasses.fields(Limits):
        kind: Any = _Duration if item.name.endswith("_ns") else _Count
        if hints[item.name] is bool:
            kind = _Flag
        elif hints[item.name] is float:
            kind = _Ratio if item.name.endswith("_ratio") else Annotated[float, Field(gt=0)]
        fields[item.name.removesuffix("_ns")] = (kind, item.default)
    return create_model("_Limits", __base__=Section, **fields)


_LIMITS = _limits_section()
ROOT: Final[type[Fixed]] = create_model("_Root", __base__=Fixed, limits=(_LIMITS, _LIMITS()))


def parsed(data: dict[str, Any]) -> tuple[Fixed, list[dict[str, Any]]]:
    """The whole of a configuration, and what is wrong with it.

    Returns:
        The sections, those that are wrong left at their defaults; and one entry for each mistake,
        as pydantic tells it.
    """
    try:
        return ROOT.model_validate(data), []
    except ValidationError as error:
        mistakes: list[dict[str, Any]] = [dict(one) for one in error.errors(include_url=False)]
    wrong = {str(one["loc"][0]) for one in mistakes}
    right = {word: value for word, value in data.items() if word not in wrong}
    return ROOT.model_validate(right), mistakes
