"""What the lab takes out of a Debian kernel package: the uncompressed kernel, and modules with those they need."""

from __future__ import annotations

import lzma
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lab.image import ImageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

_ELF = b"\x7fELF"
_XZ = b"\xfd7zXZ\0"
_DEPENDS = re.compile(rb"\0depends=([^\0]*)\0")


@dataclass(frozen=True, slots=True, kw_only=True)
class Module:
    """One module of a kernel.

    Attributes:
        name: As the kernel calls it, with underscores.
        path: Its file, relative to the directory of the kernel's modules.
        content: The module, not compressed.
    """

    name: str
    path: str
    content: bytes


def uncompressed(packed: bytes) -> bytes:
    """Return the ELF file inside a bzImage: unpacking it takes an emulator ten times as long.

    Raises:
        ImageError: The kernel is packed by another program than xz.
    """
    at = packed.find(_XZ)
    while at >= 0:
        try:
            found = lzma.LZMADecompressor().decompress(packed[at:])
        except lzma.LZMAError:
            found = b""
        if found.startswith(_ELF):
            return found
        at = packed.find(_XZ, at + 1)
    raise ImageError("the kernel holds no image that xz can unpack")


def _name(path: Path) -> str:
    return path.name.split(".ko", 1)[0].replace("-", "_")


def _content(path: Path) -> bytes:
    packed = path.read_bytes()
    return lzma.decompress(packed) if path.suffix == ".xz" else packed


def _built_in(folder: Path) -> frozenset[str]:
    text = (folder / "modules.builtin").read_text()
    return frozenset(
        line.rsplit("/", 1)[-1].split(".ko", 1)[0].replace("-", "_") for line in text.splitlines()
    )


def modules(folder: Path, wanted: Iterable[str]) -> tuple[Module, ...]:
    """Return the ``wanted`` modules and those they depend on, in the order in which they can be loaded.

    Args:
        folder: The kernel's directory below /lib/modules.
        wanted: Names; what is built into the kernel is left out.

    Raises:
        ImageError: The kernel has no such module.
    """
    paths = {_name(path): path for path in folder.glob("kernel/**/*.ko*")}
    found: dict[str, Module] = {}
    for module in _closure(folder, paths, _built_in(folder), wanted):
        found.setdefault(module.name, module)
    return tuple(found.values())


def _closure(
    folder: Path, paths: Mapping[str, Path], built_in: frozenset[str], wanted: Iterable[str]
) -> Iterator[Module]:
    for raw in wanted:
        name = raw.replace("-", "_")
        if name in built_in:
            continue
        if name not in paths:
            raise ImageError(f"the kernel package holds no module {name}")
        path = paths[name]
        content = _content(path)
        depends = _DEPENDS.search(content)
        words = depends[1].decode().split(",") if depends and depends[1] else []
        yield from _closure(folder, paths, built_in, words)
        relative = str(path.relative_to(folder)).removesuffix(".xz")
        yield Module(name=name, path=relative, content=content)
