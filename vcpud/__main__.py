"""`python -m vcpud` is `vcpud`."""

import sys

from vcpud.cli import main

if __name__ == "__main__":
    sys.exit(main())
