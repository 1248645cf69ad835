"""`make evaluate`: recipes of evaluations, each a complete config, and their command line."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import torch
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from data_manifests.schema import Condition, Measured, Protocol
from pipelines.exits import clean_exit
from pipelines.protocols import (
    ShardsConfig,
    check_chosen,
    chosen,
    classes_of,
    data_place,
    make_shards,
    named,
    protocol_names,
    read_protocol,
    style_of,
)
from pipelines.recipes import choose
from sketchgen.config import absolute
from sketchgen.engine import EngineConfig
from sketchgen.output import locked
from sketchgen.storage import Storage
from sketchlm.bundle import Bundle, is_bundle
from sketchlm.evaluation.asking import EntryPlan, evaluate_entry, gallery_size, questions_of_plan
from sketchlm.evaluation.model import facts_of, short_name
from sketchlm.evaluation.questions import Asked, Samples
from sketchlm.evaluation.record import (
    RECORD,
    Entry,
    Evaluation,
    Missing,
    ModelFacts,
    read_record,
    write_record,
)
from sketchlm.evaluation.report import COMPARISON, write_report
from sketchlm.evaluation.report.wording import UNSEEN, counted
from sketchlm.loading import Dtype, Quantization, open_model, processor_of
from sketchlm.progress import duration
from sketchlm.threads import pin_threads

LINE_SECONDS = 15.0
"""Without a terminal (a log file, CI) a line this often replaces the live bar."""
SHOWN: dict[Measured, tuple[str, ...]] = {
    "bbox": ("Acc", "Acc@0.5", "own Acc@0.5", "mean IoU"),
    "boxes": ("F1, suppressed", "recall, suppressed", "duplicates"),
    "count": ("exact", "exact, present"),
    "vqa": ("VQAv2 accuracy", "exact"),
    "sbir": ("balanced accuracy",),
    "retrieval": ("precision@1", "precision@5", "precision@10", "mAP", "own hit@1"),
    "describe": ("class named", "Acc@0.5"),
}
"""Figures of the table at the end, which fits a terminal of 80 columns; the report has all."""
CONTROLS: tuple[Condition, ...] = ("shuffled", "blank", "text")


@dataclass(frozen=True)
class EvaluationConfig:
    """Which model answers which questions."""

    recipe: str
    """Name of the recipe."""
    model: str = "learn"
    """A bundle, the name of one that comes with sketchlm (learn), or a LLaVA-1.5: a folder or hub id."""
    device: str = ""
    """cpu, cuda, ...; empty = the best there is."""
    dtype: Dtype = ""
    """Empty = float32 on a CPU, bfloat16 on a GPU."""
    quantization: Quantization = ""
    """Of the language model's weights; needs a GPU and bitsandbytes."""
    protocols: tuple[str, ...] = ()
    """Names in data_manifests/protocols, or files of that form."""
    tasks: tuple[Measured, ...] = ()
    """Only these; empty = all of each protocol. So are the next two."""
    sketches: tuple[str, ...] = ()
    conditions: tuple[Condition, ...] = ()
    limit: int = 0
    """Questions of an entry at most; 0 = as many as the protocol asks."""
    seed: int = 0
    """Decides which questions are asked, and how controls are shuffled."""
    batch: int = 32
    """Questions that are answered together."""
    threads: int = 0
    """Of the CPU; 0 = as torch chooses. Small models gain little from a second one, and lose most of their speed to it
    where the machine does other work: 44 answers/s against 7 on two cores with four others at work."""
    data: str = ""
    """Folder that holds every source and bank, each in a folder of its name; empty = $SKETCH_DATA_DIR, else data."""
    shards: str = "out/protocols"
    """Where the questions of each protocol are kept, made when they are first asked."""
    engine: EngineConfig = field(default_factory=lambda: EngineConfig("local"))
    """Of the making of shards."""
    out: str = ""
    """Output folder; empty = out/evaluate/MODEL-RECIPE."""
    against: str = ""
    """Folder of another model's evaluation, to compare with: comparison.html beside the report."""
    dry_run: bool = False
    """Print the plan and stop; shards are made, to count what can be asked."""


