"""Build the emoji pool and its two evaluation sets from npm's packages.

python benchmarks/data/build_emoji.py --out DATA [--node-modules FOLDER]

Needs `pip install resvg-py`, and npm unless the packages lie in FOLDER already. Makes

    DATA/emoji/SSSSS.tar                   24,596 pairs of eleven artists' sets, 13 shards
    DATA/eval/emoji_twemoji/               1,914 drawings of a twelfth set, one class each
    DATA/eval/emoji_twemoji_subgroup/      the same drawings in 98 classes (CLDR's subgroups)

in about two minutes on one core. The evaluation sets are in CLIP_benchmark's layout. Captions are
strings that were published for an emoji: label, keywords, shortcode, the artist's own name, ten
languages. Every sample's json says under which licence its drawing is: MIT, Apache-2.0, CC-BY-4.0
or CC-BY-SA-4.0. With the versions pinned below, the rows are checked against ROWS_SHA256.
"""

import argparse
import hashlib
import io
import json
import re
import subprocess
import sys
import tempfile
import unicodedata
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import resvg_py
from PIL import Image

from selffilter.pool.tar_scan import scan_tar
from selffilter.pool.writing import write_tar

PACKAGES = {
    "noto": "1.2.9",
    "noto-v1": "1.2.5",
    "twemoji": "1.2.5",
    "openmoji": "1.2.29",
    "fluent-emoji": "1.2.7",
    "fluent-emoji-flat": "1.2.6",
    "fluent-emoji-high-contrast": "1.2.6",
    "emojione": "1.2.3",
    "emojione-v1": "1.2.3",
    "emojione-monotone": "1.2.1",
    "fxemoji": "1.2.2",
    "streamline-emojis": "1.2.4",
}
"""Artists' sets: @iconify-json/NAME and its version. Their order matters for names."""

EMOJIBASE = "17.0.0"
HELD_OUT = "twemoji"
LANGUAGES = ("fr", "es", "de", "it", "pt", "nl", "ja", "zh", "ru", "ko")
NAMES_FROM = ("noto", "twemoji", "openmoji", "fluent-emoji-flat", "fluent-emoji-high-contrast")
NO_CLASS = {"skin tones", "hair styles"}

SIDE = 64
LONGEST_SIDE = 4 * SIDE
WEBP = {"quality": 80, "method": 6}
SAMPLES_PER_SHARD = 2000
TEMPLATES = ("{c}", "an emoji of {c}", "{c} icon", "a picture of {c}")
ROWS_SHA256 = {
    "emoji": "23ab1f7cabd9dccfee43101da044d781",
    "eval/emoji_twemoji/test": "bbfb6e235c27bd44cf27c41204c0d1ad",
    "eval/emoji_twemoji_subgroup/test": "87c273fc8614d9c16e13ad0515216f07",
}
"""First 128 bits, of uid, caption and class of all rows in order, with the versions above."""


@dataclass(frozen=True)
class Emoji:
    """What Unicode and emojibase say of an emoji."""

    codepoints: str
    character: str
    label: str
    tags: list[str]
    group: str | None
    subgroup: str | None
    is_base: bool  # not a variant in another skin tone


@dataclass(frozen=True)
class Drawing:
    """An artist's drawing, and which emoji it is, if that could be found out."""

    vendor: str
    name: str
    codepoints: str | None


def fraction(text: str) -> float:
    """Hash a text to [0, 1)."""
    return int(hashlib.md5(text.encode()).hexdigest()[:8], 16) / 2**32


def squeezed(text: str) -> str:
    return re.sub(r"[^a-z0-9]", "", text.lower())


def plain_codepoints(hexcode: str) -> str:
    """Drop the variation selectors, which sets write or do not write."""
    return hexcode.upper().replace("-FE0F", "").replace("-FE0E", "")


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def as_list(value: str | list[str] | None) -> list[str]:
    return [value] if isinstance(value, str) else value or []


