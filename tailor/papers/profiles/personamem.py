"""PersonaMem: a short text memory that learns what to keep by the questions it lets answer."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple, Self

import numpy as np
import torch

from tailor.core.defaults import encoder as encoder_of
from tailor.core.methods import Paper, Profiler
from tailor.core.run import Run
from tailor.data.dataset import Dataset
from tailor.data.nouns import Evidence, Fact, Profile, Query
from tailor.data.queries import Queries
from tailor.data.splits import Split
from tailor.errors import DataError
from tailor.llm.prompts import estimated_tokens
from tailor.nn.policy import advantages, draw_orders, plackett_luce
from tailor.ports.base import Encoder
from tailor.profiles.proposers import RuleProposer, withdrawn_ids
from tailor.profiles.propositions import (
    DAY_MS,
    ONE_VALUE,
    Draft,
    Observation,
    Proposition,
    digest_of,
)
from tailor.profiles.revision import believed
from tailor.text.cached import plain
from tailor.text.passages import sentence_spans
from tailor.text.words import search_words

PAPER = Paper(
    "personamem-v2",
    "PersonaMem-v2: Towards Personalized Intelligence via Learning Implicit User Personas and"
    " Agentic Memory",
    "https://arxiv.org/abs/2512.06688",
    "A text memory of 256 tokens that learned by right and wrong answers what to keep answers more"
    " than the latest or the most frequent notes, and as much as retrieval with four times the"
    " tokens; it holds nothing of other people and nothing that was to be forgotten",
)
FEATURES = (
    "plain statement",
    "support",
    "single value",
    "preference",
    "goal",
    "constraint",
    "other person",
    "question",
    "own affairs",
    "name within",
    "length",
    "day",
    "overlap",
)
# Weights of a policy that has learned nothing: plain statements and own affairs, the latest first.
UNTRAINED = {
    "plain statement": 2.0,
    "day": 0.5,
    "other person": -2.0,
    "question": -1.0,
    "own affairs": 0.5,
}
KIN = (
    r"mother|father|mum|mom|dad|brother|sister|son|daughter|wife|husband|partner|boss|colleague"
    r"|neighbour|neighbor|friend|flatmate|roommate|uncle|aunt|cousin|grand\w+"
)
OTHER_PERSON = re.compile(rf"\b(?:my|our)\s+(?:\w+\s+)?(?:{KIN})\b|\b(?:he|she|they|their)\b", re.I)
OWN_AFFAIRS = re.compile(r"\b(?:my|me|mine|myself)\b", re.IGNORECASE)
NAME_WITHIN = re.compile(r"(?<=[a-z,] )[A-Z][a-z]+")
MAX_NOTE = 240  # characters of a note taken from a sentence
MAX_CHARACTERS = 20_000  # of a text that are read
LINES_READ = 2  # lines of the memory that are read beside a question, with an encoder
MAX_DRAFTS = 50  # statements of one group that a note rests on
CHUNKS = 6  # parts of a history, after each of which the memory is written


@dataclass(frozen=True)
class Note:
    """A line of the memory, and what a policy sees of it."""

    text: str
    key: str
    """Notes of one key are about the same thing: the later one takes its place."""
    occurred_ms: int
    observation_id: str
    slot: str = ""
    """Slot of a plain statement; "": a sentence as it was said."""
    is_single: bool = False
    """Whether it has one value at a time."""
    is_denial: bool = False
    """True where it denies something."""
    support: int = 1
    """How often it was said."""
    drafts: tuple[Draft, ...] = field(default=(), repr=False)
    """Statements that a plain statement was concluded from, the latest MAX_DRAFTS; () for a
    sentence."""

    @cached_property
    def tokens(self) -> int:
        """Upper estimate of its tokens, with the line's dash and end."""
        return len(self.text.encode("utf-8", "replace")) // 3 + 2

    @cached_property
    def words(self) -> frozenset[str]:
        """Stems of its words."""
        return frozenset(search_words(self.text, "english"))

    @cached_property
    def marks(self) -> tuple[float, ...]:
        """The features that depend on the note alone, in the order of FEATURES."""
        is_sentence = not self.slot
        return (
            float(bool(self.slot)),
            float(np.log(self.support)),
            float(self.is_single),
            float(self.slot == "preference"),
            float(self.slot == "goal"),
            float(self.slot == "constraint"),
            float(is_sentence and OTHER_PERSON.search(self.text) is not None),
            float(self.text.rstrip().endswith("?")),
            float(is_sentence and OWN_AFFAIRS.search(self.text) is not None),
            float(is_sentence and NAME_WITHIN.search(self.text) is not None),
            float(np.log1p(len(self.words))),
        )

    @property
    def line(self) -> str:
        return f"- {self.text}"


