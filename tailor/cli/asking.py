"""`tailor recommend` and `tailor explain`."""

import contextlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from tailor.cli.answering import answering
from tailor.cli.queries import (
    QueryOptions,
    catalogue_of,
    nearest_item,
    query_of,
    split_ids,
    unknown_ids,
)
from tailor.cli.showing import print_json, say, table
from tailor.core.methods import Recommender
from tailor.core.saving import SavedModel
from tailor.data.nouns import Explanation, Query, Ranking, plain
from tailor.errors import DataError, ModelError
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

MAX_EVIDENCE = 20  # rows of evidence printed for an item


def opened(folder: Path) -> Recommender:
    """Return the recommender that a folder holds."""
    return recommender_of(SavedModel.open(folder))


def recommender_of(saved: SavedModel) -> Recommender:
    """Return a saved recommender. Raises ModelError for a method of another kind."""
    recommender: Recommender = answering(saved, Recommender)  # type: ignore[type-abstract]
    return recommender


@dataclass(frozen=True)
class ListOptions:
    """Options of `recommend` that describe the list."""

    k: int = 10
    """Length of the list."""
    exclude: tuple[str, ...] = ()
    """Values of --exclude."""
    keep_seen: bool = False
    """True to recommend items of the history too."""


def recommend_command(
    model: Path, options: QueryOptions, list_options: ListOptions, json: bool
) -> None:
    """Print a list of recommendations; see `tailor recommend --help`."""
    saved = SavedModel.open(model)
    method = recommender_of(saved)
    catalogue = catalogue_of(saved)
    query = query_of(saved, options, catalogue)
    history = query.history.item_ids
    excluded = split_ids(list_options.exclude, catalogue)
    seen = () if list_options.keep_seen else history
    query = replace(query, exclude=(*query.exclude, *excluded, *seen))
    ranking = method.recommend([query], list_options.k)[0]
    reasons = _reasons(method, query, ranking)
    notes = [
        *unknown_ids(history, catalogue, "does not count"),
        *unknown_ids(excluded, catalogue, "excludes nothing"),
    ]
    if json:
        answer = _answer(query, ranking, reasons, saved.titles)
        print_json({**answer, "notes": [*notes, *answer["notes"]]})
        return
    say(*notes)
    _show_list(ranking, reasons, saved.titles)
    say(*ranking.notes)


def _show_list(ranking: Ranking, reasons: list[Explanation], titles: dict[str, str]) -> None:
    """Print a list, and the reasons if there are any; nothing for an empty list."""
    rows = [
        [
            str(position + 1),
            item_id,
            clean_title(titles.get(item_id, "")),
            f"{ranking.scores[position]:.4f}",
            reason_text(reasons[position], titles) if reasons else "",
        ]
        for position, item_id in enumerate(ranking.ids)
    ]
    if rows:
        table(["rank", "item", "title", "score", "because of"], rows)


def _reasons(method: Recommender, query: Query, ranking: Ranking) -> list[Explanation]:
    """Return one explanation per item; none if the method cannot explain."""
    if method.explains() and len(ranking):
        # a pipeline can explain, but perhaps not with these parts; `tailor explain` finds out
        with contextlib.suppress(ModelError):
            return method.explain([query], [ranking])[0]
    return []


def explain_command(
    model: Path, item: str | None, options: QueryOptions, k: int, json: bool
) -> None:
    """Print why items are recommended; see `tailor explain --help`."""
    saved = SavedModel.open(model)
    method = recommender_of(saved)
    catalogue = catalogue_of(saved)
    if item is not None and catalogue and item not in catalogue:
        raise DataError(f'"{item}" is not in the catalogue.{nearest_item(item, catalogue)}')
    query = query_of(saved, options, catalogue)
    history = dict.fromkeys(query.history.item_ids)
    query = replace(query, exclude=tuple(seen for seen in history if seen != item))
    if not json:
        say(*unknown_ids(query.history.item_ids, catalogue, "does not count"))
    if item is None:
        _explain_list(method, query, saved.titles, k, json)
    else:
        _explain_item(method, query, saved.titles, item, k, json)


def _explain_item(
    method: Recommender, query: Query, titles: dict[str, str], item: str, k: int, json: bool
) -> None:
    """Print an item's evidence, its faithfulness, and what would remove it from the list."""
    ranking = method.recommend([query], 1, [Ranking((item,), np.ones(1, np.float32))])[0]
    if not ranking.ids:
        raise DataError(
            f'"{item}" cannot be recommended to this person: it is blocked, or nothing speaks for'
            " it (or it is not in the catalogue)"
        )
    explanation = explain_rankings(method, [query], [ranking])[0][0]
    fall = faithfulness(method, query, explanation)
    needed = counterfactual(method, query, item, k)
    text = sentence(explanation, titles, needed)
    if json:
        answer = _answer(query, ranking, [explanation], titles)
        answer["items"][0] |= {
            "sentence": text,
            "faithfulness": None if fall is None else asdict(fall),
            "counterfactual": asdict(needed),
        }
        print_json(answer)
        return
    say(f"{quote_title(item, titles)}: {text}")
    _show_evidence(explanation, titles)
    say(_faithfulness_line(fall, titles), _needed_line(needed))


