"""The schema of a run: dataclasses, merged with YAML and key=value by OmegaConf.

A field's meaning and range stand once, in the comment behind it in `configs/default.yaml`; the
checks that need no data stand here, in `validate`. What needs the pool (is there a whole batch in
the selection?) is checked by `selffilter.planning`.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from selffilter.errors import UserError


@dataclass
class PoolConfig:
    """Where the image-text pairs are."""

    shards: list[str] = MISSING
    caption_key: str = "txt"
    source_weights: list[int] = field(default_factory=list)
    subset: str | None = None
    max_image_pixels: int = 100_000_000
    max_image_bytes: int = 64_000_000
    reduced_decoding: bool = False
    index_dir: str | None = None
    request_bytes: int = 8192
    cache_dir: str | None = None
    cache_gb: float = 64.0
    allow_pipe: bool = False


@dataclass
class ModelConfig:
    """The CLIP model, by open_clip's names."""

    name: str = "ViT-B-32"
    pretrained: str | None = None
    unlocked_image_groups: int | None = None
    unlocked_text_groups: int | None = None
    patch_dropout: float | None = None
    gradient_checkpointing: bool = False


@dataclass
class RoundsConfig:
    """How long to train, and how often to select again."""

    samples_seen: int = 12_800_000
    count: int = 5
    bootstrap_fraction: float = 0.25
    fresh_weights_at: list[int] = field(default_factory=lambda: [1])
    fresh_optimizer_at: list[int] = field(default_factory=list)
    fresh_schedule_at: list[int] = field(default_factory=list)
    final_selection: bool = True


@dataclass
class TrainConfig:
    """Optimisation."""

    global_batch_size: int = 4096
    micro_batch_size: int | None = None
    learning_rate: float = 5.0e-4
    warmup_steps: int = 500
    schedule: str = "warmup_stable_decay"
    decay_fraction: float = 0.4
    weight_decay: float = 0.2
    beta1: float = 0.9
    beta2: float = 0.98
    eps: float = 1.0e-6
    clip_grad_norm: float | None = None
    ema_decay: float = 0.9995
    augment: bool = True
    crop_scale: float = 0.9
    checkpoint_every_steps: int = 500
    checkpoint_every_minutes: float | None = None
    keep_checkpoints: int = 1
    max_skipped_steps: int = 10
    log_every_steps: int = 10
    profile: list[int] = field(default_factory=list)


@dataclass
class ScoreConfig:
    """The pass over the pool."""

    signal: str = "neg_clip_loss"
    also: list[str] = field(default_factory=list)
    target: str | None = None
    reference: str | None = None
    weights: str = "ema"
    rescore: str = "each_round"
    fraction: float = 1.0
    bank_size: int = 32_768
    batch_size: int = 512
    keep_embeddings: bool = False
    given_scores: str | None = None


@dataclass
class SelectConfig:
    """What the next round trains on."""

    keep_fraction: list[float] = field(default_factory=lambda: [0.2, 0.27, 0.33, 0.4])
    diverse_fraction: list[float] = field(default_factory=lambda: [0.05])
    memory_half_life: float = 0.0
    probe_fraction: float = 0.005
    probe_max_rows: int = 100_000

    def keep(self, round_: int) -> float:
        """Return the share of the scored base that a round's selection keeps for its score."""
        return _of_round(self.keep_fraction, round_)

    def diverse(self, round_: int) -> float:
        """Return the share of the base that a round's selection draws."""
        return _of_round(self.diverse_fraction, round_)


@dataclass
class EvaluateConfig:
    """What is measured on the way. None of it reaches scoring or selection."""

    zero_shot: list[str] = field(default_factory=list)
    batch_size: int = 256
    truth: str | None = None


@dataclass
class TrackConfig:
    """Where metrics go besides metrics.jsonl."""

    wandb: str = "auto"
    wandb_project: str = "selffilter"
    wandb_group: str | None = None


@dataclass
class HardwareConfig:
    """What it runs on. Nothing here changes which rows are in which batch."""

    accelerator: str = "auto"
    precision: str = "32-true"
    workers: int = 4
    deterministic: bool = False
    channels_last: bool = False
    compile: bool = False
    ddp_static_graph: bool = False


