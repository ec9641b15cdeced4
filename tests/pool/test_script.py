import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selffilter.pool.script import Script, script_of

FIRST_WORDS = {
    "LATIN": Script.latin,
    "CYRILLIC": Script.cyrillic,
    "GREEK": Script.greek,
    "ARABIC": Script.arabic,
    "HEBREW": Script.hebrew,
    "DEVANAGARI": Script.devanagari,
    "CJK": Script.han,
    "IDEOGRAPHIC": Script.han,
    "HIRAGANA": Script.kana,
    "KATAKANA": Script.kana,
    "HENTAIGANA": Script.kana,
    "HANGUL": Script.hangul,
    "THAI": Script.thai,
}
"""How Unicode's names of letters begin."""
SIGNS = {
    "FEMININE ORDINAL INDICATOR", "MASCULINE ORDINAL INDICATOR", "MICRO SIGN", "KELVIN SIGN",
    "ANGSTROM SIGN", "ROMAN NUMERAL REVERSED ONE HUNDRED", "VERTICAL KANA REPEAT MARK",
    "VERTICAL KANA REPEAT WITH VOICED SOUND MARK", "VERTICAL KANA REPEAT MARK UPPER HALF",
    "VERTICAL KANA REPEAT WITH VOICED SOUND MARK UPPER HALF",
    "VERTICAL KANA REPEAT MARK LOWER HALF", "KATAKANA-HIRAGANA PROLONGED SOUND MARK",
    "HALFWIDTH KATAKANA-HIRAGANA PROLONGED SOUND MARK",
}  # fmt: skip
"""Letters with names of their own: Latin, or kana."""


@pytest.mark.parametrize(
    ("text", "script"),
    [
        ("", "none"),
        ("2024-05-01 $9.99 !?", "none"),
        ("😀 ★ ½ ① １２３", "none"),
        ("A red bicycle, 1964", "latin"),
        ("Café “Müller” — Größe Łódź", "latin"),
        ("Phố cổ Hà Nội", "latin"),
        ("Красный велосипед (NEW)", "cyrillic"),
        ("Το κόκκινο ποδήλατο", "greek"),
        ("دراجة حمراء ١٩٦٤", "arabic"),
        ("דוכפת ירושלים", "hebrew"),
        ("लाल साइकिल", "devanagari"),
        ("一辆红色的自行车", "han"),
        ("赤い自転車", "kana"),
        ("ガラス", "kana"),
        ("빨간 자전거", "hangul"),
        ("จักรยานสีแดง", "thai"),
        ("লাল সাইকেল", "other"),
        ("წითელი", "other"),
        ("abc где", "mixed"),
        ("abc где δεζ", "mixed"),
        ("abcd где", "latin"),
    ],
)
def test_a_text_has_the_script_of_more_than_half_of_its_letters(text, script):
    assert script_of(text) is Script[script]


def test_han_counts_as_kana_only_beside_enough_of_it():
    assert script_of("東京駅前写真集のり") is Script.kana
    assert script_of("优" * 9 + "の") is Script.kana
    assert script_of("优" * 10 + "の") is Script.han
    assert script_of("优" * 6 + "abcde") is Script.han


def test_marks_and_digits_do_not_outvote_letters():
    assert script_of("é" * 3 + "\u0301" * 50) is Script.latin
    assert script_of("где " + "7" * 50) is Script.cyrillic


def test_every_letter_has_the_script_that_its_name_in_unicode_begins_with():
    wrong = []
    for point in range(128, sys.maxunicode + 1):
        letter = chr(point)
        if letter.isalpha() and (name := unicodedata.name(letter, "")):
            first = name.replace("HALFWIDTH ", "").replace("FULLWIDTH ", "").split()[0]
            # Signs of phonetic notation are Latin here, whatever letter they are made of.
            words = set(name.split())
            if words & {"SUBSCRIPT", "SUPERSCRIPT", "MODIFIER"} or "SMALL CAPITAL" in name:
                continue
            expected = FIRST_WORDS.get(first, Script.other)
            if script_of(letter) is not expected:
                wrong.append((hex(point), name))
    assert {name for _, name in wrong} <= SIGNS, wrong


@given(st.text(), st.randoms())
def test_the_order_of_its_letters_does_not_matter(text, random):
    shuffled = list(text)
    random.shuffle(shuffled)
    assert script_of("".join(shuffled)) is script_of(text)


def test_numbers_of_scripts_stay_as_they_are_stored():
    assert [script.name for script in Script] == [
        "none", "latin", "cyrillic", "greek", "arabic", "hebrew", "devanagari", "han", "kana",
        "hangul", "thai", "other", "mixed",
    ]  # fmt: skip
    assert [int(script) for script in Script] == list(range(13))
