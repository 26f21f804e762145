"""Speller: learn to spell the next item's code digit by digit, for any paper that does.

A paper's method derives from `Speller` and changes what is its own: how codes are made
(`_encode_items`), what the next item is asked for besides the history (`_conditions` and
`_target_conditions`), which state the digits are generated from (`_query_states`), or the loss.
Shapes: B queries, T positions, M positions that predict, D width, E width of a condition, N items,
L levels of a code without its last digit.
"""

import copy
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, Self

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor, nn

from tailor.core.defaults import DEFAULT
from tailor.core.defaults import encoder as encoder_of
from tailor.core.methods import blocks, short_notes
from tailor.core.run import Run
from tailor.core.search_space import Range
from tailor.data.arrays import Ragged, top_k
from tailor.data.dataset import Dataset
from tailor.data.nouns import Evidence, Explanation, Query, Ranking
from tailor.data.queries import Queries, Rankings
from tailor.data.splits import Split
from tailor.data.vocabulary import Vocabulary
from tailor.errors import DataError
from tailor.generative.code_paths import (
    CodeLevel,
    commonest,
    known_words,
    said_path,
    shared_digits,
    telling_words_of,
)
from tailor.generative.speller_policy import Reward, SpellerPolicy
from tailor.nn.blocks import TransformerBlock
from tailor.nn.codebooks import CodeKind, FittedCodebooks, arrays_of, codebooks_of, quantizer_of
from tailor.nn.decoding import AllowedItems, beam_search, exact_scores
from tailor.nn.item_encoders import CodeItemEncoder
from tailor.nn.positions import LearnedPositions
from tailor.nn.quantizers import (
    Codebooks,
    code_report,
    unit,
    with_last_digit,
    with_next_digit,
)
from tailor.nn.semantic_id_decoder import SemanticIdDecoder
from tailor.nn.sequence import SequenceNet
from tailor.ports.base import Encoder
from tailor.text.cached import item_vectors, known_encoder
from tailor.text.tfidf import svd_vectors
from tailor.training.alignment import Alignment, align
from tailor.training.sequences import (
    SequenceLearner,
    Task,
    TrainingData,
    Windows,
    as_tensor,
    check_blocks,
    last_states,
    mapped_rows,
)
from tailor.training.validation import cut_validation, run_key

NEAREST = 3  # items that a level of a code path names
STANDARD = Alignment()
BEHAVIOUR_DIMS = 128  # width of item vectors made from users' choices