class TextMemory(NamedTuple):
    """The notes that were kept, the earliest first."""

    notes: tuple[Note, ...]

    @property
    def text(self) -> str:
        """The memory as its owner reads and edits it: a line a note."""
        return "\n".join(note.line for note in self.notes)

    @property
    def tokens(self) -> int:
        """Upper estimate of the tokens of the text."""
        return estimated_tokens(self.text) if self.notes else 0


class Exam(NamedTuple):
    """Words of one user, and questions with options about her."""

    observations: list[Observation]
    questions: list[tuple[str, list[str], int]]
    """Question, options, row of the right one."""


@dataclass(eq=False)
class PersonaMem(Profiler):
    """Keeps a short text about a user, and has learned which notes are worth their room.

    What a user says is read in parts. Plain statements and other sentences become notes; a later
    value takes the place of an earlier one. While the notes are longer than the budget, a linear
    policy over features of notes says which stay. It is trained by REINFORCE: orders are drawn from
    Plackett-Luce, and the reward is the share of questions answered right from the memory alone,
    less the mean of the group.

    Differs from the paper: notes are written by patterns, not by a language model; the policy has
    thirteen weights; questions are answered by words or vectors. Group size and features are
    reconstructed.
    """

    budget_tokens: int = 256
    """Tokens of the memory, at most; the paper has 2,000."""
    encoder: Encoder | str | None = None
    """Encoder that answers questions with options; None: by words."""
    group: int = 8
    """Memories that are drawn of one user and compared."""
    epochs: int = 6
    """Passes over the users."""
    learning_rate: float = 0.1
    """Step of Adam."""

    weights_: np.ndarray = field(init=False, repr=False)
    """(13,) weights of FEATURES."""

    def __post_init__(self) -> None:
        if self.budget_tokens < 16 or self.group < 2 or self.epochs < 0:
            raise DataError(
                f"budget_tokens is {self.budget_tokens}, group {self.group}, epochs {self.epochs}:"
                " from 16, from 2, from 0"
            )

    @classmethod
    def tiny(cls) -> Self:
        return cls(epochs=1, group=2)

    # --- learning

    def _fit(self, data: Dataset, run: Run, valid: Split | None) -> None:
        self.weights_ = np.array([UNTRAINED.get(name, 0.0) for name in FEATURES])
        exams = exams_of(data)
        if not exams:
            reason = "no turns, or no requests with options and an answer"
            self.fit_report_ = {"questions": 0, "untrained": reason}
            return
        rewards = self._learn(exams, run)
        weights = dict(zip(FEATURES, np.round(self.weights_, 3).tolist(), strict=True))
        self.fit_report_ = {
            "questions": sum(len(exam.questions) for exam in exams),
            "reward": [round(value, 4) for value in rewards],
            "weights": weights,
        }

    def _learn(self, exams: Sequence[Exam], run: Run) -> list[float]:
        """Improve the weights by drawn memories; return the mean reward of every epoch."""
        weights = torch.tensor(self.weights_, dtype=torch.float32, requires_grad=True)
        optimizer = torch.optim.Adam([weights], self.learning_rate)
        rng = run.rng("drawn memories")
        generator = torch.Generator().manual_seed(int(rng.integers(2**31)))
        streams = [list(_parts(exam.observations)) for exam in exams]
        means = []
        for _ in run.progress(range(self.epochs), "learning what to keep", self.epochs):
            rewards = []
            for i in rng.permutation(len(exams)).tolist():
                draws = [self._drawn(streams[i], weights, generator) for _ in range(self.group)]
                values = [self._share_right(memory, exams[i]) for memory, _ in draws]
                rewards.append(float(np.mean(values)))
                advantage = advantages(torch.tensor(values))
                loss = -(advantage * torch.stack([log_prob for _, log_prob in draws])).mean()
                if loss.requires_grad:
                    optimizer.zero_grad()
                    loss.backward()
                    optimizer.step()
            means.append(float(np.mean(rewards)))
        self.weights_ = weights.detach().numpy().astype(np.float64)
        return means

    def _drawn(
        self,
        stream: Sequence[Sequence[Note]],
        weights: torch.Tensor,
        generator: torch.Generator,
    ) -> tuple[TextMemory, torch.Tensor]:
        """Return a memory drawn from the policy, and the log-probability of its choices."""
        notes: list[Note] = []
        log_prob = torch.zeros(())
        for part in stream:
            notes = merged(notes, part)
            if _tokens(notes) <= self.budget_tokens:
                continue
            scores = torch.tensor(features(notes), dtype=torch.float32) @ weights
            order = draw_orders(scores.detach(), 1, generator)[0]
            fitting_rows = fitting(notes, order.tolist(), self.budget_tokens)
            log_prob = log_prob + plackett_luce(scores, order[: len(fitting_rows)])
            notes = [notes[row] for row in sorted(fitting_rows)]
        return TextMemory(tuple(notes)), log_prob

    def _share_right(self, memory: TextMemory, exam: Exam) -> float:
        hits = [
            self.choose(memory, question, options) == row
            for question, options, row in exam.questions
        ]
        return float(np.mean(hits))

    # --- remembering

    def remember(self, observations: Sequence[Observation]) -> TextMemory:
        """Return the memory of what a user said, in order of time."""
        weights = self.__dict__.get("weights_")
        if weights is None:
            weights = np.array([UNTRAINED.get(name, 0.0) for name in FEATURES])
        notes: list[Note] = []
        for part in _parts(observations):
            notes = merged(notes, part)
            if _tokens(notes) > self.budget_tokens:
                scores = features(notes) @ weights
                order = np.argsort(-scores, kind="stable").tolist()
                fitting_rows = fitting(notes, order, self.budget_tokens)
                notes = [notes[row] for row in sorted(fitting_rows)]
        return TextMemory(tuple(notes))

    def choose(self, memory: TextMemory, question: str, options: Sequence[str]) -> int:
        """Return the row of the option that fits the memory best; of equals a hash decides."""
        if self.encoder is not None:
            return self._by_meaning(memory, question, options)
        question_words = set(search_words(question, "english"))
        scores = [_best_match(memory, question_words, option) for option in options]
        ties = [digest_of([question, option]) for option in options]
        return max(range(len(options)), key=lambda row: (scores[row], ties[row]))

    def _by_meaning(self, memory: TextMemory, question: str, options: Sequence[str]) -> int:
        encoder = plain(encoder_of(self.encoder or ""))
        words = question
        if memory.notes:
            lines = [note.text for note in memory.notes]
            vectors = encoder.encode([question, *lines])
            nearest = np.argsort(-(vectors[1:] @ vectors[0]), kind="stable")[:LINES_READ]
            words = " ".join([question, *(lines[row] for row in nearest.tolist())])
        vectors = encoder.encode([words, *options])
        return int((vectors[1:] @ vectors[0]).argmax())

    # --- describing

    def _profile(self, queries: Queries) -> list[Profile]:
        return [self._profile_of(queries[i]) for i in range(len(queries))]

    def _profile_of(self, query: Query) -> Profile:
        observations = _observations(query)
        memory = self.remember(observations)
        facts = tuple(
            Fact(
                note.text,
                (Evidence("text", note.observation_id),),
                None,
                {"slot": note.slot, "support": note.support, "said_ms": note.occurred_ms},
            )
            for note in memory.notes
        )
        is_timed = query.history.times_ms is not None and bool(observations)
        as_of_ms = max(o.occurred_ms for o in observations) if is_timed else None
        note = f"{self.name}: {len(observations)} texts by the user, nothing in them to keep"
        return Profile(
            query.user_id,
            memory.text,
            facts,
            {},
            as_of_ms,
            () if facts else (note,),
            {"tokens": memory.tokens},
        )


