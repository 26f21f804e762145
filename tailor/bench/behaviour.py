"""Describe how a method behaves: its syntax tree, and its answers on tiny data.

A claim's record holds both. A file that was reformatted, commented or moved keeps its tree; one
that was rewritten keeps its answers; a shared part that broke changes the answers although the
method's own file is as it was. Code that only larger data reach (blocks of many queries, sparse
updates, approximate search) is not seen.
"""

import ast
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, TypeAlias, cast

import numpy as np

from tailor.core.methods import Agent, Generator, Method, Predictor, Profiler, Recommender
from tailor.core.run import Run
from tailor.data.nouns import History, Query, Ranking, Turn
from tailor.testing.data import tiny_data

TOLERANCE = 1e-4  # of a score or value, relative where it is above 1
DIGITS = 6  # significant ones that a record keeps
K = 7
KNOWN_USERS = 8  # that lists and values are asked for
PAIRS = ("thing-003", "thing-001", "nobody knows this")

# kind ("lists", "values", "texts") -> who asks, or name of a figure -> one line of answers
Answers: TypeAlias = dict[str, dict[str, str]]


# ---- syntax trees


def tree_hash(source: str, entry: str | None = None) -> str:
    """Return a hash of a file's syntax tree without comments, docstrings and import paths.

    With `entry`, only the module's definitions that the function of this name reaches count, and
    its own name does not. Raises SyntaxError for a file that cannot be parsed, and KeyError where
    there is no such function.
    """
    body = ast.parse(source).body
    if entry is not None:
        body = _reached(body, entry)
    imported: set[str] = set()
    shape = _shape(body, imported)
    text = json.dumps([sorted(imported), shape])
    return hashlib.sha256(text.encode()).hexdigest()


def _shape(node: Any, imported: set[str]) -> Any:
    """Return a syntax tree as plain lists, the same in every version of Python."""
    if isinstance(node, list):
        return [_shape(child, imported) for child in node if not _is_left_out(child, imported)]
    if not isinstance(node, ast.AST):
        return repr(node)
    parts = [
        [name, _shape(value, imported)]
        for name, value in ast.iter_fields(node)
        if name not in ("kind", "type_comment", "ctx") and value not in (None, [])
    ]
    return [type(node).__name__, *parts]


def _is_left_out(node: Any, imported: set[str]) -> bool:
    """Say whether a statement is a bare string or an import; collects the names imported."""
    if isinstance(node, ast.Import | ast.ImportFrom):
        imported.update(f"{alias.name.split('.')[-1]} as {alias.asname}" for alias in node.names)
        return True
    if not isinstance(node, ast.Expr) or not isinstance(node.value, ast.Constant):
        return False
    return isinstance(node.value.value, str)


def _reached(body: Sequence[ast.stmt], entry: str) -> list[ast.stmt]:
    """Return the entry function and the definitions of the module that it uses, in order."""
    defined = {name: statement for statement in body for name in _names_bound(statement)}
    names = [entry]
    reached: set[ast.stmt] = set()
    while names:
        name = names.pop()
        statement = defined[name] if name == entry else defined.get(name)
        if statement is None or statement in reached:
            continue
        reached.add(statement)
        names += _names_used(statement)
    cast(ast.FunctionDef, defined[entry]).name = "entry"
    return [statement for statement in body if statement in reached]


def _names_used(statement: ast.stmt) -> list[str]:
    """Return the names that a statement reads and does not bind itself, as locals or arguments."""
    names: list[str] = []
    local: set[str] = set()
    for node in ast.walk(statement):
        if isinstance(node, ast.arg):
            local.add(node.arg)
        if isinstance(node, ast.Name):
            names.append(node.id)
            if isinstance(node.ctx, ast.Store):
                local.add(node.id)
    return [name for name in names if name not in local]


def _names_bound(statement: ast.stmt) -> list[str]:
    """Return the names that a statement of a module defines or assigns."""
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [statement.name]
    stored = [node for node in ast.walk(statement) if isinstance(node, ast.Name)]
    return [node.id for node in stored if isinstance(node.ctx, ast.Store)]


# ---- answers


def answers_of(cls: type[Method]) -> Answers:
    """Fit the class's `tiny()` on tiny data and return what it answers.

    Seed 0, one worker, float32 throughout, so that machines agree.
    """
    run = Run(seed=0, workers=1, dtype="float32")
    method = cls.tiny().fit(tiny_data(), run)
    if isinstance(method, Recommender):
        return {"lists": _lists(method)}
    if isinstance(method, Predictor):
        return {"values": _values(method)}
    return {"texts": _texts(method)}


def figures_as_answers(figures: Mapping[str, float | str]) -> Answers:
    """Return figures of a study as answers: numbers and words by name."""
    numbers = {name: value for name, value in figures.items() if not isinstance(value, str)}
    words = {name: value for name, value in figures.items() if isinstance(value, str)}
    return {"values": {name: _numbers([value]) for name, value in numbers.items()}, "texts": words}


