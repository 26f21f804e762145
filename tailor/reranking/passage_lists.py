"""Lists of passages as rerankers take them: a first stage by words, shortlists, batches."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import islice

import numpy as np

from tailor.data.nouns import Profile, Query
from tailor.data.passage_lists import Passage, PassageList
from tailor.errors import DataError
from tailor.llm.grammars import statuses
from tailor.progress import Progress, silent
from tailor.reranking.reranker import NO_LIMITS, Reranker
from tailor.reranking.shortlist import Limits, Reranked, Shortlist, ordered
from tailor.text.bm25 import BM25

BATCH = 8  # lists that are ordered together, between two steps of the progress


def retrieved_by_words(
    lists: Sequence[PassageList],
    documents: Mapping[str, Passage],
    depth: int = 100,
    language: str | None = "english",
) -> list[PassageList]:
    """Return the lists with `depth` documents each, by BM25, where none were retrieved yet.

    Documents without a word in common fill a list in the order of the file. Raises DataError
    where a list has no passages and there are no documents.
    """
    bare = [i for i, of_question in enumerate(lists) if not of_question.is_retrieved]
    if not bare:
        return list(lists)
    if not documents:
        raise DataError(
            f'the question "{lists[bare[0]].question[:60]}" has no candidates, and there are no'
            " documents: name their file (--docs), or write candidates into the questions"
        )
    passages = list(documents.values())
    index = BM25(language=language)
    index.add([passage.whole for passage in passages], [passage.title for passage in passages])
    width = min(depth, len(passages))
    rows, scores = index.search([lists[i].question for i in bare], width)
    answered = list(lists)
    for i, best, values in zip(bare, rows, scores, strict=True):
        is_match = (best >= 0) & (values > 0)
        matches = dict(zip(best[is_match].tolist(), values[is_match].tolist(), strict=True))
        unmatched = (row for row in range(len(passages)) if row not in matches)
        others = islice(unmatched, width - len(matches))
        listed = {**matches, **dict.fromkeys(others, 0.0)}
        scored = tuple(replace(passages[row], score=score) for row, score in listed.items())
        answered[i] = replace(lists[i], passages=scored, is_retrieved=True)
    return answered


def shortlist_of(of_question: PassageList) -> Shortlist:
    """Return a list of passages as rerankers take it.

    Where a passage lacks a score, the first stage's scores are minus the places.
    """
    passages = of_question.passages
    scores = [passage.score for passage in passages]
    prior = [-float(number) for number in range(len(passages))]
    if all(score is not None for score in scores):
        prior = [float(score) for score in scores if score is not None]
    profile = Profile(None, of_question.profile) if of_question.profile else None
    return Shortlist(
        Query(text=of_question.question, request_id=of_question.id or None, profile=profile),
        tuple(passage.whole for passage in passages),
        np.array(prior, np.float64),
        tuple(passage.title for passage in passages),
        of_question.question,
        profile,
        of_question.history,
    )


def rerank_in_batches(
    reranker: Reranker,
    shortlists: Sequence[Shortlist],
    limits: Limits = NO_LIMITS,
    trace: bool = False,
    progress: Progress = silent,
) -> list[Reranked]:
    """Return the order of every shortlist; the limits hold for all batches together.

    Lists that the time does not suffice for keep their first-stage order, with a note.
    """
    started_s = time.monotonic()
    calls = 0
    usd = 0.0
    results: list[Reranked] = []
    starts = range(0, len(shortlists), BATCH)
    for start in progress(starts, "reranking", len(starts)):
        batch = shortlists[start : start + BATCH]
        left = limits.less(calls, usd, time.monotonic() - started_s)
        if left.seconds == 0:
            results += [_as_given(reranker, shortlist) for shortlist in batch]
            continue
        answers = reranker.rerank(batch, left, trace)
        calls += sum(answer.spent.calls for answer in answers)
        usd += sum(answer.spent.usd for answer in answers)
        results += answers
    return results


def _as_given(reranker: Reranker, shortlist: Shortlist) -> Reranked:
    """Return a list in its first-stage order, as one that the time was too short for."""
    n = len(shortlist)
    note = f"{reranker.name}: the time was over before this list was begun"
    return ordered(shortlist, np.full(n, np.nan), statuses("fallback", n), "rank", notes=(note,))
