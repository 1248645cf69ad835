"""Metrics: a row for each question, figures of rows with 95 % bootstrap intervals, and differences of two models.

Each task has its row, a function that scores one answer into it, and the measures of its rows by name:

    rows = [count_row(said, truth) for said, truth in answers]
    figures(rows, COUNTING, images)                        # each with its interval over images
    differences(rows, theirs, COUNTING, images)            # of two models on the same questions
"""

from __future__ import annotations

from sketchlm.metrics.box import iou, overlaps, suppress
from sketchlm.metrics.counting import COUNTING, CountRow, count_row
from sketchlm.metrics.detection import BOX, BOXES, BoxesRow, BoxRow, Matching, box_row, boxes_row, match
from sketchlm.metrics.figure import (
    Figure,
    Measure,
    Values,
    average,
    balanced_accuracy,
    bootstrap,
    difference,
    differences,
    figures,
    mean,
    ratio,
)
from sketchlm.metrics.presence import PRESENCE, PresenceRow, presence_row
from sketchlm.metrics.retrieval import RETRIEVAL, RetrievalRow, average_precision, retrieval_row
from sketchlm.metrics.vqa import VQA, VqaRow, normalise, vqa_accuracy, vqa_row

__all__ = [
    "BOX",
    "BOXES",
    "COUNTING",
    "PRESENCE",
    "RETRIEVAL",
    "VQA",
    "BoxRow",
    "BoxesRow",
    "CountRow",
    "Figure",
    "Matching",
    "Measure",
    "PresenceRow",
    "RetrievalRow",
    "Values",
    "VqaRow",
    "average",
    "average_precision",
    "balanced_accuracy",
    "bootstrap",
    "box_row",
    "boxes_row",
    "count_row",
    "difference",
    "differences",
    "figures",
    "iou",
    "match",
    "mean",
    "normalise",
    "overlaps",
    "presence_row",
    "ratio",
    "retrieval_row",
    "suppress",
    "vqa_accuracy",
    "vqa_row",
]
