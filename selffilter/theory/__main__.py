"""``python -m selffilter.theory``."""

import sys

from selffilter.theory.cli import main

if __name__ == "__main__":
    sys.exit(main())
