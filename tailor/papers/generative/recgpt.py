"""RecGPT: interests out of a history, tags out of interests, items by tags and behaviour together.

Shapes: B queries or pairs, N items, V phrases, K tags of a user, D width.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Self

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from tailor.core.defaults import DEFAULT
from tailor.core.defaults import encoder as encoder_of
from tailor.core.methods import Paper, ScoringRecommender
from tailor.core.run import Run
from tailor.core.search_space import Range
from tailor.core.specs import clone
from tailor.data.arrays import Ragged, top_k
from tailor.data.dataset import Dataset
from tailor.data.nouns import Evidence, Explanation, Query, Ranking
from tailor.data.queries import Queries
from tailor.data.splits import Split
from tailor.data.vocabulary import Vocabulary
from tailor.errors import DataError, ModelError
from tailor.llm.fencing import fenced
from tailor.llm.parsing import read_json
from tailor.llm.prompts import Template
from tailor.metrics.ranking import hits
from tailor.nn.fitting import Recipe
from tailor.nn.item_encoders import TextItemEncoder, TextMap
from tailor.ports.base import Encoder, LanguageModel
from tailor.retrieval.sasrec import SASRec
from tailor.retrieval.sequences import SequenceRecommender
from tailor.text.cached import item_vectors, known_encoder
from tailor.text.hashing import HashingEncoder
from tailor.text.keywords import Keywords
from tailor.text.words import fold, normalise
from tailor.training.nets import NetMethod
from tailor.training.validation import cut_validation

PAPER = Paper(
    "recgpt",
    "RecGPT Technical Report",
    "https://arxiv.org/abs/2507.22879",
    "On Beauty the fused score finds more items of at most five training events than the behaviour"
    " tower alone, costs at most 2 % of all R@20 and no variety of categories; interests mined from"
    " histories name what the personas of ml-1m say twice as often as popular ones do",
)
WEIGHTS = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1)  # of behaviour, tried on validation
DEFAULT_WEIGHT = 0.6
DEPTH = 20  # of the lists on which the weight is chosen
VALID_USERS = 2_000
MOST_PAIRS = 20_000  # of a history and its next item, per epoch
LEAST_ITEMS = 3  # that have a phrase
MOST_SHARE = 0.4  # of items that have a phrase: what is commoner is not specific
WINDOW = 3  # events after an item whose phrases count as wanted next
# measures, which are no interests
MEASURE_WORDS = """
cm count ct dozen fl ft gal gram grams in inch inches kg lb lbs mg ml mm ounce ounces oz pack pair
pcs piece pieces qt set size
"""
MEASURES = frozenset(MEASURE_WORDS.split())
SEVERAL = 2  # items that show a phrase from which it is no chance
PRIOR = 2.0  # imagined moves at the usual rate
MOST_TAG_WORDS = 5
AGREEMENT = 0.8  # of a judge with labels, below which its filter is refused
SMALLEST = 1e-30  # probability
MOST_KEPT = 10_000  # histories whose interests language models have told
PROMPT_TOKENS = 1_500
WRITE = Template(
    "A shopper took these things, oldest first:\n{titles}\n"
    "Name up to {interests} interests of theirs. Answer with a JSON list of objects: "
    '{format}, where "evidence" are the numbers of the things that show the interest, and "tags" up'
    " to {tags} short names of things that they may want next.",
    trusted=("interests", "format", "tags"),
    listed=("titles",),
)
FORMAT = '{"interest": "...", "evidence": [1], "tags": ["..."]}'
JUDGE = Template(
    "A shopper took these things:\n{titles}\nIs this a thing that they may want next?\n{tag}\n"
    "Answer yes or no.",
    foreign=("tag",),
    listed=("titles",),
)
REASON = 'for the interest "{interest}" (tag "{tag}")'


@dataclass(frozen=True)
class Interest:
    """An interest of a user, its evidence, and what it points to."""

    text: str
    """The interest in some words."""
    item_ids: tuple[str, ...]
    """Items of the history that show it, latest first."""
    tags: tuple[str, ...]
    """Names of things that the user may want next, surest first."""


@dataclass(frozen=True)
class LabelledTag:
    """A tag for a history, and whether it fits, as a person says."""

    titles: tuple[str, ...]
    tag: str
    is_good: bool


class TagTowers(nn.Module):
    """The tower of tags and the tower of items, over vectors (N, dims) of their texts."""

    def __init__(self, texts: Tensor, width: int, temperature: float) -> None:
        super().__init__()
        self.tags = TextMap(texts.shape[1], width)
        self.items = TextItemEncoder(texts, width, unit=True)
        # both begin as one map, so that like texts match before anything is learned
        self.items.map.load_state_dict(self.tags.state_dict())
        self.temperature = temperature

    def logits(self, tags: Tensor, mask: Tensor, items: Tensor) -> Tensor:
        """Return (B, N) the best match of any tag (B, K, dims), of those in `mask`.

        `items` (N, D) are vectors of the item tower.
        """
        cosines = normalize(self.tags(tags).float(), dim=-1) @ items.T  # B, K, N
        return cosines.masked_fill(~mask[:, :, None], -1.0).amax(dim=1) / self.temperature


@dataclass(frozen=True, eq=False)
class _Pairs:
    """Tags of histories, and the item that came next."""

    tags: np.ndarray
    """(B, K) rows of phrases, -1 for none."""
    targets: np.ndarray
    """(B,) rows of items."""

    def take(self, numbers: np.ndarray) -> "_Pairs":
        return _Pairs(self.tags[numbers], self.targets[numbers])


@dataclass(eq=False)
class RecGPT(NetMethod, ScoringRecommender):
    """Say what a user is interested in, name things that follow from it, and look for those too.

    Interests are phrases of the titles in the history, with the items that show them. Each points
    to tags: itself, and the phrases that users with this interest came to next. A tower of tags and
    a tower of items, over text vectors, are learned so that the best of a user's tags is near the
    item that came next. The score mixes the log-probabilities of a sequence model (`inner`) and of
    the tags, with a weight chosen on validation; so rare items are found by what they are. A
    language model can write interests and tags instead (`writer`), whose evidence must exist, and
    another one can drop tags (`judge`), after it has agreed with labels (`accept_judge`).

    Differs from the paper: phrases and counted moves write, unless a language model is given, which
    is asked as it is (no curriculum, distillation or self-training); the tag tower reads one vector
    a tag; the item tower of tags reads texts, that of behaviour is the sequence model's; lifts of
    live traffic cannot be reproduced from a log.
    """

    inner: SequenceRecommender = field(default_factory=SASRec)
    """Sequence model of the behaviour."""
    encoder: Encoder | str = DEFAULT
    """Encoder of titles and tags; "default": TAILOR_ENCODER, tailor.toml, else MiniLM."""
    writer: LanguageModel | None = None
    """Language model that writes interests and tags; None: phrases and counts."""
    judge: LanguageModel | None = None
    """Language model that drops tags once `accept_judge` has taken it; None: none are dropped."""
    weight: float | None = None
    """Share of behaviour in the score; None: chosen on validation, .6 without one."""
    interests_per_user: int = 4
    """Interests of a user, at most."""
    tags_per_interest: int = 4
    """Tags of an interest, at most."""
    decay: Annotated[float, Range(0.5, 1.0)] = 0.85
    """Weight of an event in the mining of interests relative to the one after it."""
    length: int = 30
    """Most recent events that interests are mined from."""
    width: int = 64
    """Width of both towers."""
    temperature: Annotated[float, Range(0.03, 0.2, log=True)] = 0.07
    """Divisor of the cosine of tag and item."""
    category_weight: Annotated[float, Range(0.0, 0.5)] = 0.1
    """Weight of the loss that pulls tags to items of their category."""
    epochs: int = 5
    """Passes over the pairs of history and next item."""
    lr: Annotated[float, Range(3e-4, 6e-3, log=True)] = 2e-3
    """Peak learning rate of AdamW; decays linearly to 1 % over all epochs."""
    batch: int = 256
    """Pairs of a batch; each is a negative of the others."""

    inner_: SequenceRecommender = field(init=False, repr=False)
    titles_: list[str] = field(init=False, repr=False)
    """(N,) titles."""
    text_vectors_: np.ndarray = field(init=False, repr=False)
    """(N, dims) vectors of the items' texts."""
    phrases_: Vocabulary = field(init=False, repr=False)
    """(V,) phrases of titles, and categories."""
    phrase_vectors_: np.ndarray = field(init=False, repr=False)
    """(V, dims) vectors of phrases."""
    item_phrases_: sp.csr_matrix = field(init=False, repr=False)
    """(N, V) 1 for each phrase of an item."""
    shares_: np.ndarray = field(init=False, repr=False)
    """(V,) share of all events whose item has each phrase."""
    tags_: np.ndarray = field(init=False, repr=False)
    """(V, tags_per_interest) phrases that each interest points to, -1 for none."""
    weight_: float = field(init=False, repr=False)
    """Share of behaviour in the score."""
    space_: str = field(init=False, repr=False)
    """Name of the encoder's vector space; "" where there is no text."""
    agreement_: float = field(init=False, repr=False)
    """Share of labels with which the judge agreed; 0: it was not accepted."""

    def __post_init__(self) -> None:
        minima = {
            "interests_per_user": 1,
            "tags_per_interest": 1,
            "length": 1,
            "width": 1,
            "epochs": 1,
            "batch": 2,
        }
        for name, minimum in minima.items():
            if getattr(self, name) < minimum:
                raise DataError(f"{name} is {getattr(self, name)}: it must be at least {minimum}")
        if self.weight is not None and not 0 <= self.weight <= 1:
            raise DataError(f"weight is {self.weight}: it is a share, from 0 to 1")
        if not (self.temperature > 0 and self.lr > 0 and 0 < self.decay <= 1):
            raise DataError(
                f"temperature is {self.temperature}, lr {self.lr}, decay {self.decay}: all above 0,"
                " decay at most 1"
            )
        if self.writer and self.judge and self.writer.fingerprint == self.judge.fingerprint:
            raise DataError(
                "writer and judge are the same language model: it would agree with itself, so name"
                " another judge"
            )
        self._kept: dict[bytes, tuple[Interest, ...]] = {}

    @classmethod
    def tiny(cls) -> Self:
        return cls(inner=SASRec.tiny(), encoder=HashingEncoder(32), width=8, epochs=2)

    # learning

    def _fit(self, data: Dataset, run: Run, valid: Split | None) -> None:
        self._kept = {}
        self.inner_ = clone(self.inner).fit(data, run, valid)
        self.items_ = self.inner_.items_
        validation, learned = cut_validation(data, run, valid, needed=False)
        mapping = learned.catalogue.mapping_to(self.items_)
        rows = learned.sequences.rows
        histories = rows if mapping is None else rows.with_values(mapping[rows.values])
        histories = histories.keep(histories.values >= 0)
        self._read_texts(data, histories, run)
        self.tags_ = self._learn_tags(histories)
        self.agreement_ = 0.0
        self.weight_ = DEFAULT_WEIGHT if self.weight is None else self.weight
        self._start_net(run)
        report = self._learn_towers(data, histories, run)
        del self._categories
        if not len(self.phrases_):
            self.weight_ = 1.0
        elif self.weight is None and validation is not None:
            self.weight_, report["recall_by_weight"] = self._choose_weight(
                validation.queries, validation.targets
            )
        self.fit_report_ = {
            "phrases": len(self.phrases_),
            "weight": self.weight_,
            "inner": self.inner_.fit_report_,
            **report,
        }

    def _read_texts(self, data: Dataset, histories: Ragged, run: Run) -> None:
        """Set titles, phrases, how usual they are, and vectors of texts."""
        rows = data.catalogue.rows(self.items_.ids.tolist())
        all_titles, all_texts = data.texts_of("title"), data.item_texts
        texts = [all_texts[row] for row in rows.tolist()]
        self.titles_ = [all_titles[row] or all_texts[row] for row in rows.tolist()]
        keywords = _keywords(data, self.titles_, rows)
        self.phrases_ = Vocabulary(keywords.names)
        self.item_phrases_ = keywords.weights.astype(bool).astype(np.float32)
        # a phrase that nobody took is as rare as half an event
        held = histories.matrix(len(rows)) @ self.item_phrases_
        counts = np.maximum(np.asarray(held.sum(axis=0)).ravel(), 0.5)
        self.shares_ = (counts / max(len(histories.values), 1)).astype(np.float32)
        self._categories = data.finest_categories[rows]
        self.space_ = ""
        self.text_vectors_ = np.zeros((len(rows), 1), np.float32)
        self.phrase_vectors_ = np.zeros((len(self.phrases_), 1), np.float32)
        if len(self.phrases_):
            encoder = encoder_of(self.encoder)
            self.space_ = encoder.space
            self.text_vectors_ = item_vectors(encoder, texts, run.progress)
            self.phrase_vectors_ = item_vectors(encoder, keywords.names, run.progress)

    def _learn_tags(self, histories: Ragged) -> np.ndarray:
        """Return (V, tags_per_interest) tags: the interest, then phrases that come next with it.

        Phrases are ordered by their lift: how many times as often items with them follow, shrunk.
        A phrase that shares all words with the interest says nothing new.
        """
        phrases, most = len(self.phrases_), self.tags_per_interest
        tags = np.full((phrases, most), -1, np.int64)
        if not phrases:
            return tags
        tags[:, 0] = np.arange(phrases)
        holds = self.item_phrases_
        moves = _moves(histories, len(self.items_))
        counts = sp.csr_matrix(holds.T @ moves @ holds)
        before, after = (np.asarray(counts.sum(axis=axis)).ravel() for axis in (1, 0))
        total = max(counts.sum(), 1.0)
        words = [set(phrase.split()) for phrase in self.phrases_.ids.tolist()]
        for row in range(phrases):
            cells = slice(counts.indptr[row], counts.indptr[row + 1])
            columns, seen = counts.indices[cells], counts.data[cells]
            lifts = (seen + PRIOR) / (before[row] * after[columns] / total + PRIOR)
            order = np.lexsort((columns, -lifts))
            chosen = [
                column
                for column in columns[order][lifts[order] > 1][: 4 * most].tolist()
                if not (words[column] <= words[row] or words[row] <= words[column])
            ][: most - 1]
            tags[row, 1 : 1 + len(chosen)] = chosen
        return tags

    def _make_net(self) -> TagTowers:
        return TagTowers(torch.from_numpy(self.text_vectors_), self.width, self.temperature)

    def _learn_towers(self, data: Dataset, histories: Ragged, run: Run) -> dict[str, Any]:
        """Learn both towers from histories and their next items; return the report."""
        pairs = self._pairs(histories, run.rng("pairs"))
        if not len(pairs.targets):
            return self._leave_untrained("no history with an interest has a next item")
        shares = np.bincount(histories.values, minlength=len(self.items_)) + 1.0
        log_shares = torch.from_numpy(np.log(shares / shares.sum()).astype(np.float32))

        def batches(rng: np.random.Generator) -> list[_Pairs]:
            order = rng.permutation(len(pairs.targets))
            return [
                pairs.take(order[start : start + self.batch])
                for start in range(0, len(order), self.batch)
            ]

        def loss(batch: _Pairs, rng: np.random.Generator) -> Tensor:
            return self._loss(batch, log_shares, rng)

        recipe = Recipe(self.epochs, self.lr, weight_decay=0.01)
        report = self._train_net(data, run, recipe, batches, loss)
        return {"pairs": len(pairs.targets), **report}

    def _pairs(self, histories: Ragged, rng: np.random.Generator) -> _Pairs:
        """Return tags of the histories before drawn events, and the items of those events."""
        positions = np.flatnonzero(histories.from_start > 0)
        positions = np.sort(rng.permutation(positions)[:MOST_PAIRS])
        most = self.interests_per_user * self.tags_per_interest
        tags = np.full((len(positions), most), -1, np.int64)
        starts = positions - np.minimum(histories.from_start[positions], self.length)
        for number, (start, stop) in enumerate(zip(starts, positions, strict=True)):
            rows = self._tag_rows(histories.values[start:stop])
            tags[number, : len(rows)] = rows
        has_tag = tags[:, 0] >= 0
        return _Pairs(tags[has_tag], histories.values[positions[has_tag]])

    def _loss(self, batch: _Pairs, log_shares: Tensor, rng: np.random.Generator) -> Tensor:
        """Return the in-batch softmax of next items by tags, plus the weighted category loss.

        Logits are corrected by popularity, since popular items are more often among the targets.
        """
        net = self._net
        targets = torch.from_numpy(batch.targets.astype(np.int64))
        items = net.items(targets)
        mask = torch.from_numpy(batch.tags >= 0)
        tags = torch.from_numpy(self.phrase_vectors_[np.maximum(batch.tags, 0)])
        logits = net.logits(tags, mask, items) - log_shares[targets]
        numbers = torch.arange(len(targets))
        is_same = (targets[:, None] == targets) & (numbers[:, None] != numbers)
        loss = cross_entropy(logits.masked_fill(is_same, -torch.inf), numbers)
        if not self.category_weight:
            return loss
        return loss + self.category_weight * self._category_loss(batch, items, rng)

    def _category_loss(self, batch: _Pairs, items: Tensor, rng: np.random.Generator) -> Tensor:
        """Return how far a phrase of each item is from the item vectors (B, D) of its category."""
        categories = self._categories[batch.targets]
        phrases = np.array([self._own_phrase(row, rng) for row in batch.targets.tolist()])
        has_phrase = phrases >= 0
        is_same = categories[has_phrase][:, None] == categories
        if not has_phrase.any() or is_same.all():
            return items.sum() * 0
        tags = torch.from_numpy(self.phrase_vectors_[phrases[has_phrase]])[:, None]
        mask = torch.ones(tags.shape[:2], dtype=torch.bool)
        log_probs = self._net.logits(tags, mask, items).log_softmax(dim=1)
        same = log_probs.masked_fill(~torch.from_numpy(is_same), -torch.inf)
        return -same.logsumexp(dim=1).mean()

    def _own_phrase(self, row: int, rng: np.random.Generator) -> int:
        """Return a drawn phrase of an item's title, -1 where it has none."""
        start, stop = self.item_phrases_.indptr[row : row + 2]
        return int(self.item_phrases_.indices[rng.integers(start, stop)]) if stop > start else -1

    def _choose_weight(self, queries: Queries, targets: Ragged) -> tuple[float, dict[str, float]]:
        """Return the weight with the best recall on validation, and the recall by weight.

        Of equals the largest weight counts.
        """
        numbers = np.arange(min(len(queries), VALID_USERS))
        over_items = queries.take(numbers).reindexed(self.items_)
        targets = targets.take(numbers)
        behaviour, by_tags = self._log_probs(over_items)
        recalls = {}
        for weight in WEIGHTS:
            scores = _mixed(behaviour, by_tags, weight)
            rows, _ = top_k(scores, DEPTH, over_items.exclude, over_items.blocked_rows)
            lists = self.items_.mapping_to(queries.catalogue)
            rows = rows if lists is None else np.where(rows >= 0, lists[rows], -1)
            is_hit = hits(rows, targets.offsets, targets.values)
            recalls[str(weight)] = round(float(is_hit.sum() / max(len(targets.values), 1)), 5)
        best = max(WEIGHTS, key=lambda weight: (recalls[str(weight)], weight))
        return best, recalls

    # interests

    def interests(self, queries: Sequence[Query]) -> list[tuple[Interest, ...]]:
        """Return the interests of each query's user, strongest first.

        Every interest has items of the history as its evidence. No tag is the title of a thing in
        the history. Empty where the history shows nothing.
        """
        self._check_fitted()
        return self._interests_of(Queries.of(queries).reindexed(self.items_))

    def _interests_of(self, queries: Queries) -> list[tuple[Interest, ...]]:
        """Return the interests of queries over `items_`.

        What language models told of a history is kept in memory, so that recommending and then
        explaining asks them once.
        """
        histories = [queries.histories[i][-self.length :] for i in range(len(queries))]
        is_judged = self.judge is not None and self.agreement_ >= AGREEMENT
        if self.writer is None and not is_judged:
            return [self._mined(history) for history in histories]
        keys = [history.tobytes() for history in histories]
        interests = {key: self._kept.get(key) for key in keys}
        fresh = {
            key: history
            for key, history in zip(keys, histories, strict=True)
            if interests[key] is None
        }
        interests |= zip(fresh, self._ask(list(fresh.values()), is_judged), strict=True)
        return [interests[key] or () for key in keys]

    def _ask(self, histories: Sequence[np.ndarray], is_judged: bool) -> list[tuple[Interest, ...]]:
        """Return what language models tell of histories, and keep it but for failures."""
        written = self._written(histories)
        answers = []
        latest = list(self._kept.items())
        for history, interests in zip(histories, written, strict=True):
            answer = interests or self._mined(history)
            if is_judged:
                answer = self._judged(history, answer)
            answers.append(answer)
            if interests is not None:
                latest.append((history.tobytes(), answer))
        self._kept = dict(latest[-MOST_KEPT:])
        return answers

    def _mined(self, history: np.ndarray) -> tuple[Interest, ...]:
        """Return interests of a history (T,) by phrases, with tags by counted moves."""
        titles = {_plain(self.titles_[row]) for row in history.tolist()}
        answers = []
        for phrase in self._strongest_phrases(history):
            rows = list(dict.fromkeys(history[self._shows(history, phrase)][::-1].tolist()))
            tags = self.phrases_.named(self.tags_[phrase][self.tags_[phrase] >= 0])
            tags = [tag for tag in tags if _plain(tag) not in titles]
            evidence = tuple(self.items_.named(np.array(rows)))
            answers.append(Interest(self.phrases_.ids[phrase], evidence, tuple(tags)))
        return tuple(answers)

    def _shows(self, history: np.ndarray, phrase: int) -> np.ndarray:
        """Return (T,) bool: whether the title of each event has a phrase."""
        return np.asarray(self.item_phrases_[history][:, [phrase]].toarray()[:, 0] > 0)

    def _strongest_phrases(self, history: np.ndarray) -> list[int]:
        """Return the phrases that a history (T,) shows most, as many as a user has interests.

        Events are faded by `decay`. A phrase weighs its count times the logarithm of how many times
        as frequent it is as usual. Phrases of several items come before those of a single one. A
        phrase that shares a word with a stronger one is left out.
        """
        if not len(history):
            return []
        fades = self.decay ** np.arange(len(history), dtype=np.float32)[::-1]
        counts = fades @ self.item_phrases_[history]
        scores = counts * np.log(np.maximum(counts, SMALLEST) / (fades.sum() * self.shares_))
        items = np.bincount(self.item_phrases_[np.unique(history)].indices, minlength=len(counts))
        likely = np.flatnonzero(scores > 0)
        best = likely[np.lexsort((-scores[likely], items[likely] < SEVERAL))]
        chosen: list[int] = []
        words: set[str] = set()
        for phrase in best[: 8 * self.interests_per_user].tolist():
            if words.isdisjoint(self.phrases_.ids[phrase].split()):
                chosen.append(phrase)
                words.update(self.phrases_.ids[phrase].split())
            if len(chosen) == self.interests_per_user:
                break
        return chosen

    def _tag_rows(self, history: np.ndarray) -> np.ndarray:
        """Return the distinct tags of a history (T,), those of the strongest phrase first."""
        rows = self.tags_[self._strongest_phrases(history)].ravel()
        return np.array(list(dict.fromkeys(rows[rows >= 0].tolist())), np.int64)

    def _written(self, histories: Sequence[np.ndarray]) -> list[tuple[Interest, ...] | None]:
        """Return the interests that the writer names, none where it names none with evidence.

        None: it failed. Without a writer there are none.
        """
        interests: list[tuple[Interest, ...] | None] = [()] * len(histories)
        if self.writer is None:
            return interests
        numbers = [i for i, history in enumerate(histories) if len(history)]
        completions = self.writer.complete([self._writing_prompt(histories[i]) for i in numbers])
        for i, completion in zip(numbers, completions, strict=True):
            interests[i] = None
            if not completion.error:
                interests[i] = self._read_interests(completion.text, histories[i])
        return interests

    def _writing_prompt(self, history: np.ndarray) -> str:
        """Return the prompt that asks for the interests in a history (T,)."""
        return WRITE.filled(
            PROMPT_TOKENS,
            titles=[fenced(self.titles_[row]) for row in history.tolist()],
            interests=str(self.interests_per_user),
            tags=str(self.tags_per_interest),
            format=FORMAT,
        ).text

    def _read_interests(self, answer: str, history: np.ndarray) -> tuple[Interest, ...]:
        """Return the interests in a writer's answer whose evidence is in the history (T,).

        A tag that copies a title, or is longer than a name, is left out.
        """
        records = read_json(answer)
        titles = [_plain(self.titles_[row]) for row in history.tolist()]
        answers = []
        for record in records if isinstance(records, list) else []:
            if not isinstance(record, dict) or not isinstance(record.get("interest"), str):
                continue
            numbers = _whole_numbers(record.get("evidence"), len(history))
            texts = _texts(record.get("tags"))
            tags = [
                text
                for text in texts
                if len(text.split()) <= MOST_TAG_WORDS and _plain(text) not in titles
            ]
            if numbers and tags:
                evidence = tuple(self.items_.named(history[numbers]))
                tags = tags[: self.tags_per_interest]
                answers.append(Interest(record["interest"].strip(), evidence, tuple(tags)))
        return tuple(answers[: self.interests_per_user])

    # the judge

    def accept_judge(self, labels: Sequence[LabelledTag]) -> Self:
        """Return a copy whose judge drops tags, if it agrees with labels.

        Raises DataError without a judge or labels of both kinds, and ModelError where it agrees
        with less than 80 % of the good, or of the bad ones.
        """
        self._check_fitted()
        is_good = np.array([label.is_good for label in labels], dtype=bool)
        if self.judge is None or is_good.all() or not is_good.any():
            raise DataError(
                f"{len(labels)} labels, judge {self.judge}: name a judge, and give tags that fit"
                " and tags that do not"
            )
        answers = self._fits([(label.titles, label.tag) for label in labels])
        agreement = min(float(answers[is_good].mean()), float((~answers[~is_good]).mean()))
        if agreement < AGREEMENT:
            raise ModelError(
                f"the judge agrees with {agreement:.0%} of the labels of one kind, and"
                f" {AGREEMENT:.0%} are needed: take another judge, or none"
            )
        return self._with_state(agreement_=agreement)

    def _fits(self, pairs: Sequence[tuple[Sequence[str], str]]) -> np.ndarray:
        """Return (n,) bool: whether the judge says that a tag fits titles."""
        prompts = [
            JUDGE.filled(
                PROMPT_TOKENS, titles=[fenced(title) for title in titles], tag=fenced(tag)
            ).text
            for titles, tag in pairs
        ]
        assert self.judge is not None
        scores = self.judge.choices(prompts, ("yes", "no"))
        return np.asarray(scores[:, 0] > scores[:, 1])

    def _judged(self, history: np.ndarray, interests: tuple[Interest, ...]) -> tuple[Interest, ...]:
        """Return interests with the tags only that the judge lets pass."""
        titles = tuple(self.titles_[row] for row in history.tolist())
        pairs = [(titles, tag) for interest in interests for tag in interest.tags]
        if not pairs:
            return interests
        passes = iter(self._fits(pairs).tolist())
        return tuple(
            replace(interest, tags=tuple(tag for tag in interest.tags if next(passes)))
            for interest in interests
        )

    # answering

    def _scores(self, queries: Queries) -> np.ndarray:
        return _mixed(*self._log_probs(queries), self.weight_)

    def _log_probs(self, queries: Queries) -> tuple[np.ndarray, np.ndarray]:
        """Return log-probabilities (B, N) by behaviour, and by tags; 0 where there is no tag."""
        probabilities = self.inner_._scores(queries)
        behaviour = np.where(
            np.isfinite(probabilities), np.log(np.maximum(probabilities, SMALLEST)), -np.inf
        )
        by_tags = np.zeros(behaviour.shape, np.float32)
        if len(self.phrases_):
            for i, interests in enumerate(self._interests_of(queries)):
                tags = list(dict.fromkeys(tag for interest in interests for tag in interest.tags))
                if tags:
                    by_tags[i] = self._tag_logits(tags).log_softmax(dim=1).numpy()[0]
        return behaviour.astype(np.float32), by_tags

    def _tag_logits(self, tags: Sequence[str], is_separate: bool = False) -> Tensor:
        """Return (1, N) the best match of tags with all items; of each, (K, N)."""
        vectors = torch.from_numpy(self._tag_vectors(tags))
        vectors = vectors[:, None] if is_separate else vectors[None]
        mask = torch.ones(vectors.shape[:2], dtype=torch.bool)
        with torch.inference_mode():
            net: TagTowers = self._ready()
            return net.logits(vectors, mask, net.items.all_items())

    def _tag_vectors(self, tags: Sequence[str]) -> np.ndarray:
        """Return (K, dims) vectors of tags, encoded where they are no phrases of titles."""
        rows = self.phrases_.rows(list(tags))
        vectors = self.phrase_vectors_[np.maximum(rows, 0)]
        unknown = np.flatnonzero(rows < 0)
        if len(unknown):
            encoder = known_encoder(encoder_of(self.encoder), self.space_)
            vectors[unknown] = encoder.encode([tags[number] for number in unknown.tolist()])
        return vectors

    def explain(
        self, queries: Sequence[Query], rankings: Sequence[Ranking]
    ) -> list[list[Explanation]]:
        """Explain each item by the tag that matches it best, and the evidence of its interest.

        An item for a user without interests has no evidence.
        """
        return [
            self._explain_ranking(interests, ranking)
            for interests, ranking in zip(self.interests(queries), rankings, strict=True)
        ]

    def _explain_ranking(
        self, interests: tuple[Interest, ...], ranking: Ranking
    ) -> list[Explanation]:
        pairs = [(interest, tag) for interest in interests for tag in interest.tags]
        if not pairs:
            return [Explanation(item_id) for item_id in ranking.ids]
        rows = self.items_.rows(list(ranking.ids))
        logits = self._tag_logits([tag for _, tag in pairs], is_separate=True)[
            :, np.maximum(rows, 0)
        ]
        best = [pairs[number] for number in logits.argmax(dim=0).tolist()]
        return [
            Explanation(
                item_id,
                tuple(
                    Evidence("item", evidence, 1 / len(interest.item_ids))
                    for evidence in interest.item_ids
                ),
                REASON.format(interest=interest.text, tag=tag),
            )
            if row >= 0
            else Explanation(item_id)
            for item_id, row, (interest, tag) in zip(ranking.ids, rows.tolist(), best, strict=True)
        ]


