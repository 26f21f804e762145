"""`tailor demo`: the whole way on a planted shop, from CSV files to explained recommendations."""

import time
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
from tailor.data.splits import split_by
from tailor.evaluation.protocol import compare, evaluate
from tailor.pipeline.default import counting_pipeline
from tailor.progress import terminal
from tailor.worlds.shop import shop

ONLY = "action = 'view'"  # carts and purchases mostly repeat the item just viewed


def run_demo(out: Path, users: int, items: int, seed: int) -> None:
    """Make the shop's files under `out`, then import, split, fit, measure and recommend. Everything
    under `out` is replaced.
    """
    started = time.perf_counter()
    run = Run(seed=seed, progress=terminal)
    say(f"1. A shop of {users} people and {items} items, as files such as yours ({out / 'csv'})")
    write_csv(shop(users=users, items=items, seed=seed, progress=terminal).data, out / "csv")
    say("2. Import")
    events, items_csv, users_csv, texts = (
        out / "csv" / f"{name}.csv" for name in ("events", "items", "users", "texts")
    )
    report = import_data(
        events,
        out / "data",
        items=items_csv,
        users=users_csv,
        texts=texts,
        overwrite=True,
        progress=terminal,
    )
    say(*(f"   {line}" for line in report.lines()))
    data = Dataset.open(out / "data")
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
    methods = {"counting pipeline": model, **parts_of(model)}
    result = evaluate(methods, split, run=run)
    rivals = sorted(list(methods)[1:], key=lambda name: -result.mean(name, "NDCG@10"))
    show_report(result, [one for one in compare(result, rivals[0]) if one.b == "counting pipeline"])
    say("6. What three people get, and why")
    show_people(model, split.train, data)
    say(
        f"Done in {time.perf_counter() - started:.0f} s. The same with your own files:",
        *own_commands(),
        "",
        "The shop's files are read by exactly these commands; look at them:",
        f"  head -3 {out}/csv/*.csv",
        f"  tailor recommend {out}/model --user {data.users.ids[0]} --data {out}/data",
    )


def write_csv(data: Dataset, folder: Path) -> None:
    """One CSV file a table, as a shop would export them."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, frame in data.tables.items():
        lists = [
            pl.col(column).list.join("|")
            for column, kind in frame.schema.items()
            if kind == pl.List
        ]
        frame.with_columns(lists).write_csv(folder / f"{name}.csv")


def parts_of(method: Method) -> dict[str, Recommender]:
    """The fitted recommenders inside a pipeline, innermost ones, by name."""
    inside = [
        *getattr(method, "parts_", []),
        *(
            getattr(method, name)
            for name in ("inner_", "retrieve_", "rank_")
            if hasattr(method, name)
        ),
    ]
    if not inside and isinstance(method, Recommender):
        return {method.name: method}
    return {name: part for one in inside for name, part in parts_of(one).items()}


def show_people(model: Recommender, train: Dataset, data: Dataset) -> None:
    """A known user, a stranger with a history of one item, a stranger without any."""
    titles = dict(data.item_table.select("item_id", "title").iter_rows())
    known = train.queries()
    somebody = known[int(known.histories.lengths.argmax())]
    first = somebody.history.item_ids[-1]
    people = [
        (
            f"{somebody.user_id}, who looked at "
            + ", ".join(titles[one] for one in somebody.history.item_ids[-3:]),
            somebody,
        ),
        (f"a stranger who just looked at {titles[first]}", Query(history=History.of(first))),
        ("a stranger of whom nothing is known", Query()),
    ]
    for who, query in people:
        query = Query(query.user_id, query.history, exclude=query.history.item_ids)
        ranking = model.recommend([query], 5)[0]
        reasons = model.explain([query], [ranking])[0]
        rows = [
            [titles[one], f"{score:.3f}", reason_text(why, titles)]
            for one, score, why in zip(ranking.ids, ranking.scores.tolist(), reasons, strict=True)
        ]
        table(["item", "score", "because of"], rows, title=who)


def own_commands() -> list[str]:
    return [
        (
            "  tailor data import events.csv --items items.csv --out DATA  # add --dry-run to look"
            " first"
        ),
        "  tailor data split DATA --by last --out SPLIT                  # or --by time",
        "  tailor fit default --split SPLIT --out MODEL",
        "  tailor evaluate MODEL --split SPLIT",
        (
            "  tailor recommend MODEL --history ITEM,ITEM                    # or --user ID --data"
            " DATA"
        ),
    ]
