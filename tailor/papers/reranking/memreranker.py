"""MemReranker: recall from long dialogues, with probabilities that a threshold can be put on."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple, Self

import numpy as np

from tailor.core.defaults import DEFAULT
from tailor.core.defaults import encoder as encoder_of
from tailor.core.methods import Paper
from tailor.core.run import Run
from tailor.core.specs import clone
from tailor.data.dataset import Dataset
from tailor.data.nouns import Query
from tailor.data.queries import Queries, Rankings
from tailor.data.splits import Split
from tailor.errors import ModelError
from tailor.llm.grammars import statuses
from tailor.metrics.pairwise import bradley_terry, soft_labels
from tailor.metrics.recalibration import fit_logistic
from tailor.ports.base import Encoder
from tailor.reranking.reranker import Reranker
from tailor.reranking.shortlist import Limits, Reranked, Shortlist, deviations, ordered
from tailor.reranking.turn_lists import TurnList, dialogues_of, item_id, turns_of
from tailor.text.cached import known_encoder
from tailor.text.hashing import HashingEncoder
from tailor.text.turns import NAMES, DialogueTurn, TurnFeatures, resolved

PAPER = Paper(
    "memreranker",
    "MemReranker: Reasoning-Aware Reranking for Agent Memory Retrieval",
    "https://arxiv.org/abs/2605.06132",
    "Turns that hold the answer are found above a blend of words, dates, neighbours, sessions and"
    " meaning, and above meaning alone; their probabilities are calibrated; dates help where a"
    " question asks for a time",
)
# Weights of a recall that has learned nothing: an equal blend.
UNTRAINED = dict.fromkeys(("words", "words beside", "words of session", "cosine"), 1.0)
UNTRAINED_CONSTANT = -3.0
RIDGE = 1.0
KNEE = 1.0  # log-odds above which evidence counts less, before the constant is corrected
STRAIGHT = np.array([1.0, 0.0, 0.0])


class Recalled(NamedTuple):
    """A turn that was found again."""

    turn: DialogueTurn
    probability: float
    """Probability that the turn has the answer."""


@dataclass(eq=False)
class MemReranker(Reranker):
    """Finds the turns of a dialogue that hold the answer, not only words like the question's.

    A logistic model weighs words, meaning, date and speaker of a turn, and those of the turns
    beside it and of its session; its probabilities can be compared between questions. Where
    several teachers compare turns, their votes become strengths by Bradley and Terry, and these
    soft labels (2026). A pronoun in a question is resolved by the dialogue's last turns.

    Differs from the paper: ten features in row of a language model of 4B parameters; no second
    training with hard negatives, because all other turns of the dialogue are negatives; what soft
    labels are relative to, and how pronouns are resolved, is reconstructed.
    """

    encoder: Encoder | str | None = DEFAULT
    """Encoder of questions and turns; "default": TAILOR_ENCODER, tailor.toml, else MiniLM; None:
    words, dates and speakers alone."""
    teachers: tuple[Reranker, ...] = ()
    """Rerankers that compare turns; their votes are learned beside the judgements."""
    compared: int = 8
    """Turns of a question that teachers compare: those that share most words with it."""
    negatives: int = 60
    """Turns without the answer that are learned from, a question."""
    dates: bool = True
    """Use dates, as words and as a feature."""

    weights_: np.ndarray = field(init=False, repr=False)
    """(11,) weights of the features of `TurnFeatures`, and the constant."""
    bend_: np.ndarray = field(init=False, repr=False)
    """(3,) how the log-odds are bent; see `Weights`."""
    space_: str = field(init=False, repr=False)
    """Name of the encoder's vector space; "" without an encoder."""
    speakers_: list[str] = field(init=False, repr=False)
    """(N,) speakers of the catalogue's turns; "" for items that are none."""
    dialogues_: list[str] = field(init=False, repr=False)
    """(N,) dialogues of the catalogue's turns."""
    sessions_: list[str] = field(init=False, repr=False)
    """(N,) sessions of the catalogue's turns."""
    numbers_: np.ndarray = field(init=False, repr=False)
    """(N,) int64 numbers of the turns in their dialogues; -1 for items that are none."""
    times_ms_: np.ndarray = field(init=False, repr=False)
    """(N,) int64 times of the turns; -1 where none is known."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.compared < 2 or self.negatives < 1:
            raise ModelError(
                f"compared is {self.compared}, negatives {self.negatives}: at least 2 and 1 turns"
            )

    @classmethod
    def tiny(cls) -> Self:
        return cls(depth=8, encoder=HashingEncoder(32))

    # --- learning

    def _fit(self, data: Dataset, run: Run, valid: Split | None) -> None:
        self._read_catalogue(data)
        self.space_ = "" if self.encoder is None else encoder_of(self.encoder).space
        self.weights_, self.bend_ = _untrained()
        self._read_turns(data)
        dialogues = list(dialogues_of(data)) if "turns" in data.tables else []
        judged = [dialogue for dialogue in dialogues if dialogue.gains.any()]
        if not judged:
            reason = "no table of turns, or no judged requests about a dialogue"
            self.fit_report_ = {"requests": 0, "untrained": reason}
            return
        teachers = [clone(teacher).fit(data, run) for teacher in self.teachers]
        features = [self.features(dialogue) for dialogue in judged]
        targets = [
            self._soft(dialogue, of_dialogue, teachers)
            for dialogue, of_dialogue in zip(judged, features, strict=True)
        ]
        rng = run.rng("negatives")
        self.weights_, self.bend_ = weights_of(features, targets, self.negatives, rng)
        requests = sum(len(dialogue.requests) for dialogue in judged)
        rounded = np.round(self.weights_, 3).tolist()
        weights = dict(zip((*NAMES, "constant"), rounded, strict=True))
        self.fit_report_ = {"dialogues": len(judged), "requests": requests, "weights": weights}

    def _read_turns(self, data: Dataset) -> None:
        """Keep who said the catalogue's items, when, and where in a dialogue."""
        n = len(data.catalogue)
        self.speakers_, self.dialogues_, self.sessions_ = [""] * n, [""] * n, [""] * n
        self.numbers_ = np.full(n, -1, np.int64)
        self.times_ms_ = np.full(n, -1, np.int64)
        for turns in turns_of(data).values():
            rows = data.catalogue.rows([item_id(turn) for turn in turns])
            for row, turn in zip(rows.tolist(), turns, strict=True):
                if row < 0:
                    continue
                self.speakers_[row] = turn.speaker
                self.dialogues_[row] = turn.dialogue_id
                self.sessions_[row] = turn.session_id
                self.numbers_[row] = turn.number
                self.times_ms_[row] = -1 if turn.time_ms is None else turn.time_ms

    def features(self, dialogue: TurnList) -> np.ndarray:
        """Return features (R, n, 11) of a dialogue's turns, each in deviations, the last 1."""
        return self._standardised(dialogue.turns, dialogue.requests)

    def _standardised(self, turns: Sequence[DialogueTurn], requests: Sequence[str]) -> np.ndarray:
        encoder = None if self.encoder is None else encoder_of(self.encoder)
        if encoder is not None and "space_" in self.__dict__:
            encoder = known_encoder(encoder, self.space_)
        raw = TurnFeatures(encoder, self.dates).of(turns, requests)
        if not raw.size:
            return np.ones((*raw.shape[:2], raw.shape[2] + 1), np.float32)
        within = np.stack(
            [
                np.stack([deviations(column) for column in of_request.T.astype(float)], axis=1)
                for of_request in raw
            ]
        )
        return np.concatenate([within, np.ones((*raw.shape[:2], 1))], axis=2).astype(np.float32)

    def _soft(
        self, dialogue: TurnList, features: np.ndarray, teachers: Sequence[Reranker]
    ) -> np.ndarray:
        """Return soft labels (R, n): gains, and strengths where teachers compare turns."""
        labels = dialogue.gains.astype(float)
        if not teachers:
            return labels
        in_words = features[:, :, NAMES.index("words")] + 1e6 * labels  # the judged ones first
        best = np.argsort(-in_words, axis=1, kind="stable")[:, : self.compared]
        lists = [
            Shortlist.of_texts(request, [dialogue.turns[row].line() for row in rows])
            for request, rows in zip(dialogue.requests, best.tolist(), strict=True)
        ]
        votes = [
            [labels[i, rows] for i, rows in enumerate(best)],
            *([result.scores for result in teacher.rerank(lists)] for teacher in teachers),
        ]
        for i, rows in enumerate(best):
            strengths = bradley_terry(np.stack([of_teacher[i] for of_teacher in votes]))
            labels[i, rows] = soft_labels(strengths, float(labels[i, rows].sum()))
        return labels

    # --- recalling

    def recall(
        self,
        request: str,
        turns: Sequence[DialogueTurn],
        context: Sequence[str] = (),
        k: int = 10,
        min_prob: float = 0.0,
    ) -> list[Recalled]:
        """Return the k turns likeliest to hold the answer, those below `min_prob` left out.

        `context` are the last turns of the present dialogue, oldest first: they say whom "she" in
        the request means.
        """
        if not 0 <= min_prob <= 1 or k < 0:
            raise ModelError(f"min_prob is {min_prob}, k {k}: from 0 to 1, and from 0")
        lines = tuple(turn.text for turn in turns)
        prior = np.zeros(len(lines))
        resolved_request = resolved(request, context)
        shortlist = Shortlist(
            Query(text=request), lines, prior, request=resolved_request, turns=tuple(turns)
        )
        (result,) = self.rerank([shortlist])
        # scores are blended where prior_weight is above 0, and a threshold is for probabilities
        probabilities = {row: result.details[row]["probability"] for row in result.order.tolist()}
        hits = [row for row, probability in probabilities.items() if probability >= min_prob]
        return [Recalled(turns[row], probabilities[row]) for row in hits[:k]]

    def shortlists(self, queries: Queries, lists: Rankings) -> list[Shortlist]:
        """Return shortlists that say who said the candidates, when, and where."""
        shortlists = []
        for i, shortlist in enumerate(super().shortlists(queries, lists)):
            ids = lists.catalogue.named(lists.rows[i, : len(shortlist)])
            rows = self.items_.rows(ids).tolist()
            turns = [self._turn(row, text) for row, text in zip(rows, shortlist.texts, strict=True)]
            shortlists.append(replace(shortlist, turns=tuple(turns)))
        return shortlists

    def _turn(self, row: int, text: str) -> DialogueTurn:
        if row < 0 or self.numbers_[row] < 0:
            return DialogueTurn("", text)
        speaker = self.speakers_[row]
        time_ms = int(self.times_ms_[row])
        return DialogueTurn(
            speaker,
            text.removeprefix(f"{speaker}: "),
            None if time_ms < 0 else time_ms,
            self.dialogues_[row],
            int(self.numbers_[row]),
            self.sessions_[row],
        )

    def _rerank(
        self, shortlists: Sequence[Shortlist], limits: Limits, trace: bool
    ) -> list[Reranked]:
        is_fitted = "bend_" in self.__dict__
        weights = Weights(self.weights_, self.bend_) if is_fitted else _untrained()
        together: dict[tuple[DialogueTurn, ...], list[int]] = {}
        for i, shortlist in enumerate(shortlists):
            turns = shortlist.turns or tuple(DialogueTurn("", text) for text in shortlist.texts)
            together.setdefault(turns, []).append(i)
        scores: list[np.ndarray] = [np.zeros(0)] * len(shortlists)
        for turns, rows in together.items():
            requests = [shortlists[i].request for i in rows]
            features = self._standardised(turns, requests)
            for i, of_request in zip(rows, features, strict=True):
                scores[i] = weights.probabilities(of_request)
        return [
            ordered(
                shortlist,
                scores[i],
                statuses("ranked", len(shortlist)),
                "probability",
                self.prior_weight,
                details={
                    row: {"probability": round(float(value), 4)}
                    for row, value in enumerate(scores[i])
                },
            )
            for i, shortlist in enumerate(shortlists)
        ]


