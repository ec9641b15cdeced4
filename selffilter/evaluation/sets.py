"""Evaluation sets in CLIP_benchmark's webdataset layout, in a folder or at a URL.

::

    dataset_type.txt    retrieval | multilabel | association; absent: classification
    classnames.txt      one a line                             (classification, multilabel)
    zeroshot_classification_templates.txt   one a line, {c} = the class (likewise)
    groups.txt          names of the columns of .npy; "-": not a group  (classification, optional)
    SPLIT/nshards.txt   n
    SPLIT/0.tar … SPLIT/n-1.tar: see `selffilter.evaluation.samples`

The kind "association" (for WinoGAViL) and groups.txt are ours.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch

from selffilter.clip.model import Transform
from selffilter.errors import UserError
from selffilter.evaluation.remote import RemoteFolder
from selffilter.evaluation.samples import Batch, SampleReader
from selffilter.pool.reading import loader_over
from selffilter.pool.sources import split_name
from selffilter.pool.tar_headers import BrokenTarError
from selffilter.pool.tar_scan import Members, iterate_samples

KINDS = ("classification", "retrieval", "multilabel", "association")


@dataclass(frozen=True)
class _Shard:
    name: str
    size: int | None
    tag: str


class EvaluationSet:
    """A set: its texts are read and its shards found on opening, its samples later.

    Args:
        spec: A folder, or a URL (see `RemoteFolder`); ``NAME=…`` calls it otherwise than by its
            last part.
        split: The folder of the shards.
        groups: Name → column of the samples' .npy; None: as groups.txt has it.

    Attributes:
        name: How it is called in results.
        location: Where it lies.
        split: The folder of the shards.
        kind: One of `KINDS`.
        classnames: One a class.
        templates: Prompts with ``{c}`` for the class name.
        groups: Name → column of the samples' .npy.

    Raises:
        UserError: If there is no such set, or it cannot be reached.
    """

    def __init__(
        self, spec: str, split: str = "test", groups: Mapping[str, int] | None = None
    ) -> None:
        name, self.location = split_name(spec)
        self.split = split
        try:
            self._folder = _folder(self.location)
            self.name = name or self._folder.name
            self.kind = "".join(self._lines("dataset_type.txt", absent="classification")).lower()
            if self.kind not in KINDS:
                raise ValueError(
                    f"dataset_type.txt says {self.kind[:40]!r}, not {', '.join(KINDS)}"
                )
            has_classes = self.kind in ("classification", "multilabel")
            self.classnames = self._lines("classnames.txt") if has_classes else []
            if has_classes and not self.classnames:
                raise ValueError("classnames.txt is empty")
            self.templates = self._templates() if has_classes else []
            self.groups = dict(self._named_columns() if groups is None else groups)
            self._shards = self._find_shards()
        except (OSError, ValueError) as error:
            said = str(error) or type(error).__name__
            raise UserError(
                f"{self.location} is not an evaluation set in CLIP_benchmark's layout: {said}."
            ) from error

    @property
    def total_bytes(self) -> int | None:
        """Size of all shards; None if a server does not say."""
        sizes = [shard.size for shard in self._shards if shard.size is not None]
        return sum(sizes) if len(sizes) == len(self._shards) else None

    @property
    def fingerprint(self) -> str:
        """32 hex digits that change with the texts of the set, or with its shards' sizes."""
        shards = [(shard.name, shard.size, shard.tag) for shard in self._shards]
        said = [self.kind, self.classnames, self.templates, sorted(self.groups.items()), shards]
        return hashlib.sha256(json.dumps(said).encode()).hexdigest()[:32]

    def batches(
        self, transform: Transform, *, batch_size: int, workers: int, max_pixels: int
    ) -> Iterator[Batch]:
        """Read and decode all samples, in the order of the shards.

        Args:
            transform: PIL image → (3, H, W) float32.
            batch_size: Samples at a time.
            workers: Processes that decode; 0 decodes in this one.
            max_pixels: See `decode_image`.

        Raises:
            UserError: If a shard is broken, or cannot be fetched, also after some patience.
        """
        for path, samples in self.shards():
            reader = SampleReader(
                path,
                samples,
                kind=self.kind,
                classes=len(self.classnames),
                group_columns=tuple(self.groups.values()),
                transform=transform,
                max_pixels=max_pixels,
            )
            firsts = range(0, len(samples), batch_size)
            requests = [range(i, min(i + batch_size, len(samples))) for i in firsts]
            # A generator of its own: evaluating must not change what is random in training.
            own = torch.Generator()
            yield from loader_over(reader, requests, min(workers, len(requests)), own)

    def shards(self) -> Iterator[tuple[Path, list[Members]]]:
        """Yield each shard's tar, on this machine for as long as it is in use, and its samples.

        Raises:
            UserError: If a shard is broken, or cannot be fetched, also after some patience.
        """
        for name, path in self._local_files():
            try:
                with path.open("rb") as raw:
                    samples = [m for _, m in iterate_samples(raw, path.stat().st_size)]
            except BrokenTarError as error:
                raise UserError(
                    f"{self.location}: {name} is a broken tar ({error}). Fetch it again."
                ) from error
            yield path, samples

    def _local_files(self) -> Iterator[tuple[str, Path]]:
        """Yield each shard on this machine; a remote one is fetched while the last is in use."""
        folder = self._folder
        if isinstance(folder, Path):
            yield from ((shard.name, folder / shard.name) for shard in self._shards)
            return
        with tempfile.TemporaryDirectory() as here, ThreadPoolExecutor(1) as fetcher:

            def fetch(number: int) -> Path:
                path = Path(here, f"{number}.tar")
                folder.fetch(self._shards[number].name, path)
                return path

            coming = fetcher.submit(fetch, 0)
            for number, shard in enumerate(self._shards):
                path = coming.result()
                if number + 1 < len(self._shards):
                    coming = fetcher.submit(fetch, number + 1)
                yield shard.name, path
                path.unlink()

    def _read(self, name: str) -> bytes:
        folder = self._folder
        return (folder / name).read_bytes() if isinstance(folder, Path) else folder.read(name)

    def _lines(self, name: str, absent: str | None = None) -> list[str]:
        """Return the lines of a text. A blank one counts: classes are numbered by line."""
        try:
            data = self._read(name)
        except FileNotFoundError:
            if absent is None:
                raise
            return [absent]
        return [line.strip() for line in data.decode("utf-8").splitlines()]

    def _templates(self) -> list[str]:
        name = "zeroshot_classification_templates.txt"
        templates = self._lines(name)
        if not any("{c}" in template for template in templates):
            raise ValueError(f"no line of {name} has {{c}}, the place of the class name")
        return templates

    def _named_columns(self) -> dict[str, int]:
        if self.kind != "classification":
            return {}
        lines = self._lines("groups.txt", absent="-")
        return {name: column for column, name in enumerate(lines) if name not in ("-", "")}

    def _find_shards(self) -> list[_Shard]:
        count = int(self._read(f"{self.split}/nshards.txt"))
        if count < 1:
            raise ValueError(f"{self.split}/nshards.txt says {count}")
        folder, shards = self._folder, []
        for number in range(count):
            name = f"{self.split}/{number}.tar"
            try:
                if isinstance(folder, Path):
                    shards.append(_Shard(name, (folder / name).stat().st_size, ""))
                else:
                    shards.append(_Shard(name, *folder.size(name)))
            except FileNotFoundError as error:
                raise ValueError(
                    f"{self.split}/nshards.txt says {count}, but {name} is not there"
                ) from error
        return shards


def open_sets(specs: list[str], split: str = "test") -> list[EvaluationSet]:
    """Open several sets; see `EvaluationSet`.

    Raises:
        UserError: If one is none, or two have one name.
    """
    sets = [EvaluationSet(spec, split) for spec in specs]
    refuse_same_names(sets)
    return sets


def refuse_same_names(sets: list[EvaluationSet]) -> None:
    """Results go by names.

    Raises:
        UserError: If two have one name.
    """
    seen: dict[str, EvaluationSet] = {}
    for data in sets:
        if (other := seen.setdefault(data.name, data)) is not data:
            raise UserError(
                f"two evaluation sets are called {data.name!r}: {other.location} and "
                f"{data.location}. Give one another name: NAME={data.location}"
            )


def _folder(location: str) -> Path | RemoteFolder:
    path = Path(location).expanduser()
    if "://" in location and not path.is_dir():
        return RemoteFolder(location)
    if not path.is_dir():
        raise FileNotFoundError(f"there is no folder {location}")
    return path.resolve()
