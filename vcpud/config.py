"""The configuration: YAML files in, `Settings` out, or every mistake of every file at once.

The main file comes first, then `conf.d/*.yaml` beside it in lexical order; later wins. Scalars
override, lists replace, mappings (also `domains:`) merge by key. What may be written is in
`vcpud.schema`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
from pathlib import Path
from typing import Any, get_args, get_origin

from vcpud import policy as policies
from vcpud import schema
from vcpud.documents import Document, Key, Mistake, Origin, merge, read, unsafe, walk
from vcpud.errors import ConfigError
from vcpud.limits import Limits
from vcpud.model import Mode, Terms
from vcpud.requests import LoopSettings
from vcpud.settings import (
    CONFIG_PATH,
    EffectiveLine,
    Listen,
    Recordings,
    Settings,
    Tls,
)
from vcpud.terms import Selector, TermsBook
from vcpud.text import meant
from vcpud.units import duration_text, parse_duration

_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_PLAIN = re.compile(r"[A-Za-z/_][A-Za-z0-9/_.-]*|[0-9]+(ns|us|ms|s|m|h)")


# ------------------------------------------------------------------------------------ loading


def load(path: Path = CONFIG_PATH, *, explicit: bool = False) -> Settings:
    """Read and check everything that is configured.

    Args:
        path: The main file.
        explicit: The operator named it: it must exist, and may belong to whoever runs vcpud.

    Raises:
        ConfigError: Lists every mistake of every file with file, line and key.
    """
    owners = {0, os.geteuid()} if explicit else {0}
    found, mistakes = _files(path, owners, explicit=explicit)
    merged = Document()
    for file in found:
        document = read(file, owners)
        mistakes += document.mistakes
        mistakes += _wrong_values(document)
        merged = merge(merged, document)
    return _settings(merged, mistakes, tuple(str(file) for file in found))


def defaults() -> Settings:
    """What holds where nothing is configured: also the way to give back under a broken file."""
    return _settings(Document(), [], ())


def _files(path: Path, owners: set[int], *, explicit: bool) -> tuple[list[Path], list[Mistake]]:
    files = [path] if explicit or os.path.lexists(path) else []
    mistakes = []
    folder = path.parent / "conf.d"
    try:
        names = sorted(os.listdir(folder)) if folder.is_dir() else []  # noqa: PTH208  names only
        wrong = unsafe(folder, owners) if names else None
    except OSError as error:
        names, wrong = [], f"cannot be read: {error.strerror}"
    if wrong is not None:
        mistakes.append(Mistake(Origin(str(folder), 0), (), wrong))
    for name in names if wrong is None else ():
        if name.startswith("."):
            continue
        if name.endswith(".yaml"):
            files.append(folder / name)
        elif name.endswith((".yml", ".json", ".conf")):
            message = "would be ignored: rename it so that its name ends in .yaml"
            mistakes.append(Mistake(Origin(str(folder / name), 0), (), message))
    return files, mistakes


def _wrong_values(document: Document) -> list[Mistake]:
    return [_mistake(document, wrong) for wrong in schema.parsed(document.data)[1]]


def _settings(merged: Document, mistakes: list[Mistake], files: tuple[str, ...]) -> Settings:
    # The sections that are right are still checked for what only shows when merged.
    root, _ = schema.parsed(merged.data)
    mistakes = [*mistakes, *_bounds_mistakes(root, merged)]
    options = _options(root.policy.model_extra or {})
    loaded = None
    try:
        loaded = policies.load(root.policy.name, options)
    except ConfigError as error:
        mistakes += _policy_mistakes(str(error), merged)
    if mistakes or loaded is None:
        order = {file: place for place, file in enumerate(files)}
        unique = sorted(
            set(mistakes),
            key=lambda one: (order.get(one.origin.file, len(order)), one.origin, one.key),
        )
        raise ConfigError("\n".join(str(mistake) for mistake in unique))
    limits = {
        item.name: getattr(root, "limits").__dict__[item.name.removesuffix("_ns")]  # noqa: B009
        for item in dataclasses.fields(Limits)
    }
    effective = _effective(root, loaded, merged)
    text = json.dumps([(line.key, line.value) for line in effective])
    return Settings(
        loop=LoopSettings(
            period_ns=root.period,
            policy=loaded,
            policy_name=root.policy.name,
            limits=Limits(**limits),
            on_stop_keep=root.on_stop == "keep",
            foreign=root.foreign,
            policy_options=options,
        ),
        terms=_book(root, merged),
        backend=root.backend,
        backend_options=_backend_options(root),
        listen=_listening(root.metrics) if root.metrics.enabled else None,
        recordings=_recordings(root) if root.recording.enabled else None,
        log_format=root.log.format,
        log_level=root.log.level,
        state_dir=Path(root.state_dir),
        runtime_dir=Path(root.runtime_dir),
        kill_switch=Path(root.kill_switch),
        socket_group=root.socket_group,
        files=files,
        digest=hashlib.sha256(text.encode()).hexdigest()[:12],
        effective=effective,
    )


# ----------------------------------------------------------------------------------- mistakes


def _mistake(document: Document, wrong: dict[str, Any]) -> Mistake:
    key: Key = tuple(str(word) for word in wrong["loc"] if word != "[key]")
    origin = document.origin(key) or Origin("configuration", 0)
    if wrong["type"] == "extra_forbidden":
        return Mistake(origin, key, f"there is no such key{meant(key[-1], _known(key[:-1]))}")
    message = str(wrong["msg"]).removeprefix("Value error, ")
    message = message[:1].lower() + message[1:]
    value = wrong["input"]
    shown = "" if isinstance(value, dict | list) or value is None else f", found {value!r:.60}"
    return Mistake(
        origin, key, message if shown and repr(value)[:40] in message else message + shown
    )


def _known(above: Key) -> list[str]:
    section: Any = schema.ROOT
    for word in above:
        section = (
            get_args(section)[1]
            if get_origin(section) is dict
            else section.model_fields[word].annotation
        )
    return sorted(section.model_fields)


def _policy_mistakes(text: str, merged: Document) -> list[Mistake]:
    mistakes = []
    for line in text.splitlines():
        place, _, message = line.partition(": ")
        key: Key = tuple(place.split("."))
        written = key if key in merged.origins else (*key[:-1], key[-1].removesuffix("_ns"))
        origin = merged.origin(written) or Origin("default", 0)
        mistakes.append(Mistake(origin, written, message))
    return mistakes


def _bounds_mistakes(root: schema.Fixed, merged: Document) -> list[Mistake]:
    sections: dict[Key, schema.TermsSection] = {("defaults",): root.defaults}
    sections |= {("domains", name): terms for name, terms in root.domains.items()}
    mistakes = []
    for key, section in sections.items():
        terms = _terms(section, root.defaults, "")
        if terms.max_vcpus is not None and terms.min_vcpus > terms.max_vcpus:
            message = f"min_vcpus {terms.min_vcpus} is more than max_vcpus {terms.max_vcpus}"
            origin = merged.origin((*key, "min_vcpus")) or Origin("default", 0)
            mistakes.append(Mistake(origin, key, message))
    return mistakes


# ------------------------------------------------------------------------------------ results


def _terms(section: schema.TermsSection, defaults: schema.TermsSection, source: str) -> Terms:
    def either(word: str, otherwise: Any) -> Any:
        for terms in (section, defaults):
            if getattr(terms, word) is not None:
                return getattr(terms, word)
        return otherwise

    # A ceiling below the inherited floor, or the reverse, is for `_bounds_mistakes` to tell.
    return Terms(
        mode=either("mode", Mode.OBSERVE),
        min_vcpus=either("min_vcpus", 1),
        max_vcpus=either("max_vcpus", None),
        guest_signals=either("guest_signals", False),
        source=source,
    )


def _book(root: schema.Fixed, merged: Document) -> TermsBook:
    """Selectors in the order they are tried: exact before globs, later files before earlier."""
    files = {origin.file: number for number, origin in enumerate(merged.origins.values())}
    place = {}
    for name in root.domains:
        origin = merged.origins[("domains", name)]
        exact = _UUID.fullmatch(name) is not None or not any(sign in name for sign in "*?[")
        place[name] = (not exact, -files[origin.file], origin.line)
    return TermsBook(
        default=_terms(schema.TermsSection(), root.defaults, "default"),
        selectors=tuple(
            Selector(
                pattern=_pattern(name),
                terms=_terms(root.domains[name], root.defaults, f"config:{name}"),
            )
            for name in sorted(root.domains, key=place.__getitem__)
        ),
        denied=tuple(_pattern(pattern) for pattern in root.deny),
        metadata=root.metadata,
    )


def _pattern(pattern: str) -> str:
    return pattern.lower() if _UUID.fullmatch(pattern) else pattern


def _options(written: dict[str, Any]) -> dict[str, Any]:
    """Policy options: a duration with its unit becomes the policy's `..._ns` field."""
    options: dict[str, Any] = {}
    for word, value in written.items():
        try:
            options[f"{word}_ns"] = parse_duration(value) if isinstance(value, str) else None
        except ValueError:
            options[word] = value
        else:
            if not isinstance(value, str):
                options[word] = value
                del options[f"{word}_ns"]
    return options