def tiny() -> EvaluationConfig:
    """The embedded default: a minute. The model of `make finetune`, where there is one, else the shipped `learn`."""
    trained = "out/finetune/tiny/bundle"
    model = trained if is_bundle(trained) else "learn"
    return EvaluationConfig("tiny", model=model, protocols=("shapeworld_tiny",), threads=1)


def learn() -> EvaluationConfig:
    """The painted world in both styles, with all controls: minutes for the shipped model."""
    protocols = ("shapeworld", "shapeworld_crowd", "shapeworld_own")
    return EvaluationConfig("learn", protocols=protocols, threads=1)


def paper() -> EvaluationConfig:
    """The paper's tables, of whatever data are here: --data DIR; what is missing is listed."""
    names = [name for name in protocol_names() if not name.startswith("shapeworld")]
    return EvaluationConfig("paper", protocols=tuple(names))


RECIPES = {recipe.__name__: recipe for recipe in (tiny, learn, paper)}


class Planned(NamedTuple):
    """An entry with its questions."""

    plan: EntryPlan
    asked: list[Asked]
    answers: int
    """One a question, of a ranking one for each image of its gallery."""


class Work(NamedTuple):
    """What is asked of one folder of shards."""

    samples: Samples
    entries: list[Planned]


def run(config: EvaluationConfig, console: Console) -> Path | None:
    """Ask what is not asked yet, write the record and the pages; returns the folder, None of a dry run.

    Raises ValueError for settings, a model or a folder that cannot be used, and where nothing can be evaluated.
    """
    check(config)
    protocols = [read_protocol(name) for name in config.protocols]
    names = [protocol.name for protocol in protocols]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"two of the protocols are called {twice[0]!r}: give each manifest a name of its own")
    out = Path(absolute(config.out or f"out/evaluate/{short_name(config.model)}-{config.recipe}"))
    against = read_against(config.against, out) if config.against else None
    check_chosen(protocols, config.sketches)
    work, missing = plan(config, protocols, console)
    print_plan(config, work, missing, console)
    if not work:
        raise ValueError("nothing can be evaluated: the lines above say what is missing, and how to get it")
    if config.dry_run:
        return None
    if config.threads:
        pin_threads(config.threads)
    bundle = open_model(config.model, config.device, config.dtype, config.quantization)
    model = facts_of(config.model, bundle)
    if against:
        check_against(config.against, against, model, work)
    with locked(Storage(str(out))):
        record = begin(out, config, protocols, model, missing)
        record = answer_all(out, record, config, work, bundle, console)
    show(record, console)
    report = write_report(out, Path(config.against) if config.against else None)
    console.print(f"evaluation: [bold]{escape(str(report))}[/]", soft_wrap=True)
    if against:
        page = report.with_name(f"{COMPARISON}.html")
        console.print(f"comparison with {escape(against.model.name)}: [bold]{escape(str(page))}[/]", soft_wrap=True)
    return out


def read_against(folder: str, out: Path) -> Evaluation:
    """The evaluation to compare with. Raises ValueError for what is none, and for the very folder that is written."""
    if Path(absolute(folder)).resolve() == out.resolve():
        raise ValueError(
            f"--against (AGAINST=) is {folder}, where this evaluation itself is written: name that of another model"
        )
    return read_record(folder)


def check_against(folder: str, against: Evaluation, model: ModelFacts, work: Sequence[Work]) -> None:
    """Raises ValueError for an evaluation of the same model, and for one that asked nothing of what will be asked."""
    if against.model.fingerprint == model.fingerprint:
        raise ValueError(
            f"--against (AGAINST=) {folder} is of {against.model.name}, and so is this: the same weights and prompt "
            f"(fingerprint {model.fingerprint}). Name the evaluation of another model, or leave it out"
        )
    names = {one.plan.empty().name for part in work for one in part.entries}
    if not names & {entry.name for entry in against.entries}:
        there = ", ".join(dict.fromkeys(entry.protocol for entry in against.entries)) or "none"
        raise ValueError(
            f"--against (AGAINST=) {folder} has no entry of those that are asked here, its protocols are {there}: "
            "evaluate both with the same"
        )