class Emojibase:
    """Labels, keywords and shortcodes of all emojis, and which one a name means."""

    def __init__(self, folder: Path) -> None:
        messages = read(folder / "en" / "messages.json")
        groups = {g["order"]: g["message"] for g in messages["groups"]}
        subgroups = {g["order"]: g["message"] for g in messages["subgroups"]}
        shortcodes = read(folder / "en" / "shortcodes" / "github.json")
        self.emojis: dict[str, Emoji] = {}
        self.by_name: dict[str, str] = {}
        # Keys with a variation selector are never asked for, so 57 rows have their label where a
        # shortcode was drawn. Kept: the pool of the published results is made like this.
        self.shortcodes = {hexcode: as_list(s) for hexcode, s in shortcodes.items()}
        for base in read(folder / "en" / "data.json"):
            for entry in (base, *base.get("skins", [])):
                codepoints = plain_codepoints(entry["hexcode"])
                self.emojis[codepoints] = Emoji(
                    codepoints,
                    entry["emoji"],
                    entry["label"],
                    base.get("tags", []),
                    groups.get(base.get("group")),
                    subgroups.get(base.get("subgroup")),
                    entry is base,
                )
                self.name(entry["label"], codepoints)
                if len(entry["emoji"].replace("\ufe0f", "")) == 1:
                    self.name(unicodedata.name(entry["emoji"][0], ""), codepoints)
            for shortcode in as_list(shortcodes.get(base["hexcode"])):
                self.name(shortcode, plain_codepoints(base["hexcode"]))
        self.translations = {
            language: {
                plain_codepoints(entry["hexcode"]): entry["label"]
                for entry in read(folder / language / "data.json")
            }
            for language in LANGUAGES
        }
        self.subgroups = sorted({e.subgroup for e in self.emojis.values() if e.subgroup} - NO_CLASS)

    def name(self, name: str, codepoints: str) -> None:
        """Note what a name means; the first meaning stays."""
        self.by_name.setdefault(squeezed(name), codepoints)

    def find(self, name: str, published: dict[str, str]) -> str | None:
        """Return the codepoints of a drawing: as its set publishes them, else by its name."""
        if published.get(name) in self.emojis:
            return published[name]
        tones = r"-(medium-dark|medium-light|dark|light|medium)$"
        for variant in (
            name,
            re.sub(r"-\d+$", "", name),
            re.sub(tones, r"-\1-skin-tone", name),
            name + "-face",
            name + "-button",
            "flag-" + re.sub(r"^flag-(for-)?", "", name),
        ):
            if codepoints := self.by_name.get(squeezed(variant)):
                return codepoints
        return None

    def captions(self, drawing: Drawing) -> dict[str, str]:
        """Return every string published for a drawing, by its kind."""
        emoji = self.emojis.get(drawing.codepoints or "")
        if emoji is None:
            return {"vendor_name": drawing.name.replace("-", " ")}
        found = {"label": emoji.label}
        if emoji.tags:
            found["tags"] = ", ".join(emoji.tags)
            found["label+tags"] = f"{emoji.label}: {', '.join(emoji.tags[:6])}"
        found["vendor_name"] = drawing.name
        if shortcodes := self.shortcodes.get(emoji.codepoints):
            found["shortcode"] = f":{shortcodes[0]}:"
        for language, labels in self.translations.items():
            if emoji.codepoints in labels:
                found[f"lang_{language}"] = labels[emoji.codepoints]
        return found


def pick_caption(captions: dict[str, str], key: str) -> tuple[str, str]:
    """Pick one of the captions, by a hash of the key; return its kind and the caption."""
    draw = fraction("ecap" + key)
    languages = [kind for kind in captions if kind.startswith("lang_")]
    shares = {"label": 0.5, "label+tags": 0.7, "tags": 0.8, "shortcode": 0.86, "vendor_name": 0.92}
    kind = next((kind for kind, end in shares.items() if draw < end), None)
    if kind is None:
        # A little more than the .08 that are left, so that the index stays below the end.
        place = int((draw - 0.92) / 0.0801 * len(languages))
        kind = languages[place] if languages else "label"
    kind = kind if kind in captions else next(iter(captions))
    return kind, captions[kind]


def render(svg: str) -> Image.Image:
    """Draw an SVG on white, 64 px on its shorter side and at most 256 px on the longer."""
    image = rasterise(svg, SIDE)
    width, height = image.size
    if height != SIDE and width != height:
        factor = min(SIDE / min(width, height), LONGEST_SIDE / max(width, height))
        if (wanted := max(1, round(width * factor))) != width:
            image = rasterise(svg, wanted)
    return image


def rasterise(svg: str, width: int) -> Image.Image:
    # dpi: the default of 0 breaks sizes in points and millimetres (resvg-py 0.5).
    png = resvg_py.svg_to_bytes(
        svg_string=svg, width=width, background="#ffffff", skip_system_fonts=True, dpi=96.0
    )
    image = Image.open(io.BytesIO(bytes(png))).convert("RGBA")
    white = Image.new("RGBA", image.size, "white")
    white.alpha_composite(image)
    return white.convert("RGB")


def as_webp(image: Image.Image) -> bytes:
    out = io.BytesIO()
    image.save(out, "WEBP", **WEBP)
    return out.getvalue()


