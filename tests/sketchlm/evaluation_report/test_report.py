"""The pages: their numbers are those of the metrics, the same record gives the same bytes, nothing is loaded or run."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from data_manifests.schema import Measured, Protocol, Published, SketchesAsked
from sketchlm.evaluation.measures import MEASURES
from sketchlm.evaluation.record import Missing, answers_file
from sketchlm.evaluation.report import table, write_report
from sketchlm.evaluation.report.answers import gap
from sketchlm.evaluation.report.folder import read_folder
from sketchlm.evaluation.report.picture import RULES, Pictures, cards
from sketchlm.evaluation.report.task import glossary, meaning
from sketchlm.evaluation.report.wording import interval, number, signed, signed_interval
from tests.sketchlm.evaluation_report.folders import CLASSES, Model, world_protocol, write_evaluation
from tests.sketchlm.evaluation_report.pages import Page

Publish = Callable[[Protocol], None]
MISSING = [Missing(protocol="counting_pixmo", sketches="tu_berlin", what="no folder a<b: get it at the <homepage>")]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All tasks, two styles, all conditions, with a report."""
    folder = tmp_path_factory.mktemp("evaluation")
    write_evaluation(folder, Model(unreadable=0.2, spurious=0.3, twice=0.3), missing=MISSING)
    write_report(folder)
    return folder


@pytest.fixture(scope="module")
def page(made: Path) -> Page:
    return Page(made / "report.html")


@pytest.fixture
def publish(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Publish:
    """Makes a protocol one that comes with the package."""

    def make(protocol: Protocol) -> None:
        (tmp_path / "protocols").mkdir()
        (tmp_path / "protocols" / f"{protocol.name}.yaml").touch()
        monkeypatch.setattr(table, "PROTOCOLS", tmp_path / "protocols")
        monkeypatch.setattr(table, "protocol_manifest", lambda name: {protocol.name: protocol}[name])

    return make


def test_the_page_is_whole_small_and_loads_nothing(made: Path, page: Page) -> None:
    assert all(re.match(r"data:image/(jpeg|png);base64,|#\w+$", load) for load in page.loads)
    assert all(re.match(r"#\w+$", link) for link in page.links)
    assert sum(load.startswith("data:image/jpeg") for load in page.loads) > 20
    assert "url(" not in page.source and "@import" not in page.source
    assert "default-src 'none'" in page.source
    assert len(page.source) < 8_000_000
    assert not list(made.glob(".tmp-*"))


def test_links_lead_somewhere(page: Page) -> None:
    assert page.links
    assert all(f'id="{link[1:]}"' in page.source for link in page.links)


def test_the_same_record_gives_the_same_bytes(made: Path, tmp_path: Path) -> None:
    copy = tmp_path / "elsewhere"
    shutil.copytree(made, copy)
    names = ("report.html", "report.md", "signatures.json")
    for name in names:
        (copy / name).unlink()
    assert write_report(copy) == copy / "report.html"
    assert [(copy / name).read_bytes() for name in names] == [(made / name).read_bytes() for name in names]


def test_numbers_of_a_table_are_those_of_the_record(made: Path, page: Page) -> None:
    entries = {entry.name: entry for entry in read_folder(made).evaluation.entries}
    mine = entries["world--bbox--hand--asked"].figures["Acc@0.5"]
    theirs = entries["world--bbox--brush--asked"].figures["Acc@0.5"]
    text = (made / "report.md").read_text()
    for figure in (mine, theirs):
        assert any(f"{number(figure.value)} {interval(figure)}" in " ".join(row) for row in page.rows)
        assert f"**{number(figure.value)}** ({interval(figure)})" in text
    shuffled = entries["world--bbox--hand--shuffled"].figures["Acc@0.5"]
    controls = [row for row in page.rows if row and row[0].strip() == "another question's sketch"]
    assert any(row[2].strip() == number(shuffled.value) for row in controls)


def test_gains_are_paired_differences(made: Path, page: Page) -> None:
    folder = read_folder(made)
    figure = gap(folder.answers["world--count--hand--asked"], folder.answers["world--count--hand--blank"], "exact")
    told = f"{signed(figure.value)} ({signed_interval(figure)})"
    assert told in " ".join(page.row("COUNT exact"))
    assert told in (made / "report.md").read_text()


def test_what_others_said_is_escaped_in_both(made: Path, page: Page) -> None:
    assert "<b>who</b>" not in page.source and "&lt;b&gt;who&lt;/b&gt;" in page.source
    assert "a<b & c|d" in page.text and "a<b" not in page.source
    lines = (made / "report.md").read_text().splitlines()
    assert not [line for line in lines if "<b" in line or "://" in line]
    assert any(r"a&lt;b &amp; c\|d" in line for line in lines)


def test_each_table_of_the_document_has_as_many_cells_in_each_line(made: Path) -> None:
    blocks = re.findall(r"(?:^\|.*\n)+", (made / "report.md").read_text(), re.MULTILINE)
    assert len(blocks) > 10
    for block in blocks:
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}) == 1, block