def check(config: EvaluationConfig) -> None:
    """Raises ValueError for settings that mean nothing, with the flag and what it must be."""
    if not config.protocols:
        raise ValueError(f"--protocols is empty: name at least one of {', '.join(protocol_names())}")
    if twice := sorted({name for name in config.protocols if config.protocols.count(name) > 1}):
        raise ValueError(f"--protocols names {twice[0]} twice: name each once")
    if config.batch < 1 or config.limit < 0:
        raise ValueError(f"--batch is {config.batch} (1 at least), --limit {config.limit} (0 = as the protocol asks)")


def plan(config: EvaluationConfig, protocols: Sequence[Protocol], console: Console) -> tuple[list[Work], list[Missing]]:
    """Everything that can be asked, its shards made, and what cannot for want of data."""
    work: list[Work] = []
    missing: list[Missing] = []
    shards = ShardsConfig(config.data, config.engine, config.shards)
    for protocol in protocols:
        for sketches in chosen(protocol, config.sketches):
            samples = samples_of(protocol, sketches, shards, console)
            if isinstance(samples, Missing):
                missing.append(samples)
                continue
            entries = []
            for one in plans_of(config, protocol, sketches, classes_of(protocol, samples)):
                asked = questions_of_plan(one, samples)
                if asked:
                    entries.append(Planned(one, asked, len(asked) * gallery_size(one, samples)))
                elif one.condition == protocol.conditions[0]:
                    what = f"its shards hold no question of {one.task}: {samples.folder}"
                    missing.append(Missing(protocol=protocol.name, sketches=one.sketches, what=what))
            work.append(Work(samples, entries))
    return [one for one in work if one.entries], missing


def samples_of(protocol: Protocol, sketches: str, config: ShardsConfig, console: Console) -> Samples | Missing:
    """The shards of a protocol with the sketches of one source, made first where they are missing."""
    made = make_shards(protocol, sketches, config, console)
    if isinstance(made, Missing):
        return made
    try:
        return Samples(made)
    except ValueError as error:
        return Missing(protocol=protocol.name, sketches=named(sketches), what=str(error))


def plans_of(
    config: EvaluationConfig, protocol: Protocol, sketches: str, classes: frozenset[str]
) -> Iterator[EntryPlan]:
    """The entries of a protocol with the sketches of one source."""
    for task in protocol.tasks:
        number = protocol.sketches[sketches].queries
        if task == "retrieval" and protocol.rankings:
            number = protocol.rankings
        if config.limit:
            number = min(number or config.limit, config.limit)
        for condition in protocol.conditions:
            if (config.tasks and task not in config.tasks) or (
                config.conditions and condition not in config.conditions
            ):
                continue
            yield EntryPlan(
                protocol=protocol.name,
                task=task,
                sketches=named(sketches),
                style=style_of(protocol, sketches),
                condition=condition,
                number=number,
                classes=classes,
                gallery=protocol.gallery,
                seed=config.seed,
                batch=config.batch,
                examples=condition == protocol.conditions[0],
            )


def print_plan(config: EvaluationConfig, work: Sequence[Work], missing: Sequence[Missing], console: Console) -> None:
    """What will be asked, and what cannot be."""
    entries = [one for part in work for one in part.entries]
    questions, answers = sum(len(one.asked) for one in entries), sum(one.answers for one in entries)
    ranked = f", {answers:,} answers: of a ranking one for each image of its gallery" if answers > questions else ""
    console.print(
        f"[bold]{escape(short_name(config.model))}[/] on {', '.join(config.protocols)}: "
        f"{counted(len(entries), 'entry', 'entries')}, {counted(questions, 'question')}{ranked}",
        soft_wrap=True,
    )
    print_missing(config, missing, console)


def print_missing(config: EvaluationConfig, missing: Sequence[Missing], console: Console) -> None:
    """What cannot be asked, then each folder once, with the way to get it."""
    for what in dict.fromkeys(one.what for one in missing):
        places = [" with ".join(filter(None, (one.protocol, one.sketches))) for one in missing if one.what == what]
        console.print(f"[yellow]missing[/] for {', '.join(places)}: {escape(what)}", soft_wrap=True)
    folders = {name: way for one in missing for name, way in one.folders.items()}
    if folders:
        data = data_place(ShardsConfig(config.data))
        console.print(
            f"Put into {escape(data)}, each under its name (--data DIR or SKETCH_DATA_DIR names another place):",
            soft_wrap=True,
        )
    for name, way in folders.items():
        console.print(f"  {escape(name)}/: {escape(way)}", soft_wrap=True)