@dataclass
class Config:
    """A whole run."""

    name: str = "selffilter"
    runs_dir: str = "runs"
    seed: int = 0
    pool: PoolConfig = field(default_factory=PoolConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    rounds: RoundsConfig = field(default_factory=RoundsConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    score: ScoreConfig = field(default_factory=ScoreConfig)
    select: SelectConfig = field(default_factory=SelectConfig)
    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)
    track: TrackConfig = field(default_factory=TrackConfig)
    hardware: HardwareConfig = field(default_factory=HardwareConfig)

    @property
    def run_dir(self) -> Path:
        """The run directory."""
        return Path(self.runs_dir) / self.name


CHOICES: dict[str, tuple[str, ...]] = {
    "train.schedule": ("warmup_stable_decay", "cosine", "constant"),
    "score.weights": ("ema", "raw"),
    "score.rescore": ("each_round", "unconsumed", "once"),
    "track.wandb": ("auto", "online", "offline", "disabled"),
    "hardware.accelerator": ("auto", "cpu", "gpu"),
    "hardware.precision": ("32-true", "bf16-mixed", "bf16-true", "16-mixed"),
}
"""The words a field may have. A signal is looked up by its name when a run is opened."""

FRESH = ("rounds.fresh_weights_at", "rounds.fresh_optimizer_at", "rounds.fresh_schedule_at")
"""Fields that say which rounds begin anew with what; fresh weights bring the other two along."""

PER_ROUND = ("select.keep_fraction", "select.diverse_fraction")
"""Fields that are one number, or a list with one a round; the last stands for all that follow."""

_INF = float("inf")
RANGES: dict[str, tuple[float, float]] = {
    "pool.max_image_pixels": (1, 178_000_000),  # beyond it Pillow itself refuses
    "pool.max_image_bytes": (1, _INF),
    "pool.request_bytes": (0, _INF),
    "pool.cache_gb": (0, _INF),
    "model.unlocked_image_groups": (0, _INF),
    "model.unlocked_text_groups": (0, _INF),
    "model.patch_dropout": (0, 0.99),
    "rounds.samples_seen": (1, _INF),
    "rounds.count": (1, 999),
    "rounds.bootstrap_fraction": (0, 1),
    "train.global_batch_size": (2, _INF),
    "train.micro_batch_size": (1, _INF),
    "train.learning_rate": (0, _INF),
    "train.warmup_steps": (0, _INF),
    "train.decay_fraction": (0, 1),
    "train.weight_decay": (0, _INF),
    "train.beta1": (0, 1),
    "train.beta2": (0, 1),
    "train.eps": (0, 1),
    "train.clip_grad_norm": (0, _INF),
    "train.ema_decay": (0, 1),
    "train.crop_scale": (0.01, 1),
    "train.checkpoint_every_steps": (1, _INF),
    "train.checkpoint_every_minutes": (0, _INF),
    "train.keep_checkpoints": (1, 10_000),
    "train.max_skipped_steps": (0, _INF),
    "train.log_every_steps": (1, _INF),
    "score.bank_size": (2, _INF),
    "score.batch_size": (1, _INF),
    "score.fraction": (1e-6, 1),
    "select.memory_half_life": (0, _INF),
    "select.keep_fraction": (0, 1),
    "select.diverse_fraction": (0, 1),
    "select.probe_fraction": (0, 0.5),
    "select.probe_max_rows": (0, _INF),
    "evaluate.batch_size": (1, _INF),
    "hardware.workers": (0, 1024),
}
"""The closed range of each number."""

MAY_CHANGE_ON_RESUME = (
    "runs_dir",
    "pool.request_bytes",
    "pool.cache_dir",
    "pool.cache_gb",
    "model.gradient_checkpointing",
    "train.micro_batch_size",
    "train.checkpoint_every_steps",
    "train.checkpoint_every_minutes",
    "train.keep_checkpoints",
    "train.max_skipped_steps",
    "train.log_every_steps",
    "train.profile",
    "score.batch_size",
    "score.keep_embeddings",
    "evaluate",
    "track",
    "hardware",
)
"""What a run may be continued with; everything else decides what the run *is*."""


def load_config(path: Path | None, overrides: Sequence[str] = ()) -> Config:
    """Merge the defaults, a YAML file and ``key=value`` words, and check the result.

    Args:
        path: A YAML file that sets some of the fields, or None.
        overrides: Words like ``train.learning_rate=1e-3``, as on the command line.

    Raises:
        UserError: A key, type or value that the schema does not know, by its name.
    """
    merged = OmegaConf.structured(Config)
    sources = [] if path is None else [(str(path), read_yaml(path))]
    sources.append(("the command line", _parse_overrides(overrides)))
    for where, values in sources:
        _refuse_unknown(values, Config, where)
        _listed(values)
        try:
            merged = OmegaConf.merge(merged, values)
        except OmegaConfBaseException as error:
            raise UserError(f"{where}: {_first_line(error)}") from error
    return _checked(merged)


def read_run_config(path: Path) -> Config:
    """Read the resolved ``config.yaml`` of a run directory."""
    return load_config(path)


def to_yaml(config: Config) -> str:
    """Return the whole config as YAML, nothing left to resolve."""
    return OmegaConf.to_yaml(OmegaConf.structured(config), resolve=True)


def flatten(config: Config) -> dict[str, Any]:
    """Return the config as ``{"train.learning_rate": 0.0005, …}``."""
    return dict(leaves(dataclasses.asdict(config)))


def differences(old: Config, new: Config) -> dict[str, tuple[Any, Any]]:
    """Return the fields in which two configs differ, with both values."""
    a, b = flatten(old), flatten(new)
    return {key: (a[key], b[key]) for key in a if a[key] != b[key]}


def changed_fields(old: Config, new: Config) -> list[str]:
    """Return a line for each field that differs and may not, if a run is to be continued."""
    return [
        f"  {key}: {before!r} -> {after!r}"
        for key, (before, after) in differences(old, new).items()
        if not any(key == free or key.startswith(free + ".") for free in MAY_CHANGE_ON_RESUME)
    ]


def refuse_changed(old: Config, new: Config) -> None:
    """Check that a run may be continued with another config.

    Raises:
        UserError: Naming field by field what may not change.
    """
    wrong = changed_fields(old, new)
    if wrong:
        raise UserError(
            f"run {old.name!r} was begun with another config:\n"
            + "\n".join(wrong)
            + "\nGive the new run another name (name=…), or branch off with `selffilter fork`."
        )


def shipped_config(name: str) -> Path:
    """Return the path of a config that comes with selffilter, by its file's stem.

    Raises:
        UserError: If there is none of that name.
    """
    package = Path(__file__).resolve().parent
    for folder in (package / "configs", package.parent / "configs"):
        if (folder / f"{name}.yaml").exists():
            return folder / f"{name}.yaml"
    raise UserError(f"selffilter ships no config {name!r}")


def _listed(values: DictConfig) -> None:
    """Make a list of a per-round field's single number."""
    for key in PER_ROUND:
        value = OmegaConf.select(values, key, throw_on_missing=False)
        if isinstance(value, int | float) and not isinstance(value, bool):
            OmegaConf.update(values, key, [value])


def _of_round(values: list[float], round_: int) -> float:
    return values[min(round_, len(values) - 1)]


def _checked(merged: DictConfig) -> Config:
    try:
        config = OmegaConf.to_object(merged)
    except OmegaConfBaseException as error:
        if OmegaConf.is_missing(merged.pool, "shards"):
            raise UserError(
                "pool.shards is not set: give it a list of folders, globs or brace patterns of "
                "tars, as in pool.shards='[/data/pool]'."
            ) from error
        raise UserError(f"config: {_first_line(error)}") from error
    assert isinstance(config, Config)
    validate(config)
    return config


def validate(config: Config) -> None:
    """Check what can be checked without the pool.

    Raises:
        UserError: Naming the field, its value, and what it may be.
    """
    flat = flatten(config)
    for key, choices in CHOICES.items():
        if flat[key] not in choices:
            raise UserError(
                f"{key}={flat[key]!r} is not one of {', '.join(choices)}."
                + nearest(str(flat[key]), choices)
            )
    for key, (low, high) in RANGES.items():
        values = flat[key] if key in PER_ROUND else [flat[key]]
        for value in values:
            if value is not None and not (low <= value <= high and math.isfinite(value)):
                raise UserError(f"{key}={value} is not in [{low:g}, {high:g}].")
    for key in PER_ROUND:
        if not flat[key]:
            raise UserError(f"{key} is empty: give a number, or one a round.")
    if not config.pool.shards:
        raise UserError("pool.shards is empty: name at least one folder, glob or tar.")
    weights = config.pool.source_weights
    if weights and (len(weights) != len(config.pool.shards) or min(weights) < 1):
        raise UserError(
            f"pool.source_weights={weights}: give one whole number of at least 1 for each of the "
            f"{len(config.pool.shards)} sources in pool.shards, or none."
        )
    if not config.name or "/" in config.name or config.name.startswith("."):
        raise UserError(f"name={config.name!r} cannot be the name of a folder.")
    for round_ in range(config.rounds.count):
        if config.select.keep(round_) == 0 and config.select.diverse(round_) == 0:
            raise UserError(
                "select.keep_fraction and select.diverse_fraction are both 0 in round "
                f"{round_}: no data."
            )
    if config.score.rescore == "once" and len({bool(keep) for keep in flat[PER_ROUND[0]]}) > 1:
        raise UserError("score.rescore=once has no scores for a round with select.keep_fraction 0.")
    for key in FRESH:
        if any(round_ < 1 for round_ in flat[key]):
            raise UserError(
                f"{key}={flat[key]}: rounds that can begin anew are 1, 2, …; round 0 always begins "
                "with fresh weights."
            )
    window = config.train.profile
    if window and (len(window) != 2 or not 0 <= window[0] < window[1]):
        raise UserError(
            f"train.profile={window}: give the first step and the one after the last, as [100,105]."
        )
    if config.hardware.ddp_static_graph and config.train.micro_batch_size is not None:
        raise UserError(
            "hardware.ddp_static_graph=true does not go with train.micro_batch_size: torch's DDP "
            "fails in the first step. Set one of them to its default."
        )
    if config.rounds.count > 1 and not 0 < config.rounds.bootstrap_fraction < 1:
        raise UserError(
            f"rounds.bootstrap_fraction={config.rounds.bootstrap_fraction} leaves no samples for "
            f"{'the bootstrap' if config.rounds.bootstrap_fraction == 0 else 'the later rounds'}; "
            "it must lie between 0 and 1, or rounds.count must be 1."
        )
    if config.score.signal in config.score.also or len(set(config.score.also)) < len(
        config.score.also
    ):
        raise UserError(f"score.also={config.score.also} names a signal twice, or score.signal's.")
    if config.score.signal == "given" and config.score.also:
        raise UserError(
            f"score.also={config.score.also} needs a model that scores; with score.signal=given "
            "none does. `selffilter score` writes further signals of a finished run."
        )
    if config.score.signal == "given" and not config.score.given_scores:
        raise UserError("score.signal=given needs score.given_scores: a Parquet of uid and score.")


def read_yaml(path: Path) -> DictConfig:
    """Read a mapping of fields.

    Raises:
        UserError: If there is no such file, or it is no such mapping.
    """
    if not path.is_file():
        raise UserError(f"there is no config file {path}.")
    try:
        values = OmegaConf.load(path)
    except Exception as error:  # YAML's own errors, of many classes; the line stands further down
        said = " ".join(str(error).split())
        raise UserError(f"{path} is not a YAML file: {said}") from error
    if not isinstance(values, DictConfig):
        raise UserError(f"{path} is not a mapping of fields.")
    return values


def _parse_overrides(words: Sequence[str]) -> DictConfig:
    for word in words:
        if "=" not in word:
            raise UserError(f"{word!r} is not key=value, as in train.learning_rate=1e-3.")
    try:
        return OmegaConf.from_dotlist(list(words))
    except Exception as error:
        raise UserError(f"the command line: {_first_line(error)}") from error


def _refuse_unknown(values: DictConfig, schema: type, where: str, prefix: str = "") -> None:
    known = typing.get_type_hints(schema)
    for key in map(str, values):
        name = f"{prefix}{key}"
        if key not in known:
            everywhere = list(_field_names(Config))
            hint = (
                _elsewhere(str(key), everywhere)
                or nearest(str(key), known, prefix)
                or nearest(name, everywhere)
            )
            raise UserError(f"{where}: there is no field {name!r}.{hint}")
        child = known[key]
        if OmegaConf.is_interpolation(values, key):
            continue
        value = "???" if OmegaConf.is_missing(values, key) else values[key]
        if dataclasses.is_dataclass(child):
            if not isinstance(value, DictConfig):
                raise UserError(f"{where}: {name} is a group of fields, not {value!r}.")
            _refuse_unknown(value, typing.cast(type, child), where, f"{name}.")
        elif isinstance(value, DictConfig):
            raise UserError(f"{where}: {name} is a field, not a group of fields.")


def _field_names(schema: type, prefix: str = "") -> Iterable[str]:
    for name, kind in typing.get_type_hints(schema).items():
        if dataclasses.is_dataclass(kind):
            yield from _field_names(typing.cast(type, kind), f"{prefix}{name}.")
        elif not isinstance(kind, types.FunctionType):
            yield f"{prefix}{name}"


def nearest(word: str, known: Iterable[str], prefix: str = "") -> str:
    """Return a sentence with the known word that is most like a mistyped one; "" if none is."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f" Did you mean {prefix + close[0]!r}?" if close else ""


def _elsewhere(key: str, everywhere: list[str]) -> str:
    """Find a field of that last name in another group (``learning_rate`` for ``train.…``)."""
    same = [name for name in everywhere if name.split(".")[-1] == key.split(".")[-1]]
    return f" Did you mean {same[0]!r}?" if same else ""


def leaves(tree: Mapping[Any, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    """Yield what stands in a tree of mappings as pairs like ``("train.learning_rate", 5e-4)``."""
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    where = [line.split(":", 1)[1].strip() for line in lines if line.startswith("full_key:")]
    head = lines[0] if lines else type(error).__name__
    return f"{where[0]}: {head}" if where and where[0] not in head else head
