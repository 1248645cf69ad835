"""The engine: every task once, failures tried again and named, workers that die are replaced."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from sketchgen.engine import EngineConfig, TaskFailed, _share, run
from sketchgen.worker import Progress, ShardTask, past_stuck

ENGINES = ["local", pytest.param("ray", marks=pytest.mark.slow)]


def make_worker(folder: str):
    """A worker that yields (task, attempt), and misbehaves on the tasks that `folder` names."""

    def work(task: int) -> Iterator[tuple[int, int]]:
        tried = Path(folder) / f"tried-{task}"
        attempt = len(tried.read_text()) if tried.exists() else 0
        tried.write_text("x" * (attempt + 1))
        yield task, attempt
        if (Path(folder) / f"bad-{task}").exists() or (task == 2 and attempt == 0):
            raise OSError(28, f"task {task} fails")
        if (Path(folder) / f"kill-{task}").exists() and attempt == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        yield task, attempt

    return work


@pytest.mark.parametrize("engine", ENGINES)
def test_failures_are_tried_again_and_the_others_go_on(tmp_path: Path, engine: str) -> None:
    (tmp_path / "bad-3").touch()
    events = list(run(partial(make_worker, str(tmp_path)), [0, 1, 2, 3, 4], EngineConfig(engine, 2, retries=1)))
    failed = [event for event in events if isinstance(event, TaskFailed)]
    assert [event.task for event in failed] == [3]
    assert "OSError: [Errno 28] task 3 fails" in failed[0].error
    done = [event for event in events if not isinstance(event, TaskFailed)]
    assert sorted(done) == [
        (0, 0),
        (0, 0),
        (1, 0),
        (1, 0),
        (2, 0),
        (2, 1),
        (2, 1),
        (3, 0),
        (3, 1),
        (4, 0),
        (4, 0),
    ]


@pytest.mark.slow
def test_a_killed_ray_worker_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "kill-1").touch()
    events = list(run(partial(make_worker, str(tmp_path)), [0, 1, 3], EngineConfig("ray", 1)))
    assert not [event for event in events if isinstance(event, TaskFailed)]
    assert events.count((1, 1)) == 2
    assert {(0, 0), (3, 0)} < set(events)


@pytest.mark.slow
def test_more_workers_than_cores_share_them(tmp_path: Path) -> None:
    """Ray would wait for ever for room that the machine does not have."""
    workers = 2 * (os.cpu_count() or 1) + 1
    events = list(run(partial(make_worker, str(tmp_path)), list(range(10, 10 + workers)), EngineConfig("ray", workers)))
    assert {event[0] for event in events} == set(range(10, 10 + workers))


def without_weights():
    raise FileNotFoundError("weights.pt does not exist: get them somewhere")


@pytest.mark.parametrize("engine", ENGINES)
def test_a_worker_that_cannot_be_made_fails_the_run_with_its_own_error(engine: str) -> None:
    with pytest.raises(FileNotFoundError, match=r"^weights\.pt does not exist"):
        list(run(without_weights, [1, 2, 3], EngineConfig(engine, 1)))


def makes_one_worker_only(folder: str):
    """The first process that asks gets a worker, every other one fails (a node without the weights)."""
    try:
        (Path(folder) / "taken").mkdir()
    except FileExistsError:
        raise FileNotFoundError("weights.pt does not exist") from None
    return make_worker(folder)


@pytest.mark.slow
def test_one_sick_worker_does_not_burn_the_tasks_of_the_others(tmp_path: Path) -> None:
    events = list(run(partial(makes_one_worker_only, str(tmp_path)), list(range(20, 30)), EngineConfig("ray", 2)))
    assert not [event for event in events if isinstance(event, TaskFailed)]
    assert {event[0] for event in events} == set(range(20, 30))


@pytest.mark.parametrize(("total", "count", "share"), [(2, 2, 1.0), (2, 3, 0.5), (2, 5, 0.3333), (8, 3, 1.0)])
def test_shares_leave_no_worker_without_room(total: int, count: int, share: float) -> None:
    assert _share(total, count) == share
    assert total * int(1 / share) >= count


def test_nothing_to_do_starts_nothing() -> None:
    assert list(run(lambda: 1 / 0, [], EngineConfig("local"))) == []


def sleeps(folder: str):
    """A worker of `ShardTask`s of four images, which sleeps for ever at image 2 of shard 7 unless that is refused."""

    def work(task: ShardTask) -> Iterator[Progress]:
        step = 1 if task.one_by_one else 2
        for done in range(0, 4, step):
            images = set(range(done, done + step)) - set(task.refused)
            if task.shard == 7 and 2 in images:
                with (Path(folder) / "stuck").open("a") as file:
                    file.write(f"{os.getpid()}\n")
                time.sleep(1000)
            yield Progress(task.shard, done + step, 0, {"deadline": len(task.refused)}, {}, done + step == 4)

    return work


@pytest.mark.slow
def test_a_stuck_shard_is_tried_elsewhere_and_then_goes_on_without_the_image_that_stops_it(tmp_path: Path) -> None:
    tasks = [ShardTask(shard) for shard in (6, 7, 8)]
    config = EngineConfig("ray", 2, retries=1, deadline=2)
    events = list(run(partial(sleeps, str(tmp_path)), tasks, config, past_stuck))
    assert not [event for event in events if isinstance(event, TaskFailed)]
    last = {event.shard: event for event in events if event.done}
    assert {shard: event.rejected["deadline"] for shard, event in last.items()} == {6: 0, 7: 1, 8: 0}
    tried = (tmp_path / "stuck").read_text().split()
    assert len(tried) == len(set(tried)) == 3  # twice as it is, once image by image, each in a process of its own


@pytest.mark.slow
def test_what_is_stuck_for_good_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    config = EngineConfig("ray", 1, retries=0, deadline=2)
    events = list(run(partial(sleeps, str(tmp_path)), [ShardTask(7)], config))
    (failed,) = [event for event in events if isinstance(event, TaskFailed)]
    assert failed == TaskFailed(ShardTask(7), "no news for 2 s")
    silent, killed = [record.message for record in caplog.records if "shard" in record.message]
    assert re.fullmatch(r"no news of shard 000007 for [12] s \(1 under way\); its worker is killed at 2 s .*", silent)
    assert killed == "no news of shard 000007 for 2 s: its worker is killed"


def test_past_stuck_ends() -> None:
    task, seen = ShardTask(1), []
    while task is not None:
        seen.append(task)
        task = past_stuck(task, Progress(1, 4, 0, {}, {}, False))
    assert seen == [ShardTask(1), ShardTask(1, True), ShardTask(1, True, (4,))]
