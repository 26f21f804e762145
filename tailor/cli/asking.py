"""`tailor recommend` and `tailor explain`."""

from pathlib import Path

import numpy as np

from tailor.base import Recommender
from tailor.cli.showing import print_json, say, table
from tailor.data.dataset import Dataset
from tailor.data.nouns import Explanation, History, Query, Ranking
from tailor.errors import DataError, ModelError, nearest
from tailor.saving import load, load_histories, load_titles


def opened(folder: Path) -> Recommender:
    method = load(folder)
    if not isinstance(method, Recommender):
        raise ModelError(f"{folder} holds a {method.name}, which does not recommend")
    return method


def _ids(given: list[str] | None) -> tuple[str, ...]:
    return tuple(one.strip() for part in given or [] for one in part.split(",") if one.strip())


def history_of(model: Path, history: list[str] | None, user: str | None, data_folder: Path | None) -> tuple[str, ...]:
    """The item ids of the person asked for. Raises DataError for a user that is not known."""
    if history and user:
        raise DataError("give --history or --user, not both")
    if user is None:
        return _ids(history)
    if data_folder is not None:
        known = Dataset.open(data_folder).queries()
    else:
        saved = load_histories(model)
        if saved is None:
            raise DataError(f"{model} holds nobody's history: name the data set with --data, or fit with --with-histories")
        known = saved
    at = np.flatnonzero(known.user_ids == user)
    if not len(at):
        raise DataError(f'there is no user "{user}"; a stranger is asked for with --history, or with neither option')
    return known[int(at[0])].history.item_ids


def _query(history: tuple[str, ...], text: str, exclude: tuple[str, ...]) -> Query:
    return Query(history=History(history), text=text, exclude=exclude)


def recommend_command(
    model: Path, history: list[str] | None, user: str | None, data_folder: Path | None, text: str, exclude: list[str] | None,
    keep_seen: bool, k: int, json: bool,
) -> None:  # fmt: skip
    method = opened(model)
    items = history_of(model, history, user, data_folder)
    query = _query(items, text, (*_ids(exclude), *(() if keep_seen else items)))
    ranking = method.recommend([query], k)[0]
    reasons = method.explain([query], [ranking])[0] if method.explains() and len(ranking) else []
    titles = load_titles(model)
    if json:
        print_json(_plain(query, ranking, reasons, titles))
        return
    if titles and items:
        unknown = [one for one in items if one not in titles]
        say(
            *[
                f'"{one}" is not in the catalogue and does not count.{nearest(one, titles) if len(titles) < 10_000 else ""}'
                for one in unknown[:5]
            ]
        )
    rows = [[str(at + 1), item_id, titles.get(item_id, ""), f"{score:.4f}", reason_text(reasons[at], titles) if reasons else ""]
            for at, (item_id, score) in enumerate(zip(ranking.ids, ranking.scores.tolist(), strict=True))]  # fmt: skip
    if rows:
        table(["rank", "item", "title", "score", "because of"], rows)
    say(*ranking.notes)


def explain_command(
    model: Path, item: str, history: list[str] | None, user: str | None, data_folder: Path | None, text: str, json: bool
) -> None:
    method, titles = opened(model), load_titles(model)
    items = history_of(model, history, user, data_folder)
    query = _query(items, text, ())
    only = Ranking((item,), np.ones(1, np.float32))
    found = method.recommend([query], 1, [only])[0]
    if not found.ids:
        raise DataError(f'"{item}" cannot be recommended to this person: it is not in the catalogue, is blocked, or nothing speaks for it')
    explanation = method.explain([query], [found])[0][0]
    if json:
        print_json(_plain(query, found, [explanation], titles))
        return
    say(f"{titles.get(item, item)}: {reason_text(explanation, titles, most=20) or 'nothing in the history speaks for it'}")


def reason_text(explanation: Explanation, titles: dict[str, str], most: int = 2) -> str:
    """The strongest evidence with its share of the score, as in "Enamel kettle (62 %)"."""
    parts = []
    for one in explanation.evidence[:most]:
        name = "what everybody chooses" if one.kind == "popularity" else titles.get(one.id, one.id)
        parts.append(f'the word "{name}" ({one.share:.0%})' if one.kind == "word" else f"{name} ({one.share:.0%})")
    return ", ".join(parts)


def _plain(query: Query, ranking: Ranking, reasons: list[Explanation], titles: dict[str, str]) -> dict[str, object]:
    by_id = {one.item_id: one for one in reasons}
    items = []
    for at, item_id in enumerate(ranking.ids):
        evidence = by_id[item_id].evidence if item_id in by_id else ()
        columns = {name: float(values[at]) for name, values in ranking.columns.items() if not np.isnan(values[at])}
        items.append({"rank": at + 1, "item_id": item_id, "title": titles.get(item_id), "score": float(ranking.scores[at]), "columns": columns,
                      "evidence": [{"kind": one.kind, "id": one.id, "share": one.share} for one in evidence]})  # fmt: skip
    return {"history": list(query.history.item_ids), "items": items, "score_kind": ranking.score_kind, "notes": list(ranking.notes)}