def exams_of(data: Dataset) -> list[Exam]:
    """Return what each user said, and her questions; none without options and answers.

    The tables are `turns` (the speaker "user" counts) and `requests` with the columns context,
    options and answer.
    """
    if not {"turns", "requests"} <= set(data.tables):
        return []
    requests = data.tables["requests"]
    if not {"options", "answer", "context"} <= set(requests.columns):
        return []
    observations_of: dict[str, list[Observation]] = {}
    for row in data.tables["turns"].iter_rows(named=True):
        observations_of.setdefault(row["dialogue_id"], []).append(observation_of(row))
    questions: dict[str, list[tuple[str, list[str], int]]] = {}
    for row in requests.iter_rows(named=True):
        if row["options"] and row["answer"] in row["options"] and row["context"] in observations_of:
            entry = (row["text"], list(row["options"]), row["options"].index(row["answer"]))
            questions.setdefault(row["context"], []).append(entry)
    return [
        Exam(observations_of[user], exam_questions) for user, exam_questions in questions.items()
    ]


def observation_of(row: dict[str, Any]) -> Observation:
    """Return a row of the table of turns as an observation."""
    return Observation(
        "chat",
        row["text"] or "",
        row.get("time_ms") or 0,
        source=row.get("session_id") or "",
        speaker=row["speaker"] or "",
    )


def _observations(query: Query) -> list[Observation]:
    """Return what a user wrote in her history and now."""
    history = query.history
    times = history.times_ms or tuple(range(len(history)))
    texts = history.texts or ()
    messages = [
        Observation("chat", text, time_ms)
        for text, time_ms in zip(texts, times, strict=False)
        if text
    ]
    if query.text:
        now = query.time_ms if query.time_ms is not None else max(times, default=0)
        messages.append(Observation("chat", query.text, now))
    return messages


