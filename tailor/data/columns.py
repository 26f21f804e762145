"""Which column of a file is which of ours: what the caller says, else the usual names, exact ones
first.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path

from tailor.data.tables import TABLES
from tailor.errors import DataError, nearest

IDS = {
    "user_id": (
        "user_id user uid customer_id customer visitor_id reviewer_id member_id account_id"
        " client_id person_id"
    ),
    "item_id": (
        "item_id item iid movie_id movie product_id product article_id book_id track_id song_id"
        " game_id business_id news_id content_id sku parent_asin asin"
    ),
}
TIME = (
    "time_ms timestamp timestamp_ms time datetime date_time date unix_time unix_timestamp"
    " event_time unix_review_time ts created_at"
)
USUAL = {
    "events": {
        **IDS,
        "time_ms": TIME,
        "action": "action event_type event behavior behavior_type behaviour interaction",
        "value": "value rating score stars overall",
        "event_id": "event_id",
        "order": "order",
        "session_id": "session_id session user_session",
        "request_id": "request_id",
    },
    "items": {
        "item_id": IDS["item_id"] + " id",
        "title": "title name item_name product_name movie_title item_title product_title",
        "text": "text description desc summary plot overview",
        "categories": "categories category genres genre class",
        "price": "price",
        "created_ms": "created_ms created created_at",
        "lat": "lat latitude",
        "lon": "lon lng longitude",
        "asset": "asset",
    },
    "users": {"user_id": IDS["user_id"] + " id"},
    "texts": {
        **IDS,
        "text": "text tag review review_text review_body comment query note body",
        "kind": "kind",
        "text_id": "text_id review_id",
        "time_ms": TIME,
    },
    "turns": {
        "dialogue_id": "dialogue_id dialog_id conversation_id",
        "turn": "turn turn_id utterance_id",
        "speaker": "speaker role",
        "text": "text utterance content message",
        "items": "items",
        "time_ms": TIME,
    },
    "requests": {
        "request_id": "request_id query_id",
        "user_id": IDS["user_id"],
        "session_id": "session_id session",
        "time_ms": TIME,
        "text": "text query",
        "surface": "surface",
        "context": "context",
    },
    "impressions": {
        "request_id": "request_id",
        "position": "position rank",
        "item_id": IDS["item_id"],
        "score": "score",
        "propensity": "propensity propensity_score action_prob pscore",
        "model": "model",
        "shown": "shown",
    },
    "judgements": {
        "query_id": "query_id qid",
        "item_id": IDS["item_id"] + " doc_id corpus_id",
        "grade": "grade relevance label score",
    },
    "candidates": {
        "query_id": "query_id qid",
        "item_id": IDS["item_id"] + " doc_id corpus_id",
        "rank": "rank position",
        "score": "score",
    },
}
KINDS = {
    "tag": "tag",
    "review": "review",
    "reviewtext": "review",
    "reviewbody": "review",
    "comment": "comment",
    "query": "query",
}


def plain(name: str) -> str:
    """A name without what spellings differ in: case, spaces, underscores."""
    return "".join(letter for letter in name.lower() if letter.isalnum())


def by_table(
    columns: Mapping[str, str] | None, files: Mapping[str, tuple[Path, Iterable[str]]]
) -> dict[str, dict[str, str]]:
    """The caller's mapping sorted by table: our column -> the file's. Raises DataError for an
    unknown column on either side.
    """
    wanted: dict[str, dict[str, str]] = {table: {} for table in files}
    for key, theirs in (columns or {}).items():
        table, _, ours = key.rpartition(".")
        if table and table not in files:
            raise DataError(
                f'columns name the table "{table}" ({key}), which is not imported'
                f" here.{nearest(table, files)}"
            )
        called = {one: _ours(one, ours) for one in ([table] if table else files)}
        knowing = [one for one, name in called.items() if name is not None]
        if not knowing:
            known = dict.fromkeys(
                name for one in ([table] if table else files) for name in TABLES[one].columns
            )
            raise DataError(f'columns: there is no column "{ours}" of ours.{nearest(ours, known)}')
        having = [one for one in knowing if theirs in files[one][1]]
        if not having:
            places = ", ".join(str(files[one][0]) for one in knowing)
            raise DataError(
                f'columns: no column "{theirs}" in'
                f" {places}.{nearest(theirs, (n for one in knowing for n in files[one][1]))}"
            )
        for one in having:
            name = called[one]
            assert name is not None
            wanted[one][name] = theirs
    return wanted


def _ours(table: str, name: str) -> str | None:
    """Our column that the caller means: by its own name, or by a usual one of the table, as
    `timestamp` for `time_ms`.
    """
    if name in TABLES[table].columns:
        return name
    return next(
        (
            ours
            for ours, usual in USUAL.get(table, {}).items()
            if plain(name) in map(plain, usual.split())
        ),
        None,
    )


def recognised(table: str, names: Iterable[str], wanted: Mapping[str, str]) -> dict[str, str]:
    """Our column -> the file's, each of the file's once except where the caller asks for it twice."""
    names = list(names)
    found = dict(wanted)
    taken = set(wanted.values())
    for ours, usual in (USUAL.get(table) or {name: name for name in TABLES[table].columns}).items():
        if ours in found:
            continue
        for guess in usual.split():
            theirs = next(
                (name for name in names if plain(name) == plain(guess) and name not in taken), None
            )
            if theirs is not None:
                found[ours] = theirs
                taken.add(theirs)
                break
    return found


def complete(
    table: str, path: Path, line: int, names: Iterable[str], found: Mapping[str, str]
) -> None:
    """Raises DataError where a required column was not found, naming the ones there are."""
    names = list(names)
    for ours in TABLES[table].required:
        if ours not in found:
            hint = nearest(ours, names) if names and "Did" in nearest(ours, names) else ""
            raise DataError(
                f"{path}:{line}: no column of this file is known as {ours}; its first line names"
                f" {', '.join(names)}.{hint} Say which one it is: --columns {table}.{ours}=NAME"
            )
