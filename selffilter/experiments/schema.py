"""The schema of an experiment file: which methods, seeds and pools, and what to compare.

docs/experiments.md shows a file with every field; `read_experiment` refuses what it does not know.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from omegaconf import OmegaConf

from selffilter.config import nearest, read_yaml, shipped_config
from selffilter.errors import UserError
from selffilter.experiments.controls import (
    Method,
    read_controls,
    read_method,
    refuse_fields_of_the_grid,
)
from selffilter.pool.noise.settings import NoiseSettings

KEEP = ("all", "results")
DEMO_POOLS = ("openclipart",)


@dataclass(frozen=True)
class NoiseSpec:
    """Noise to plant, with the seed of the run; see `NoiseSettings` and docs/noise.md."""

    kind: str = "mismatched"
    rate: float = 0.5
    cluster_key: str | None = None
    mix: Mapping[str, Any] | None = None
    copies_per_source: float | None = None


@dataclass(frozen=True)
class PoolSpec:
    """A pool, and the noise planted in it.

    Attributes:
        name: Its folder and its name in the tables.
        shards: Folders, globs or brace patterns of tars; or
        demo: the name of a pool that comes with selffilter.
        noise: What is planted; None: the pool is taken as it is.
        truth: Of a pool that is taken as it is, if it is known: see ``evaluate.truth``.
        zero_shot: Evaluation sets: see ``evaluate.zero_shot``. Empty: the demo's own.
        caption_key: See ``pool.caption_key``.
        label_key: Field of the samples' json with their class: noise is planted across classes.
    """

    name: str
    shards: tuple[str, ...] = ()
    demo: str | None = None
    noise: NoiseSpec | None = None
    truth: str | None = None
    zero_shot: tuple[str, ...] = ()
    caption_key: str = "txt"
    label_key: str | None = None

    def noise_settings(self, seed: int) -> NoiseSettings | None:
        """Return what is planted with a seed, if anything is."""
        if self.noise is None:
            return None
        return NoiseSettings(
            seed=seed,
            caption_key=self.caption_key,
            label_key=self.label_key,
            **dataclasses.asdict(self.noise),
        )


@dataclass(frozen=True)
class Experiment:
    """A grid of runs: every method on every pool with every seed.

    Attributes:
        name: Its folder below `out`.
        about: What it asks, in a sentence or two; stands in the report.
        config: The run that the methods change: a path, or the name of a shipped config.
        overrides: Fields of that config, changed for all methods.
        out: Folder of experiments.
        seeds: Of noise and training; a run is paired with the run of the same seed.
        pools: Which pools.
        methods: Names in configs/controls.yaml, in the order of the tables.
        variants: Methods of one's own, shown after those: name → changes, as in controls.yaml or
            as a list of ``key=value``.
        metrics: Evaluation numbers to report, ``acc1`` or ``SET/acc1``; empty: all.
        primary: The one in the headline and the figures.
        bootstrap_resamples: For the intervals over seeds.
        keep: ``all``, or ``results``: a finished run's training states and the models of its
            earlier rounds go when nobody forks from it any more.
    """

    name: str
    pools: tuple[PoolSpec, ...]
    about: str = ""
    config: str = "demo"
    overrides: tuple[str, ...] = ()
    out: str = "runs/experiments"
    seeds: tuple[int, ...] = (0,)
    methods: tuple[str, ...] = ("loop", "uniform", "oracle")
    variants: Mapping[str, Any] = field(default_factory=dict)
    metrics: tuple[str, ...] = ()
    primary: str = "acc1"
    bootstrap_resamples: int = 10_000
    keep: str = "all"

    @property
    def root(self) -> Path:
        """The experiment's folder."""
        return Path(self.out) / self.name

    @property
    def base_config(self) -> Path:
        """The file of the run that the methods change."""
        path = Path(self.config)
        return path if path.suffix in (".yaml", ".yml") else shipped_config(self.config)

    def known_methods(self) -> dict[str, Method]:
        """Return the controls and the variants by name."""
        return read_controls() | {
            name: read_method(name, changes) for name, changes in self.variants.items()
        }

    def asked_methods(self) -> list[str]:
        """Return the methods of the tables, in their order."""
        return [*self.methods, *(name for name in self.variants if name not in self.methods)]

    def pool(self, name: str) -> PoolSpec:
        """Return the pool of a name."""
        return next(pool for pool in self.pools if pool.name == name)


def read_experiment(path: Path) -> Experiment:
    """Read and check an experiment file.

    Args:
        path: A YAML file, or the name of one that is shipped.

    Raises:
        UserError: Naming the file, the field, its value and what it may be.
    """
    if not path.exists() and not path.suffix:
        path = shipped_config(f"experiments/{path}")
    values = OmegaConf.to_container(read_yaml(path), resolve=True)
    assert isinstance(values, dict)
    experiment = _build(Experiment, values, str(path), "")
    _check(experiment, str(path))
    return experiment


