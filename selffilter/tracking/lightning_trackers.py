"""CSV and TensorBoard through Lightning's loggers; both over samples seen.

Only numbers go there. ``metrics.jsonl`` is what a run goes by; these are copies of it in formats
that other tools read.
"""

from __future__ import annotations

import warnings

from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger

from selffilter.store import RunStore, iterate_jsonl
from selffilter.tracking.shown import Output, RoundShown
from selffilter.tracking.trackers import Record, kind_of, numbers_of


class CsvTracker:
    """``csv/metrics.csv``: a row a record, a column a number; ``step`` is ``samples_seen``.

    Lightning's logger begins its file anew when a process opens it (2.6.6), and cannot take rows
    back. So it is given what `JsonlTracker` has kept when a stage first begins.

    Args:
        store: The run.
    """

    def __init__(self, store: RunStore) -> None:
        self._store = store
        self._logger: CSVLogger | None = None

    def begin(self, round_: int, stage: str, samples_seen: int) -> None:
        """Begin the file with the records of earlier processes."""
        if self._logger is not None:
            return
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it says that the old file will be replaced
            self._logger = CSVLogger(self._store.root, name="", version="csv")
        for earlier in self._store.rounds():
            for record in iterate_jsonl(self._store.round(earlier) / "metrics.jsonl"):
                self._log(self._logger, record)
        self._logger.save()

    def log(self, record: Record) -> None:
        """Add a row."""
        if self._logger is not None:
            self._log(self._logger, record)

    def end_round(self, shown: RoundShown) -> None:
        """Write what has come."""
        if self._logger is not None:
            self._logger.save()

    def end_run(self, output: Output) -> None:
        """Nothing more is to be said."""

    def close(self) -> None:
        """Write the rest."""
        if self._logger is not None:
            self._logger.save()

    @staticmethod
    def _log(logger: CSVLogger, record: Record) -> None:
        numbers = {f"{kind_of(record)}/{key}": v for key, v in numbers_of(record).items()}
        logger.log_metrics({"round": record["round"], **numbers}, step=record["samples_seen"])


class TensorBoardTracker:
    """``tensorboard/``: a curve a number.

    Where a run goes on from a checkpoint, TensorBoard is told to leave out what an earlier process
    has logged beyond it (``purge_step``).

    Args:
        store: The run.
    """

    def __init__(self, store: RunStore) -> None:
        self._store = store
        self._logger: TensorBoardLogger | None = None

    def begin(self, round_: int, stage: str, samples_seen: int) -> None:
        """Open a file of this process, from the samples seen on."""
        if self._logger is None:
            # What was logged at the checkpoint itself stays; after it everything comes again.
            purge = samples_seen + 1 if samples_seen else None
            self._logger = TensorBoardLogger(
                self._store.root, name="", version="tensorboard", purge_step=purge
            )

    def log(self, record: Record) -> None:
        """Add a point to each curve."""
        if self._logger is not None:
            numbers = {f"{kind_of(record)}/{key}": v for key, v in numbers_of(record).items()}
            self._logger.log_metrics(numbers, step=record["samples_seen"])

    def end_round(self, shown: RoundShown) -> None:
        """Write what has come."""
        if self._logger is not None:
            self._logger.experiment.flush()

    def end_run(self, output: Output) -> None:
        """Nothing more is to be said."""

    def close(self) -> None:
        """Write the rest."""
        if self._logger is not None:
            self._logger.experiment.close()
