"""The collection of invented names: what is judged, what stays alike, and who has which words."""

import numpy as np
import pytest

from tailor.errors import DataError
from tailor.evaluation.relevance import JudgedCollection
from tailor.text.words import words
from tailor.worlds.novel import FAMILIES, KINDS, TOWNS, USES, novel_world


def test_every_question_has_its_document_and_grades_follow_from_what_is_shared():
    data = novel_world(120, 30)
    texts = dict(zip(data.catalogue.ids.tolist(), data.item_texts, strict=True))
    questions = dict(data.tables["requests"].select("request_id", "text").iter_rows())
    kind_of = {words: kind for kind, words in KINDS.items()}
    use_of = {words: use for use, words in USES.items()}
    grades = {}
    for question, document, grade in data.tables["judgements"].iter_rows():
        grades.setdefault(question, []).append(grade)
        asked, text = questions[question], texts[document]
        kind = next(kind for said, kind in kind_of.items() if f"Which {said} in" in asked)
        use = next(use for said, use in use_of.items() if f"{said}?" in asked)
        town = asked.partition(" in ")[2].split()[0]
        shared = (f"The {kind} of" in text) + (use in text) + (f"of {town} is" in text)
        assert grade == {3: 3.0, 2: 1.0}[shared]
    assert set(grades) == set(questions) and all(max(of) == 3 for of in grades.values())
    assert len(JudgedCollection(data).queries) == 30


def test_only_the_names_differ_between_invented_and_common():
    novel, common = novel_world(60, 20), novel_world(60, 20, "common")
    real = {name.lower() for name in (*TOWNS, *FAMILIES)}
    shared = [
        (set(words(a)), set(words(b)))
        for a, b in zip(novel.item_texts, common.item_texts, strict=True)
    ]
    assert all(b - a <= real and len(a - b) == len(b - a) for a, b in shared)
    assert all(not a & real for a, _ in shared)
    assert novel.tables["judgements"].equals(common.tables["judgements"])


def test_a_question_shares_few_words_with_its_document():
    data = novel_world(120, 30)
    best = data.tables["judgements"].filter(data.tables["judgements"]["grade"] == 3)
    texts = dict(zip(data.catalogue.ids.tolist(), data.item_texts, strict=True))
    questions = dict(data.tables["requests"].select("request_id", "text").iter_rows())
    common = {"which", "in", "of", "is", "it", "the", "by", "a", "to", "for", "with", "be", "can"}
    counts = [
        len((set(words(texts[document])) & set(words(questions[question]))) - common)
        for question, document, _ in best.iter_rows()
    ]
    assert 1 <= np.mean(counts) < 2, "the town, and hardly more"


def test_a_seed_is_another_world_and_the_same_seed_the_same():
    assert novel_world(20, 5).content_hash == novel_world(20, 5).content_hash
    assert novel_world(20, 5, seed=1).content_hash != novel_world(20, 5).content_hash


def test_impossible_worlds_are_refused():
    with pytest.raises(DataError, match="5 queries about 4 documents"):
        novel_world(4, 5)
    with pytest.raises(DataError, match='names are "real"'):
        novel_world(4, 2, "real")