def _mixed(behaviour: np.ndarray, by_tags: np.ndarray, weight: float) -> np.ndarray:
    """Return (B, N) the weighted sums of log-probabilities; -inf where behaviour has none."""
    is_known = np.isfinite(behaviour)
    scores = weight * np.where(is_known, behaviour, 0) + (1 - weight) * by_tags
    return np.where(is_known, scores, -np.inf).astype(np.float32)


def _keywords(data: Dataset, titles: Sequence[str], rows: np.ndarray) -> Keywords:
    """Return phrases of titles and categories, for items of these rows (N,) of the data."""
    texts, items = list(titles), list(range(len(titles)))
    if "categories" in data.item_table.columns:
        lists = data.item_table["categories"].to_list()
        pairs = [(i, name) for i, row in enumerate(rows.tolist()) for name in lists[row] or ()]
        items += [i for i, _ in pairs]
        texts += [name for _, name in pairs]
    keywords = Keywords.of(texts, items, len(rows), LEAST_ITEMS, MOST_SHARE)
    telling = [i for i, name in enumerate(keywords.names) if not MEASURES.issuperset(name.split())]
    return replace(
        keywords,
        names=tuple(keywords.names[i] for i in telling),
        weights=sp.csr_matrix(keywords.weights[:, telling]),
    )


def _plain(text: str) -> str:
    """Return a text as it is compared: without case and accents."""
    return fold(normalise(text)).strip()


def _moves(histories: Ragged, items: int) -> sp.csr_matrix:
    """Return (N, N) how often an item came up to WINDOW events after another one."""
    moves = sp.csr_matrix((items, items), dtype=np.float32)
    for distance in range(1, WINDOW + 1):
        pair = histories.pairs(distance)
        moves += sp.csr_matrix((np.ones(len(pair[0]), np.float32), pair), shape=moves.shape)
    return moves


def _whole_numbers(value: Any, most: int) -> list[int]:
    """Return the distinct numbers from 1 to `most` in a JSON list, less 1."""
    numbers = value if isinstance(value, list) else []
    whole = [number for number in numbers if isinstance(number, int) and 1 <= number <= most]
    return [number - 1 for number in dict.fromkeys(whole)]


def _texts(value: Any) -> list[str]:
    """Return the distinct texts in a JSON list, without blanks around them."""
    texts = value if isinstance(value, list) else []
    return list(
        dict.fromkeys(text.strip() for text in texts if isinstance(text, str) if text.strip())
    )