def _untrained() -> "Weights":
    weights = [*(UNTRAINED.get(name, 0.0) for name in NAMES), UNTRAINED_CONSTANT]
    return Weights(np.array(weights), STRAIGHT)


class Weights(NamedTuple):
    """A logistic model whose log-odds are bent where evidence is overwhelming."""

    features: np.ndarray
    """(11,) weights of the features, and the constant."""
    bend: np.ndarray
    """(3,) slope of the log-odds, change of the slope above KNEE, and the constant."""

    def probabilities(self, features: np.ndarray) -> np.ndarray:
        """Return probabilities (..., n) of features (..., n, 11)."""
        log_odds = _bent(features @ self.features) @ self.bend
        probabilities: np.ndarray = 1 / (1 + np.exp(-log_odds))
        return probabilities


def _bent(log_odds: np.ndarray) -> np.ndarray:
    """Return (..., 3) log-odds, how far they are above KNEE, and 1."""
    above = np.maximum(log_odds - KNEE, 0)
    return np.stack([log_odds, above, np.ones_like(log_odds)], axis=-1)


def weights_of(
    features: Sequence[np.ndarray],
    targets: Sequence[np.ndarray],
    negatives: int,
    rng: np.random.Generator,
) -> Weights:
    """Return the logistic model for features (R, n, 11) and labels (R, n).

    All turns with a label above 0 are learned from, and `negatives` others a request on average.
    The constant is corrected for those left out, so that probabilities are those of all turns
    (King and Zeng 2001). A second fit bends the log-odds; its slope stays positive.
    """
    inputs = np.concatenate([of_dialogue.reshape(-1, len(NAMES) + 1) for of_dialogue in features])
    labels = np.concatenate([of_dialogue.ravel() for of_dialogue in targets])
    others = np.flatnonzero(labels == 0)
    requests = sum(len(of_dialogue) for of_dialogue in targets)
    share = min(1.0, negatives * requests / max(len(others), 1))
    drawn = rng.choice(others, round(share * len(others)), replace=False)
    rows = np.r_[np.flatnonzero(labels > 0), drawn]
    sample = inputs[rows].astype(np.float64)
    weights = fit_logistic(labels[rows], sample, RIDGE)
    bend = fit_logistic(labels[rows], _bent(sample @ weights), RIDGE)
    if bend[0] <= 0 or bend[0] + bend[1] <= 0:
        bend = STRAIGHT.copy()
    bend[-1] += np.log(share)
    return Weights(weights, bend)
