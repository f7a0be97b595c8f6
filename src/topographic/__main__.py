"""`python -m topographic` is `topo`; torchrun starts it this way."""

import sys

from topographic.cli import main

if __name__ == "__main__":
    sys.exit(main())