def test_missing_data_are_listed(made: Path, page: Page) -> None:
    assert page.row("counting_pixmo") == ["counting_pixmo", "TU-Berlin", "no folder a<b: get it at the <homepage>"]
    assert "counting\\_pixmo | TU-Berlin | no folder a&lt;b" in (made / "report.md").read_text()


def test_nothing_but_missing_data_is_a_report_too(tmp_path: Path) -> None:
    write_evaluation(tmp_path, tasks=(), missing=MISSING)
    page = Page(write_report(tmp_path))
    assert "counting_pixmo" in page.text
    assert {one["verdict"] for one in json.loads((tmp_path / "signatures.json").read_text())} == {"cannot be told"}


def test_published_rows_stand_above_ours_and_the_best_is_marked(tmp_path: Path, publish: Publish) -> None:
    publish(world_protocol())
    write_evaluation(tmp_path, tasks=("bbox",), conditions=("asked", "blank"))
    write_report(tmp_path)
    page = Page(tmp_path / "report.html")
    assert page.row("Other-7B") == ["Other-7B", "10.0", "15.0", "10.0", "15.0", "10.0", "15.0"]
    assert page.row("Better <13B>")[1:3] == ["99.0 ★", "99.0 ★"]
    mine = page.row("model-a")
    assert re.fullmatch(r"\d+\.\d \d+\.\d–\d+\.\d", mine[1]) and mine[5:] == ["–", "–"]
    kinds = re.findall(r'<tr class="(published|ours|control|constant)">', page.source)
    assert kinds == ["published", "published", "ours", "control", "constant"]
    text = (tmp_path / "report.md").read_text()
    assert "| Other-7B | 10.0 | 15.0 |" in text and "Better &lt;13B&gt; | 99.0 ★" in text
    assert "A paper, 2025" in text and "A paper, 2025" in page.text
    assert "(299), not asked here" in re.sub(r"\s+", " ", page.text)


def test_the_mean_column_is_the_mean_of_the_sources(tmp_path: Path, publish: Publish) -> None:
    protocol = world_protocol(("count",), ("exact",))
    publish(protocol)
    styles = {"hand": "seen", "brush": "unseen", "quickdraw": "seen"}
    evaluation = write_evaluation(tmp_path, tasks=("count",), styles=styles, conditions=("asked",))
    row = Page(write_report(tmp_path)).row("model-a")
    values = [entry.figures["exact"].value for entry in evaluation.entries]
    assert row[-1].split()[0].rstrip("★") == number(sum(values) / 3)
    low, high = (float(end) for end in row[-1].split()[-1].split("–"))
    widths = [100 * (e.figures["exact"].high - e.figures["exact"].low) for e in evaluation.entries]
    assert high - low < max(widths)  # three times the questions