def _queries() -> dict[str, Query]:
    """Return queries by name: known users, a stranger with words, a newcomer."""
    queries = {}
    for i, query in enumerate(tiny_data().queries()[:KNOWN_USERS]):
        exclude = ("thing-000", *query.history.item_ids[:2])
        name = str(query.user_id)
        queries[name] = Query(name, query.history, exclude=exclude, request_id=str(i))
    queries["words"] = Query(text="copper kettle")
    queries["newcomer"] = Query("never seen", History.of("thing-001"))
    return queries


def _lists(method: Recommender) -> dict[str, str]:
    """Return each query's list as a line; methods that only order get the catalogue."""
    queries = _queries()
    ids = tuple(tiny_data().catalogue.ids.tolist())
    catalogue = Ranking(ids, np.arange(len(ids), 0, -1).astype(np.float32))
    candidates = [catalogue] * len(queries) if method.needs_candidates else None
    rankings = method.recommend(list(queries.values()), K, candidates)
    return {name: _line(ranking) for name, ranking in zip(queries, rankings, strict=True)}


def _line(ranking: Ranking) -> str:
    """Return a list as "item score, item score"."""
    pairs = zip(ranking.ids, ranking.scores.tolist(), strict=True)
    return ", ".join(f"{item_id} {score:.{DIGITS}g}" for item_id, score in pairs)


def _values(method: Predictor) -> dict[str, str]:
    """Return a predictor's values of a few pairs as a line a query."""
    queries = _queries()
    values = method.predict(list(queries.values()), [PAIRS] * len(queries))
    return {name: _numbers(row.ravel()) for name, row in zip(queries, values, strict=True)}


def _numbers(values: Iterable[float]) -> str:
    return " ".join(f"{float(value):.{DIGITS}g}" for value in values)


def _texts(method: Method) -> dict[str, str]:
    """Return profiles, outputs or turns as a line a query. Raises TypeError for other methods."""
    queries = _queries()
    if isinstance(method, Profiler):
        nouns: Sequence[Any] = method.profile(list(queries.values()))
    elif isinstance(method, Generator):
        nouns = method.generate(list(queries.values()))
    elif isinstance(method, Agent):
        texts = [query.text or "hello" for query in queries.values()]
        nouns = method.act([[Turn("user", text)] for text in texts])
    else:
        raise TypeError(f"{method.name} recommends, predicts, profiles, writes and says nothing")
    return {name: _plain_text(noun) for name, noun in zip(queries, nouns, strict=True)}


def _plain_text(noun: Any) -> str:
    """Return a noun's fields as a line of JSON, images by their hash."""

    def plain(value: Any) -> str:
        return hashlib.sha256(value).hexdigest() if isinstance(value, bytes) else str(value)

    return json.dumps(asdict(noun), default=plain, sort_keys=True)


# ---- comparing


def difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """Return the first difference of two sets of answers in words, "" where they agree.

    Lists agree where scores agree to TOLERANCE and items in the same places are the same, except
    that items whose scores lie within TOLERANCE may swap.
    """
    for cls in sorted({*old, *new}):
        if cls not in old or cls not in new:
            return f"{cls} is {'new' if cls in new else 'gone'}"
        for kind in sorted({*old[cls], *new[cls]}):
            before = old[cls].get(kind, {})
            now = new[cls].get(kind, {})
            for name in sorted({*before, *now}):
                if not _agree(kind, before.get(name), now.get(name)):
                    return f"{cls}, {kind} of {name}: {before.get(name)} is now {now.get(name)}"
    return ""


def _agree(kind: str, old: str | None, new: str | None) -> bool:
    if old is None or new is None:
        return old is new
    if kind == "lists":
        return _same_list(_pairs(old), _pairs(new))
    if kind == "values":
        return _close([float(word) for word in old.split()], [float(word) for word in new.split()])
    return old == new


def _pairs(line: str) -> dict[str, float]:
    """Return item id -> score of a list's line, best first."""
    entries = [entry.rpartition(" ") for entry in line.split(", ")] if line else []
    return {item_id: float(score) for item_id, _, score in entries}


def _same_list(old: Mapping[str, float], new: Mapping[str, float]) -> bool:
    """Say whether two lists are the same but for near ties that swap."""
    if not _close(list(old.values()), list(new.values())):
        return False
    last = min(old.values(), default=0.0)
    return all(
        _close([score], [new.get(item_id, last)])
        for (item_id, score), other in zip(old.items(), new, strict=True)
        if item_id != other
    )


def _close(old: Sequence[float], new: Sequence[float]) -> bool:
    return len(old) == len(new) and np.allclose(
        old, new, rtol=TOLERANCE, atol=TOLERANCE, equal_nan=True
    )