def _show_evidence(explanation: Explanation, titles: dict[str, str]) -> None:
    rows = [
        [
            evidence.kind,
            clean_title(evidence.id),
            clean_title(titles.get(evidence.id, "")),
            f"{evidence.share:.1%}",
        ]
        for evidence in explanation.evidence[:MAX_EVIDENCE]
    ]
    if rows:
        table(["evidence", "id", "title", "share of the score"], rows)


def _explain_list(
    method: Recommender, query: Query, titles: dict[str, str], k: int, json: bool
) -> None:
    """Print a sentence and the faithfulness of every item of a list."""
    ranking = method.recommend([query], k)[0]
    reasons = explain_rankings(method, [query], [ranking])[0]
    sentences = [sentence(reason, titles) for reason in reasons]
    figures = [
        None if fall is None else fall.figure
        for fall in rank_drops(method, [query] * len(reasons), reasons)
    ]
    if json:
        answer = _answer(query, ranking, reasons, titles)
        for item, text, figure in zip(answer["items"], sentences, figures, strict=True):
            item["sentence"] = text
            item["faithfulness"] = None if figure is None else {"figure": figure}
        print_json(answer)
        return
    _show_sentences(ranking.ids, sentences, figures, titles)
    say(*ranking.notes)


def _show_sentences(
    item_ids: Sequence[str],
    sentences: Sequence[str],
    figures: Sequence[float | None],
    titles: dict[str, str],
) -> None:
    """Print a line for each item; nothing without any."""
    rows = [
        [
            str(position + 1),
            item_id,
            clean_title(titles.get(item_id, "")),
            sentences[position],
            _figure_text(figures[position]),
        ]
        for position, item_id in enumerate(item_ids)
    ]
    if rows:
        table(["rank", "item", "title", "why", "faithfulness"], rows)


def _figure_text(figure: float | None) -> str:
    return "-" if figure is None else f"{figure:+.2f}"


def _faithfulness_line(fall: RankDrop | None, titles: dict[str, str]) -> str:
    if fall is None:
        return (
            "Faithfulness cannot be measured: no item of the history is named as evidence, or there"
            " is no other to compare with."
        )
    others = [DEPTH + 1 if rank is None else rank for rank in fall.ranks_random]
    removed = join_names([quote_title(item, titles) for item in fall.removed])
    return (
        f"Faithfulness {fall.figure:+.2f} (from -1 to 1): {_rank_text(fall.rank)} with the whole"
        f" history, {_rank_text(fall.rank_without)} without {removed}; without as many other events"
        f" {_rank_text(int(np.median(others)))} (median of {len(others)})."
    )


def _rank_text(rank: int | None) -> str:
    return f"at rank {rank}" if rank is not None and rank <= DEPTH else f"below rank {DEPTH}"


def _needed_line(needed: Counterfactual) -> str:
    if needed.is_found:
        names = ", ".join(clean_title(item) for item in needed.removed)
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


def reason_text(explanation: Explanation, titles: dict[str, str], max_items: int = 2) -> str:
    """Return the strongest evidence with its shares of the score: "Enamel kettle (62 %)"."""
    parts = []
    for evidence in explanation.evidence[:max_items]:
        name = clean_title(titles.get(evidence.id, evidence.id))
        if evidence.kind == "popularity":
            name = "what everybody chooses"
        elif evidence.kind == "word":
            name = f'the word "{name}"'
        parts.append(f"{name} ({evidence.share:.0%})")
    return ", ".join(parts)


def _answer(
    query: Query, ranking: Ranking, reasons: list[Explanation], titles: dict[str, str]
) -> dict[str, Any]:
    """Return a list and its reasons as plain values for JSON."""
    reason_of = {reason.item_id: reason for reason in reasons}
    items = [
        _item_answer(ranking, position, reason_of.get(item_id), titles.get(item_id))
        for position, item_id in enumerate(ranking.ids)
    ]
    return {
        "history": list(query.history.item_ids),
        "items": items,
        "score_kind": ranking.score_kind,
        "notes": list(ranking.notes),
    }


def _item_answer(
    ranking: Ranking, position: int, reason: Explanation | None, title: str | None
) -> dict[str, Any]:
    """Return one item of a list as plain values for JSON."""
    item_id = ranking.ids[position]
    stages = {name: values[position] for name, values in ranking.columns.items()}
    evidence = () if reason is None else reason.evidence
    return {
        "rank": position + 1,
        "item_id": item_id,
        "title": title,
        "score": float(ranking.scores[position]),
        "columns": {name: float(value) for name, value in stages.items() if not np.isnan(value)},
        "evidence": [{"kind": part.kind, "id": part.id, "share": part.share} for part in evidence],
        "details": plain(ranking.details.get(item_id, {})),
    }
