"""LinkedIn's feed retriever: one encoder reads prompts of members and of posts.

Numbers in the prompts of posts are put into words.
"""

import re
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
import polars as pl
import torch
from torch import Tensor, nn

from tailor.core.defaults import DEFAULT
from tailor.core.defaults import encoder as encoder_of
from tailor.core.methods import Paper, ScoringRecommender
from tailor.core.run import Run
from tailor.core.search_space import Range
from tailor.core.specs import check_settings
from tailor.data.arrays import Ragged
from tailor.data.dataset import Dataset
from tailor.data.examples import unchosen_impressions
from tailor.data.queries import Queries
from tailor.data.sampling import sample_ragged, shuffled_batches
from tailor.data.splits import Split
from tailor.errors import DataError, nearest
from tailor.llm.prompts import SLOT
from tailor.nn.fitting import Recipe
from tailor.nn.item_encoders import TextItemEncoder
from tailor.nn.losses import InBatchSoftmax
from tailor.ports.base import Encoder
from tailor.text.cached import asking, item_vectors, known_encoder
from tailor.text.hashing import HashingEncoder
from tailor.text.percentiles import Percentiles
from tailor.training.nets import NetMethod
from tailor.training.validation import Validation, cut_validation

PAPER = Paper(
    "linkedin-feed",
    "Large-Scale Retrieval for the LinkedIn Feed using Causal Language Models",
    "https://arxiv.org/abs/2510.14223",
    "Counters put as percentiles are followed more closely by the scores, and find more, than"
    " counters as digits; posts shown and passed over, as negatives, find more",
)
# maximum length of the items in a member's prompt: encoders read a few hundred tokens, and the
# newest items must not be cut off
CHARACTERS = 500
ENCODED = 256  # prompts between two steps of a progress bar


