"""The page of a gap: sketches of both places side by side, and how each trait is distributed in them."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sketchgen.gap.comparison import Gap, Measured
from sketchgen.gap.distance import Estimate, Values
from sketchgen.gap.pool import Drawn
from sketchgen.gap.traits import TRAITS
from sketchgen.png import plain_png
from sketchgen.storage import Storage
from sketchgen.template import template

CLASSES, EACH = 12, 6
"""Classes that are shown at most, and sketches of each side of a class; where there are fewer classes, more of each."""
BARS = 24


@dataclass(frozen=True)
class Side:
    """One of the two places: what it is called, its sketches, and what they are as numbers."""

    name: str
    drawn: Drawn
    numbers: Measured


def write_page(
    storage: Storage, name: str, sides: tuple[Side, Side], gap: Gap, facts: Mapping[str, str], matched: bool
) -> None:
    """Write it to `storage`, self-contained; the same gap, the same bytes.

    facts: what was compared, shown as label and value; matched: whether both sides have as many of each class.
    """
    page = template("gap.html.j2", estimate=in_words).render(
        sides=sides,
        gap=gap,
        facts=facts,
        traits=TRAITS,
        charts=[_chart([side.numbers.traits[:, place] for side in sides]) for place in range(len(TRAITS))],
        rows=_rows(sides, matched),
    )
    storage.write(name, page.encode())


def in_words(estimate: Estimate) -> str:
    """`0.123 (0.101 to 0.150)`, in as many places as its size asks for."""
    places = 1 if abs(estimate.value) >= 100 else 2 if abs(estimate.value) >= 1 else 3
    if not math.isfinite(estimate.value):
        return "–" if math.isnan(estimate.value) else "no spread"
    return f"{estimate.value:.{places}f} ({estimate.low:.{places}f} to {estimate.high:.{places}f})"


def _chart(values: Sequence[Values]) -> dict[str, Any]:
    """Shares of the sketches of each side in equal steps; what lies outside counts to the first and last."""
    both = np.concatenate(values)
    edges, shown = _steps(both)
    low, high = edges[0], edges[-1]
    shares = [np.histogram(np.clip(one, low, high), edges)[0] / len(one) for one in values]
    top = max(float(share.max()) for share in shares)
    return {
        "labels": [f"{value:.3g}" for value in (shown[0], (shown[0] + shown[1]) / 2, shown[1])],
        "shares": [(share / top).tolist() for share in shares],
        "means": [float(np.clip((one.mean() - low) / (high - low), 0, 1)) for one in values],
    }


def _steps(values: Values) -> tuple[NDArray[np.floating], tuple[float, float]]:
    """Edges of equal steps, BARS at most, from the 0.5th to the 99.5th of a hundred values, and the least and greatest
    value to be written below."""
    low, high = (float(value) for value in np.percentile(values, [0.5, 99.5]))
    if (values == values.round()).all():  # counts: as many whole numbers in each step
        first, last = math.floor(low), math.ceil(high)
        width = -(-(last - first + 1) // BARS)
        return np.arange(first, last + width + 1, width) - 0.5, (first, last)
    low, high = (low, high) if high > low else (low - 0.5, high + 0.5)
    return np.linspace(low, high, BARS + 1), (low, high)


def _rows(sides: tuple[Side, Side], matched: bool) -> list[dict[str, Any]]:
    """What is shown: of each class sketches of A and of B; where classes are not matched, of all together."""
    if not matched:
        return [
            {
                "category": "",
                "sides": [_urls(side.drawn, range(0, len(side.drawn.images), _step(side))) for side in sides],
            }
        ]
    names = list(dict.fromkeys(sides[0].drawn.categories))
    each = EACH * max(1, CLASSES // (2 * len(names)))
    rows = []
    for name in names[:: max(1, len(names) // CLASSES)][:CLASSES]:
        places = [[n for n, category in enumerate(side.drawn.categories) if category == name] for side in sides]
        rows.append(
            {
                "category": name,
                "sides": [_urls(side.drawn, own[:each]) for side, own in zip(sides, places, strict=True)],
            }
        )
    return rows


def _step(side: Side) -> int:
    return max(1, -(-len(side.drawn.images) // (EACH * CLASSES // 2)))


def _urls(drawn: Drawn, places: Sequence[int]) -> list[str]:
    pngs = [plain_png(np.ascontiguousarray(drawn.images[place][::2, ::2])) for place in places]
    return [f"data:image/png;base64,{base64.b64encode(png).decode('ascii')}" for png in pngs]
