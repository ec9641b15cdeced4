"""What is to be planted, as its user says it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from selffilter.config import nearest
from selffilter.errors import UserError
from selffilter.pool.captions import CaptionKey
from selffilter.pool.noise.plant import WEB_MIXTURE
from selffilter.pool.noise.planted import Kind

KINDS: Mapping[str, Mapping[Kind, float]] = {
    "mismatched": {Kind.mismatched: 1.0},
    "boilerplate": {Kind.boilerplate: 1.0},
    "near_duplicate_flood": {Kind.near_duplicate: 1.0},
    "truncated": {Kind.truncated: 1.0},
    "hard_mismatched": {Kind.hard_mismatched: 1.0},
    "text_in_image": {Kind.text_in_image: 1.0},
    "wrong_language": {Kind.wrong_language: 1.0},
    "web_mixture": WEB_MIXTURE,
}
"""What can be asked for, and the proportions of a row's kinds in it."""

KEPT_FIELDS = ("uid", "key", "source", "url", "license", "caption")
"""Of a sample's json; everything else might tell what the image shows or what the caption was."""


@dataclass(frozen=True)
class NoiseSettings:
    """What is planted. With the source it determines every byte of the pool.

    Attributes:
        kind: One of `KINDS`.
        rate: Share of the usable samples that noise is planted in, in (0, 1].
        seed: Of all draws.
        caption_key: Where captions stand; see `captions.CaptionKey`. Of several captions the first
            is taken; it gets to the first place named.
        label_key: Field of the json that says what a sample shows: captions are not exchanged
            between samples of one label. It does not get into the pool.
        cluster_key: Field of the json that groups similar samples: hard mismatches stay inside a
            group. None: they go by the words of the captions.
        mix: Proportions of the kinds, for ``web_mixture``; None: `WEB_MIXTURE`.
        copies_per_source: Near-duplicates of each source, on average; None: 50.
        keep_fields: Fields of the json to keep besides `KEPT_FIELDS`.
    """

    kind: str = "mismatched"
    rate: float = 0.5
    seed: int = 0
    caption_key: str = "txt"
    label_key: str | None = None
    cluster_key: str | None = None
    mix: Mapping[str, float] | None = None
    copies_per_source: float | None = None
    keep_fields: tuple[str, ...] = ()

    def proportions(self) -> Mapping[Kind, float]:
        """Return the share of each kind in the noise."""
        if self.mix is None:
            return KINDS[self.kind]
        return {_one_kind(name): share for name, share in self.mix.items() if share}

    def check(self) -> None:
        """Refuse what cannot be planted, and what would have no effect.

        Raises:
            UserError: Saying which setting, its value, and what to do.
        """
        if self.kind not in KINDS:
            raise UserError(
                f"--kind {self.kind} is not one of {', '.join(KINDS)}.{nearest(self.kind, KINDS)}"
            )
        if not 0 < self.rate <= 1:
            raise UserError(f"--rate {self.rate} is not in (0, 1].")
        if "uid" in CaptionKey.parse(self.caption_key, "--caption-key").fields:
            raise UserError(f"--caption-key={self.caption_key!r}: uid is no field of captions.")
        self._check_mix()
        kinds = self.proportions()
        if self.cluster_key and Kind.hard_mismatched not in kinds:
            raise UserError("--cluster-key is for hard mismatches; there are none in this noise.")
        if self.copies_per_source is not None:
            if Kind.near_duplicate not in kinds:
                raise UserError(
                    "--copies-per-source is for near-duplicates; there are none in this noise."
                )
            if not self.copies_per_source >= 1:
                raise UserError(f"--copies-per-source {self.copies_per_source} is below 1.")
        if self.label_key in (*self.keep_fields, *KEPT_FIELDS):
            raise UserError(
                f"--label-key {self.label_key} would stay in the json of the noisy pool, where it "
                "tells what was planted: choose another field, or do not keep it."
            )

    def _check_mix(self) -> None:
        if self.mix is None:
            return
        if self.kind != "web_mixture":
            raise UserError(f"--mix is for --kind web_mixture, not {self.kind}.")
        for name, share in self.mix.items():
            _one_kind(name)
            if not 0 <= share < float("inf"):
                raise UserError(f"--mix: {name}={share} is no proportion.")
        if not sum(self.mix.values()) > 0:
            raise UserError("--mix: the proportions sum to 0.")


def parse_mix(text: str) -> dict[str, float]:
    """Return ``mismatched=0.7,boilerplate=0.3`` as proportions.

    Raises:
        UserError: If it is not written like that.
    """
    mix: dict[str, float] = {}
    for word in text.split(","):
        name, _, share = word.partition("=")
        name = name.strip()
        if name in mix:
            raise UserError(f"--mix: {name} stands there twice.")
        try:
            mix[name] = float(share)
        except ValueError:
            raise UserError(f"--mix: {word!r} is not KIND=NUMBER.") from None
    return mix


def _one_kind(name: str) -> Kind:
    kinds = KINDS.get(name, {})
    if len(kinds) != 1:
        single = [kind for kind in KINDS if len(KINDS[kind]) == 1]
        raise UserError(f"--mix: {name} is not one of {', '.join(single)}.{nearest(name, single)}")
    return next(iter(kinds))
