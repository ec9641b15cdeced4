"""Marks are told apart by shape, and curves of several seeds by band and thin lines."""

import xml.etree.ElementTree as ET

from selffilter.reporting.charts import curves
from selffilter.reporting.marks import LETTERS, colour_of, kind_of, marker
from selffilter.reporting.progress_of_run import Line, Panel, Progress


def test_no_two_lines_have_the_same_colour_and_shape():
    assert len({kind_of(number) for number in range(64)}) == 64
    assert [kind_of(k) for k in range(8)] == list(LETTERS)
    assert (kind_of(8), colour_of(kind_of(8))) == ("a~b", "a")


def test_the_first_eight_have_shapes_of_their_own():
    shapes = {marker(letter, 0.0, 0.0).replace(f"dot {letter}", "") for letter in LETTERS}
    assert len(shapes) == 8
    assert 'class="dot a"' in marker("a~b", 0.0, 0.0) and "<rect" in marker("a~b", 0.0, 0.0)


def test_behind_a_mean_lie_its_band_and_its_seeds():
    points = [(0.0, 1.0), (10.0, 3.0)]
    seeds = [[(0.0, 0.5), (10.0, 2.0)], [(0.0, 1.5), (10.0, 9.0)]]
    mean = Line("x", points, kind="b", band=[(0.5, 1.5), (2.0, 4.0)], singles=seeds)
    alone = Line("y", [(0.0, 1.0)], kind="c")
    svg = ET.fromstring(curves(Panel("p", [mean, alone]), Progress([], [], 10)))
    kinds = [e.get("class") for e in svg if e.tag == "path"]
    assert kinds[:3] == ["around b", "thin b", "thin b"]
    assert kinds.count("around c") == kinds.count("thin c") == 0
    (thin,) = [e for e in svg if e.get("class") == "thin b" and "L" in e.get("d")][1:]
    highest = float(thin.get("d").rsplit(" ", 1)[1])
    assert 0 <= highest < 60  # the seed of 9 is in the picture