def begin(
    out: Path, config: EvaluationConfig, protocols: Sequence[Protocol], model: ModelFacts, missing: list[Missing]
) -> Evaluation:
    """The record in the folder, or a new one, written before anything is asked.

    Raises ValueError for a folder that was made with other settings or another model, naming what differs.
    """
    marks = {one.name: mark_of(one) for one in protocols}
    settings: dict[str, Any] = {
        "seed": config.seed,
        "limit": config.limit,
        "dtype": config.dtype,
        "quantization": config.quantization,
        "protocols": marks,
    }
    record = Evaluation(
        model=model,
        recipe=config.recipe,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        device=device_of(config),
        settings=settings,
        entries=[],
        missing=missing,
        protocols=list(protocols),
    )
    before = record_of(out)
    if before:
        check_belongs(out, before, record)
        record = before.model_copy(update={"missing": missing, "protocols": list(protocols)})
    write_record(out, record)
    return record


def mark_of(protocol: Protocol) -> str:
    """Of what in a protocol decides the questions: not its words, nor what others reached."""
    words = {"title", "description", "measures", "published"}
    decides = protocol.model_dump_json(exclude=words, exclude_defaults=True)
    return hashlib.sha256(decides.encode()).hexdigest()[:16]


def device_of(config: EvaluationConfig) -> str:
    """Where the answers come from, in words."""
    device = config.device or ("cuda" if torch.cuda.is_available() else "cpu")
    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    return f"{device}, {counted(torch.get_num_threads(), 'thread')}"


def check_belongs(out: Path, before: Evaluation, now: Evaluation) -> None:
    """Raise ValueError for a record of other settings or another model, naming what differs."""
    there = {"model": before.model.fingerprint, **_flat(before.settings)}
    here = {"model": now.model.fingerprint, **_flat(now.settings)}
    differ = [
        f"  {name}: {there.get(name, '(absent)')!r} there, {here.get(name, '(absent)')!r} now"
        for name in sorted(there.keys() | here.keys())
        if there.get(name) != here.get(name)
    ]
    if differ:
        raise ValueError(
            f"{out} was made with other settings:\n"
            + "\n".join(differ)
            + "\nGive the same settings to go on with it, delete the folder, or choose another --out."
        )


def _flat(settings: dict[str, Any]) -> dict[str, Any]:
    marks = {f"protocols.{name}": mark for name, mark in settings.get("protocols", {}).items()}
    return {name: value for name, value in settings.items() if name != "protocols"} | marks


def record_of(out: Path) -> Evaluation | None:
    """The record of a folder; None where there is none. Raises ValueError for a folder that holds something else."""
    if (out / RECORD).exists():
        return read_record(out)
    if foreign := sorted(found.name for found in out.glob("*") if not found.name.startswith(".")):
        raise ValueError(f"{out} is not empty and no evaluation (it holds {foreign[0]}): choose another --out")
    return None


def answer_all(
    out: Path, record: Evaluation, config: EvaluationConfig, work: Sequence[Work], bundle: Bundle, console: Console
) -> Evaluation:
    """Every entry that the record lacks is asked and added to it; the record is written after each."""
    entries = {entry.name: entry for entry in record.entries}
    processor = processor_of(bundle)
    with Display(console, sum(one.answers for part in work for one in part.entries)) as display:
        for part in work:
            for one in part.entries:
                name = one.plan.empty().name
                before = entries.get(name)
                display.begin(name, one.answers)
                entries[name] = evaluate_entry(
                    out, one.plan, one.asked, part.samples, bundle.model, processor, display.told, before
                )
                if entries[name] is not before:
                    record = record.model_copy(update={"entries": list(entries.values())})
                    write_record(out, record)
                display.end(entries[name])
    return record


