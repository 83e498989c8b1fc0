"""Makes `python -m translate` the same as the command `translate`."""

import sys

from translate.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
