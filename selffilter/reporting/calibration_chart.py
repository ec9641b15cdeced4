"""How far a fitted probability can be believed. A pure function from a table to SVG."""

from __future__ import annotations

import numpy as np

from selffilter.reporting.axes import Axes, chart
from selffilter.reporting.markup import Child, Markup, element
from selffilter.selecting.calibration import Reliability


def reliability_diagram(title: str, found: Reliability) -> Markup:
    """Draw, for each bin with rows, the share of right pairs over the probability that was fitted.

    With bars of two standard errors, and the diagonal on which probabilities are right.

    Args:
        title: What it shows.
        found: At least one row.
    """
    axes = Axes.over((0.0, 1.0), (0.0, 1.0), bottom=34.0)
    drawn: list[Child] = [element("path", d=axes.path([(0.0, 0.0), (1.0, 1.0)]), class_="cut")]
    filled_B = found.rows_B > 0
    columns = (found.posterior_B, found.clean_B, found.rows_B)
    points = list(zip(*(column[filled_B].tolist() for column in columns), strict=True))
    for said, right, rows in points:
        error = 2 * float(np.sqrt(right * (1 - right) / rows))
        ends = [axes.y(max(0.0, right - error)), axes.y(min(1.0, right + error))]
        x = axes.x(said)
        drawn.append(element("line", x1=x, x2=x, y1=ends[0], y2=ends[1], class_="bar a"))
    path = axes.path([(said, right) for said, right, _ in points])
    drawn.append(element("path", d=path, class_="line a"))
    drawn += [
        element("circle", cx=axes.x(said), cy=axes.y(right), r=2.8, class_="dot a")
        for said, right, _ in points
    ]
    worst = max(points, key=lambda point: abs(point[0] - point[1]))
    told = (
        f"{title}: expected calibration error {found.expected_calibration_error:.3f}; furthest "
        f"off, where {worst[0]:.2f} was fitted, {worst[1]:.2f} of {worst[2]:,} are right pairs"
    )
    return chart(told, axes.frame(x_label="fitted probability", y_about=3), drawn)