class Display:
    """How far the asking is: a live bar, or, without a terminal, a line for each entry and one now and then."""

    def __init__(self, console: Console, total: int) -> None:
        self._console = console
        self._bar = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(),
            TextColumn("{task.completed:,.0f} of {task.total:,.0f} · {task.fields[rate]:,.0f} answers/s · left"),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("", total=total, rate=0.0)
        self._total, self._done, self._entry_end, self._asked = total, 0, 0, 0
        self._began = self._said = time.monotonic()

    def __enter__(self) -> Display:
        self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.stop()

    def begin(self, name: str, count: int) -> None:
        """An entry of so many answers begins."""
        self._entry_end = self._done + count
        self._bar.update(self._task, description=name)

    def told(self, count: int) -> None:
        """So many answers more."""
        self._done += count
        self._asked += count
        self._bar.update(self._task, completed=self._done, rate=self._rate)
        if not self._console.is_terminal and time.monotonic() - self._said > LINE_SECONDS:
            self._said = time.monotonic()
            left = duration((self._total - self._done) / max(self._rate, 1e-9))
            self._console.print(f"{self._done:,} of {self._total:,} answers, {self._rate:,.0f}/s, {left} left")

    def end(self, entry: Entry) -> None:
        """The entry is finished, now or before."""
        self._done = self._entry_end
        self._bar.update(self._task, completed=self._done)
        main = next((name for name in SHOWN[entry.task] if name in entry.figures), "")
        figure = f"{main} {entry.figures[main]}" if main else "no figure"
        took = f", {entry.seconds:.1f} s" if entry.seconds else ""
        self._console.print(f"{entry.name}: {figure}, {counted(entry.questions, 'question')}{took}", soft_wrap=True)

    @property
    def _rate(self) -> float:
        return self._asked / max(time.monotonic() - self._began, 1e-9)


def show(record: Evaluation, console: Console) -> None:
    """The main figures, each beside its controls."""
    found = {(one.protocol, one.sketches, one.task, one.condition): one for one in record.entries}
    for protocol, sketches in dict.fromkeys(key[:2] for key in found):
        there = {key[2:]: one for key, one in found.items() if key[:2] == (protocol, sketches)}
        unseen = any(one.style == "unseen" for one in there.values())
        title = f"{record.model.name} on {protocol}" + (f" with {sketches}" if sketches else "") + " †" * unseen
        console.print(_table(title, there))
    console.print(
        f"† {UNSEEN}. shuffled: with the sketch of another question; blank: with a white page; text: the class named; "
        "constant: the best answer that is always the same.",
    )
    if record.missing:
        lacking = dict.fromkeys(" with ".join(filter(None, (one.protocol, one.sketches))) for one in record.missing)
        console.print(f"[yellow]missing[/], as said above: {', '.join(lacking)}", soft_wrap=True)


def _table(title: str, found: dict[tuple[Measured, Condition], Entry]) -> Table:
    """Of one protocol and the sketches of one source, by task and condition."""
    table = Table(title=title, title_justify="left", box=None, padding=(0, 1, 0, 0), pad_edge=False)
    for name in ("", "asked (95 %)", *CONTROLS, "constant", "n"):
        table.add_column(name, justify="right" if name in (*CONTROLS, "constant", "n") else "left", no_wrap=True)
    for task in dict.fromkeys(task for task, _ in found):
        entries = {condition: one for (other, condition), one in found.items() if other == task}
        first = next(iter(entries.values()))
        for name in SHOWN[task]:
            if name not in first.figures:
                continue
            said = {condition: one.figures[name] for condition, one in entries.items() if name in one.figures}
            controls = [f"{said[condition].value:.3f}" if condition in said else "" for condition in CONTROLS]
            constant = f"{first.constant[name]:.3f}" if name in first.constant else ""
            table.add_row(
                f"{task} {name}", str(said.get("asked", "")), *controls, constant, f"{first.figures[name].n:,}"
            )
    return table


def main() -> None:
    """Parse the recipe's name and its overrides, and run it."""
    with clean_exit("finished entries are kept, run the same command to go on"):
        config = choose(RECIPES, "python -m pipelines.evaluation", "Ask a model, score it, and write the report.")
        run(config, Console(highlight=False))


if __name__ == "__main__":
    main()
