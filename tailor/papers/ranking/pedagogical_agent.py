"""Pedagogical agent: predict a student's next answers, and say what to review and to ask next."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from tailor.core.methods import Paper, Predictor, short_notes
from tailor.core.run import Run
from tailor.core.search_space import Choices, Range
from tailor.data.arrays import Ragged
from tailor.data.dataset import Dataset
from tailor.data.event_columns import event_columns
from tailor.data.examples import Outcome
from tailor.data.nouns import Query
from tailor.data.queries import Queries, Rankings
from tailor.data.splits import CONTEXT, TRAIN, VALID, Split
from tailor.data.vocabulary import Vocabulary
from tailor.errors import DataError
from tailor.metrics.prediction import auc, log_loss
from tailor.nn.answer_tracer import RIGHT, UNANSWERED, WRONG, AnswerTracer
from tailor.nn.fitting import Recipe
from tailor.nn.packing import pack_batches, pad_rows
from tailor.ranking.answers import AnswerWindows, question_tags
from tailor.training.nets import NetMethod

PAPER = Paper(
    "pedagogical-agent",
    "Creating A Neural Pedagogical Agent by Jointly Learning to Review and Assess",
    "https://arxiv.org/abs/1906.10910",
    "On ASSIST2009 (students apart, 3 seeds) AUC is above .740, that of a logistic regression on"
    " counts, and not below it over the first 10 answers; accuracy is above the majority's; in a"
    " planted classroom its questions raise the true ability of 200 students faster than random"
    " ones",
)
HELD_OUT = 10  # without a validation part, one student of so many stops training
CELLS = 2_000_000  # attention weights of a block of predictions


@dataclass(frozen=True, eq=False)
class _HeldOut:
    """Judge of training: AUC of held-out answers, or minus log loss where all are alike."""

    split: Split | None
    windows: AnswerWindows

    def value(self, method: "PedagogicalAgent") -> float:
        """Return how good the predictions are now; higher is better."""
        labels, probabilities = method._window_probabilities(self.windows)
        if not 0 < labels.sum() < len(labels):
            return -log_loss(labels, probabilities)
        return auc(labels, probabilities)


@dataclass(eq=False)
class PedagogicalAgent(NetMethod, Predictor):
    """Predict whether a student answers a question rightly from the latest answers alone.

    A recurrent net reads pairs of question and answer, and the asked question attends to its
    states. So a new student is served after one answer, and no student has numbers of their own.
    The attention says which past questions matter for the next ones (`review`), the predictions
    which question is within reach (`next_question`). Items are questions, or skills where those are
    all that a log has.

    Differs from the paper: the states run forwards only, so that one pass over a window learns from
    all its answers and none is seen before it is predicted; attention falls with the age of an
    answer; the choice of the next question is by a band of difficulty.
    """

    correct_from: float = 0.5
    """Value of an event from which the answer counts as right."""
    tags: tuple[str, ...] = ("categories",)
    """Columns of the items table with the topics of a question; the last value is its topic."""
    window: int = 100
    """Latest answers that are read."""
    width: Annotated[int, Choices(16, 32, 64, 128)] = 64
    """Width of vectors and states."""
    dropout: Annotated[float, Range(0.0, 0.6)] = 0.2
    """Share of values zeroed while training."""
    lr: Annotated[float, Range(5e-4, 1e-2, log=True)] = 6e-3
    """Peak learning rate of AdamW; decays linearly to 1 % over all epochs."""
    batch: int = 16
    """Windows per step."""
    epochs: int = 10
    """Passes over the data, at most."""
    patience: int = 3
    """Validations (every epoch) without a better AUC before training stops."""
    band: tuple[float, float] = (0.5, 0.8)
    """Probabilities of a right answer between which a question is within reach."""
    spacing: int = 3
    """Latest questions that are not asked again at once."""

    tag_names_: list[str] = field(init=False, repr=False)
    tag_codes_: np.ndarray = field(init=False, repr=False)
    """(N + 1, S) int32 tags of each item, filled up with the number of tags; last: unknown."""

    def __post_init__(self) -> None:
        minima = {"window": 1, "width": 1, "batch": 1, "epochs": 1, "patience": 1, "spacing": 0}
        for name, minimum in minima.items():
            if getattr(self, name) < minimum:
                raise DataError(f"{name} is {getattr(self, name)}: it must be at least {minimum}")
        if len(self.band) != 2 or not 0 <= self.band[0] <= self.band[1] <= 1:
            raise DataError(f"band is {self.band}: two probabilities, the lower first")

    def outcome(self) -> Outcome:
        """Return what is predicted."""
        return Outcome("label", f"value >= {self.correct_from:g}", length=self.window)

    def _make_net(self) -> nn.Module:
        return AnswerTracer(
            self.tag_codes_.astype(np.int64), len(self.tag_names_), self.width, self.dropout
        )

    def _fit(self, data: Dataset, run: Run, valid: Split | None) -> None:
        self.items_ = data.catalogue
        self.tag_names_, self.tag_codes_ = question_tags(data, self.tags)
        learned, held_out = self._split_windows(data, run, valid)
        self._start_net(run)
        report = self._train(data, run, learned, _HeldOut(valid, held_out))
        is_right = learned.answers[learned.is_target] == RIGHT
        self.fit_report_ = {
            "answers": int(learned.is_target.sum()),
            "share of right ones": round(float(is_right.mean()), 4),
            "tags": len(self.tag_names_),
            **report,
        }

    def _split_windows(
        self, data: Dataset, run: Run, valid: Split | None
    ) -> tuple[AnswerWindows, AnswerWindows]:
        """Return the windows to learn from, and those that stop training.

        Raises DataError where no event has a value.
        """
        owners = data.sequences.rows.row_ids
        if valid is not None:
            parts = valid.part[valid.data.sequences.events]
            held_out = self._windows(
                valid.data, np.isin(parts, (TRAIN, CONTEXT, VALID)), parts == VALID
            )
            every_event = np.ones(len(owners), dtype=bool)
            return self._windows(data, every_event, every_event), held_out
        is_apart = (run.rng("apart").integers(HELD_OUT, size=len(data.users)) == 0)[owners]
        if not is_apart.any() or is_apart.all():
            windows = self._windows(data, ~is_apart | is_apart, ~is_apart | is_apart)
            return windows, windows
        return (
            self._windows(data, ~is_apart, ~is_apart),
            self._windows(data, is_apart, is_apart),
        )

    def _windows(self, data: Dataset, is_used: np.ndarray, is_target: np.ndarray) -> AnswerWindows:
        """Return the used answers of a data set in windows; masks are in sequence order."""
        rows = data.sequences.rows.keep(is_used)
        answers = self._codes(event_columns(data, ["values"])["values"][is_used])
        times = data.sequences.times_ms
        return AnswerWindows.cut(
            rows.with_values(self._known_rows(data.catalogue, rows.values)),
            answers,
            None if times is None else times.values[is_used],
            is_target[is_used] & (answers != UNANSWERED),
            self.window,
        )

    def _codes(self, values: np.ndarray) -> np.ndarray:
        """Return the codes of values of events: right, wrong, or not answered where NaN."""
        codes = np.where(values >= self.correct_from, RIGHT, WRONG)
        return np.where(np.isnan(values), UNANSWERED, codes)

    def _known_rows(self, catalogue: Vocabulary, rows: np.ndarray) -> np.ndarray:
        """Return the rows in `items_` of rows of a catalogue; the last one for unknown items."""
        row_in = catalogue.mapping_to(self.items_)
        mapped = rows if row_in is None else row_in[rows]
        return np.where(mapped < 0, len(self.items_), mapped).astype(np.int64)

    def _train(
        self, data: Dataset, run: Run, windows: AnswerWindows, judge: _HeldOut
    ) -> dict[str, Any]:
        """Train the net on windows, and return the report."""

        def batches(rng: np.random.Generator) -> list[np.ndarray]:
            return pack_batches(windows.lengths, 0, rng, batch_rows=self.batch)

        def loss(rows: np.ndarray, rng: np.random.Generator) -> Tensor:
            batch = windows.padded(rows)
            logits, _ = self._net(batch.items, batch.answers, batch.items, batch.visible)
            labels = (batch.answers == RIGHT).float()
            return binary_cross_entropy_with_logits(logits[batch.targets], labels[batch.targets])

        if not windows.is_target.any():
            raise DataError(f"no event of {data.name} has a value: nothing says what was right")
        recipe = Recipe(self.epochs, self.lr, patience=self.patience)
        return self._train_net(data, run, recipe, batches, loss, judge)

    def _window_probabilities(self, windows: AnswerWindows) -> tuple[np.ndarray, np.ndarray]:
        """Return labels and predicted probabilities of the targets of windows."""
        net = self._ready()
        labels: list[np.ndarray] = [np.zeros(0)]
        probabilities: list[np.ndarray] = [np.zeros(0)]
        order = np.argsort(windows.lengths, kind="stable")
        with torch.inference_mode():
            for start in range(0, len(order), self.batch):
                batch = windows.padded(order[start : start + self.batch])
                logits, _ = net(batch.items, batch.answers, batch.items, batch.visible)
                probabilities.append(logits[batch.targets].double().sigmoid().numpy())
                labels.append((batch.answers[batch.targets] == RIGHT).double().numpy())
        return np.concatenate(labels), np.concatenate(probabilities)

    def _predict(self, queries: Queries, items: Ragged) -> np.ndarray:
        parts = [np.zeros(0)]
        size = max(1, CELLS // ((self.window + 1) * max(1, items.lengths.max(initial=0))))
        for start in range(0, len(queries), size):
            asked = items.slice(start, start + size)
            rows, mask = pad_rows(asked.values, asked.offsets[:-1], asked.lengths)
            probabilities, _ = self._ask(queries[start : start + size], rows)
            parts.append(probabilities[mask])
        return np.concatenate(parts)

    def _ask(self, queries: Queries, asked: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return probabilities (B, A) of item rows (B, A), and attention (B, A, T)."""
        net = self._ready()
        histories, answers = self._past(queries)
        starts, lengths = histories.offsets[:-1], histories.lengths
        rows, mask = pad_rows(histories.values, starts, lengths)
        codes, _ = pad_rows(answers.values, starts, lengths)
        known = np.where(asked < 0, len(self.items_), asked)
        visible = np.broadcast_to(mask[:, None, :], (*asked.shape, mask.shape[1]))
        with torch.inference_mode():
            logits, attention = net(
                torch.from_numpy(rows.astype(np.int64)),
                torch.from_numpy(codes.astype(np.int64)),
                torch.from_numpy(known.astype(np.int64)),
                torch.from_numpy(visible.copy()),
            )
        return logits.double().sigmoid().numpy(), attention[..., 1:].numpy()

    def _past(self, queries: Queries) -> tuple[Ragged, Ragged]:
        """Return the latest items of histories, and the codes of their answers."""
        past = queries.before_request()
        histories = past.histories.last(self.window)
        if "values" not in past.columns:
            return histories, histories.with_values(np.full(len(histories.values), UNANSWERED))
        values = past.columns["values"].last(self.window)
        return histories, histories.with_values(self._codes(values.values))

    def review(
        self, queries: Sequence[Query], k: int = 10, goals: Sequence[str] | None = None
    ) -> Rankings:
        """Return up to k past questions a student, the most worth reviewing first.

        The score is the attention that the goals pay to a question's answers, times the probability
        that it would be answered wrongly now. `goals` are item ids, such as those of an exam; None:
        the questions that the student has met. Columns: "attention" and "probability" (of a right
        answer). Raises DataError for a k below 1.
        """
        batch = self._checked(queries, k)
        goal_rows = None if goals is None else self.items_.rows(goals)
        lists = Rankings.empty(self.items_, len(batch), k)
        attention_column = np.full(lists.rows.shape, np.nan, np.float32)
        probability_column = attention_column.copy()
        for i in range(len(batch)):
            past = np.unique(batch.histories[i])
            if not len(past):
                continue
            probabilities, attention = self._review_weights(batch[i : i + 1], past, goal_rows)
            scores = attention * (1 - probabilities)
            best = np.argsort(-scores, kind="stable")[:k]
            lists.rows[i, : len(best)] = past[best]
            lists.scores[i, : len(best)] = scores[best]
            attention_column[i, : len(best)] = attention[best]
            probability_column[i, : len(best)] = probabilities[best]
        columns = {"attention": attention_column, "probability": probability_column}
        notes = short_notes(self.name, batch, lists.rows, k)
        return replace(lists, score_kind="review", columns=columns, notes=notes)

    def _review_weights(
        self, query: Queries, past: np.ndarray, goals: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the probability of each past item, and the mean attention of the goals to it."""
        asked = past if goals is None else np.r_[past, goals]
        probabilities, attention = self._ask(query, asked[None])
        goal_attention = attention[0] if goals is None else attention[0, len(past) :]
        histories, _ = self._past(query)
        sums = np.bincount(
            np.searchsorted(past, histories.values),
            goal_attention.mean(axis=0) if len(goal_attention) else None,
            minlength=len(past),
        )
        return probabilities[0, : len(past)], sums

    def next_question(self, queries: Sequence[Query], k: int = 1) -> Rankings:
        """Return up to k questions to ask next, one of a topic, the best first.

        Of each topic it is the hardest question within `band`, or else the nearest to it. Never one
        of the latest `spacing` questions, nor of `Query.exclude`. The score is the probability of a
        wrong answer, outside the band minus the distance to it; the column "probability" is that of
        a right one. Raises DataError for a k below 1.
        """
        batch = self._checked(queries, k)
        low, high = self.band
        parts = []
        for start, stop in self._blocks(len(batch)):
            block = batch[start:stop]
            probabilities = self._all_probabilities(block)
            distances = np.maximum(low - probabilities, probabilities - high)
            scores = np.where(distances > 0, -distances, 1 - probabilities)
            scores = np.where(self._may_be_asked(block), scores, -np.inf)
            rows = _best_by_topic(scores, self._topics()[0], k)
            listed = _taken(scores, rows, -np.inf)
            columns = {"probability": _taken(probabilities, rows, np.nan)}
            notes = short_notes(self.name, block, rows, k)
            parts.append(Rankings(self.items_, rows, listed, "within reach", columns, notes))
        return Rankings.stack(parts) if parts else Rankings.empty(self.items_, 0, k)

    def knowledge(self, queries: Sequence[Query]) -> list[dict[str, float]]:
        """Return for each student the mean probability of a right answer by topic.

        A question without a topic is one of its own, named by its id.
        """
        batch = self._checked(queries, 1)
        topics, names = self._topics()
        counts = np.maximum(np.bincount(topics, minlength=len(names)), 1)
        profiles = []
        for start, stop in self._blocks(len(batch)):
            for probabilities in self._all_probabilities(batch[start:stop]):
                means = np.bincount(topics, probabilities, len(names)) / counts
                profiles.append(dict(zip(names, means.tolist(), strict=True)))
        return profiles

    def _checked(self, queries: Sequence[Query], k: int) -> Queries:
        """Return the queries over `items_`, without what happened after their request."""
        self._check_fitted()
        if isinstance(k, bool) or not isinstance(k, int | np.integer) or k < 1:
            raise DataError(f"k is {k!r}: ask for at least 1 question")
        return Queries.of(queries).reindexed(self.items_).before_request()

    def _blocks(self, n: int) -> Iterator[tuple[int, int]]:
        """Return start and stop of blocks of queries that are asked about all items."""
        size = max(1, CELLS // ((self.window + 1) * max(len(self.items_), 1)))
        return ((start, min(start + size, n)) for start in range(0, n, size))

    def _all_probabilities(self, queries: Queries) -> np.ndarray:
        """Return (B, N) probabilities of right answers."""
        rows = np.broadcast_to(np.arange(len(self.items_)), (len(queries), len(self.items_)))
        return self._ask(queries, rows)[0]

    def _may_be_asked(self, queries: Queries) -> np.ndarray:
        """Return (B, N): whether an item is neither excluded nor just asked."""
        mask = queries.allowed()
        if self.spacing:
            latest = queries.histories.last(self.spacing)
            mask[latest.row_ids, latest.values] = False
        return mask

    def _topics(self) -> tuple[np.ndarray, list[str]]:
        """Return the topic of each item (N,), its last tag or itself, and the names of topics."""
        n_tags = len(self.tag_names_)
        is_tag = self.tag_codes_[:-1] < n_tags
        last = np.maximum(is_tag.sum(axis=1) - 1, 0)
        rows = np.arange(len(self.items_))
        topics = np.where(is_tag.any(axis=1), self.tag_codes_[rows, last], n_tags + rows)
        used, codes = np.unique(topics, return_inverse=True)
        names = [*self.tag_names_, *self.items_.ids.tolist()]
        return codes, [names[topic] for topic in used.tolist()]

    @classmethod
    def tiny(cls) -> "PedagogicalAgent":
        return cls(correct_from=3.0, width=16, epochs=3, window=20)


def _best_by_topic(scores: np.ndarray, topics: np.ndarray, k: int) -> np.ndarray:
    """Return (B, k) columns of the best scores (B, N), one of a topic; -1 after the last."""
    best = np.full((len(scores), k), -1, dtype=np.int32)
    for i, order in enumerate(np.argsort(-scores, axis=1, kind="stable")):
        possible = order[np.isfinite(scores[i, order])]
        _, firsts = np.unique(topics[possible], return_index=True)
        chosen = possible[np.sort(firsts)[:k]]
        best[i, : len(chosen)] = chosen
    return best


def _taken(values: np.ndarray, rows: np.ndarray, absent: float) -> np.ndarray:
    """Return (B, k) float32 values (B, N) at columns (B, k), `absent` at -1."""
    taken = np.take_along_axis(values, np.maximum(rows, 0), axis=1)
    return np.where(rows >= 0, taken, absent).astype(np.float32)
