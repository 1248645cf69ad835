"""Plots of results: effects in a column, figures as points with their intervals; and tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from pipelines.experiments.results import CONTROL, Outcome, Results
from sketchlm.metrics import Figure

TASK_WORDS: Final = {
    "sbir": "SBIR",
    "count": "COUNT",
    "bbox": "BBOX",
    "boxes": "all boxes",
    "vqa": "VQA",
    "retrieval": "gallery",
    "coarse": "coarse search",
}
CONDITION_WORDS: Final = {
    "asked": "",
    "shuffled": "another's sketch",
    "blank": "white page",
    "sketch": "sketch alone",
    "other": "another's words",
    "words": "white page and words",
    "text": "class and attribute in words",
    "search": "by its search",
    "reranked": "by its search, then asked",
    "pooled": "untrained search",
    "pooled-reranked": "untrained search, then asked",
}
BLUE, RED, GREEN, PURPLE, GREY = "#1f6feb", "#d1622b", "#2da44e", "#8250df", "#8b949e"


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """A table, its first row the head."""
    head, *body = rows
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, ["---"] * len(head), *body])


def signed(difference: Figure) -> str:
    """`+0.012 (-0.010 to +0.034)`."""
    return f"{difference.value:+.3f} ({difference.low:+.3f} to {difference.high:+.3f})"


def exam_words(exam: str, condition: str) -> str:
    """`unseen`, or `unseen, another's sketch`."""
    words = CONDITION_WORDS.get(condition, condition)
    return f"{exam}, {words}" if words else exam


def points(axes: Any, outcomes: Mapping[Any, Outcome | None], upright: bool = True, **how: Any) -> None:
    """Means with their intervals at the keys, where there are any. upright: the keys lie on the x axis; how: of
    matplotlib's errorbar."""
    there = {place: one.interval for place, one in outcomes.items() if one}
    values = [found.value for found in there.values()]
    reach = [[one.value - one.low for one in there.values()], [one.high - one.value for one in there.values()]]
    how = {"fmt": "o", "capsize": 3, "markersize": 4} | how
    if upright:
        axes.errorbar(list(there), values, yerr=reach, **how)
    else:
        axes.errorbar(values, list(there), xerr=reach, **how)


def beside(group: int, series: int) -> float:
    """Where in a group the bar of the first, second or third series stands."""
    return group + 0.27 * (series - 1)


def bars(axes: Any, outcomes: Mapping[float, Outcome | None], colour: str, label: str) -> None:
    """Means as bars at the keys, with their intervals."""
    there = {place: one for place, one in outcomes.items() if one}
    axes.bar(list(there), [one.mean for one in there.values()], 0.25, color=colour, label=label)
    points(axes, there, fmt="none", ecolor="black", linewidth=1)


def forest(results: Results, picture: Any) -> None:
    """The usual plot: effects with their intervals and the points of single seeds; where there is none, the figures."""
    effects = results.effects
    if not effects:
        column(picture.subplots(), [one for one in results.outcomes if one.condition == "asked"])
        return
    between = [one for one in effects if one.against != CONTROL]
    control = [one for one in effects if one.against == CONTROL]
    parts = [part for part in (between, control) if part]  # beside the control's all others would be dots
    columns = picture.subplots(len(parts), 1, squeeze=False, height_ratios=[len(part) for part in parts])[:, 0]
    for axes, part in zip(columns, parts, strict=True):
        column(axes, part)


def column(axes: Any, shown: Sequence[Outcome]) -> None:
    """Outcomes one below the other, with their intervals and a stroke for each seed; effects beside 0."""
    effects = any(one.is_effect for one in shown)
    for place, one in enumerate(reversed(shown)):
        found = one.interval
        colour = BLUE if not effects or one.is_clear else GREY
        axes.plot([found.low, found.high], [place, place], color=colour, linewidth=2)
        axes.plot(found.value, place, "o", color=colour, markersize=7)
        axes.plot(one.values, [place] * len(one.values), "|", color="black", markersize=10)
    axes.set_yticks(range(len(shown)), [_label(one, effects) for one in reversed(shown)], fontsize=9)
    if effects:
        axes.axvline(0, color="black", linewidth=0.8)
    axes.set_xlabel("difference (95 %), a stroke for each seed" if effects else "figure (95 %), a stroke for each seed")
    axes.grid(axis="x", alpha=0.3)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)


def _label(one: Outcome, effect: bool) -> str:
    what = f"{TASK_WORDS.get(one.task, one.task)} {one.figure}, {exam_words(one.exam, one.condition)}"
    return f"{what}\n{one.arm} above {one.against or one.baseline}" if effect else f"{one.arm}: {what}"
