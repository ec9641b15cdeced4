"""The charts: what is drawn where."""

import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from selffilter.reporting.alluvial import alluvial
from selffilter.reporting.axes import Scale, brief, signed, ticks, widened
from selffilter.reporting.calibration_chart import reliability_diagram
from selffilter.reporting.charts import curves, distribution
from selffilter.reporting.flow import Flow
from selffilter.reporting.map_chart import dots
from selffilter.reporting.progress_of_run import Line, Panel, Progress
from selffilter.reporting.rate_charts import group_rates, word_rates
from selffilter.reporting.words import Word
from selffilter.selecting.calibration import reliability


def parsed(markup):
    return ET.fromstring(markup)


def of_class(svg, name):
    return [e for e in svg.iter() if name in e.get("class", "").split()]


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0, 1, [0, 0.25, 0.5, 0.75, 1]), (3, 47, [10, 20, 30, 40]), (-1, 1, [-1, -0.5, 0, 0.5, 1])],
)
def test_ticks_are_round(low, high, expected):
    assert ticks(low, high, 4) == pytest.approx(expected)


def test_ticks_of_no_range_are_the_value():
    assert ticks(2.0, 2.0) == [2.0]


@pytest.mark.parametrize(
    ("value", "text"), [(1.28e9, "1.28G"), (51200, "51.2k"), (0.25, "0.25"), (-3, "−3"), (0, "0")]
)
def test_values_are_brief(value, text):
    assert brief(value) == text


def test_a_minus_is_no_hyphen():
    assert signed(-0.0619, ".3f") == "−0.062"


def test_room_is_left_but_none_beyond_what_can_be():
    assert widened(0.5, 1.0, (0, 1)) == pytest.approx([0.47, 1.0])
    low, high = widened(2.0, 2.0)
    assert low < 2 < high


def test_scales_are_linear():
    assert Scale(0, 10, 100, 200)(2.5) == 125


def test_curves_have_markers_of_their_own_and_words():
    panel = Panel(
        "<title>", [Line("a", [(0, 1), (10, 2)], [0.1, 0.1]), Line("b", [(0, 3), (10, 1)])]
    )
    svg = parsed(curves(panel, Progress([panel], [(0, 4), (1, 10)], 10)))
    assert len(of_class(svg, "line")) == 2
    assert {e.tag for e in of_class(svg, "dot")} == {"circle", "rect"}
    assert len(of_class(svg, "bar")) == 2 and len(of_class(svg, "rule")) == 2
    assert svg.find("title").text == "<title> over samples seen: a from 1 to 2; b from 3 to 1"


def test_a_distribution_stacks_its_parts():
    svg = parsed(
        distribution(
            "t",
            0.0,
            2.0,
            {"confident": np.array([0, 3]), "dropped": np.array([4, 1])},
            {},
            threshold=1.0,
        )
    )
    heights = []
    for area in of_class(svg, "area"):
        ys = [float(y) for y in re.findall(r"[ML][\d.]+ ([\d.]+)", area.get("d"))]
        heights.append(max(ys) - min(ys))
    assert heights[0] * 4 == pytest.approx(heights[1] * 3, rel=0.01)  # 3 rows; then up to 4
    assert len(of_class(svg, "cut")) == 1


def test_a_threshold_beyond_the_scores_is_not_drawn():
    svg = parsed(distribution("t", 0.0, 1.0, {"dropped": np.array([1])}, {}, threshold=3.0))
    assert not of_class(svg, "cut")


def test_bands_are_as_high_as_what_flows():
    count = np.array([[6, 3, 1], [5, 4, 1]])
    moved = np.array([[[4, 1, 1], [0, 3, 0], [1, 0, 0]]])
    svg = parsed(alluvial(Flow([0, 1], count, moved)))
    bands = of_class(svg, "band")
    heights = {b.find("title").text: float(re.search(r"v([\d.]+)", b.get("d"))[1]) for b in bands}
    assert len(bands) == 5
    assert heights["round 0 to 1: 4 rows dropped → dropped"] == pytest.approx(100, abs=0.01)
    assert heights["round 0 to 1: 3 rows confident → confident"] == pytest.approx(75, abs=0.01)
    assert svg.find("title").text.endswith("kept: 4 in round 0, 5 in round 1")


def test_a_flow_of_one_round_is_its_counts():
    svg = parsed(alluvial(Flow([0], np.array([[6, 3, 1]]), np.zeros((0, 3, 3), np.int64))))
    assert not of_class(svg, "band") and len(of_class(svg, "confident")) == 1


def test_every_point_of_the_map_is_drawn_once():
    xy = np.random.default_rng(0).random((50, 2))
    right = xy[:, 0] > 0.5
    svg = parsed(dots("t", xy, [("right", right), ("planted cross", ~right)]))
    drawn = {e.get("class"): e.get("d").count("M") for e in of_class(svg, "point")}
    assert drawn == {"point right": int(right.sum()), "point planted cross": int((~right).sum())}
    assert "l3.2 3.2" in of_class(svg, "cross")[0].get("d")


def test_words_stand_beside_their_rates():
    svg = parsed(word_rates([Word("<cat>", 40, 0.1, 0.9, 5.0)], 0.2, 0.5, 1.0))
    assert "<cat>" in [e.text for e in svg.iter("text")]
    first, last = of_class(svg, "ring")[0], of_class(svg, "dot")[0]
    assert float(first.get("cx")) < float(last.get("cx"))


def test_groups_without_a_rate_have_no_dot():
    rates = [("a", float("nan"), 1.5, 0.1, 10), ("b", 0.5, float("nan"), 0.1, 5)]
    svg = parsed(group_rates(rates, 2.0, "source"))
    assert len(of_class(svg, "dot")) == 1 and len(of_class(svg, "ring")) == 1


def test_a_reliability_diagram_has_a_point_for_each_bin_with_rows_and_says_the_worst():
    said = np.array([0.05] * 100 + [0.95] * 100)
    clean = np.arange(200) % 4 == 0
    clean[100:] = True
    svg = parsed(reliability_diagram("round 3", reliability(said, clean)))
    points = of_class(svg, "dot")
    assert len(points) == len(of_class(svg, "bar")) == 2
    heights = [float(point.get("cy")) for point in points]
    assert heights[0] > heights[1]  # down is less
    (title,) = (e.text for e in svg.iter() if e.tag.endswith("title"))
    assert "calibration error 0.125" in title
    assert "where 0.05 was fitted, 0.25 of 100 are right pairs" in title
