"""Errors that are written for the person who reads them."""

from __future__ import annotations


class UserError(Exception):
    """Something the user can mend: one clear sentence, exit code 2.

    Raised before any accelerator time is spent wherever that is possible. The message says what
    was wrong, with the value, and what to do about it.
    """


class Lost(Exception):
    """Something that the run needs was taken from it: a process was killed, a rank fell silent.

    One sentence and no traceback, for the program is not to blame; exit code 1, for beginning again
    (by hand, or torchrun's) may well help.
    """


class StoreGone(Exception):
    """A shard that cannot be read, also after some patience; nothing is wrong with the run.

    What is saved stays, and the same command goes on with it: exit code 75.
    """
