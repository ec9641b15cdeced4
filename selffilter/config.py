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
from selffilter.pacing import is_schedule, paced


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

    confident: str = "top"
    keep_fraction: list[float] = field(default_factory=lambda: [0.2, 0.27, 0.33, 0.4])
    threshold: list[float] = field(default_factory=list)
    clean_probability: float = 0.5
    temperature: float = 1.0
    repeat_penalty: float = 0.15
    most_repeats: int | None = None
    cuts: list[str] = field(default_factory=list)
    balance: str | None = None
    group_floor: float = 0.0
    group_cap: float | None = None
    diverse_fraction: list[float] = field(default_factory=lambda: [0.05])
    diverse_by: str | None = None
    weights: str = "ones"
    diverse_samples: float | None = None
    clusters: int = 0
    duplicates: str = "keep"
    duplicate_cosine: float = 0.99
    without: list[str] = field(default_factory=list)
    without_cosine: float | None = None
    memory_half_life: float = 0.0
    probe_fraction: float = 0.005
    probe_max_rows: int = 100_000
    watch: list[str] = field(default_factory=lambda: ["source", "script", "caption_chars"])
    memory_gb: float = 16.0

    def keep(self, round_: int) -> float:
        """Return the share of the scored base that a round's selection keeps for its score."""
        return _of_round(self.keep_fraction, round_)

    def diverse(self, round_: int) -> float:
        """Return the share of the base that a round's selection draws."""
        return _of_round(self.diverse_fraction, round_)

    def threshold_of(self, round_: int) -> float:
        """Return the lowest score that ``confident: threshold`` keeps in a round."""
        return _of_round(self.threshold, round_)

    @property
    def needs_embeddings(self) -> bool:
        """Whether a selection looks at the round's embeddings."""
        near = self.duplicates == "near" or bool(self.without and self.without_cosine is not None)
        return near or bool(self.clusters)

    def asks_for_embeddings(self, round_: int) -> str:
        """Return the field for which a round cannot select without embeddings; "": it can.

        What is only watched is left out where there are none.
        """
        if self.duplicates == "near":
            return "select.duplicates=near"
        if self.without and self.without_cosine is not None:
            return "select.without_cosine"
        if self.diverse_by == "cluster" and 0 < self.diverse(round_) < 1:
            return "select.diverse_by=cluster"
        kept_by_group = self.balance == "cluster" and self.keep(round_) > 0
        return "select.balance=cluster" if kept_by_group else ""

    @property
    def needs_hashes(self) -> bool:
        """Whether a selection looks at hashes of the images."""
        return self.duplicates != "keep" or bool(self.without)

    @property
    def groupings(self) -> list[str]:
        """The groupings that a selection needs or watches, each once."""
        asked = [self.balance, self.diverse_by, *self.watch]
        asked += ["cluster"] if self.clusters else []
        return list(dict.fromkeys(name for name in asked if name))


@dataclass
class GuardConfig:
    """When a selection is a reason to worry, and what is done then; None: not looked at.

    The bounds leave room below what was measured in 27 loops on two pools, of emoji and of
    clip-arts, with half of the captions exchanged and no sign of collapse: there the diverse share
    was .065 or more, retention .71, coverage .92 and entropy .81 (of a hundred or two clusters of
    captions), and the lead 1.9 sd or less; 2.9 with a scorer that is never trained again.

    Attributes:
        action: What an alarm leads to: ``warn``: it is logged; ``widen``: the mix is widened as
            well; ``stop``: the run stops.
        diverse_share: Least effective diverse share of the selection: diverse rows that are not
            confident / selected rows.
        coverage: Least share of the groups of a grouping that are met, relative to what a uniform
            draw of as many rows would meet (`bias.SelectionRates.coverage_ratio`).
        entropy: Least spread over the groups of a grouping (`bias.SelectionRates.entropy_ratio`).
        retention: Least share of the last confident rows that stay (`drift.Moved.retention`).
        lead_sd: How far the mean score of the confident rows trained on may be above that of the
            diverse rows trained on, in sd of the latter (`drift.confident_lead`).
        rows: Least selected rows.
    """

    action: str = "warn"
    diverse_share: float | None = 0.02
    coverage: float | None = 0.7
    entropy: float | None = 0.3
    retention: float | None = 0.3
    lead_sd: float | None = 4.0
    rows: int | None = None


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
    wandb_job_type: str | None = None
    wandb_images: int = 24
    wandb_artifacts: bool = True
    also: list[str] = field(default_factory=list)


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
    guard: GuardConfig = field(default_factory=GuardConfig)
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
    "select.confident": ("top", "threshold", "mixture", "clean_share", "sample"),
    "select.weights": ("ones", "samples"),
    "select.duplicates": ("keep", "exact", "near"),
    "guard.action": ("warn", "widen", "stop"),
    "track.wandb": ("auto", "online", "offline", "disabled"),
    "hardware.accelerator": ("auto", "cpu", "gpu"),
    "hardware.precision": ("32-true", "bf16-mixed", "bf16-true", "16-mixed"),
}
"""The words a field may have. A signal is looked up by its name when a run is opened."""

ALSO_TRACKED = ("csv", "tensorboard")
"""What `track.also` may list."""

FRESH = ("rounds.fresh_weights_at", "rounds.fresh_optimizer_at", "rounds.fresh_schedule_at")
"""Fields that say which rounds begin anew with what; fresh weights bring the other two along."""