Spec = TypeVar("Spec", Experiment, PoolSpec, NoiseSpec)


def _build(schema: type[Spec], values: object, where: str, prefix: str) -> Spec:
    """Make a dataclass of plain YAML, and say what does not fit."""
    if not isinstance(values, dict):
        raise UserError(f"{where}: {prefix.rstrip('.')} is a group of fields, not {values!r}.")
    kinds = typing.get_type_hints(schema)
    made: dict[str, Any] = {}
    for key, value in values.items():
        if key not in kinds:
            hint = nearest(str(key), kinds, prefix)
            raise UserError(f"{where}: there is no field {prefix + str(key)!r}.{hint}")
        made[key] = _convert(kinds[key], value, where, prefix + key)
    for field_ in dataclasses.fields(schema):
        needed = field_.default is field_.default_factory is dataclasses.MISSING
        if needed and field_.name not in made:
            raise UserError(f"{where}: {prefix}{field_.name} is not set.")
    return schema(**made)


def _convert(kind: Any, value: object, where: str, name: str) -> Any:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        if value is None:
            return None
        return _convert(next(a for a in arguments if a is not type(None)), value, where, name)
    if origin is tuple:
        if not isinstance(value, list):
            raise UserError(f"{where}: {name} is a list, not {value!r}.")
        return tuple(_convert(arguments[0], v, where, f"{name}[{i}]") for i, v in enumerate(value))
    if dataclasses.is_dataclass(kind):
        return _build(typing.cast(Any, kind), value, where, f"{name}.")
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    expected = dict if origin is not None else kind
    if not isinstance(value, expected) or (kind is int and isinstance(value, bool)):
        words = {str: "text", int: "a whole number", float: "a number", dict: "a mapping"}
        raise UserError(f"{where}: {name} is {words[expected]}, not {value!r}.")
    return value


def _check(experiment: Experiment, where: str) -> None:
    """Check what a type does not say.

    Raises:
        UserError: Naming the field.
    """
    names = {
        "name": [experiment.name],
        "pools": [pool.name for pool in experiment.pools],
        "variants": list(experiment.variants),
    }
    for field_, values in names.items():
        for value in values:
            if not value or "/" in value or value.startswith((".", "_")):
                raise UserError(f"{where}: {field_}: {value!r} cannot be the name of a folder.")
    for field_ in ("pools", "seeds", "methods"):
        asked = list(getattr(experiment, field_))
        if not asked and not (field_ == "methods" and experiment.variants):
            raise UserError(f"{where}: {field_} is empty.")
    changed = (word.partition("=")[0] for word in experiment.overrides)
    refuse_fields_of_the_grid(changed, f"{where}: overrides")
    _refuse_repeats(experiment.seeds, f"{where}: seeds")
    _refuse_repeats([pool.name for pool in experiment.pools], f"{where}: pools")
    _refuse_repeats(experiment.methods, f"{where}: methods")
    for name in experiment.variants:
        if name in read_controls():
            raise UserError(f"{where}: variants: {name!r} is a control's name: choose another.")
    known = experiment.known_methods()
    for name in experiment.methods:
        if name not in known:
            raise UserError(
                f"{where}: methods: there is no control {name!r}; there are "
                f"{', '.join(known)}.{nearest(name, known)}"
            )
    if not experiment.base_config.is_file():
        raise UserError(f"{where}: config: there is no {experiment.config}.")
    for pool in experiment.pools:
        _check_pool(pool, f"{where}: pool {pool.name}")
    if experiment.keep not in KEEP:
        raise UserError(f"{where}: keep={experiment.keep!r} is not one of {', '.join(KEEP)}.")
    if experiment.bootstrap_resamples < 100:
        raise UserError(
            f"{where}: bootstrap_resamples={experiment.bootstrap_resamples}: an interval needs at "
            "least 100."
        )


def _check_pool(pool: PoolSpec, where: str) -> None:
    if bool(pool.shards) == bool(pool.demo):
        raise UserError(f"{where}: give either shards or demo.")
    if pool.demo and pool.demo not in DEMO_POOLS:
        raise UserError(f"{where}: demo={pool.demo!r} is not one of {', '.join(DEMO_POOLS)}.")
    if pool.demo and (pool.label_key or pool.caption_key != PoolSpec.caption_key):
        raise UserError(f"{where}: caption_key and label_key are for shards; demo has its own.")
    if pool.noise and pool.truth:
        raise UserError(f"{where}: noise makes a truth of its own: leave truth out.")
    if settings := pool.noise_settings(seed=0):
        try:
            settings.check()
        except UserError as error:
            raise UserError(f"{where}: noise: {error}") from error
    elif pool.label_key:
        raise UserError(f"{where}: label_key is for planting noise; there is none.")


def _refuse_repeats(values: Iterable[object], what: str) -> None:
    seen: set[object] = set()
    for value in values:
        if value in seen:
            raise UserError(f"{what}: {value!r} stands twice.")
        seen.add(value)
