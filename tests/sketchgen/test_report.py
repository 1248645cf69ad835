"""The report: self-contained, paged, escaped, and its numbers are those of the ledgers."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from sketchgen.progress import ProgressDisplay
from sketchgen.report import ReportConfig, _spread
from sketchgen.run import run
from sketchgen.worker import Progress
from tests.sketchgen.test_run import config, quiet


def test_pages_hold_every_preview_once(coco_folder, tmp_path: Path) -> None:
    settings = config(coco_folder(7), tmp_path / "out", report=ReportConfig(previews=100, per_page=3))
    run(settings, quiet())
    pages = sorted((tmp_path / "out").glob("report*.html"))
    assert [page.name for page in pages] == ["report-2.html", "report-3.html", "report.html"]
    shown = [number for page in pages for number in re.findall(r"image \d+ · (\d+)", page.read_text())]
    assert sorted(shown) == [str(101 + n) for n in range(7)]
    assert 'href="report-2.html"' in (tmp_path / "out" / "report.html").read_text()


def test_names_from_the_data_cannot_run_in_the_browser(coco_folder, tmp_path: Path) -> None:
    evil = "<script>alert(1)</script>"
    folder = coco_folder(1, edit=lambda data: data["categories"][0].update(name=evil))
    run(config(folder, tmp_path / "out"), quiet())
    page = (tmp_path / "out" / "report.html").read_text()
    assert evil not in page
    assert "&lt;script&gt;alert(1)" in page


def test_rejects_are_counted_with_an_example(coco_folder, tmp_path: Path) -> None:
    folder = coco_folder(3)
    (folder[1] / "0002.jpg").unlink()
    run(config(folder, tmp_path / "out"), quiet())
    page = (tmp_path / "out" / "report.html").read_text()
    assert "<b>2</b><span>sketches written" in page
    assert "<b>1</b><span>instances rejected" in page
    assert re.search(r"<td>image-missing</td><td class=\"n\">1</td><td class=\"detail\">0002.jpg does not exist", page)


def test_fewer_pages_than_before_leave_no_old_ones(coco_folder, tmp_path: Path) -> None:
    settings = config(coco_folder(4), tmp_path / "out", report=ReportConfig(previews=9, per_page=1))
    run(settings, quiet())
    run(replace(settings, report=ReportConfig(previews=9, per_page=9)), quiet())
    assert [page.name for page in (tmp_path / "out").glob("report*.html")] == ["report.html"]


def test_a_large_run_shows_a_part_from_all_over() -> None:
    assert _spread({"a": 3, "b": 5}, 8) == {"a": 3, "b": 5}
    assert _spread({"a": 3, "b": 50}, 20) == {"a": 3, "b": 10}
    many = {str(n): 24 for n in range(1000)}
    assert sum(_spread(many, 100).values()) == 100
    assert list(_spread(many, 100))[:3] == ["0", "10", "20"]


def test_a_retried_shard_counts_once() -> None:
    display = ProgressDisplay(Console(file=io.StringIO()), total=10, done=0)
    display.update(Progress(0, 4, 5, {"mask-empty": 2}, {}, done=False))
    display.update(Progress(1, 1, 1, {}, {}, done=False))
    display.update(Progress(0, 2, 3, {"ink-low": 1}, {}, done=False))  # shard 0 was begun anew
    assert display.totals() == (3, 4, {"ink-low": 1})