def svg_of(icon: dict[str, Any], icons: dict[str, Any]) -> str:
    width, height = (icon.get(side, icons.get(side, 16)) for side in ("width", "height"))
    body = icon["body"].replace("currentColor", "#000")
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'width="{width}" height="{height}" '
        f'viewBox="{icon.get("left", 0)} {icon.get("top", 0)} {width} {height}">{body}</svg>'
    )


class Sets:
    """The artists' sets as npm's packages hold them."""

    def __init__(self, node_modules: Path, emojibase: Emojibase) -> None:
        folders = {vendor: node_modules / "@iconify-json" / vendor for vendor in PACKAGES}
        self.icons = {vendor: read(folder / "icons.json") for vendor, folder in folders.items()}
        self.licence = {
            vendor: read(folder / "info.json")["license"].get("spdx")
            for vendor, folder in folders.items()
        }
        chars = {
            vendor: read(folder / "chars.json") if (folder / "chars.json").exists() else {}
            for vendor, folder in folders.items()
        }
        for vendor in NAMES_FROM:
            for hexcode, name in chars[vendor].items():
                if (codepoints := plain_codepoints(hexcode)) in emojibase.emojis:
                    emojibase.name(name, codepoints)
        self.drawings: list[Drawing] = []
        for vendor, icons in self.icons.items():
            published = {name: plain_codepoints(h) for h, name in chars[vendor].items()}
            self.drawings += [
                Drawing(vendor, name, emojibase.find(name, published))
                for name, icon in icons["icons"].items()
                if not icon.get("hidden")
            ]
        self.drawings.sort(key=lambda d: fraction("emo" + d.vendor + d.name))

    def render(self, drawing: Drawing) -> Image.Image | None:
        """Render a drawing; None if there is nothing to see."""
        icons = self.icons[drawing.vendor]
        image = render(svg_of(icons["icons"][drawing.name], icons))
        blank = all(low == high for low, high in image.getextrema())
        return None if blank else image


def about(
    drawing: Drawing, emoji: Emoji | None, licence: str, image: Image.Image
) -> dict[str, Any]:
    """Return a sample's json."""
    place = f"{drawing.vendor}/{drawing.name}"
    return {
        "uid": hashlib.md5(f"emoji:{place}".encode()).hexdigest(),
        "source": f"emoji/{drawing.vendor}",
        "url": f"emoji://{place}",
        "vendor": drawing.vendor,
        "license": licence,
        "emoji": emoji and emoji.character,
        "codepoints": emoji and emoji.codepoints,
        "label": emoji.label if emoji else drawing.name.replace("-", " "),
        "category": emoji and emoji.group,
        "subcategory": emoji and emoji.subgroup,
        "skin_tone_variant": bool(emoji and not emoji.is_base),
        "width": image.width,
        "height": image.height,
    }


def members(fields: dict[str, Any], image: bytes, caption: str, **more: str) -> dict[str, bytes]:
    known = {key: value for key, value in fields.items() if value is not None}
    text = json.dumps(known, ensure_ascii=False, sort_keys=True)
    texts = {"txt": caption, "json": text, **more}
    return {"webp": image} | {name: value.encode() for name, value in texts.items()}


Samples = list[tuple[str, dict[str, bytes]]]


def build(sets: Sets, base: Emojibase) -> tuple[Samples, Samples, Samples, list[str], Counter[str]]:
    """Return the pool, the two evaluation sets, the first one's classes, and what was left out."""
    in_training = {d.codepoints for d in sets.drawings if d.vendor != HELD_OUT and d.codepoints}
    pool: Samples = []
    single: Samples = []
    grouped: Samples = []
    classes: list[str] = []
    used: set[str] = set()
    left_out: Counter[str] = Counter()
    for drawing in sets.drawings:
        emoji = base.emojis.get(drawing.codepoints or "")
        held_out = drawing.vendor == HELD_OUT
        if held_out and not (
            emoji
            and emoji.is_base
            and emoji.subgroup
            and emoji.codepoints in in_training
            and emoji.codepoints not in used
        ):
            left_out["of the held-out set: variant, double, or a meaning not in the pool"] += 1
            continue
        image = sets.render(drawing)
        if image is None:
            left_out["blank"] += 1
            continue
        fields = about(drawing, emoji, sets.licence[drawing.vendor], image)
        uid, data = fields["uid"], as_webp(image)
        if held_out and emoji:
            used.add(emoji.codepoints)
            number = len(classes)
            classes.append(emoji.label)
            own = fields | {"label_id": number}
            single.append((uid, members(own, data, emoji.label, cls=str(number))))
            if emoji.subgroup in base.subgroups:
                group = base.subgroups.index(emoji.subgroup)
                own = fields | {"label": emoji.subgroup, "label_id": group}
                grouped.append((uid, members(own, data, emoji.label, cls=str(group))))
        else:
            kind, caption = pick_caption(base.captions(drawing), drawing.vendor + drawing.name)
            pool.append((uid, members(fields | {"caption_kind": kind}, data, caption)))
    return pool, single, grouped, classes, left_out