def _listening(section: schema.MetricsSection) -> Listen:
    listen = schema.split_listen(section.listen)
    if section.tls_certificate is None or section.tls_key is None:
        return listen
    ca = section.tls_client_ca
    tls = Tls(
        certificate=Path(section.tls_certificate),
        key=Path(section.tls_key),
        client_ca=None if ca is None else Path(ca),
    )
    return dataclasses.replace(listen, tls=tls)


def _recordings(root: schema.Fixed) -> Recordings:
    section = root.recording
    return Recordings(
        directory=Path(section.directory or f"{root.state_dir}/recordings"),
        max_file_bytes=section.max_file_mib << 20,
        max_files=section.max_files,
    )


def _backend_options(root: schema.Fixed) -> dict[str, Any]:
    duration = {
        "call_deadline",
        "agent_period",
        "agent_timeout",
        "boot_grace",
        "resync",
        "sampling_period",
    }
    sections = [root.libvirt, *([root.xen] if root.backend.partition(":")[0] == "xen" else [])]
    return {
        f"{word}_ns" if word in duration else word: value
        for section in sections
        for word, value in section
        if value is not None
    }


def _effective(root: schema.Fixed, loaded: object, merged: Document) -> tuple[EffectiveLine, ...]:
    data = root.model_dump(mode="json", exclude_none=True)
    if dataclasses.is_dataclass(loaded):
        for item in dataclasses.fields(loaded):
            word, value = item.name, getattr(loaded, item.name)
            if word.endswith("_ns") and isinstance(value, int):
                word, value = word.removesuffix("_ns"), duration_text(value)
            data["policy"].setdefault(word, value)
    lines = []
    for key, value in walk(data):
        if isinstance(value, dict) and value:
            continue
        items = [(key, value)]
        if isinstance(value, list) and value:
            items = [((*key, str(place)), item) for place, item in enumerate(value)]
        for where, item in items:
            written = merged.origins.get(where)
            origin = str(written) if written else "default"
            lines.append(EffectiveLine(where, _yaml(item), origin))
    order = {word: place for place, word in enumerate(data)}
    return tuple(sorted(lines, key=lambda line: order[line.key[0]]))


def _yaml(value: Any) -> str:
    if isinstance(value, str) and _PLAIN.fullmatch(value) and value.lower() not in _RESERVED:
        return value
    return json.dumps(value, ensure_ascii=True, default=str)


_RESERVED = {"true", "false", "null"}
