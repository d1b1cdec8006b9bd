"""The parts of the Xen lab that need no Xen."""

import lzma
import re
import struct
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from lab.image import ImageError
from lab.xen import domain
from lab.xen.board import _MAP_GRANT_REFERENCES, map_request
from lab.xen.domain import XenShape, domain_xml
from lab.xen.image import XEN
from lab.xen.kernel import modules, uncompressed


def test_pages_are_mapped_by_the_request_gntdev_documents() -> None:
    # _IOC(_IOC_NONE, 'G', 0, sizeof(struct ioctl_gntdev_map_grant_ref))
    assert _MAP_GRANT_REFERENCES == 0x184700
    request = map_request(7, [11, 12])
    assert struct.unpack("=IIQ4I", request) == (2, 0, 0, 7, 11, 7, 12)


def test_guest_and_host_agree_on_the_key_the_board_is_found_by() -> None:
    source = (XEN / "guest" / "board_grant.c").read_text()
    found = re.search(r'#define REFERENCES_KEY "(.*)"', source)
    assert found is not None
    assert found[1] == domain.REFERENCES_KEY


def test_a_guest_says_on_its_command_line_what_it_lacks() -> None:
    xml = ET.fromstring(domain_xml(XenShape(name="g", vcpus=4, udev=False)))  # noqa: S314  our own
    words = (xml.findtext("os/cmdline") or "").split()
    assert {"nopvspin", "lab.no_udev"} <= set(words)
    assert "lab.no_reporter" not in words
    assert xml.findtext("vcpu") == "4"


def test_paravirtual_locks_are_kept_where_fair_ones_are_not_wanted() -> None:
    assert "nopvspin" not in domain_xml(XenShape(name="g", fifo_locks=False))


def kernel_file(content: bytes) -> bytes:
    return b"MZ a boot sector" + b"\xfd7zXZ\0 not yet" + lzma.compress(content) + b"a trailer"


def test_the_kernel_is_found_inside_its_boot_image() -> None:
    assert uncompressed(kernel_file(b"\x7fELF and so on")) == b"\x7fELF and so on"


@pytest.mark.parametrize("packed", [b"nothing packed", kernel_file(b"no ELF")])
def test_a_kernel_packed_otherwise_is_an_error(packed: bytes) -> None:
    with pytest.raises(ImageError, match="xz"):
        uncompressed(packed)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Three modules of which one needs the others, and one that is built in."""
    folder = tmp_path / "kernel" / "drivers"
    folder.mkdir(parents=True)
    for name, depends in {"top-level": "middle,base", "middle": "base,core", "base": ""}.items():
        content = f"\0license=GPL\0depends={depends}\0name={name}\0".encode()
        (folder / f"{name}.ko").write_bytes(content)
    (folder / "packed.ko.xz").write_bytes(lzma.compress(b"\0depends=\0"))
    (tmp_path / "modules.builtin").write_text("kernel/lib/core.ko\n")
    return tmp_path


def test_modules_come_after_those_they_need_and_only_once(tree: Path) -> None:
    found = modules(tree, ["top_level", "base", "core"])
    assert [module.name for module in found] == ["base", "middle", "top_level"]
    assert found[2].path == "kernel/drivers/top-level.ko"


def test_a_compressed_module_is_unpacked(tree: Path) -> None:
    (found,) = modules(tree, ["packed"])
    assert found.content == b"\0depends=\0"
    assert found.path == "kernel/drivers/packed.ko"


def test_a_module_the_kernel_does_not_have_is_named(tree: Path) -> None:
    with pytest.raises(ImageError, match="no module missing"):
        modules(tree, ["missing"])
