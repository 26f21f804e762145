"""`tailor recommend` and `tailor explain`."""

import contextlib
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from tailor.cli.showing import print_json, say, table
from tailor.core.methods import Recommender
from tailor.core.saving import load, load_histories, load_item_ids, load_titles
from tailor.data.dataset import Dataset
from tailor.data.nouns import Explanation, History, Query, Ranking, plain
from tailor.errors import DataError, ModelError, nearest
from tailor.evaluation.explanation_text import clean_title, join_names, quote_title, sentence
from tailor.evaluation.explanations import (
    DEPTH,
    Counterfactual,
    RankDrop,
    counterfactual,
    explain_rankings,
    faithfulness,
    rank_drops,
)


def opened(folder: Path) -> Recommender:
    method = load(folder)
    if not isinstance(method, Recommender):
        raise ModelError(f"{folder} holds a {method.name}, which does not recommend")
    return method


def ids_of(given: list[str] | None) -> tuple[str, ...]:
    return tuple(one.strip() for part in given or [] for one in part.split(",") if one.strip())


def history_of(
    model: Path, history: list[str] | None, user: str | None, data_folder: Path | None
) -> tuple[str, ...]:
    """The item ids of the person asked for. Raises DataError for a user that is not known."""
    return query_of(model, history, user, data_folder).history.item_ids


def query_of(
    model: Path,
    history: list[str] | None,
    user: str | None,
    data_folder: Path | None,
    context: Mapping[str, object] | None = None,
) -> Query:
    """A query of the person asked for, with what is known of them, and of `context`. Raises
    DataError for a user that is not known.
    """
    if history and user:
        raise DataError("give --history or --user, not both")
    if user is None:
        return Query(history=History(ids_of(history)), context=context or {})
    if data_folder is not None:
        known = Dataset.open(data_folder).queries()
    else:
        saved = load_histories(model)
        if saved is None:
            raise DataError(
                f"{model} holds nobody's history: name the data set with --data, or fit with"
                " --with-histories"
            )
        known = saved
    at = np.flatnonzero(known.user_ids == user)
    if not len(at):
        raise DataError(
            f'there is no user "{user}"; a stranger is asked for with --history, or with neither'
            " option"
        )
    found = known[int(at[0])]
    return replace(found, context={**found.context, **(context or {})})


def _query(
    method: Recommender, history: tuple[str, ...], text: str, exclude: tuple[str, ...]
) -> Query:
    """Raises DataError for words that nothing in the model would read: they would change nothing,
    silently.
    """
    if text.strip() and not method.answers_text():
        raise DataError(
            f'--text "{text[:60]}": {method.name} reads no text; fit a model with Hybrid,'
            " DenseRetriever or TextMatch in it (docs/guide/search.md)"
        )
    return Query(history=History(history), text=text, exclude=exclude)


def recommend_command(
    model: Path,
    history: list[str] | None,
    user: str | None,
    data_folder: Path | None,
    text: str,
    exclude: list[str] | None,
    keep_seen: bool,
    k: int,
    json: bool,
) -> None:
    method = opened(model)
    items = history_of(model, history, user, data_folder)
    query = _query(method, items, text, (*ids_of(exclude), *(() if keep_seen else items)))
    ranking = method.recommend([query], k)[0]
    reasons: list[Explanation] = []
    if method.explains() and len(ranking):
        # a pipeline can explain, but perhaps not with these parts; `tailor explain` finds out
        with contextlib.suppress(ModelError):
            reasons = method.explain([query], [ranking])[0]
    titles = load_titles(model)
    if json:
        print_json(_plain(query, ranking, reasons, titles))
        return
    _say_unknown(items, load_item_ids(model))
    rows = [
        [
            str(at + 1),
            item_id,
            clean_title(titles.get(item_id, "")),
            f"{score:.4f}",
            reason_text(reasons[at], titles) if reasons else "",
        ]
        for at, (item_id, score) in enumerate(
            zip(ranking.ids, ranking.scores.tolist(), strict=True)
        )
    ]
    if rows:
        table(["rank", "item", "title", "score", "because of"], rows)
    say(*ranking.notes)


def _say_unknown(items: tuple[str, ...], known: set[str] | None) -> None:
    """Tell of items of the history that are not in the catalogue, where the model knows it."""
    if known is not None:
        unknown = [one for one in dict.fromkeys(items) if one not in known]
        say(
            *[
                f'"{one}" is not in the catalogue and does not count.{_close(one, known)}'
                for one in unknown[:5]
            ]
        )


def _close(item: str, known: set[str]) -> str:
    return nearest(item, known) if len(known) < 10_000 else ""


def explain_command(
    model: Path,
    item: str | None,
    history: list[str] | None,
    user: str | None,
    data_folder: Path | None,
    text: str,
    k: int,
    json: bool,
) -> None:
    method, titles = opened(model), load_titles(model)
    items = history_of(model, history, user, data_folder)
    query = _query(method, items, text, tuple(one for one in dict.fromkeys(items) if one != item))
    known = load_item_ids(model)
    if item is not None and known is not None and item not in known:
        raise DataError(f'"{item}" is not in the catalogue.{_close(item, known)}')
    if not json:
        _say_unknown(items, known)
    if item is None:
        _explain_list(method, query, titles, k, json)
    else:
        _explain_item(method, query, titles, item, k, json)


