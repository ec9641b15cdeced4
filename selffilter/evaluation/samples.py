"""Samples of an evaluation set's tar: decoded and labelled, or a reason why not.

Members of a sample, by kind of set:

- all but association: ``jpg|jpeg|png|webp|gif``, the image
- classification: ``cls``, the class, from 0; with groups ``npy``, (columns,) int, as in DataComp
- multilabel: ``npy``, (C,) of 0 and 1
- retrieval: ``txt``, captions, one a line
- association: ``json``, an object of ``cue`` (text), ``candidates`` and ``associations`` (ids, of
  all, up to 32, and of the chosen ones); ``0.jpg``, ``1.jpg``, …, the candidates' images
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from selffilter.clip.model import Transform
from selffilter.npy_header import read_header
from selffilter.pool.decoding import IMAGE_EXTENSIONS, decode_image
from selffilter.pool.failures import Failure, UnusableSample
from selffilter.pool.tar_scan import Members, image_member

MAX_IMAGE_BYTES = 1 << 28
_MAX_LABEL_BYTES = 1 << 20
_MAX_CANDIDATES = 32
"""Images of one sample: all of a batch are in memory at once. WinoGAViL has up to 12."""

T = TypeVar("T")


@dataclass(frozen=True)
class Labels:
    """What is known of a sample besides its image; only what its kind of set has is filled."""

    class_: int = 0
    groups: tuple[int, ...] = ()
    classes: tuple[bool, ...] = ()
    captions: tuple[str, ...] = ()
    cue: str = ""
    associated: tuple[bool, ...] = ()


@dataclass(frozen=True)
class Batch:
    """Some samples.

    Attributes:
        image: (n, 3, H, W) float32: the images of the usable samples, one after another. A sample
            has one; of the kind association, one for each of ``labels.associated``.
        labels: One a usable sample.
        unusable: Why each of the others is not.
        size: Bytes that were read, for progress.
    """

    image: Tensor
    labels: list[Labels]
    unusable: list[str]
    size: int


class SampleReader(Dataset[Batch]):
    """A map from a range of samples of one tar to a batch.

    Args:
        path: The tar.
        samples: Where the members of its samples stand.
        kind: The kind of set.
        classes: C, the number of classes.
        group_columns: The columns of ``npy`` that are groups.
        transform: PIL image → (3, H, W) float32.
        max_pixels: See `decode_image`.
    """

    def __init__(
        self,
        path: Path,
        samples: list[Members],
        *,
        kind: str,
        classes: int,
        group_columns: tuple[int, ...],
        transform: Transform,
        max_pixels: int,
    ) -> None:
        self._path, self._samples = path, samples
        self._kind, self._classes, self._group_columns = kind, classes, group_columns
        self._transform, self._max_pixels = transform, max_pixels

    def __getitem__(self, places: range) -> Batch:
        """Read, decode and stack some samples."""
        images: list[Tensor] = []
        labels: list[Labels] = []
        unusable: list[str] = []
        size = 0
        with self._path.open("rb") as file:
            for members in self._samples[places.start : places.stop]:
                size += sum(length for _, length in members.values())
                sample = _Sample(file, members)
                try:
                    known = self._labels(sample)
                    images += [self._image(sample, place) for place in self._places(sample, known)]
                    labels.append(known)
                except _UnusableError as verdict:
                    unusable.append(str(verdict))
        image = torch.stack(images) if images else torch.empty(0, 3, 1, 1)
        return Batch(image, labels, unusable, size)

    def _places(self, sample: _Sample, known: Labels) -> list[tuple[int, int]]:
        if self._kind != "association":
            return [image_member(sample.members)]
        places = []
        for number in range(len(known.associated)):
            names = {e: f"{number}.{e}" for e in IMAGE_EXTENSIONS}
            there = {e: sample.members[n] for e, n in names.items() if n in sample.members}
            places.append(image_member(there))
        return places

    def _image(self, sample: _Sample, place: tuple[int, int]) -> Tensor:
        if place[0] < 0:
            raise _UnusableError(Failure.missing_image.name)
        if place[1] > MAX_IMAGE_BYTES:
            raise _UnusableError(Failure.image_too_large.name)
        try:
            return self._transform(decode_image(sample.read(place), self._max_pixels))
        except UnusableSample as verdict:
            raise _UnusableError(verdict.failure.name) from verdict

    def _labels(self, sample: _Sample) -> Labels:
        if self._kind == "classification":
            class_ = sample.parse("cls", int)
            if not 0 <= class_ < self._classes:
                raise _UnusableError("cls_out_of_range")
            if not self._group_columns:
                return Labels(class_=class_)
            return Labels(class_=class_, groups=sample.parse("npy", self._groups))
        if self._kind == "multilabel":
            return Labels(classes=sample.parse("npy", self._several_classes))
        if self._kind == "retrieval":
            captions = sample.parse("txt", _captions)
            if not captions:
                raise _UnusableError(Failure.caption_empty.name)
            return Labels(captions=captions)
        return sample.parse("json", _association)

    def _groups(self, data: bytes) -> tuple[int, ...]:
        column_G = read_npy(data).reshape(-1)[list(self._group_columns)]
        with np.errstate(invalid="ignore"):
            group_G = column_G.astype(np.int64)
        if not (group_G == column_G).all():
            raise ValueError("not whole numbers of 64 bits")
        return tuple(group_G.tolist())

    def _several_classes(self, data: bytes) -> tuple[bool, ...]:
        values = read_npy(data)
        if values.shape != (self._classes,) or not np.isin(values, (0, 1)).all():
            raise ValueError("not a 0 or 1 for each class")
        return tuple(values.astype(bool).tolist())


class _UnusableError(Exception):
    """The reason why a sample cannot be used."""


class _Sample:
    def __init__(self, file: BinaryIO, members: Members) -> None:
        self._file = file
        self.members = members

    def read(self, place: tuple[int, int]) -> bytes:
        offset, size = place
        self._file.seek(offset)
        data = self._file.read(size)
        if len(data) < size:
            raise OSError(f"{self._file.name} has become shorter")
        return data

    def parse(self, extension: str, parse: Callable[[bytes], T]) -> T:
        place = self.members.get(extension)
        if place is None:
            raise _UnusableError(f"missing_{extension}")
        if place[1] > _MAX_LABEL_BYTES:
            raise _UnusableError(f"{extension}_unreadable")
        data = self.read(place)
        try:
            return parse(data)
        except Exception as error:  # parsers raise TokenError, OverflowError, … on hostile bytes
            raise _UnusableError(f"{extension}_unreadable") from error


def read_npy(data: bytes) -> NDArray[Any]:
    """Return the array that the bytes of a .npy file hold, using no more memory than they do.

    Raises:
        ValueError: If they hold none, or objects.
    """
    shape, fortran_order, dtype, offset = read_header(io.BytesIO(data))
    flat = np.frombuffer(data, dtype, offset=offset)
    return flat.reshape(shape, order="F" if fortran_order else "C")


def _captions(data: bytes) -> tuple[str, ...]:
    return tuple(line for line in data.decode("utf-8").splitlines() if line.strip())


def _association(data: bytes) -> Labels:
    about = json.loads(data)
    chosen = set(about["associations"])
    associated = tuple(candidate in chosen for candidate in about["candidates"])
    cue = about["cue"]
    if not isinstance(cue, str) or not cue or not any(associated):
        raise ValueError("no cue, or no association")
    if len(associated) > _MAX_CANDIDATES:
        raise ValueError(f"more than {_MAX_CANDIDATES} candidates")
    return Labels(cue=cue, associated=associated)
