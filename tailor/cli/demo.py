"""`tailor demo`: everything on a planted shop, from CSV files to explained recommendations."""

import time
from collections.abc import Mapping
from pathlib import Path

import polars as pl

from tailor.cli.asking import reason_text
from tailor.cli.fitting import report_lines
from tailor.cli.showing import say, show_report, table
from tailor.core.methods import Method, Recommender
from tailor.core.run import Run
from tailor.data.dataset import Dataset
from tailor.data.importers.importing import import_data
from tailor.data.nouns import History, Query
from tailor.data.splits import Split, split_by
from tailor.evaluation.protocol import compare, evaluate
from tailor.pipeline.default import counting_pipeline
from tailor.progress import terminal
from tailor.worlds.shop import shop

ONLY = "action = 'view'"  # carts and purchases mostly repeat the item just viewed
PIPELINE = "counting pipeline"  # its name in the leaderboard


def run_demo(out: Path, users: int, items: int, seed: int) -> None:
    """Make a shop's files under `out`, then import, split, fit, measure and recommend.

    Everything under `out` is replaced.
    """
    start_s = time.perf_counter()
    run = Run(seed=seed, progress=terminal)
    say(f"1. A shop of {users} people and {items} items, as files such as yours ({out / 'csv'})")
    write_csv(shop(users=users, items=items, seed=seed, progress=terminal).data, out / "csv")
    say("2. Import")
    data = _imported(out)
    split = split_by(data, "last", ONLY)
    split.save(out / "split", out / "data", overwrite=True)
    say(
        "3. Split: every person's last view is the test, the one before it validation"
        f" ({split.report['users']['test']} people)"
    )
    say("4. Fit the counting pipeline (`tailor fit default` adds a net where PyTorch is installed)")
    model = counting_pipeline().fit(split.train, run, split)
    model.save(out / "model", overwrite=True, titles=data.item_table)
    say(*report_lines(model.fit_report_, "   "))
    say("5. How good is it? Each part, each baseline, the same people")
    _measure(model, split, run)
    say("6. What three people get, and why")
    show_people(model, split.train, data)
    say(
        f"Done in {time.perf_counter() - start_s:.0f} s. The same with your own files:",
        *own_commands(),
        "",
        "The shop's files are read by exactly these commands; look at them:",
        f"  head -3 {out}/csv/*.csv",
        f"  tailor recommend {out}/model --user {data.users.ids[0]} --data {out}/data",
    )


def write_csv(data: Dataset, folder: Path) -> None:
    """Write one CSV file a table, as a shop would export them."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, frame in data.tables.items():
        lists = [
            pl.col(column).list.join("|")
            for column, kind in frame.schema.items()
            if kind == pl.List
        ]
        frame.with_columns(lists).write_csv(folder / f"{name}.csv")


def _imported(out: Path) -> Dataset:
    """Import the shop's CSV files and return the data set."""
    files = {name: out / "csv" / f"{name}.csv" for name in ("events", "items", "users", "texts")}
    report = import_data(
        files["events"],
        out / "data",
        items=files["items"],
        users=files["users"],
        texts=files["texts"],
        overwrite=True,
        progress=terminal,
    )
    say(*(f"   {line}" for line in report.lines()))
    return Dataset.open(out / "data")


def _measure(model: Recommender, split: Split, run: Run) -> None:
    """Print a leaderboard of the pipeline and its parts, and tests against the best part."""
    models = {PIPELINE: model, **parts_of(model)}
    report = evaluate(models, split, run=run)
    rivals = [name for name, _ in report.results if name != PIPELINE]
    best = max(rivals, key=lambda name: report.mean(name, "NDCG@10"))
    tests = compare(report, best)
    pipeline_tests = [test for test in tests if test.b == PIPELINE]
    show_report(report, pipeline_tests)


def parts_of(method: Method) -> dict[str, Recommender]:
    """Return the innermost fitted recommenders of a pipeline, by name."""
    inner = [part for part in getattr(method, "parts_", []) if part is not None]
    for name in ("inner_", "retrieve_", "rank_"):
        inner += [getattr(method, name)] if hasattr(method, name) else []
    if not inner and isinstance(method, Recommender):
        return {method.name: method}
    return {name: part for inside in inner for name, part in parts_of(inside).items()}


def show_people(model: Recommender, train: Dataset, data: Dataset) -> None:
    """Print lists of a known user and of cold users, with one item and without."""
    titles = dict(data.item_table.select("item_id", "title").iter_rows())
    queries = train.queries()
    user = queries[int(queries.histories.lengths.argmax())]
    item = user.history.item_ids[-1]
    recent = ", ".join(titles[item_id] for item_id in user.history.item_ids[-3:])
    _show_list(model, user, f"{user.user_id}, who looked at {recent}", titles)
    newcomer = Query(history=History.of(item))
    _show_list(model, newcomer, f"a stranger who just looked at {titles[item]}", titles)
    _show_list(model, Query(), "a stranger of whom nothing is known", titles)


def _show_list(model: Recommender, user: Query, title: str, titles: Mapping[str, str]) -> None:
    query = Query(user.user_id, user.history, exclude=user.history.item_ids)
    ranking = model.recommend([query], 5)[0]
    reasons = model.explain([query], [ranking])[0]
    rows = [
        [titles[item_id], f"{score:.3f}", reason_text(reason, dict(titles))]
        for item_id, score, reason in zip(
            ranking.ids, ranking.scores.tolist(), reasons, strict=True
        )
    ]
    table(["item", "score", "because of"], rows, title=title)


def own_commands() -> list[str]:
    """Return the commands for files of one's own."""
    return [
        "  tailor data import events.csv --items items.csv --out DATA    # or first --dry-run",
        "  tailor data split DATA --by last --out SPLIT                  # or --by time",
        "  tailor fit default --split SPLIT --out MODEL",
        "  tailor evaluate MODEL --split SPLIT",
        "  tailor recommend MODEL --history ITEM,ITEM           # or --user ID --data DATA",
    ]
