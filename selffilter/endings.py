"""How a process ends, and which ends torchrun is not to repeat.

torchrun with ``--max-restarts`` starts all ranks again after any exit code but 0: after a crash,
which is what it is for, but after a user's mistake or an agreed stop too. It knows no code that
means "leave it" (torch 2.15). So an end that is final leaves a note in the folder that this one
torchrun keeps for its workers, and the ranks that are started after it end at once, the same way.
"""

from __future__ import annotations

import errno
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from selffilter.errors import Lost, StoreGone, UserError
from selffilter.interrupt import Stopped
from selffilter.store import read_json, write_text

EXIT_CRASH = 1
EXIT_USER_ERROR = 2
EXIT_STOPPED = 75
"""EX_TEMPFAIL: the run stopped and is saved; the same command goes on with it."""

CANNOT_WRITE = (
    errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.ENOTDIR, errno.EFBIG,
)  # fmt: skip
"""What is wrong with a place and not with the program: one sentence instead of a traceback."""


@dataclass(frozen=True)
class Ending:
    """Why a process ends.

    Attributes:
        code: Its exit code.
        message: What there is to say.
        rank: Whose end it was.
        node: The node that rank was on.
        stopped: Whether somebody asked for it.
    """

    code: int
    message: str
    rank: int = 0
    node: int = 0
    stopped: bool = False

    @property
    def is_final(self) -> bool:
        """Whether starting again cannot help, or is not wanted."""
        return self.code in (EXIT_USER_ERROR, EXIT_STOPPED)

    def to_json(self) -> str:
        """Return all of it as text."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str | bytes) -> Ending:
        """Read what `to_json` returned."""
        return cls(**json.loads(text))


class AnotherEnded(Exception):
    """Another rank has ended, so this one cannot go on.

    Attributes:
        ending: How it ended.
    """

    def __init__(self, ending: Ending) -> None:
        super().__init__(f"rank {ending.rank} ended: {ending.message}")
        self.ending = ending


def ending_of(error: BaseException) -> Ending:
    """Return how a process ends that has met an error: exit code and words."""
    rank, node = int(os.environ.get("RANK", 0)), int(os.environ.get("GROUP_RANK", 0))
    if isinstance(error, AnotherEnded):
        return error.ending
    if isinstance(error, Stopped):
        return Ending(EXIT_STOPPED, "stopped and saved. The same command goes on", rank, node, True)
    if isinstance(error, UserError):
        return Ending(EXIT_USER_ERROR, str(error), rank, node)
    if isinstance(error, Lost):
        return Ending(EXIT_CRASH, str(error), rank, node)
    if isinstance(error, StoreGone):
        message = (
            f"{error}. What is saved stays; once it can be read again, the same command goes on"
        )
        return Ending(EXIT_STOPPED, message, rank, node)
    if isinstance(error, OSError) and error.errno in CANNOT_WRITE:
        return Ending(EXIT_USER_ERROR, _cannot_write(error), rank, node)
    words = f"{type(error).__name__}: {error}".splitlines()[0]
    return Ending(EXIT_CRASH, words, rank, node)


def _cannot_write(error: OSError) -> str:
    where = f"{error.filename}: " if error.filename else ""
    room = ""
    if error.errno == errno.ENOSPC:
        mend = "Make room"
        if error.filename:
            folder = next(p for p in Path(error.filename).absolute().parents if p.exists())
            room = f" ({_room(folder)} in {folder}, too little for it)"
    elif error.errno == errno.EDQUOT:
        mend = "Make room within your quota"
    elif error.errno == errno.EFBIG:
        mend = "Allow larger files (ulimit -f)"
    else:
        mend = "Make it writable"
    return (
        f"cannot write: {where}{error.strerror}{room}. What was saved before is whole. {mend}, or "
        "choose another place; then the same command goes on."
    )


def _room(folder: Path) -> str:
    place = os.statvfs(folder)
    room = f"{place.f_bavail * place.f_frsize / 1e6:,.1f} MB free"
    no_files = place.f_files and not place.f_favail
    return room + ", but no more files (inodes)" if no_files else room


def note_final(ending: Ending) -> None:
    """Keep torchrun's next attempts, if it has any left, from repeating this end."""
    path = _note()
    if path is not None and ending.is_final and not path.exists():
        write_text(path, ending.to_json())


def final_before() -> Ending | None:
    """Return how an earlier attempt of this torchrun ended, if that was final.

    launch/stoppable.sh says in a file that a stop was asked for: a process that was only just
    beginning dies of the signal and leaves no note.
    """
    asked = os.environ.get("SELFFILTER_STOP_FILE")
    if asked and Path(asked).exists():
        return Ending(EXIT_STOPPED, "stopped. The same command goes on", stopped=True)
    path = _note()
    if path is None or not path.exists():
        return None
    return Ending(**read_json(path))


def is_last_attempt() -> bool:
    """Whether torchrun starts nothing after this."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", 0)) >= _restarts()


def _restarts() -> int:
    return int(os.environ.get("TORCHELASTIC_MAX_RESTARTS", 0))


def _note() -> Path | None:
    """The note's place: beside the folders that torchrun makes for each of its attempts.

    It says where these are in TORCHELASTIC_ERROR_FILE (…/attempt_N/LOCAL_RANK/error.json); the
    folder is new with each torchrun. With ``--log-dir /dev/null`` there is none.
    """
    reply = os.environ.get("TORCHELASTIC_ERROR_FILE", "")
    if not _restarts() or Path(reply).name != "error.json":
        return None
    return Path(reply).parents[2] / "selffilter-ended.json"