def _explain_item(
    method: Recommender, query: Query, titles: dict[str, str], item: str, k: int, json: bool
) -> None:
    found = method.recommend([query], 1, [Ranking((item,), np.ones(1, np.float32))])[0]
    if not found.ids:
        raise DataError(
            f'"{item}" cannot be recommended to this person: it is blocked, or nothing speaks for'
            " it (or it is not in the catalogue)"
        )
    explanation = explain_rankings(method, [query], [found])[0][0]
    fall, needed = faithfulness(method, query, explanation), counterfactual(method, query, item, k)
    said = sentence(explanation, titles, needed)
    if json:
        out = _plain(query, found, [explanation], titles)
        out["items"][0] |= {
            "sentence": said,
            "faithfulness": None if fall is None else asdict(fall),
            "counterfactual": asdict(needed),
        }
        print_json(out)
        return
    say(f"{quote_title(item, titles)}: {said}")
    rows = [
        [one.kind, clean_title(one.id), clean_title(titles.get(one.id, "")), f"{one.share:.1%}"]
        for one in explanation.evidence[:20]
    ]
    if rows:
        table(["evidence", "id", "title", "share of the score"], rows)
    say(_faithfulness_line(fall, titles), _needed_line(needed))


def _explain_list(
    method: Recommender, query: Query, titles: dict[str, str], k: int, json: bool
) -> None:
    ranking = method.recommend([query], k)[0]
    reasons = explain_rankings(method, [query], [ranking])[0]
    figures = [
        None if fall is None else fall.figure
        for fall in rank_drops(method, [query] * len(reasons), reasons)
    ]
    said = [sentence(one, titles) for one in reasons]
    if json:
        out = _plain(query, ranking, reasons, titles)
        for one, words, figure in zip(out["items"], said, figures, strict=True):
            one |= {
                "sentence": words,
                "faithfulness": None if figure is None else {"figure": figure},
            }
        print_json(out)
        return
    rows = [
        [
            str(at + 1),
            item_id,
            clean_title(titles.get(item_id, "")),
            said[at],
            "-" if figures[at] is None else f"{figures[at]:+.2f}",
        ]
        for at, item_id in enumerate(ranking.ids)
    ]
    if rows:
        table(["rank", "item", "title", "why", "faithfulness"], rows)
    say(*ranking.notes)


def _faithfulness_line(fall: RankDrop | None, titles: dict[str, str]) -> str:
    if fall is None:
        return (
            "Faithfulness cannot be measured: no item of the history is named as evidence, or there"
            " is no other to compare with."
        )
    others = [DEPTH + 1 if rank is None else rank for rank in fall.ranks_random]
    return (
        f"Faithfulness {fall.figure:+.2f} (from -1 to 1): {_place(fall.rank)} with the whole"
        f" history, {_place(fall.rank_without)} without"
        f" {join_names([quote_title(one, titles) for one in fall.removed])}; without as many other events"
        f" {_place(int(np.median(others)))} (median of {len(others)})."
    )


def _place(rank: int | None) -> str:
    return f"at rank {rank}" if rank is not None and rank <= DEPTH else f"below rank {DEPTH}"


def _needed_line(needed: Counterfactual) -> str:
    if needed.is_found:
        names = ", ".join(clean_title(one) for one in needed.removed)
        proof = "no smaller set does it" if needed.is_smallest else "a smaller set may exist"
        return (
            f"Without {names} it is not among the first {needed.k} ({proof}; asked again to be"
            " sure)."
        )
    if needed.rank is None:
        return f"It is not among the first {needed.k} with the whole history."
    return (
        f"At rank {needed.rank}; nothing that was taken out of the history moves it from the first"
        f" {needed.k}."
    )


def reason_text(explanation: Explanation, titles: dict[str, str], most: int = 2) -> str:
    """The strongest evidence with its share of the score, as in "Enamel kettle (62 %)"."""
    parts = []
    for one in explanation.evidence[:most]:
        name = (
            "what everybody chooses"
            if one.kind == "popularity"
            else clean_title(titles.get(one.id, one.id))
        )
        parts.append(
            f'the word "{name}" ({one.share:.0%})'
            if one.kind == "word"
            else f"{name} ({one.share:.0%})"
        )
    return ", ".join(parts)


def _plain(
    query: Query, ranking: Ranking, reasons: list[Explanation], titles: dict[str, str]
) -> dict[str, Any]:
    by_id = {one.item_id: one for one in reasons}
    items = []
    for at, item_id in enumerate(ranking.ids):
        evidence = by_id[item_id].evidence if item_id in by_id else ()
        columns = {
            name: float(values[at])
            for name, values in ranking.columns.items()
            if not np.isnan(values[at])
        }
        items.append(
            {
                "rank": at + 1,
                "item_id": item_id,
                "title": titles.get(item_id),
                "score": float(ranking.scores[at]),
                "columns": columns,
                "details": plain(ranking.details.get(item_id, {})),
                "evidence": [
                    {"kind": one.kind, "id": one.id, "share": one.share} for one in evidence
                ],
            }
        )
    return {
        "history": list(query.history.item_ids),
        "items": items,
        "score_kind": ranking.score_kind,
        "notes": list(ranking.notes),
    }
