"""The contract of agents."""

import json
from collections.abc import Callable
from typing import Any

from tailor.core.methods import Agent
from tailor.data.nouns import Query, Turn, plain, same
from tailor.errors import DataError
from tailor.testing.data import tiny_data
from tailor.testing.fits import DIALOGUES, fitted, nearly_same, sample_queries


def checks_of(cls: type[Agent]) -> list[Callable[[type[Any]], None]]:
    """Return the checks of an agent."""
    return [
        turns_are_turns,
        one_dialogue_equals_a_batch,
        nothing_is_kept_between_calls,
        everything_excluded_is_never_named,
        wrong_dialogues_are_refused,
        no_dialogues_no_turns,
    ]


def turns_are_turns(cls: type[Agent]) -> None:
    catalogue = set(tiny_data().catalogue.ids)
    for queries in (None, sample_queries()[: len(DIALOGUES)]):
        turns = fitted(cls).act(DIALOGUES, queries)
        for i, turn in enumerate(turns):
            assert turn.speaker == cls.speaker, f'the turn is by "{turn.speaker}"'
            assert turn.text or turn.acts or turn.notes, "an empty turn says why"
            items = set(turn.item_ids)
            assert len(items) == len(turn.item_ids) and items <= catalogue
            assert queries is None or not items & set(queries[i].exclude), "an excluded item"
            json.dumps(plain(turn))


def one_dialogue_equals_a_batch(cls: type[Agent]) -> None:
    method = fitted(cls)
    queries = sample_queries()[: len(DIALOGUES)]
    batch = method.act(DIALOGUES, queries)
    for i, (dialogue, query) in enumerate(zip(DIALOGUES, queries, strict=True)):
        alone = method.act([dialogue], [query])[0]
        assert nearly_same(alone, batch[i]), f"dialogue {i} is answered differently alone"


def nothing_is_kept_between_calls(cls: type[Agent]) -> None:
    method = fitted(cls)
    first = method.act([DIALOGUES[1]])[0]
    method.act(DIALOGUES)
    assert same(first, method.act([DIALOGUES[1]])[0]), "an earlier dialogue changed the answer"


def everything_excluded_is_never_named(cls: type[Agent]) -> None:
    query = Query(exclude=tuple(tiny_data().catalogue.ids))
    turns = fitted(cls).act(DIALOGUES, [query] * len(DIALOGUES))
    assert not any(turn.item_ids for turn in turns), "an excluded item is named"


def wrong_dialogues_are_refused(cls: type[Agent]) -> None:
    turn = Turn("user", "hello")
    wrong: list[tuple[Any, Any]] = [([turn], None), ([["hello"]], None), ([[turn]], [])]
    for dialogues, queries in wrong:
        try:
            fitted(cls).act(dialogues, queries)
        except DataError:
            continue
        raise AssertionError(f"{dialogues!r} with queries {queries!r} was taken")


def no_dialogues_no_turns(cls: type[Agent]) -> None:
    assert fitted(cls).act([]) == []
