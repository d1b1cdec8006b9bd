"""What the lab runs inside a Xen's dom0, whose python has libvirt's bindings and no other library."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from lab import managed
from vcpud.record import Phase

TESTS = Path(__file__).parents[2]
_ALONE = """
import sys
own = {"lab", "libvirt", "libvirtmod", "libvirt_qemu", "libvirtmod_qemu"}
class Nothing:
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top in own or top in sys.stdlib_module_names:
            return None
        raise ModuleNotFoundError(f"dom0 has no {top}")
sys.meta_path.insert(0, Nothing())
import lab.xen.inside
"""


def test_the_jobs_inside_dom0_need_nothing_that_it_lacks() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _ALONE], cwd=TESTS, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_a_move_is_told_by_the_phases_that_vcpud_has() -> None:
    assert set(Phase) > managed.MOVES
