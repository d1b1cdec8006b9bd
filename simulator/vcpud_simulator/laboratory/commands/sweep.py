"""`vcpud sweep`."""

import argparse
from typing import Any


def add_to(subparsers: Any, parent: argparse.ArgumentParser) -> None:
    """Add the command."""
