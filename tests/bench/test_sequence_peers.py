"""What stands between our data and other projects' programs: the task they read, the budget's
clock, the lists judged.
"""

import sys
from pathlib import Path

import numpy as np
import pytest
from judging import intervals, judged, seen_share
from sequence_peers import write_task

from tailor.data.splits import last_out
from tailor.evaluation.protocol import evaluate
from tailor.retrieval.covisitation import CoVisitation
from tailor.testing.data import tiny_data

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks" / "peers"))
import sequence_task as peer


@pytest.fixture(scope="module")
def split():
    return last_out(tiny_data(events=6))


def test_lists_from_elsewhere_are_judged_as_our_own(split):
    method = CoVisitation().fit(split.train)
    report = evaluate(method, split)
    queries, _ = split.queries("test")
    rows = method.recommend(queries.without_history(), 10).rows
    assert judged(split, rows) == {
        metric: round(report.mean("CoVisitation", metric), 4) for metric in ("HR@10", "NDCG@10")
    }
    assert intervals(split, rows)["HR@10"] == [
        round(one, 4) for one in report.interval["CoVisitation", "removed"]["HR@10"]
    ]
    assert seen_share(split, rows) == 0


def test_items_of_the_history_among_the_answers_are_seen(split):
    queries, _ = split.queries("test")
    rows = np.full((len(queries), 10), -1, dtype=np.int32)
    assert seen_share(split, rows) == 0
    rows[:, 0] = [history[-1] for history in (queries.histories[i] for i in range(len(queries)))]
    assert seen_share(split, rows) == 1


def test_the_task_holds_train_alone_to_learn_from_and_the_histories_of_the_test(split, tmp_path):
    write_task(split, tmp_path, seed=3)
    task = peer.read_task(tmp_path)
    assert task.items == len(split.data.catalogue) and task.seed == 3
    people = len(split.data.users)
    assert (
        np.diff(task.train[0]).tolist() == [4] * people
        and np.diff(task.asked[0]).tolist() == [5] * people
    )
    for i in range(people):
        learned, asked = (
            values[offsets[i] : offsets[i + 1]] for offsets, values in (task.train, task.asked)
        )
        assert asked[:4].tolist() == learned.tolist()
    assert peer.targets(task) == 3 * people and peer.targets(task, 2) == 2 * people


def test_a_clock_counts_whole_epochs_and_shares_of_one(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(peer.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(peer.time, "process_time", lambda: now[0] / 2)
    clock = peer.Clock(budget_s=25.0)
    now[0] = 3.0
    clock.begin_training(batches_an_epoch=4)
    over = []
    for _ in range(2):
        clock.begin_epoch()
        for _ in range(4):
            now[0] += 2.5
            over.append(clock.end_batch())
            if over[-1]:
                break
        clock.end_epoch()
    assert over == [False] * 8
    clock.begin_epoch()
    now[0] += 2.5
    assert clock.end_batch()
    clock.end_epoch()
    assert clock.figures() == {
        "prepare_s": 3.0,
        "train_s": 22.5,
        "epochs": 2.25,
        "seconds_an_epoch": 10.0,
        "from_whole_epochs": True,
        "cpu_seconds_an_epoch": 5.0,
    }


def test_an_epoch_that_was_not_finished_is_told_as_such(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(peer.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(peer.time, "process_time", lambda: now[0])
    clock = peer.Clock(budget_s=5.0)
    clock.begin_training(batches_an_epoch=10)
    clock.begin_epoch()
    for _ in range(2):
        now[0] += 3.0
        is_over = clock.end_batch()
    clock.end_epoch()
    found = clock.figures()
    assert (
        is_over
        and found["epochs"] == 0.2
        and found["seconds_an_epoch"] == 30.0
        and not found["from_whole_epochs"]
    )


def test_lists_are_written_with_a_line_that_names_them(tmp_path, capsys):
    task = peer.Task(
        tmp_path, 5, (np.array([0]), np.array([])), (np.array([0, 1]), np.array([2])), 0
    )
    peer.write_answer(task, "mine", np.array([[3, -1]]), {"epochs": 1.0})
    assert capsys.readouterr().out == '{"name": "mine", "lists": "mine.npz", "epochs": 1.0}\n'
    with np.load(tmp_path / "mine.npz") as answer:
        assert answer["rows"].tolist() == [[3, -1]] and answer["rows"].dtype == np.int32


def test_a_budget_of_the_processor_does_not_run_while_others_work(monkeypatch):
    wall, cpu = [0.0], [0.0]
    monkeypatch.setattr(peer.time, "perf_counter", lambda: wall[0])
    monkeypatch.setattr(peer.time, "process_time", lambda: cpu[0])
    clocks = [peer.Clock(5.0, in_cpu_time=in_cpu) for in_cpu in (False, True)]
    wall[0], cpu[0] = 60.0, 4.0
    assert [clock.end_batch() for clock in clocks] == [True, False]
    cpu[0] = 5.0
    assert clocks[1].end_batch()