@dataclass(eq=False)
class LinkedInFeed(NetMethod, ScoringRecommender):
    """Prompts describe members and posts, and the posts with the nearest vectors are served.

    A post's prompt is its text and its counters in words, a member's the profile and the posts last
    chosen (LinkedIn 2025). Learned from the members' choices, against the batch's other targets and
    the posts that the member was shown and did not choose. The first numbers of a vector are
    trained to be useful alone (`nested`, Matryoshka).

    Differs from the paper (a form for CPUs, reconstructed): the encoder is frozen under one learned
    map for both prompts, where the paper trains a causal language model.
    """

    reads_impressions: ClassVar[bool] = True
    renamed_state = {"map_": "net_weights_"}

    encoder: Encoder | str = DEFAULT
    """Encoder of both prompts; "default": TAILOR_ENCODER, tailor.toml, else MiniLM."""
    numbers: tuple[str, ...] = ("events",)
    """Numbers in posts' prompts: numeric columns of the items, or "events", the number of events
    that an item has had.
    """
    wording: Literal["percentiles", "digits", "none"] = "percentiles"
    """Form of the numbers in a prompt; none: they are left out."""
    profile: tuple[str, ...] = ()
    """Columns of the users in members' prompts."""
    item_prompt: str = "{numbers}. {text}"
    """Template of posts' prompts, with the slots {numbers} and {text}."""
    member_prompt: str = "{profile}. {items}"
    """Template of members' prompts, with the slots {profile} and {items}."""
    length: int = 6
    """Latest posts in a member's prompt, the newest last."""
    examples: int = 10
    """Latest events per member that are learned from."""
    hard: int = 4
    """Negatives per example, drawn from the posts that the member was shown and did not choose."""
    width: int = 128
    """Width of the mapped vectors."""
    nested: tuple[int, ...] = (32, 64)
    """Widths whose first numbers are trained to be useful alone."""
    dims: int | None = None
    """First numbers of a vector that are compared; none: all."""
    temperature: Annotated[float, Range(0.03, 0.2, log=True)] = 0.05
    """Cosines of members and posts are divided by it while training."""
    lr: Annotated[float, Range(3e-4, 6e-3, log=True)] = 1e-3
    """Peak learning rate of AdamW; decays linearly to 1 % over all epochs."""
    batch: int = 512
    """Examples per batch."""
    epochs: int = 40
    """Maximum number of epochs."""
    patience: int | None = 3
    """Validations (every 5 epochs) without a better NDCG@10 before training stops; None: all
    epochs.
    """

    texts_: list[str] = field(init=False, repr=False)
    """(N,) texts of the items, for members' prompts."""
    cuts_: np.ndarray = field(init=False, repr=False)
    """(numbers, 99) cuts of percentiles, learned when fitted."""
    vectors_: np.ndarray = field(init=False, repr=False)
    """(N, D) vectors of the items' prompts, of unit length; zero for an item without text."""
    space_: str = field(init=False, repr=False)
    """Name of the encoder's vector space."""

    def __post_init__(self) -> None:
        check_settings(self)
        for name in ("length", "examples", "width", "batch"):
            if getattr(self, name) < 1:
                raise DataError(f"{name} is {getattr(self, name)}: it must be at least 1")
        if self.hard < 0 or self.epochs < 0 or not self.temperature > 0 or not self.lr > 0:
            raise DataError("hard and epochs must be at least 0, temperature and lr above 0")
        widths = self.nested if self.dims is None else (*self.nested, self.dims)
        for width in widths:
            if not 1 <= width <= self.width:
                raise DataError(f"nested or dims names {width}: vectors have {self.width} numbers")
        self._check_template("item_prompt", ["numbers", "text"])
        self._check_template("member_prompt", ["items", "profile"])

    def _check_template(self, name: str, slots: list[str]) -> None:
        """Raise DataError where a template has other slots than these."""
        template = getattr(self, name)
        if set(SLOT.findall(template)) - set(slots):
            raise DataError(
                f"{name} is {template!r}: its slots are"
                f" {', '.join(f'{{{slot}}}' for slot in slots)}"
            )

    @classmethod
    def tiny(cls) -> "LinkedInFeed":
        return cls(HashingEncoder(32), width=8, nested=(4,), epochs=3)

    # prompts

    def _values(self, data: Dataset) -> np.ndarray:
        """Return the values (numbers, N) in the items' prompts; NaN where one is missing.

        Raises DataError for a column that the items lack.
        """
        values = np.empty((len(self.numbers), len(data.catalogue)))
        for i, name in enumerate(self.numbers):
            column = data.item_table[name] if name in data.item_table.columns else None
            if column is None and name == "events":
                values[i] = np.bincount(data.sequences.rows.values, minlength=len(data.catalogue))
            elif column is None or not column.dtype.is_numeric():
                raise DataError(
                    f'numbers names "{name}": it must be a numeric column of the items, or "events"'
                )
            else:
                values[i] = column.cast(pl.Float64).fill_null(float("nan")).to_numpy()
        return values

    def item_prompts(self, data: Dataset) -> list[str]:
        """Return the prompts (N,) of a data set's items; empty for an item without text.

        Counters are those of the data set, percentiles those of the fit.
        """
        columns = [
            self._words(name, values, cuts)
            for name, values, cuts in zip(self.numbers, self._values(data), self.cuts_, strict=True)
        ]
        prompts = []
        for i, text in enumerate(data.item_texts):
            numbers = ", ".join(words[i] for words in columns if words[i])
            slots = {"text": text, "numbers": numbers}
            prompts.append(_fill_slots(self.item_prompt, slots) if text.strip() else "")
        return prompts

    def _words(self, name: str, values: np.ndarray, cuts: np.ndarray) -> list[str]:
        """Return a number's wording (N,) for every item; empty where it is missing."""
        if self.wording == "percentiles":
            return Percentiles(cuts).words(values, name)
        if self.wording == "none":
            return [""] * len(values)
        return ["" if np.isnan(value) else f"{name}: {value:.10g}" for value in values.tolist()]

    def member_prompts(self, profiles: dict[str, list[Any]], histories: Ragged) -> list[str]:
        """Return the prompts (B,) of members with these histories (rows of `items_`).

        `profiles` holds B values per column of the users. A prompt has the newest posts that fit
        within CHARACTERS, at least one.
        """
        recent = histories.last(self.length)
        prompts = []
        for i in range(len(recent)):
            values = [column[i] for column in profiles.values()]
            profile = ", ".join(str(value) for value in values if value is not None)
            newest = self._newest_texts(recent[i])
            items = "; ".join(text for text in newest if text.strip())
            prompts.append(_fill_slots(self.member_prompt, {"profile": profile, "items": items}))
        return prompts

    def _newest_texts(self, rows: np.ndarray) -> list[str]:
        """Return the texts of the newest items that fit within CHARACTERS, in their order."""
        remaining = CHARACTERS
        texts: list[str] = []
        for row in rows[::-1].tolist():
            remaining -= len(self.texts_[row])
            if remaining < 0 and texts:
                break
            texts.insert(0, self.texts_[row][:CHARACTERS])
        return texts

    # learning

    def _fit(self, data: Dataset, run: Run, valid: Split | None) -> None:
        validation, learned = cut_validation(data, run, valid, needed=self.patience is not None)
        columns = data.tables["users"].columns[1:] if "users" in data.tables else []
        for name in self.profile:
            if name not in columns:
                raise DataError(
                    f'profile names "{name}", which is no column of the'
                    f" users.{nearest(name, columns)}"
                )
        encoder = encoder_of(self.encoder)
        self.items_ = data.catalogue
        self.texts_ = data.item_texts
        self.cuts_ = _percentile_cuts(self._values(learned))
        self.vectors_ = item_vectors(encoder, self.item_prompts(learned), run.progress)
        self.space_ = encoder.space
        self._start_net(run)
        examples = _latest(learned.sequences.rows, self.examples)
        if len(examples):
            report = self._learn(data, learned, examples, validation, run)
        else:
            report = self._leave_untrained("no user has two events to learn from")
        self.fit_report_ = {
            "items_without_text": int((~self.vectors_.any(axis=1)).sum()),
            "examples": len(examples),
            **report,
        }

    def _learn(
        self,
        whole: Dataset,
        data: Dataset,
        examples: np.ndarray,
        validation: Validation | None,
        run: Run,
    ) -> dict[str, Any]:
        """Train on examples, which are positions of events with one before them.

        `data` is the part of the `whole` data set that may be learned from.
        """
        rows = data.sequences.rows
        owners = rows.row_ids[examples]
        targets = rows.values[examples].astype(np.int64)
        members = self._example_vectors(data, examples, run)
        counts = np.maximum(np.bincount(rows.values, minlength=len(self.items_)), 1)
        log_share = np.log(counts / len(rows.values)).astype(np.float32)
        unchosen = unchosen_impressions(data)
        # vectors of the members of the validation, which asks for them again every few epochs
        self._validated: dict[str, np.ndarray] = {}

        def batches(rng: np.random.Generator) -> list[np.ndarray]:
            return shuffled_batches(len(targets), self.batch, rng)

        def loss(batch: np.ndarray, rng: np.random.Generator) -> Tensor:
            negatives = sample_ragged(unchosen.take(owners[batch]), self.hard, rng)
            batch_targets = targets[batch]
            return self._loss(members[batch], batch_targets, negatives, log_share[batch_targets])

        recipe = Recipe(self.epochs, self.lr, weight_decay=0.01, patience=self.patience, every=5)
        report = self._train_net(whole, run, recipe, batches, loss, validation)
        del self._validated
        return {**report, "passed_over": len(unchosen.values)}

    def _example_vectors(self, data: Dataset, examples: np.ndarray, run: Run) -> np.ndarray:
        """Return the vectors (M, D) of the members' prompts before the events of the examples."""
        rows = data.sequences.rows
        owners = rows.row_ids[examples]
        users = data.contexts(data.users.ids[owners])
        # in the order of the setting, as when answering
        profiles = {name: users[name].tolist() for name in self.profile}
        starts = np.maximum(rows.offsets[owners], examples - self.length)
        histories = Ragged.of(
            [rows.values[start:stop] for start, stop in zip(starts, examples, strict=True)]
        )
        prompts = self.member_prompts(profiles, histories)
        return self._encode_prompts(encoder_of(self.encoder), prompts, run)

    def _loss(
        self,
        members: np.ndarray,
        targets: np.ndarray,
        negatives: np.ndarray,
        log_share: np.ndarray,
    ) -> Tensor:
        """Return the loss of a batch of M examples, averaged over the nested widths.

        `members` are the vectors (M, D) of prompts, `targets` rows (M,) of items, `negatives` rows
        (M, H), -1 for none, and `log_share` the log of each target's share of the events.
        """
        net = self._net
        device = net.texts.device
        member = net.encode(torch.from_numpy(members).to(device))
        target_rows = torch.from_numpy(targets).to(device)
        negative_rows = torch.from_numpy(negatives).to(device)
        positive = net(target_rows)
        negative = net(negative_rows.clamp(min=0))
        log_shares = torch.from_numpy(log_share).to(device)
        losses = [
            InBatchSoftmax()(
                _unit_head(member, width) / self.temperature,
                _unit_head(positive, width),
                target_rows,
                log_shares,
                _unit_head(negative, width),
                negative_rows >= 0,
            )
            for width in (self.width, *self.nested)
        ]
        return torch.stack(losses).mean()

    def _make_net(self) -> TextItemEncoder:
        return TextItemEncoder(torch.from_numpy(self.vectors_), self.width, 2 * self.width)

    def _encode_prompts(self, encoder: Encoder, prompts: list[str], run: Run = Run()) -> np.ndarray:
        """Return vectors (B, D) of members' prompts, which are not cached.

        The vector of a prompt without letters and digits is zero.
        """
        distinct = list(dict.fromkeys(prompts))
        parts = [distinct[i : i + ENCODED] for i in range(0, len(distinct), ENCODED)]
        vector_of: dict[str, np.ndarray] = {}
        for part in run.progress(parts, "reading members' prompts", len(parts)):
            vector_of |= zip(part, encoder.encode(part), strict=True)
        vectors = np.array([vector_of[prompt] for prompt in prompts], dtype=np.float32)
        vectors = vectors.reshape(len(prompts), self.vectors_.shape[1])
        vectors[[not re.search(r"\w", prompt) for prompt in prompts]] = 0
        return vectors

    @torch.inference_mode()
    def _scores(self, queries: Queries) -> np.ndarray:
        profiles = {name: queries.context(name) for name in self.profile}
        members = self._query_vectors(self.member_prompts(profiles, queries.histories))
        net = self._ready()
        width = self.dims or self.width
        states = net.encode(torch.from_numpy(members).to(net.texts.device))[:, :width]
        items = net.all_items()[:, :width]
        cosines = nn.functional.normalize(states, dim=-1) @ nn.functional.normalize(items, dim=-1).T
        scores: np.ndarray = cosines.float().cpu().numpy()
        scores[:, ~self.vectors_.any(axis=1)] = -np.inf
        scores[~members.any(axis=1)] = -np.inf
        return scores

    def _query_vectors(self, prompts: list[str]) -> np.ndarray:
        """Return vectors (B, D) of members' prompts; while training they are remembered."""
        vector_of = self.__dict__.get("_validated", {})
        new = [prompt for prompt in dict.fromkeys(prompts) if prompt not in vector_of]
        encoder = asking(encoder_of(self.encoder), self.space_)
        vector_of |= zip(new, self._encode_prompts(encoder, new), strict=True)
        vectors = np.array([vector_of[prompt] for prompt in prompts], dtype=np.float32)
        return vectors.reshape(len(prompts), -1)

    def refreshed(self, data: Dataset, run: Run = Run()) -> Self:
        """Return a copy with the items of `data` and their present counters.

        Only changed prompts are encoded, and nothing is learned. Raises ModelError for another
        encoder.
        """
        self._check_fitted()
        fresh = type(self)(**self.params())
        fresh.__dict__ |= self.state() | {"items_": data.catalogue, "texts_": data.item_texts}
        encoder = known_encoder(encoder_of(self.encoder), self.space_)
        fresh.vectors_ = item_vectors(encoder, fresh.item_prompts(data), run.progress)
        return fresh


def _percentile_cuts(values: np.ndarray) -> np.ndarray:
    """Return the percentile cuts (numbers, 99) of values (numbers, N); zero for one without any."""
    cuts = []
    for row in values:
        finite = row[np.isfinite(row)]
        cuts.append(Percentiles.of(finite).cuts if len(finite) else np.zeros(99))
    return np.array(cuts).reshape(-1, 99)


def _fill_slots(template: str, slots: dict[str, str]) -> str:
    """Return the template with its slots filled.

    All slots are filled at once, so that braces in a text mean nothing. Punctuation at the ends,
    as next to an empty slot, is removed.
    """
    return SLOT.sub(lambda match: slots[match[1]], template).strip(" .,;:")


def _unit_head(vectors: Tensor, width: int) -> Tensor:
    """Return the first `width` numbers of vectors, of unit length."""
    return nn.functional.normalize(vectors[..., :width].float(), dim=-1)


def _latest(rows: Ragged, most: int) -> np.ndarray:
    """Return the positions of each row's last `most` values, its first value left out."""
    is_first = rows.from_end == np.repeat(rows.lengths, rows.lengths) - 1
    return np.flatnonzero((rows.from_end < most) & ~is_first)