# --- notes


def _parts(observations: Sequence[Observation]) -> Iterator[list[Note]]:
    """Yield the notes of a history in CHUNKS parts of about equal size."""
    ordered = sorted(observations, key=lambda o: (o.occurred_ms, o.observation_id))
    of_user = [o for o in ordered if o.speaker == "user"]
    withdrawn = withdrawn_ids(of_user)
    valid = [o for o in of_user if o.observation_id not in withdrawn]
    size = max(1, -(-len(valid) // CHUNKS))
    for start in range(0, len(valid), size):
        notes: list[Note] = []
        for observation in valid[start : start + size]:
            notes += notes_of(observation)
        yield notes


def notes_of(observation: Observation) -> list[Note]:
    """Return the plain statements of a text as notes, and its other sentences as they are."""
    drafts = [d for d in RuleProposer().propose([observation]) if d.act == "say"]
    starts = [draft.span[0] for draft in drafts if draft.span is not None]
    notes = [_statement(draft, (draft,), 1) for draft in drafts]
    for start, end in sentence_spans(observation.text[:MAX_CHARACTERS]):
        if any(start <= position < end for position in starts):
            continue
        words = " ".join(observation.text[start:end].split())[:MAX_NOTE]
        key = f"said {' '.join(search_words(words, 'english'))}"
        notes.append(Note(words, key, observation.occurred_ms, observation.observation_id))
    return notes


def _note(drafts: Sequence[Draft]) -> Note | None:
    """Return what statements of one group say together, by `revision`; None where nothing holds.

    Nothing holds of what was denied, or contradicted within a day.
    """
    holding = [p for p in believed(drafts) if p.valid_to_ms is None and p.status == "active"]
    if not holding:
        return None
    present = holding[-1]
    return _statement(present, tuple(drafts), len(present.support))


def _statement(source: Draft | Proposition, drafts: tuple[Draft, ...], support: int) -> Note:
    """Return a note in the words of a draft or a proposition."""
    sign = source.sign if isinstance(source, Draft) else source.polarity
    latest = max(drafts, key=lambda draft: draft.occurred_ms)
    scope = f" ({source.scope})" if source.scope else ""
    denial = "not: " if sign < 0 else ""
    return Note(
        f"{denial}{source.predicate} {source.object}{scope}",
        digest_of(list(latest.group)),
        latest.occurred_ms,
        latest.observation_id,
        source.slot,
        source.predicate in ONE_VALUE,
        sign < 0,
        support,
        drafts[-MAX_DRAFTS:],
    )


def merged(notes: Sequence[Note], new: Sequence[Note]) -> list[Note]:
    """Return notes with new ones, the latest last.

    What holds of plain statements about one thing is revised as a memory revises it; a sentence
    that is said again gains support.
    """
    by_key = {note.key: note for note in notes}
    for note in new:
        earlier = by_key.pop(note.key, None)
        before = earlier.drafts if earlier is not None else ()
        present: Note | None
        if note.drafts:
            present = _note((*before, *note.drafts))
        else:
            present = replace(note, support=note.support + (earlier.support if earlier else 0))
        if present is not None:
            by_key[note.key] = present
    return list(by_key.values())


def features(notes: Sequence[Note]) -> np.ndarray:
    """Return (n, 13) features of notes, named by FEATURES."""
    counts = Counter(word for note in notes for word in note.words)
    latest = max((note.occurred_ms for note in notes), default=0)
    rows = [
        (
            *note.marks,
            (note.occurred_ms - latest) / (100 * DAY_MS),
            sum(counts[word] > 1 for word in note.words) / max(len(note.words), 1),
        )
        for note in notes
    ]
    return np.array(rows, dtype=np.float64).reshape(-1, len(FEATURES))


def fitting(notes: Sequence[Note], order: Sequence[int], budget: int) -> list[int]:
    """Return the first rows of an order that fit into a budget of tokens together."""
    fitting_rows: list[int] = []
    tokens = 0
    for row in order:
        tokens += notes[row].tokens
        if tokens > budget:
            break
        fitting_rows.append(row)
    return fitting_rows


def _tokens(notes: Sequence[Note]) -> int:
    return sum(note.tokens for note in notes)


def _best_match(memory: TextMemory, question_words: set[str], option: str) -> tuple[float, int]:
    """Return how well a line bears an option out, and the latest such line.

    A denial speaks against the option.
    """
    words = set(search_words(option, "english"))
    best = (0.0, -1)
    for position, note in enumerate(memory.notes):
        if not words or not words <= note.words:
            continue
        score = 1.0 + len(question_words & note.words) / max(len(question_words), 1)
        best = max(best, (-1.0 if note.is_denial else score, position))
        if note.is_denial:
            return -1.0, position
    return best