def write_evaluation_set(folder: Path, samples: Samples, classes: list[str]) -> None:
    write_tar(folder / "test" / "0.tar", samples)
    (folder / "test" / "nshards.txt").write_text("1\n")
    (folder / "classnames.txt").write_text("\n".join(classes) + "\n", encoding="utf-8")
    templates = folder / "zeroshot_classification_templates.txt"
    templates.write_text("\n".join(TEMPLATES) + "\n")


def rows_of(folder: Path) -> Iterator[dict[str, bytes]]:
    """Yield the samples that lie on disk."""
    for path in sorted(folder.glob("*.tar")):
        scan = scan_tar(str(path), folder.name, path.name, "txt")
        assert not scan.problem, f"{path}: {scan.problem}"
        data = path.read_bytes()
        for uid, *places in zip(scan.uids, scan.image, scan.caption, scan.json, strict=True):
            image, caption, fields = (data[offset : offset + size] for offset, size in places)
            yield {"uid": uid, "image": image, "txt": caption, "json": fields}


def check(folder: Path, name: str, not_among: set[bytes]) -> tuple[set[bytes], bool]:
    """Say what lies in a folder. Return the digests of its images, and whether all is as known."""
    digest, images, uids = hashlib.sha256(), set(), set()
    captions: Counter[bytes] = Counter()
    licences: Counter[str] = Counter()
    for row in rows_of(folder / name):
        fields = json.loads(row["json"])
        assert fields["uid"] == row["uid"].hex()
        Image.open(io.BytesIO(row["image"])).load()
        uids.add(row["uid"])
        images.add(hashlib.md5(row["image"]).digest())
        captions[row["txt"]] += 1
        licences[fields["license"]] += 1
        digest.update(row["uid"] + row["txt"] + str(fields.get("label_id", "")).encode() + b"\n")
    total = captions.total()
    rows = digest.hexdigest()[:32]
    as_known = rows == ROWS_SHA256[name]
    print(
        f"{name}: {total:,} samples, {len(uids):,} uids, {len(captions):,} captions, "
        f"{total - len(images):,} images twice, {len(images & not_among):,} of the pool's, "
        f"{', '.join(f'{k} {n:,}' for k, n in licences.most_common())}\n"
        f"    rows {rows}: {'as known' if as_known else 'OTHER THAN KNOWN'}"
    )
    return images, as_known and len(uids) == total and not images & not_among


def install(folder: Path) -> Path:
    """Get the packages with npm; no script of theirs is run. Return node_modules."""
    packages = [f"@iconify-json/{name}@{version}" for name, version in PACKAGES.items()]
    command = ["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", "--prefix", folder]
    subprocess.run([*command, *packages, f"emojibase-data@{EMOJIBASE}"], check=True)
    return folder / "node_modules"


def main(out: Path, node_modules: Path | None) -> int:
    with tempfile.TemporaryDirectory() as temporary:
        node_modules = node_modules or install(Path(temporary))
        base = Emojibase(node_modules / "emojibase-data")
        sets = Sets(node_modules, base)
    pool, single, grouped, classes, left_out = build(sets, base)
    for shard, first in enumerate(range(0, len(pool), SAMPLES_PER_SHARD)):
        part = pool[first : first + SAMPLES_PER_SHARD]
        write_tar(out / "emoji" / f"{shard:05d}.tar", part)
    write_evaluation_set(out / "eval" / f"emoji_{HELD_OUT}", single, classes)
    write_evaluation_set(out / "eval" / f"emoji_{HELD_OUT}_subgroup", grouped, base.subgroups)
    print("left out:", ", ".join(f"{n:,} {reason}" for reason, n in left_out.items()))
    images, right = check(out, "emoji", set())
    for name in (f"eval/emoji_{HELD_OUT}/test", f"eval/emoji_{HELD_OUT}_subgroup/test"):
        right &= check(out, name, images)[1]
    return 0 if right else 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="where the data goes")
    parser.add_argument("--node-modules", type=Path, help="the packages, if they are there already")
    arguments = parser.parse_args()
    sys.exit(main(arguments.out, arguments.node_modules))