def test_a_manifest_that_is_wrong_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not a table without the published rows."""
    (tmp_path / "world.yaml").write_text("name: world\n")
    monkeypatch.setattr(table, "PROTOCOLS", tmp_path)
    write_evaluation(tmp_path / "e", tasks=("bbox",), conditions=("asked",))
    with pytest.raises(ValueError, match="world"):
        write_report(tmp_path / "e")


def test_wide_tables_are_cut_between_sources(tmp_path: Path, publish: Publish) -> None:
    protocol = world_protocol(measures=("Acc", "Acc@0.5", "Acc-S", "Acc-M", "Acc-L"))
    publish(protocol)
    write_evaluation(tmp_path, tasks=("bbox",), conditions=("asked",))
    page = Page(write_report(tmp_path))
    heads = [row for row in page.rows if row and row[0].strip() == "Acc" and len(row) > 3]
    assert [len(row) for row in heads] == [10, 5]


def test_less_is_better_where_it_is(tmp_path: Path, publish: Publish) -> None:
    protocol = world_protocol(("count",), ("MAE", "exact"))
    publish(protocol)
    write_evaluation(tmp_path, Model(seen=0.2), tasks=("count",), conditions=("asked",))
    page = Page(write_report(tmp_path))
    assert page.row("Other-7B")[1] == "0.10 ★"
    assert page.row("Better <13B>")[2] == "99.0 ★"


def test_entries_without_answers_are_told_and_their_figures_stand(tmp_path: Path) -> None:
    evaluation = write_evaluation(tmp_path, tasks=("bbox", "count"), conditions=("asked", "blank"))
    for entry in evaluation.entries:
        if entry.task == "bbox":
            answers_file(tmp_path, entry).unlink()
    page = Page(write_report(tmp_path))
    assert "No answers are kept of answers/world--bbox--hand--asked.jsonl" in page.text
    assert "No answers are kept" in (tmp_path / "report.md").read_text()
    assert number(evaluation.entries[0].figures["Acc@0.5"].value) in page.text
    assert "Acc@0.5 by class" not in page.text and "exact by class" in page.text


def test_a_protocol_of_a_control_alone_is_ours(tmp_path: Path) -> None:
    write_evaluation(tmp_path, tasks=("bbox",), styles={"": ""}, conditions=("text",))
    page = Page(write_report(tmp_path))
    assert page.row("model-a, no sketch, class in words")
    assert "Acc@0.5 by class" in page.text


def test_without_sketches_ours_and_theirs_share_a_column(tmp_path: Path, publish: Publish) -> None:
    rows = [Published(model="Other-7B", origin="A paper", values={"none": [0.8]})]
    plain = world_protocol(("bbox",), ("Acc",))
    sketches = {"none": SketchesAsked(queries=40)}
    publish(plain.model_copy(update={"sketches": sketches, "published": rows, "conditions": ["text"]}))
    write_evaluation(tmp_path, tasks=("bbox",), styles={"": ""}, conditions=("text",))
    page = Page(write_report(tmp_path))
    assert page.row("Other-7B")[:2] == ["Other-7B", "80.0 ★"]
    assert len(page.row("model-a, no sketch, class in words")) == len(page.row("Other-7B")) == 2


def test_pictures_that_are_missing_damaged_or_elsewhere_are_told(tmp_path: Path) -> None:
    evaluation = write_evaluation(tmp_path / "e", tasks=("bbox",), styles={"hand": "seen"}, conditions=("asked",))
    examples = evaluation.entries[0].examples
    (tmp_path / "e" / examples[0].image).unlink()
    (tmp_path / "e" / examples[1].sketch).write_bytes(b"\x89PNG\r\n\x1a\nno")
    outside = tmp_path / "secret.png"
    shutil.copy(tmp_path / "e" / examples[2].sketch, outside)
    assert Pictures(tmp_path / "e").get("../secret.png") is None
    page = Page(write_report(tmp_path / "e"))
    assert page.text.count("the image is missing or damaged") == 1
    assert page.text.count("the sketch is missing or damaged") == 1


def test_room_is_shared_by_all_entries(made: Path) -> None:
    entries = [entry for entry in read_folder(made).evaluation.entries if entry.examples]
    everything, none_left = cards(Pictures(made), entries)
    assert none_left == 0
    some, left = cards(Pictures(made, room=60_000), entries)
    assert 0 < left == sum(map(len, everything.values())) - sum(map(len, some.values()))
    nothing, left = cards(Pictures(made, room=0), entries)
    assert not any(nothing.values()) and left == sum(map(len, everything.values()))


def test_right_and_wrong_are_told_by_more_than_colour(page: Page) -> None:
    assert page.text.count("✓ right") > 5 and page.text.count("✗ wrong") > 5
    hits, misses = (page.source.count(f'<div class="rank {name}">') for name in ("hit", "miss"))
    assert hits and misses
    assert page.source.count('title="relevant">✓') == hits and page.source.count('title="not relevant">✗') == misses


def test_marks_and_measures_are_explained_where_they_stand(made: Path, page: Page) -> None:
    assert "✓ right, ◐ right in part, ✗ wrong" in page.text
    for task, rule in RULES.items():
        assert f"{rule}." in page.text, task
    assert "excluded: sketches whose gallery holds nothing relevant" in page.text
    assert "own: only the very image that the sketch was made of counts" in page.text
    assert "what this model was trained on is not known" in page.text
    assert "never saw" not in page.text + (made / "report.md").read_text()


@pytest.mark.parametrize("task", MEASURES)
def test_every_measure_says_what_it_is(task: Measured) -> None:
    assert all(meaning(name, task) for name in MEASURES[task])
    told = dict(glossary(MEASURES[task], task))
    assert all(told.values()) and not {name for name in told if name.startswith("own ")}
    assert ("own" in told) == any(name.startswith("own ") for name in MEASURES[task])
    assert meaning("of another release", task) == "" and glossary(["of another release"], task) == []


def test_folders_that_are_missing_are_listed_once_with_the_way_to_get_them(tmp_path: Path) -> None:
    way = {"coco": "unpacked side by side"}
    missing = [Missing(protocol=name, sketches="", what="/data lacks coco/", folders=way) for name in ("a", "b")]
    write_evaluation(tmp_path, tasks=(), missing=missing)
    page = Page(write_report(tmp_path))
    assert page.text.count("unpacked side by side") == 1 and page.row("coco/") == ["coco/", "unpacked side by side"]
    assert (tmp_path / "report.md").read_text().count("| coco/ | unpacked side by side |") == 1


def test_every_class_is_there_even_folded(made: Path, page: Page) -> None:
    for name in CLASSES:
        assert name in page.text
