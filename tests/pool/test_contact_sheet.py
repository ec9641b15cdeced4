import numpy as np
import pytest
from PIL import Image, ImageFont

from selffilter.pool import contact_sheet
from selffilter.pool.contact_sheet import Shown, draw_sheet, read_samples
from selffilter.pool.index import Pool, build_index

BOUNDS = {"max_pixels": 10_000, "max_bytes": 10_000}


def test_samples_come_with_their_captions_or_the_reason(make_tar, picture, tmp_path):
    make_tar(
        tmp_path / "p" / "0.tar",
        [
            ("1", {"png": picture(1), "txt": b"one\ntwo"}),
            ("2", {"png": b"no image", "txt": b"t"}),
            ("3", {"txt": b"t"}),
            ("4", {"png": picture(2), "txt": b"\xff"}),
            ("5", {"png": picture(3, (200, 200)), "txt": b"t"}),
        ],
    )
    version = build_index([str(tmp_path / "p")], tmp_path / "i", caption_key="txt:lines")
    pool = Pool(tmp_path / "i", version)
    shown = read_samples(pool, 99, max_pixels=10_000, max_bytes=1 << 20)
    assert [sample.text for sample in shown] == [
        "one | two", "image_unreadable", "missing_image", "caption_unreadable", "image_too_large",
    ]  # fmt: skip
    assert [sample.image is not None for sample in shown] == [True, False, False, False, False]
    small = read_samples(pool, 99, max_pixels=1 << 20, max_bytes=1000)
    assert small[4].text == "image_too_large"


def test_the_draw_depends_on_the_seed(tiny_pool):
    texts = [
        [sample.text for sample in read_samples(tiny_pool, 3, seed=seed, **BOUNDS)]
        for seed in (0, 0, 1)
    ]
    assert texts[0] == texts[1] != texts[2]
    assert len(read_samples(tiny_pool, 100, **BOUNDS)) == 8


@pytest.mark.parametrize("fonts", [contact_sheet._FONTS, ()], ids=["installed", "PIL's own"])
def test_captions_of_any_script_are_drawn(monkeypatch, fonts):
    monkeypatch.setattr(contact_sheet, "_FONTS", fonts)
    texts = [
        "猫が座っている" * 9,
        "кошка",
        "قطة",
        "👩‍👩‍👧 family",
        "a\0b\n\tc\u202e",
        "",
        "w" * 500,
        "  ",
    ]
    image = Image.new("RGB", (300, 20), "red")
    sheet = draw_sheet([Shown(image, text) for text in texts], columns=4)
    pixels = np.asarray(sheet)
    # Two rows of four: each tile has its picture, and each text but the blank ones left ink.
    tile, width = contact_sheet._TILE, contact_sheet._TILE + contact_sheet._GAP
    height = sheet.height // 2
    for place, text in enumerate(texts):
        x, y = place % 4 * width + contact_sheet._GAP, place // 4 * height + contact_sheet._GAP
        part = pixels[y : y + tile, x : x + tile].reshape(-1, 3)
        assert (part == (255, 0, 0)).all(axis=1).any()
        below = pixels[y + tile + 2 : y + tile + 60, x : x + tile]
        assert (below.min() < 200) == bool(text.strip())


def test_a_line_is_no_wider_than_its_tile():
    font = contact_sheet._font()
    for text in ("猫" * 100, "iiii " * 60, "W" * 90):
        lines = contact_sheet._lines(text, font)
        assert 1 <= len(lines) <= contact_sheet._LINES
        assert all(font.getlength(line) <= contact_sheet._TILE for line in lines)
    assert isinstance(font, ImageFont.FreeTypeFont)
