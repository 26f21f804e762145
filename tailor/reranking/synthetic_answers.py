"""Answers that a language model writes to a community's questions, to learn from.

They are rows of the table `texts` of kind "synthetic answer", with the question's `request_id`, the
`prompt_style` and the `model`. Their `user_id` is WRITER, so that nobody's own words are mixed with
them; they are no items, and never candidates.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

import polars as pl

from tailor.data.dataset import Dataset
from tailor.errors import DataError
from tailor.llm.prompts import Template
from tailor.ports.base import LanguageModel
from tailor.text.title_words import telling_words
from tailor.text.words import words

Style: TypeAlias = Literal["basic", "contextual", "personalised"]
STYLES: tuple[Style, ...] = get_args(Style)
KIND = "synthetic answer"
WRITER = "language model"
COPIED = 0.8  # share of an answer's telling words from which it only repeats the question
SHOWN = 5  # earlier posts of the asker, the latest
SHOWN_TAGS = 10
COLUMNS = ("text_id", "user_id", "kind", "text", "request_id", "prompt_style", "model")
END = "Answer in at most {most} words, and do not repeat the question."
TEMPLATES: dict[Style, Template] = {
    "basic": Template(
        f"Answer this question:\n{{question}}\n{END}", trusted=("most",), foreign=("question",)
    ),
    "contextual": Template(
        "In a community about {topics}, somebody asks:\n{question}\nAnswer as an expert of the"
        f" community. {END}",
        trusted=("most",),
        foreign=("topics", "question"),
    ),
    "personalised": Template(
        "Somebody asks:\n{question}\nHe posted before about: {tags}\nThese are posts of his:"
        f"\n{{posts}}\nAnswer so that it suits him. {END}",
        trusted=("most",),
        foreign=("question", "tags"),
        listed=("posts",),
    ),
}


def checked_styles(styles: Sequence[str]) -> list[Style]:
    """Return styles in their usual order, all for none. Raises DataError for an unknown one."""
    for style in styles:
        if style not in STYLES:
            raise DataError(f'there is no style "{style}": one of {", ".join(STYLES)}')
    return [style for style in STYLES if style in styles or not styles]


@dataclass(frozen=True)
class Question:
    """A question, and what is known of who asks."""

    request_id: str
    text: str
    topics: tuple[str, ...] = ()
    """Tags of the question."""
    tags: tuple[str, ...] = ()
    """Tags of the asker's earlier posts."""
    posts: tuple[str, ...] = ()
    """The asker's earlier posts, oldest first."""


class Written(NamedTuple):
    """Synthetic answers, and how many were left out."""

    answers: pl.DataFrame
    """Rows of the table `texts`, with COLUMNS."""
    failed: int
    """Prompts without an answer."""
    copied: int
    """Answers that only repeated the question."""


def questions_of(data: Dataset) -> list[Question]:
    """Return the questions of the table `requests`, with tags and posts of their askers.

    Posts are the asker's texts before the question; where there are no times, none.
    """
    if "requests" not in data.tables:
        raise DataError(f'data set "{data.name}" has no table "requests": give one of questions')
    tags = tags_of_users(data)
    posts = _posts(data)
    return [
        Question(
            row["request_id"],
            row["text"],
            tuple(row.get("tags") or ()),
            tags.get(row.get("user_id") or "", ()),
            tuple(
                text
                for time_ms, text in posts.get(row.get("user_id") or "", ())
                if row.get("time_ms") is not None and time_ms < row["time_ms"]
            ),
        )
        for row in data.tables["requests"].iter_rows(named=True)
        if (row["text"] or "").strip()
    ]


def tags_of_users(data: Dataset) -> dict[str, tuple[str, ...]]:
    """Return user -> the tags of the earlier posts, from the column `tags` of `users`."""
    users = data.tables.get("users")
    if users is None or users.schema.get("tags") != pl.List(pl.String):
        return {}
    rows = users.select("user_id", "tags").iter_rows()
    return {user: tuple(tag for tag in tags or () if tag) for user, tags in rows}


def _posts(data: Dataset) -> dict[str, list[tuple[int, str]]]:
    """Return user -> time and text of the posts, oldest first."""
    texts = data.tables.get("texts")
    if texts is None or "time_ms" not in texts.columns:
        return {}
    posts: dict[str, list[tuple[int, str]]] = {}
    rows = texts.drop_nulls("time_ms").sort("time_ms", maintain_order=True)
    for user, time_ms, text in rows.select("user_id", "time_ms", "text").iter_rows():
        posts.setdefault(user, []).append((time_ms, text))
    return posts


def write_answers(
    llm: LanguageModel,
    questions: Sequence[Question],
    styles: Sequence[Style] = STYLES,
    most_words: int = 60,
    budget: int = 1_000,
) -> Written:
    """Ask for an answer to every question in every style.

    An answer that repeats the question is left out: a retriever would learn to find copies.
    """
    pairs = [(question, style) for question in questions for style in styles]
    prompts = [prompt_of(question, style, most_words, budget) for question, style in pairs]
    completions = llm.complete(prompts, max_tokens=2 * most_words) if prompts else []
    rows: list[dict[str, Any]] = []
    failed = copied = 0
    for (question, style), completion in zip(pairs, completions, strict=True):
        text = "" if completion.error or not completion.texts else completion.text.strip()
        if not words(text):
            failed += 1
        elif copied_share(question.text, text) >= COPIED:
            copied += 1
        else:
            rows.append(
                {
                    "text_id": f"{question.request_id} {style}",
                    "user_id": WRITER,
                    "kind": KIND,
                    "text": text,
                    "request_id": question.request_id,
                    "prompt_style": style,
                    "model": llm.fingerprint[:80],
                }
            )
    schema = dict.fromkeys(COLUMNS, pl.String())
    return Written(pl.DataFrame(rows, schema=schema), failed, copied)


def prompt_of(question: Question, style: Style, most_words: int, budget: int) -> str:
    """Return the prompt for an answer in one style."""
    slots: dict[str, Any] = {"question": question.text, "most": str(most_words)}
    if style == "contextual":
        slots["topics"] = ", ".join(question.topics) or "everything"
    if style == "personalised":
        latest_tags = list(dict.fromkeys(question.tags[::-1]))[:SHOWN_TAGS]
        slots["tags"] = ", ".join(latest_tags) or "nothing yet"
        slots["posts"] = question.posts[-SHOWN:]
    return TEMPLATES[style].filled(budget, **slots).text


def copied_share(question: str, answer: str) -> float:
    """Return the share of an answer's telling words that the question has."""
    question_words = set(words(question))
    answer_words = telling_words(answer)
    return sum(word in question_words for word in answer_words) / max(len(answer_words), 1)


def with_answers(data: Dataset, answers: pl.DataFrame) -> Dataset:
    """Return the data with synthetic answers in its table of texts; earlier ones stay."""
    texts = data.tables.get("texts")
    frames = [answers] if texts is None else [texts, answers]
    joined = pl.concat(frames, how="diagonal")
    return Dataset({**data.tables, "texts": joined}, data.name, data.labels)


def answers_in(data: Dataset) -> Iterator[tuple[str, str]]:
    """Yield question id and text of the synthetic answers that a data set holds."""
    texts = data.tables.get("texts")
    if texts is None or not {"kind", "request_id"} <= set(texts.columns):
        return
    rows = texts.filter(pl.col("kind") == KIND).drop_nulls("request_id")
    yield from rows.select("request_id", "text").iter_rows()
