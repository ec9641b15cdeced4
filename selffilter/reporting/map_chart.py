"""The pool in a plane, each row a dot that says what became of it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from selffilter.reporting.axes import Scale, chart, label
from selffilter.reporting.markup import Child, Markup, element

_SIDE, _EDGE = 320.0, 8.0


def dots(
    title: str,
    xy_P2: NDArray[np.float64],
    layers: list[tuple[str, NDArray[np.bool_]]],
    x_label: str = "",
    y_label: str = "",
) -> Markup:
    """Draw points; one path a layer, so that thousands take little room.

    Args:
        title: What it shows.
        xy_P2: (P, 2), between 0 and 1.
        layers: Class and which points are of it, (P,) bool; the last lies on top. A class that
            ends in ``cross`` is drawn as crosses.
        x_label: Name of the x axis.
        y_label: Of the y axis.
    """
    x = Scale(0.0, 1.0, _EDGE, _SIDE - _EDGE)
    y = Scale(0.0, 1.0, _SIDE - _EDGE, _EDGE)
    drawn: list[Child] = [
        element("rect", x=0.5, y=0.5, width=_SIDE - 1, height=_SIDE - 1, class_="plane")
    ]
    for kind, which_P in layers:
        shape = "m-1.6 -1.6l3.2 3.2m0 -3.2l-3.2 3.2" if kind.endswith("cross") else "h0"
        places = (f"M{x(a):.1f} {y(b):.1f}{shape}" for a, b in xy_P2[which_P].tolist())
        if path := "".join(places):
            drawn.append(element("path", d=path, class_=f"point {kind}"))
    if x_label:
        drawn.append(label(_SIDE - _EDGE, _SIDE - 6, x_label + " →", "end", "soft"))
    if y_label:
        drawn.append(label(_EDGE, 15.0, "↑ " + y_label, "start", "soft"))
    counts = ", ".join(f"{int(which.sum()):,} {kind}" for kind, which in layers)
    return chart(f"{title}: {counts} of {len(xy_P2):,} points", drawn, width=_SIDE, height=_SIDE)
