"""`make experiments`: the command line."""

from __future__ import annotations

import sys
from functools import partial

from rich.console import Console
from rich.table import Table

from pipelines.exits import clean_exit
from pipelines.experiments import EXPERIMENTS
from pipelines.experiments.arm import Arm, Setting
from pipelines.experiments.experiment import Experiment, all_results, old_results, run
from pipelines.experiments.page import write_index, write_page
from pipelines.recipes import choose
from sketchlm.bundle import is_bundle


def main() -> None:
    """List the experiments, or run one."""
    console = Console(highlight=False)
    with clean_exit("run the same command to go on: what was trained and asked is kept"):
        if not sys.argv[1:]:
            show_all(Setting(), console)
            return
        settings = {name: partial(Setting) for name in EXPERIMENTS}
        for name, made in settings.items():
            made.__doc__ = EXPERIMENTS[name].question
        setting = choose(settings, "python -m pipelines.experiments", "Experiments, each with a page of results.")
        experiment = EXPERIMENTS[sys.argv[1]]
        if setting.dry_run:
            show_plan(experiment, setting, console)
            return
        results = old_results(setting, experiment.name) if setting.page_only else run(experiment, setting, console)
        page = write_page(experiment, results, setting)
        write_index(EXPERIMENTS, all_results(EXPERIMENTS, setting.pages_folder), setting)
        console.print(f"page: [bold]{page}[/]")


def show_all(setting: Setting, console: Console) -> None:
    """A line for each experiment: its question, and whether its page is there."""
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for title in ("NAME=", "question", "results"):
        table.add_column(title)
    found = all_results(EXPERIMENTS, setting.pages_folder)
    for name, experiment in EXPERIMENTS.items():
        there = found.get(name)
        table.add_row(name, experiment.title, f"{there.date}, {len(there.seeds)} seeds" if there else "none yet")
    console.print(table)
    console.print("\nmake experiments NAME=... ARGS='--help'; pages lie in docs/experiments")


def show_plan(experiment: Experiment, setting: Setting, console: Console) -> None:
    """The stages of every arm, and which of them are there."""
    arms: list[Arm] = [arm for seed in setting.seeds for arm in experiment.arms(setting, seed)]
    stages = {stage.out: stage for arm in arms for stage in arm.stages}
    for arm in experiment.arms(setting, setting.seeds[0]):
        made = ", ".join(f"{stage.stage} {stage.steps:,} steps" for stage in arm.stages)
        console.print(f"[bold]{arm.name}[/]: {arm.about}; {made}")
    missing = sum(not is_bundle(f"{place}/bundle") for place in stages)
    console.print(f"{len(setting.seeds)} seeds: {len(stages)} stages in all, {missing} to train; {setting.out}")


if __name__ == "__main__":
    main()