PER_ROUND = ("select.keep_fraction", "select.diverse_fraction", "select.threshold")
"""Fields that are one number, a list with one a round (the last stands for all that follow), or a
schedule: see `selffilter.pacing`."""

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
    "select.clean_probability": (0.001, 0.999),
    "select.temperature": (1e-6, _INF),
    "select.repeat_penalty": (0, _INF),
    "select.most_repeats": (1, 64),
    "select.group_floor": (0, 1),
    "select.group_cap": (1e-9, 1),
    "select.diverse_fraction": (0, 1),
    "select.diverse_samples": (0, 1),
    "select.clusters": (0, 1_000_000),
    "select.duplicate_cosine": (0.01, 0.9999),
    "select.without_cosine": (0.01, 0.9999),
    "select.memory_gb": (0, _INF),
    "guard.diverse_share": (0, 1),
    "guard.coverage": (0, 1),
    "guard.entropy": (0, 1),
    "guard.retention": (0, 1),
    "guard.lead_sd": (0, _INF),
    "guard.rows": (0, _INF),
    "select.probe_fraction": (0, 0.5),
    "select.probe_max_rows": (0, _INF),
    "evaluate.batch_size": (1, _INF),
    "track.wandb_images": (0, 1000),
    "hardware.workers": (0, 1024),
}
"""The closed range of each number."""

MAY_CHANGE_ON_RESUME = (
    "runs_dir",
    "pool.shards",
    "pool.index_dir",
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
    "select.memory_gb",
    "guard",
    "evaluate",
    "track",
    "hardware",
)
"""What a run may be continued with; everything else decides what the run *is*. Shards and index may
lie elsewhere: that they are the same ones is seen to when the run is opened (`moving`)."""


def load_config(path: Path | None, overrides: Sequence[str] = ()) -> Config:
    """Merge the defaults, a YAML file and ``key=value`` words, and check the result.

    Args:
        path: A YAML file that sets some of the fields, or None.
        overrides: Words like ``train.learning_rate=1e-3``, as on the command line.

    Raises:
        UserError: A key, type or value that the schema does not know, by its name.
    """
    sources = [] if path is None else [(str(path), read_yaml(path))]
    return _merged([*sources, ("the command line", _parse_overrides(overrides))])


def load_selection(
    path: Path | None = None,
    overrides: Sequence[str] = (),
    fields: Mapping[str, Any] | None = None,
) -> Config:
    """Merge a config of which only `select`, `seed` and `score.signal` will be looked at.

    Args:
        path: As for `load_config`.
        overrides: Likewise.
        fields: Of `select`, with their values.

    Raises:
        UserError: Likewise.
    """
    sources = [("no pool", OmegaConf.create({"pool": {"shards": ["none"]}}))]
    if path is not None:
        sources.append((str(path), read_yaml(path)))
    sources.append(("the settings", OmegaConf.create({"select": dict(fields or {})})))
    return _merged([*sources, ("the command line", _parse_overrides(overrides))])


def _merged(sources: Iterable[tuple[str, DictConfig]]) -> Config:
    merged = OmegaConf.structured(Config)
    schedules: dict[str, str] = {}
    for where, values in sources:
        _refuse_unknown(values, Config, where)
        schedules |= _listed(values)
        try:
            merged = OmegaConf.merge(merged, values)
        except OmegaConfBaseException as error:
            raise UserError(f"{where}: {_first_line(error)}") from error
    for key, schedule in schedules.items():
        if schedule:
            numbers = paced(key, schedule, max(1, merged.rounds.count - 1))
            OmegaConf.update(merged, key, numbers)
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


def _listed(values: DictConfig) -> dict[str, str]:
    """Make a list of a per-round field's single number.

    Returns:
        The schedule of each such field that is set, "" where it is no schedule. Its numbers are
        not known before all of the config is: there is one a round.
    """
    schedules = {}
    for key in PER_ROUND:
        value = OmegaConf.select(values, key, throw_on_missing=False)
        if value is None:
            continue
        schedules[key] = value if is_schedule(value) else ""
        if schedules[key]:
            OmegaConf.update(values, key, [])
        elif isinstance(value, int | float) and not isinstance(value, bool):
            OmegaConf.update(values, key, [value])
    return schedules


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
    for key in ("select.keep_fraction", "select.diverse_fraction"):
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
    if other := [name for name in config.track.also if name not in ALSO_TRACKED]:
        raise UserError(
            f"track.also: {other[0]!r} is not one of {', '.join(ALSO_TRACKED)}."
            + nearest(other[0], ALSO_TRACKED)
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
    _validate_selection(config.select, config.pool)
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


def _validate_selection(select: SelectConfig, pool: PoolConfig) -> None:
    if (select.confident == "threshold") != bool(select.threshold):
        raise UserError(
            f"select.confident={select.confident} and select.threshold={select.threshold} do not "
            "fit: a threshold is for confident=threshold, which needs one."
        )
    if not all(math.isfinite(value) for value in select.threshold):
        raise UserError(f"select.threshold={select.threshold} has a number that is not finite.")
    if select.balance is None and (select.group_floor or select.group_cap is not None):
        raise UserError(
            "select.group_floor and select.group_cap need select.balance: which groups they are of."
        )
    if select.balance is not None and select.confident == "sample":
        raise UserError(
            f"select.balance={select.balance} does not go with select.confident=sample, which "
            "draws rows one by one."
        )
    if select.diverse_samples is not None and select.weights != "samples":
        raise UserError("select.diverse_samples needs select.weights=samples.")
    if select.weights == "samples" and any(weight > 1 for weight in pool.source_weights):
        raise UserError(
            "select.weights=samples does not go with pool.source_weights: both say how often a "
            "pass meets a row."
        )
    if "cluster" in select.groupings or select.duplicates == "near":
        if select.clusters:
            return
        raise UserError(
            "the grouping 'cluster' and select.duplicates=near need select.clusters: how many."
        )


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