@dataclass(eq=False)
class Speller(SequenceLearner):
    """Generate the next item's code digit by digit, from a causal transformer over the history.

    Beam search keeps the likeliest prefixes and never leaves the codes that exist, so no item is
    invented. A score is the log-probability of the item.
    """

    encoder: Encoder | str = DEFAULT
    """Encoder of item texts; "default": TAILOR_ENCODER, tailor.toml, else MiniLM."""
    ids_from: Literal["text", "behaviour", "both"] = "text"
    """What codes are made from: item texts, users' choices, or both; users' choices where there is
    no text.
    """
    codes: CodeKind = "residual"
    """How vectors become codes: k-means of residuals ("residual"; "balanced": words of equal use),
    a residual "autoencoder", or books beside each other without an order ("product", "additive").
    """
    levels: int = 3
    """Digits before the last one."""
    words: int = 256
    """Codewords per level, at most; one for eight items in a small catalogue."""
    reads_vectors: bool = True
    """Whether items of the history are read by their vector too, besides their digits."""
    closed: bool = True
    """Whether a digit's probability is shared by the continuations that exist, else by all digits.
    """
    beams: int = 30
    """Prefixes kept in beam search; never fewer than twice the items requested."""
    exact: bool = False
    """Whether every item is scored instead: slow, and the same list except for the beam's losses.
    """
    width: int = 128
    """Width of item vectors and states."""
    length: int = 50
    """Most recent events that are read."""
    blocks: int = 2
    """Number of transformer blocks that read the history."""
    heads: int = 2
    """Attention heads; they must divide the width."""
    dropout: Annotated[float, Range(0.05, 0.5)] = 0.2
    """Share of values zeroed during training."""
    lr: Annotated[float, Range(3e-4, 6e-3, log=True)] = 2e-3
    """Peak learning rate of AdamW; decays linearly to 1 % over all epochs."""
    weight_decay: float = 0.01
    """Weight decay of matrices in AdamW."""
    epochs: int = 30
    """Passes over the data, at most."""

    codes_: np.ndarray = field(init=False, repr=False)
    """(N, levels + 1) int32 digits of each item."""
    vectors_: np.ndarray = field(init=False, repr=False)
    """(N, D) vectors read besides the digits; D is 0 where they are not read."""
    codebooks_: dict[str, np.ndarray] = field(init=False, repr=False)
    """Codebooks as arrays, as `nn.codebooks.arrays_of` gives them; {} where there was no item."""
    centre_: np.ndarray = field(init=False, repr=False)
    """(D,) mean vector, subtracted before a vector is coded."""
    sizes_: np.ndarray = field(init=False, repr=False)
    """(levels + 1,) number of digits that the net can generate per level."""
    space_: str = field(init=False, repr=False)
    """Name of the encoder's vector space that codes are made from; "" for none."""
    telling_words_: Vocabulary = field(init=False, repr=False)
    """Words that explanations may name."""
    item_words_: sp.csr_matrix = field(init=False, repr=False)
    """(N, V) rarity of the words of each item."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_blocks(self.blocks, self.heads, self.width)
        for name, minimum in {"levels": 1, "words": 2, "beams": 1}.items():
            if getattr(self, name) < minimum:
                raise DataError(f"{name} is {getattr(self, name)}: it must be at least {minimum}")

    @classmethod
    @abstractmethod
    def tiny(cls) -> Self: ...

    # learning

    def _describable(self, data: Dataset) -> np.ndarray:
        if self.ids_from == "behaviour":
            return super()._describable(data)
        return np.array([bool(text.strip()) for text in data.item_texts], dtype=bool)

    def _prepare_items(self, training: TrainingData, run: Run) -> dict[str, Any]:
        """Give every item a code, and return figures of the codes."""
        vectors = self._code_vectors(training, run)
        self.centre_ = np.zeros(vectors.shape[1], dtype=np.float32)
        if len(vectors):
            self.centre_ = vectors.mean(axis=0)
        self.codes_, report = self._encode_items(vectors - self.centre_, run.rng("codes"))
        self.sizes_ = self.codes_.max(axis=0, initial=0) + 1
        self.telling_words_, self.item_words_ = telling_words_of(self._item_texts(training.data))
        self.vectors_ = vectors
        if not self.reads_vectors:
            self.vectors_ = np.zeros((len(vectors), 0), dtype=np.float32)
        return report

    def _code_vectors(self, training: TrainingData, run: Run) -> np.ndarray:
        """Return the vectors (N, D) that codes are made from: of texts, of choices, or both."""
        texts = self._text_vectors(training.data, run)
        choices = training.rows.keep(training.rows.values >= 0).matrix(len(self.items_))
        parts = []
        if texts is not None:
            parts.append(unit(_fill_empty(texts, choices)))
        if texts is None or self.ids_from == "both":
            behaviour = np.zeros((len(self.items_), 1), np.float32)
            if choices.nnz:
                behaviour = svd_vectors(choices.T.tocsr(), BEHAVIOUR_DIMS, run.seed)
            parts.append(behaviour)
        return np.hstack(parts)

    def _text_vectors(self, data: Dataset, run: Run) -> np.ndarray | None:
        """Return the vectors of the items' texts; None where codes are not made from text."""
        self.space_ = ""
        texts = self._item_texts(data)
        if self.ids_from == "behaviour" or not any(text.strip() for text in texts):
            return None
        encoder = encoder_of(self.encoder)
        self.space_ = encoder.space
        return item_vectors(encoder, texts, run.progress)

    def _describing_vectors(self, data: Dataset, run: Run) -> np.ndarray:
        """Return unit vectors (N, D) of the items' texts, else those that codes were made from."""
        vectors = self._text_vectors(data, run)
        if vectors is None:
            vectors = self.vectors_
        if not vectors.shape[1]:
            vectors = np.eye(int(self.sizes_[0]), dtype=np.float32)[self.codes_[:, 0]]
        return unit(np.asarray(vectors, dtype=np.float32))

    def _item_texts(self, data: Dataset) -> list[str]:
        """Return the texts of `items_`."""
        rows = data.catalogue.rows(self.items_.ids.tolist())
        return [data.item_texts[row] for row in rows.tolist()]

    def _encode_items(
        self, vectors: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Learn codebooks; return unique codes (N, levels + 1) and figures of the levels."""
        codes, report = self._learn_prefixes(vectors, rng)
        return with_last_digit(codes, rng), report

    def _learn_prefixes(
        self, vectors: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Learn codebooks; return codes (N, levels), not yet unique, and figures of the levels."""
        self.codebooks_ = {}
        if not len(vectors):
            return np.zeros((0, self.levels), dtype=np.int32), {}
        books = quantizer_of(self.codes, self.levels, self.words).fit(vectors, rng)
        self.codebooks_ = arrays_of(books)
        codes = books.encode(vectors)
        return codes, code_report(codes, [books.words.shape[1]] * self.levels)

    def _codes_of_new(self, items: Dataset, rows: np.ndarray, vectors: np.ndarray) -> np.ndarray:
        """Return codes (M, levels), not yet unique, of rows (M,) of other items, from vectors."""
        return self._codebooks().encode(vectors - self.centre_)

    def _codebooks(self) -> FittedCodebooks:
        """Return the codebooks, of models of earlier versions too."""
        if "codebooks_" in self.__dict__:
            return codebooks_of(self.codes, self.codebooks_)
        words: np.ndarray = self.__dict__["words_"]
        return Codebooks(words, np.zeros(words.shape[:2], dtype=np.float32))

    def _condition_width(self) -> int:
        """Return the width E of what the next item is asked for; 0: nothing but the history."""
        return 0

    def _make_net(self) -> SemanticIdDecoder:
        sizes = self.sizes_.tolist()
        codes = torch.from_numpy(self.codes_.astype(np.int64))
        vectors = torch.from_numpy(self.vectors_) if self.vectors_.shape[1] else None
        item_encoder = CodeItemEncoder(codes, sizes, self.width, vectors)
        body = SequenceNet(
            len(self.items_),
            self.width,
            self._layers(),
            self.dropout,
            positions=LearnedPositions(self._longest(), self.width),
            item_encoder=item_encoder,
        )
        conditions = self._condition_width()
        return SemanticIdDecoder(body, self.codes_, sizes, self.width, self.dropout, conditions)

    def _layers(self) -> list[nn.Module]:
        """Return the untrained layers that read the history."""
        return [TransformerBlock(self.width, self.heads, self.dropout) for _ in range(self.blocks)]

    def _longest(self) -> int:
        """Return the most positions that the layers read."""
        return self.length

    def _loss(self, batch: Windows, training: TrainingData, rng: np.random.Generator) -> Tensor:
        net: SemanticIdDecoder = self._net
        task = self._make_task(batch, rng)
        states = self._task_states(task, training, rng)
        return net.loss(states, as_tensor(task.targets, net), self.closed)

    def _task_states(self, task: Task, training: TrainingData, rng: np.random.Generator) -> Tensor:
        """Return the states (M, D) that the targets of a task are generated from."""
        states = self._history_states(task)
        return self._net.conditioned(states, self._target_conditions(task, training, rng))

    def _history_states(self, task: Task) -> Tensor:
        """Return the states (M, D) after the history of each target, whatever was asked for."""
        net: SemanticIdDecoder = self._net
        vectors = net.body.table(as_tensor(task.rows, net))
        states = net.body.states(vectors, **task.inputs).flatten(0, 1)
        return states[as_tensor(task.positions, net)]

    def _target_conditions(
        self, task: Task, training: TrainingData, rng: np.random.Generator
    ) -> np.ndarray | None:
        """Return (M, E) what each target was asked for; a row of zeros, and None: nothing.

        `task.events` are the events of the targets in `training`.
        """
        return None

    # answering

    def _recommend(self, queries: Queries, k: int, candidates: Rankings | None) -> Rankings:
        queries = queries.reindexed(self.items_)
        lists = None if candidates is None else candidates.reindexed(self.items_).ragged()
        rows = np.full((len(queries), k), -1, np.int32)
        scores = np.full((len(queries), k), -np.inf, np.float32)
        if self.exact:
            answer = self._rank_exactly
            numbers_per_query = self.width * len(self.items_)
        else:
            answer = self._rank_by_beam
            numbers_per_query = max(self.beams, 2 * k) * max(self.width, self.words)
        with torch.inference_mode():
            for numbers, windows in self._query_batches(queries):
                states = self._query_states(windows, queries.take(numbers))
                for start, stop in blocks(len(numbers), numbers_per_query):
                    block = numbers[start:stop]
                    allowed = None if lists is None else lists.take(block)
                    best, values = answer(states[start:stop], k, queries.take(block), allowed)
                    rows[block, : best.shape[1]] = best
                    scores[block, : best.shape[1]] = values
        notes = short_notes(self.name, queries, rows, k)
        return Rankings(self.items_, rows, scores, "log-probability", notes=notes)

    def _query_states(self, windows: Windows, queries: Queries) -> Tensor:
        """Return the states (B, D) that the next item of queries is generated from."""
        net: SemanticIdDecoder = self._ready()
        states = last_states(net.body, windows, **self._layer_inputs(windows))
        return net.conditioned(states, self._conditions(queries))

    def _conditions(self, queries: Queries) -> np.ndarray | None:
        """Return (B, E) what queries ask for besides the history; zeros, and None: nothing."""
        return None

    def _rank_by_beam(
        self, states: Tensor, k: int, queries: Queries, candidates: Ragged | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return rows and scores (B, k) of the best items by beam search."""
        net: SemanticIdDecoder = self._ready()
        trie = net.trie.to(states.device)
        allowed = AllowedItems(trie, queries.exclude, queries.blocked_rows, candidates)
        width = min(max(self.beams, 2 * k), len(self.items_))
        rows, scores = beam_search(net, states, trie, width, allowed, self.closed)
        return rows[:, :k].cpu().numpy(), scores[:, :k].cpu().numpy()

    def _rank_exactly(
        self, states: Tensor, k: int, queries: Queries, candidates: Ragged | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return rows and scores (B, k) of the best items, with every item scored."""
        net: SemanticIdDecoder = self._ready()
        scores = exact_scores(net, states, net.trie.to(states.device), self.closed)
        return top_k(scores.cpu().numpy(), k, queries.exclude, queries.blocked_rows, candidates)

    def with_items(self, items: Dataset, run: Run = Run()) -> Self:
        """Return a copy that can recommend the items of another data set too.

        Their codes are made from their texts; nothing is learned. Each gets the next free last
        digit of its code. An item whose code has no free digit that the net can generate is left
        out, and counted in `fit_report_`.

        Raises DataError where codes were made from users' choices, ModelError for another encoder.
        """
        self._check_fitted()
        if self.ids_from != "text" or not self.space_:
            source = self.ids_from if self.space_ else "behaviour"
            raise DataError(
                f"codes were made from {source}: only those made from text are known of an item"
                " that nobody chose"
            )
        encoder = known_encoder(encoder_of(self.encoder), self.space_)
        is_new = self.items_.rows(items.catalogue.ids.tolist()) < 0
        rows = np.flatnonzero(self._describable(items) & is_new)
        texts = [items.item_texts[row] for row in rows.tolist()]
        vectors = unit(item_vectors(encoder, texts, run.progress))
        codes = with_next_digit(self._codes_of_new(items, rows, vectors), self.codes_)
        has_code = codes[:, -1] < self.sizes_[-1]
        new_ids = items.catalogue.ids[rows[has_code]].tolist()
        new_texts = [text for text, has in zip(texts, has_code.tolist(), strict=True) if has]
        extended = self._with_codes(new_ids, codes[has_code], vectors[has_code], new_texts)
        extended.fit_report_ = {**self.fit_report_, "left_out": int((~has_code).sum())}
        return extended

    def _with_codes(
        self, item_ids: list[str], codes: np.ndarray, vectors: np.ndarray, texts: list[str]
    ) -> Self:
        """Return a copy with further items, their codes, vectors and texts."""
        items, order = self.items_.with_items(item_ids)
        read_vectors = vectors[:, : self.vectors_.shape[1]]
        learned: dict[str, Any] = {}
        if "item_words_" in self.__dict__:  # models of earlier versions have none
            new_words = known_words(texts, self.telling_words_, self.item_words_)
            all_words = sp.vstack([self.item_words_, new_words], format="csr")
            learned["item_words_"] = all_words[order]
        return self._with_state(
            **learned,
            items_=items,
            codes_=np.concatenate([self.codes_, codes]).astype(np.int32)[order],
            vectors_=np.concatenate([self.vectors_, read_vectors])[order],
        )

    # teaching

    def aligned(
        self,
        data: Dataset,
        reward: Reward,
        settings: Alignment = STANDARD,
        run: Run = Run(),
        closed: bool = True,
        watch: Callable[[Self], float] | None = None,
    ) -> Self:
        """Return a copy taught by rewards of the items it draws for the histories of `data`.

        `reward(prompts, items)` gives (B, G) for item rows (B, G) of `items_`; -1 is a code that is
        no item's, which only `closed=False` draws. `fit_report_["alignment"]` holds the curves;
        `watch` adds one, such as an accuracy on other data.
        """
        self._check_fitted()
        return self._taught(data, reward, settings, run, closed, watch)

    def _taught(
        self,
        data: Dataset,
        reward: Reward,
        settings: Alignment,
        run: Run,
        closed: bool = True,
        watch: Callable[[Self], float] | None = None,
    ) -> Self:
        """Do `aligned`, in the middle of `fit` too."""
        method = self._with_state()
        method._net = copy.deepcopy(self._ready())
        policy = method._policy(self._known_training(data), reward, closed)
        watched = None if watch is None else lambda: watch(method)
        key = f"{run_key(self, data, None, run)}-aligned"
        report = align(policy, settings, run, key, watched)
        method._keep_weights()
        method.fit_report_ = {**self.fit_report_, "alignment": report}
        return method

    def _adopt(
        self, teach: Callable[[Dataset, Run], Self], data: Dataset, run: Run, valid: Split | None
    ) -> None:
        """Take over the copy that `teach` returns, in the middle of `fit`.

        It is taught by what the fit learned from: what the fit validates on is for its choices.
        """
        _, learned = cut_validation(data, run, valid, needed=self.patience is not None)
        taught = teach(learned, run)
        self.__dict__ |= taught.state()
        self._net = taught._ready()

    def _policy(self, training: TrainingData, reward: Reward, closed: bool) -> SpellerPolicy:
        """Return this speller as a policy that a reward teaches."""
        return SpellerPolicy(self, training, reward, closed=closed)

    def _known_training(self, data: Dataset) -> TrainingData:
        """Return the histories of a data set over `items_`, without events of other items."""
        rows = mapped_rows(data, self.items_)
        is_known = rows.values >= 0
        times = data.sequences.times_ms
        return TrainingData(
            data,
            rows.keep(is_known),
            None if times is None else times.values[is_known],
            np.unique(rows.values[is_known]),
        )

    # explaining

    def explain(
        self, queries: Sequence[Query], rankings: Sequence[Ranking]
    ) -> list[list[Explanation]]:
        """Explain items by their code: what its prefixes mean, and which events share them.

        An event counts by the digits that its item shares with the recommended one from the first
        on. These are similarities of codes, not shares of what the net computed.
        """
        self._check_fitted()
        over_items = Queries.of(queries).reindexed(self.items_)
        recent = over_items.histories.last(self.length)
        return [
            [self._explain_item(item_id, recent[i]) for item_id in ranking.ids]
            for i, ranking in enumerate(rankings)
        ]

    def _explain_item(self, item_id: str, events: np.ndarray) -> Explanation:
        row = int(self.items_.rows([item_id])[0])
        if row < 0:
            return Explanation(item_id)
        rows = np.unique(events)
        shared = shared_digits(self.codes_[rows, :-1], self.codes_[row, :-1])
        order = np.argsort(-shared, kind="stable")
        order = order[shared[order] > 0]
        total = max(int(shared.sum()), 1)
        evidence = tuple(
            Evidence("item", str(self.items_.ids[rows[i]]), float(shared[i] / total))
            for i in order.tolist()
        )
        return Explanation(item_id, evidence, said_path(self.path_of(item_id)))

    def path_of(self, item_id: str) -> list[CodeLevel]:
        """Return what each prefix of an item's code means: its words and its nearest items.

        Raises DataError for an item without a code.
        """
        code = self.code_of(item_id)
        row = int(self.items_.rows([item_id])[0])
        return [
            self._level_of(row, code[: length + 1]) for length in range(self.codes_.shape[1] - 1)
        ]

    def _level_of(self, row: int, prefix: tuple[int, ...]) -> CodeLevel:
        below = np.flatnonzero((self.codes_[:, : len(prefix)] == prefix).all(axis=1))
        others = below[below != row]
        shared = shared_digits(self.codes_[others, :-1], self.codes_[row, :-1])
        nearest = others[np.argsort(-shared, kind="stable")][:NEAREST]
        words: tuple[str, ...] = ()
        if "item_words_" in self.__dict__:
            words = commonest(self.item_words_[below], self.telling_words_)
        return CodeLevel(prefix, len(below), words, tuple(self.items_.ids[nearest].tolist()))

    def code_of(self, item_id: str) -> tuple[int, ...]:
        """Return the digits of an item. Raises DataError for an item without a code."""
        self._check_fitted()
        row = int(self.items_.rows([item_id])[0])
        if row < 0:
            raise DataError(
                f"{item_id!r} has no code: it was not in the data that {self.name} was fitted on,"
                " or has neither events nor text there"
            )
        return tuple(self.codes_[row].tolist())


def _fill_empty(vectors: np.ndarray, choices: sp.csr_matrix) -> np.ndarray:
    """Return vectors in which items without text (zero rows) have one from their users' choices.

    It is the sum of the vectors of what those users chose, by `choices` (U, N), which tells items
    without text apart.
    """
    empty = np.flatnonzero(~vectors.any(axis=1))
    if not len(empty):
        return vectors
    choices_of_empty = choices[:, empty]
    users = np.flatnonzero(np.diff(choices_of_empty.indptr))
    filled = vectors.copy()
    filled[empty] = choices_of_empty[users].T @ (choices[users] @ vectors)
    return filled
