"""LettinGo: draw many profiles, keep those that make a recommender right, and learn from them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Self

import numpy as np
import torch
from torch import Tensor

from tailor.core.defaults import DEFAULT
from tailor.core.defaults import encoder as encoder_of
from tailor.core.methods import Paper, Profiler
from tailor.core.run import Run
from tailor.core.specs import check_settings
from tailor.data.arrays import Ragged
from tailor.data.dataset import Dataset
from tailor.data.nouns import Evidence, Fact, Profile
from tailor.data.queries import NO_TIME, Queries
from tailor.data.splits import Split
from tailor.data.vocabulary import Vocabulary
from tailor.errors import DataError
from tailor.evaluation.significance import mean_interval
from tailor.llm.prompts import estimated_tokens
from tailor.nn.devices import computing
from tailor.nn.policy import dpo, draw_orders, plackett_luce
from tailor.ports.base import Encoder
from tailor.profiles.sentences import FEATURES, Candidates, SentenceBank
from tailor.text.cached import item_vectors, known_encoder
from tailor.text.hashing import HashingEncoder
from tailor.text.sentences import unit_length

PAPER = Paper(
    "lettingo",
    "LettinGo: Explore User Profile Generation for Recommendation System",
    "https://arxiv.org/abs/2506.18309",
    "Profiles of a writer that learned from which draws made a recommender right rank the next"
    " items above those of the untaught writer; another user's profile hurts; none exceeds its"
    " tokens",
)
MAX_TOKENS = 120  # of a profile
BEST, WORST = 3, 3  # draws of a user that are paired
STEPS = 200  # of gradient descent a round
LR = 0.05
VALID_SHARE = 0.2  # of the users, whose lift is measured and not learned from
MAX_EVIDENCE = 5  # items named as evidence of a sentence


class Example(NamedTuple):
    """One user to learn from: sentences that may be said, and what the user chose afterwards."""

    candidates: Candidates
    context: np.ndarray
    """Rows of the items that the reader sees beside the profile."""
    targets: np.ndarray
    """Rows of the items chosen afterwards."""


@dataclass(frozen=True, eq=False)
class Reader:
    """A recommender that reads a profile: cosines of sentences and latest items with every item.

    The vector of a user is a weighted sum of the mean sentence and the mean latest item.
    """

    items: np.ndarray
    """(N, D) vectors of items, of unit length; zero for an item without text."""
    share: float
    """Share of the profile in the user's vector; the latest items have the remainder."""
    temperature: float
    """Divisor of the cosines."""

    def users(self, sentences: np.ndarray, context: np.ndarray) -> np.ndarray:
        """Return (P, D) vectors of users by sentences (P, m, D), with latest items (T,) for all."""
        shape = (len(sentences), self.items.shape[1])
        profiles = np.zeros(shape, np.float32)
        latest = np.zeros(shape, np.float32)
        if sentences.shape[1]:
            profiles = unit_length(sentences.mean(axis=1))
        if len(context):
            mean = self.items[context].mean(axis=0, keepdims=True)
            latest = unit_length(np.broadcast_to(mean, shape))
        return unit_length(self.share * profiles + (1 - self.share) * latest)

    def log_losses(self, users: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """Return (P,) the mean -log softmax over all items of the targets (T,), by user vector."""
        logits = users @ self.items.T / self.temperature  # P, N
        top = logits.max(axis=1, keepdims=True)
        total = np.log(np.exp(logits - top).sum(axis=1)) + top[:, 0]
        losses: np.ndarray = total - logits[:, targets].mean(axis=1)
        return losses


@dataclass(eq=False)
class LettinGo(Profiler):
    """Writes a profile of five sentences, chosen as those that made a recommender right.

    For each training user ten profiles are drawn from the policy. A reader, which compares the
    profile and the latest items with all items by a frozen encoder, says under which of them the
    items chosen afterwards are likelier; pairs of a good and a bad profile of one user teach the
    policy by DPO (2025). Every profile has its lift: how much likelier it made the user's latest
    items, which it has not seen.

    Differs from the paper: the writer picks sentences of closed words instead of writing freely, so
    that the probability of a profile is exact (Plackett-Luce); good and bad are told by the mean
    log-loss of several targets in place of one answer; the reader is an encoder, no language model.
    """

    teacher: Literal["dpo", "sft", "none"] = "dpo"
    """How the writer learns: pairs of good and bad draws, the best draw alone, or not at all."""
    encoder: Encoder | str = DEFAULT
    """Encoder of items and sentences; "default": TAILOR_ENCODER, tailor.toml, else MiniLM."""
    attributes: tuple[str, ...] = ("categories",)
    """Columns of the items table that sentences are made of; absent ones are left out."""
    sentences: int = 5
    """Sentences of a profile."""
    draws: int = 10
    """Profiles drawn of a user."""
    rounds: int = 2
    """Times that profiles are drawn and learned from; each starts from the writer before."""
    recent: int = 3
    """Latest events that the reader sees itself, and the profile does not."""
    targets: int = 10
    """Events after those, by which profiles are judged while learning."""
    margin: float = 0.02
    """Least difference of log-losses between a good and a bad profile."""
    beta: float = 0.1
    """Strength of DPO's tie to the writer of before."""
    profile_share: float = 0.5
    """Share of the profile in what the reader reads."""
    temperature: float = 0.05
    """Divisor of the reader's cosines."""
    min_events: int = 5
    """Events of known items below which nothing is written."""

    items_: Vocabulary = field(init=False, repr=False)
    item_vectors_: np.ndarray = field(init=False, repr=False)
    """(N, D) vectors of item texts."""
    space_: str = field(init=False, repr=False)
    """Name of the encoder's vector space."""
    weights_: np.ndarray = field(init=False, repr=False)
    """(len(FEATURES),) weights of the writer's policy."""
    names_: list[str] = field(init=False, repr=False)
    """(V,) values that sentences are made of."""
    kinds_: np.ndarray = field(init=False, repr=False)
    """(V,) kinds of the values."""
    values_: Ragged = field(init=False, repr=False)
    """N rows of each item's values."""
    usual_: np.ndarray = field(init=False, repr=False)
    """(V,) usual share of each value."""

    def __post_init__(self) -> None:
        check_settings(self)
        counts = (self.sentences, self.targets, self.min_events)
        if min(counts) < 1 or self.draws < 2 or self.rounds < 1 or self.recent < 1:
            raise DataError(
                f"sentences is {self.sentences}, draws {self.draws}, rounds {self.rounds}, recent"
                f" {self.recent}, targets {self.targets}, min_events {self.min_events}: at least 1"
                " each, and 2 draws"
            )
        if not 0 < self.profile_share <= 1 or self.temperature <= 0 or self.beta <= 0:
            raise DataError(
                f"profile_share is {self.profile_share}, temperature {self.temperature}, beta"
                f" {self.beta}: above 0, and a share up to 1"
            )

    @classmethod
    def tiny(cls) -> Self:
        return cls(encoder=HashingEncoder(32), rounds=1, targets=2, recent=1, min_events=3)

    # --- learning

    def _fit(self, data: Dataset, run: Run, valid: Split | None) -> None:
        self.items_ = data.catalogue
        encoder = encoder_of(self.encoder)
        self.item_vectors_ = item_vectors(encoder, data.item_texts, run.progress)
        self.space_ = encoder.space
        bank = SentenceBank.of(data, self.attributes)
        self.names_ = list(bank.names)
        self.kinds_, self.values_, self.usual_ = bank.kinds, bank.values, bank.usual
        self.weights_ = np.zeros(len(FEATURES), np.float32)
        examples = self._examples(data.sequences.rows)
        order = run.rng("validation").permutation(len(examples))
        n_valid = int(VALID_SHARE * len(examples))
        held = [examples[row] for row in order[:n_valid].tolist()]
        learned = [examples[row] for row in order[n_valid:].tolist()]
        pairs = self._learn(learned, run) if self.teacher != "none" and learned else 0
        self.fit_report_ = {
            "users": len(learned),
            "pairs": pairs,
            "weights": dict(zip(FEATURES, np.round(self.weights_, 3).tolist(), strict=True)),
            "lift": self._held_out_lift(held),
        }

    @property
    def _bank(self) -> SentenceBank:
        return SentenceBank(tuple(self.names_), self.kinds_, self.values_, self.usual_)

    @property
    def reader(self) -> Reader:
        """The recommender that judges profiles."""
        return Reader(self.item_vectors_, self.profile_share, self.temperature)

    def _examples(self, histories: Ragged) -> list[Example]:
        """Return the users who have enough events for a profile, a context and targets."""
        bank = self._bank
        examples = []
        for number in range(len(histories)):
            rows = histories[number]
            n_targets = min(self.targets, len(rows) // 3)
            end = len(rows) - n_targets
            start = end - self.recent
            if n_targets < 1 or start < self.min_events:
                continue
            candidates = bank.candidates(rows[:start])
            if len(candidates) > self.sentences:
                examples.append(Example(candidates, rows[start:end], rows[end:]))
        return examples

    def _learn(self, examples: Sequence[Example], run: Run) -> int:
        """Improve the weights round by round; return the number of pairs learned from."""
        n_pairs = 0
        with computing(run.seed, run.workers):
            generator = torch.Generator().manual_seed(run.seed)
            for _ in run.progress(range(self.rounds), "drawing profiles", self.rounds):
                features = _padded([example.candidates.features for example in examples])
                scores = _masked_scores(features, torch.from_numpy(self.weights_))
                draws = draw_orders(scores, self.draws, generator)[..., : self.sentences]
                losses = self._losses(examples, draws)
                good, bad = _pairs(losses, self.margin)
                n_pairs += len(good)
                if len(good):
                    self.weights_ = self._improved(features, draws, good, bad)
        return n_pairs

    def _losses(self, examples: Sequence[Example], draws: Tensor) -> np.ndarray:
        """Return (draws, U) the reader's log-loss of the targets under every draw."""
        vectors = self._sentence_vectors([example.candidates for example in examples])
        reader = self.reader
        losses = np.zeros(draws.shape[:2])
        for number, example in enumerate(examples):
            drawn = vectors[number][draws[:, number].numpy()]  # draws, m, D
            users = reader.users(drawn, example.context)
            losses[:, number] = reader.log_losses(users, example.targets)
        return losses

    def _sentence_vectors(self, candidates: Sequence[Candidates]) -> list[np.ndarray]:
        """Return the vectors (n, D) of each user's sentences; equal sentences are encoded once."""
        texts = list(dict.fromkeys(text for of_user in candidates for text in of_user.texts))
        row_of = {text: row for row, text in enumerate(texts)}
        encoder = known_encoder(encoder_of(self.encoder), self.space_)
        dims = self.item_vectors_.shape[1]
        vectors = item_vectors(encoder, texts) if texts else np.zeros((0, dims), np.float32)
        return [vectors[[row_of[text] for text in of_user.texts]] for of_user in candidates]

    def _improved(
        self,
        features: Tensor,
        draws: Tensor,
        good: list[tuple[int, int]],
        bad: list[tuple[int, int]],
    ) -> np.ndarray:
        """Return weights under which good draws are likelier than bad ones of the same user.

        `good` and `bad` are (draw, user); features are (U, n, F), draws (draws, U, m).
        """
        users = torch.tensor([user for _, user in good])
        chosen = torch.stack([draws[draw, user] for draw, user in good])
        rejected = torch.stack([draws[draw, user] for draw, user in bad])
        of_users = features[users]
        reference = _masked_scores(of_users, torch.from_numpy(self.weights_))
        old_chosen = plackett_luce(reference, chosen)
        old_rejected = plackett_luce(reference, rejected)
        weights = torch.from_numpy(self.weights_.copy()).requires_grad_()
        optimizer = torch.optim.Adam([weights], lr=LR)
        for _ in range(STEPS):
            optimizer.zero_grad()
            scores = _masked_scores(of_users, weights)
            log_chosen = plackett_luce(scores, chosen)
            if self.teacher == "dpo":
                log_rejected = plackett_luce(scores, rejected)
                loss = dpo(log_chosen, log_rejected, old_chosen, old_rejected, self.beta)
            else:
                loss = -log_chosen.mean()
            loss.backward()
            optimizer.step()
        improved: np.ndarray = weights.detach().numpy()
        return improved

    def _held_out_lift(self, examples: Sequence[Example]) -> dict[str, Any]:
        """Return the mean lift of users who were not learned from, and of swapped profiles."""
        if len(examples) < 2:
            return {"users": len(examples)}
        vectors = self._sentence_vectors([example.candidates for example in examples])
        written = [
            of_user[self._picked(example.candidates)]
            for of_user, example in zip(vectors, examples, strict=True)
        ]
        lifts = np.array([self._lift(w, e) for w, e in zip(written, examples, strict=True)])
        others = written[1:] + written[:1]
        swapped = np.array([self._lift(w, e) for w, e in zip(others, examples, strict=True)])
        low, high = mean_interval(lifts)
        return {
            "users": len(examples),
            "nats": round(float(lifts.mean()), 4),
            "low": round(low, 4),
            "high": round(high, 4),
            "swapped": round(float(swapped.mean()), 4),
        }

    def _lift(self, sentences: np.ndarray, example: Example) -> float:
        """Return how much likelier, in nats, sentences (m, D) make the targets."""
        reader = self.reader
        nothing = np.zeros((1, 0, sentences.shape[1]), np.float32)
        users = [
            reader.users(sentences[None], example.context),
            reader.users(nothing, example.context),
        ]
        losses = reader.log_losses(np.concatenate(users), example.targets)
        return float(losses[1] - losses[0])

    # --- writing

    def _picked(self, candidates: Candidates) -> np.ndarray:
        """Return the places of the likeliest sentences within the tokens of a profile."""
        scores = candidates.features @ self.weights_
        order = np.argsort(-scores, kind="stable").tolist()
        picked: list[int] = []
        for row in order:
            texts = [candidates.texts[other] for other in (*picked, row)]
            if len(picked) < self.sentences and estimated_tokens(_text(texts)) <= MAX_TOKENS:
                picked.append(row)
        return np.array(picked, dtype=np.int64)

    def _profile(self, queries: Queries) -> list[Profile]:
        queries = queries.reindexed(self.items_)
        bank = self._bank
        histories = [queries.histories[i] for i in range(len(queries))]
        olds = [rows[: max(len(rows) - self.recent, 0)] for rows in histories]
        candidates = [
            bank.candidates(rows if len(rows) >= self.min_events else rows[:0]) for rows in olds
        ]
        vectors = self._sentence_vectors(candidates)
        profiles = []
        for i, (of_user, rows, old) in enumerate(zip(candidates, histories, olds, strict=True)):
            if not len(of_user):
                profiles.append(self._empty(queries, i, len(rows)))
                continue
            picked = self._picked(of_user)
            example = Example(of_user, old[-self.recent :], rows[len(old) :])
            lift = self._lift(vectors[i][picked], example)
            profiles.append(self._written(queries, i, of_user, picked, lift))
        return profiles

    def _empty(self, queries: Queries, i: int, n: int) -> Profile:
        note = (
            f"{self.name}: {n} events of known items; nothing is written from fewer than"
            f" {self.min_events + self.recent}, or where they have no attributes"
        )
        return Profile(queries.user_ids[i], as_of_ms=_latest_ms(queries, i), notes=(note,))

    def _written(
        self, queries: Queries, i: int, candidates: Candidates, picked: np.ndarray, lift: float
    ) -> Profile:
        texts = [candidates.texts[row] for row in picked.tolist()]
        rows = queries.histories[i]
        facts = []
        for number, text in zip(picked.tolist(), texts, strict=True):
            features = dict(zip(FEATURES, candidates.features[number].tolist(), strict=True))
            details = {
                "share": round(features["share"], 4),
                "events": len(candidates.events[number]),
            }
            evidence = self._evidence(rows[candidates.events[number]])
            facts.append(Fact(text, evidence, None, details))
        tokens = estimated_tokens(_text(texts))
        per_100 = round(100 * lift / max(tokens, 1), 4)
        details = {"lift": round(lift, 4), "tokens": tokens, "lift_per_100_tokens": per_100}
        return Profile(
            queries.user_ids[i],
            _text(texts),
            tuple(facts),
            as_of_ms=_latest_ms(queries, i),
            details=details,
        )

    def _evidence(self, rows: np.ndarray) -> tuple[Evidence, ...]:
        """Return the latest items that a sentence was concluded from, in equal shares."""
        distinct = list(dict.fromkeys(rows[::-1].tolist()))[:MAX_EVIDENCE]
        ids = self.items_.named(distinct)
        return tuple(Evidence("item", item_id, 1 / len(ids)) for item_id in ids)


def _text(sentences: Sequence[str]) -> str:
    return f"This user {'; '.join(sentences)}." if sentences else ""


def _latest_ms(queries: Queries, i: int) -> int | None:
    if "times_ms" not in queries.columns or not len(queries.histories[i]):
        return None
    latest_ms = int(queries.columns["times_ms"][i].max())
    return None if latest_ms == NO_TIME else latest_ms


def _padded(features: Sequence[np.ndarray]) -> Tensor:
    """Return (U, n, F) features, NaN where a user has fewer sentences."""
    most = max(len(of_user) for of_user in features)
    padded = np.full((len(features), most, len(FEATURES)), np.nan, np.float32)
    for number, of_user in enumerate(features):
        padded[number, : len(of_user)] = of_user
    return torch.from_numpy(padded)


def _masked_scores(features: Tensor, weights: Tensor) -> Tensor:
    """Return (U, n) scores of sentences, -inf where there is none."""
    is_sentence = ~features[..., 0].isnan()
    scores = features.nan_to_num() @ weights
    return scores.masked_fill(~is_sentence, -torch.inf)


def _pairs(
    losses: np.ndarray, margin: float
) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Return (draw, user) of good draws, and of the bad draw that each is paired with.

    The best three draws of a user are paired with the worst three, by losses (draws, U), where they
    are better by the margin.
    """
    good: list[tuple[int, int]] = []
    bad: list[tuple[int, int]] = []
    order = np.argsort(losses, axis=0, kind="stable")
    for user in range(losses.shape[1]):
        for best in order[:BEST, user].tolist():
            for worst in order[-WORST:, user].tolist():
                if losses[worst, user] - losses[best, user] >= margin:
                    good.append((best, user))
                    bad.append((worst, user))
    return good, bad
