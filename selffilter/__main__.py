"""Entry point of ``python -m selffilter`` and ``torchrun -m selffilter``."""

from selffilter.cli import main

if __name__ == "__main__":
    main()
