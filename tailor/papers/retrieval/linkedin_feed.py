"""LinkedIn's feed retriever: one encoder reads prompts of members and posts, numbers in words.

Shapes: B queries, M examples, N items, D width, H hard negatives.
"""

import re
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
import polars as pl
import torch
from torch import Tensor
from torch.nn.functional import normalize

from tailor.core.defaults import DEFAULT
from tailor.core.defaults import encoder as encoder_of
from tailor.core.methods import Paper, ScoringRecommender
from tailor.core.run import Run
from tailor.core.search_space import Range
from tailor.core.specs import check_settings
from tailor.data.arrays import Ragged
from tailor.data.dataset import Dataset
from tailor.data.examples import impressions_not_chosen
from tailor.data.queries import Queries
from tailor.data.sampling import sample_rows
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
# length of the posts in a member's prompt: encoders read a few hundred tokens, and the newest post
# must not be cut
CHARACTERS = 500
ENCODED = 256  # prompts between two steps of a progress bar
CUTS = 99  # percentiles of a number


@dataclass(eq=False)
class LinkedInFeed(NetMethod, ScoringRecommender):
    """Recommend posts whose prompt is near the member's prompt (LinkedIn 2025).

    A post's prompt is its text and its counters in words, a member's is the profile and the posts
    chosen last; one encoder and one map make vectors of both. Trained on choices, against the other
    targets of the batch and the posts that were shown and not chosen.

    Differs from the paper (form for a CPU, reconstructed): the encoder is frozen under one map for
    both prompts, where the paper trains a causal language model; the first `nested` numbers of a
    vector are trained to suffice alone (Matryoshka).
    """

    reads_impressions: ClassVar[bool] = True
    renamed_state = {"map_": "net_weights_"}

    encoder: Encoder | str = DEFAULT
    """Encoder of both prompts; "default": TAILOR_ENCODER, tailor.toml, else MiniLM."""
    numbers: tuple[str, ...] = ("events",)
    """Numbers in posts' prompts: "events" (of the item), or numeric columns of the items table."""
    wording: Literal["percentiles", "digits", "none"] = "percentiles"
    """How numbers are written."""
    profile: tuple[str, ...] = ()
    """Columns of the users table in members' prompts."""
    item_prompt: str = "{numbers}. {text}"
    """Template of a post's prompt, with the slots text and numbers."""
    member_prompt: str = "{profile}. {items}"
    """Template of a member's prompt, with the slots profile and items."""
    length: int = 6
    """Latest posts in a member's prompt, the newest last."""
    examples: int = 10
    """Latest events per member that are trained on."""
    hard: int = 4
    """Hard negatives per example: posts that the member was shown and did not choose."""
    width: int = 128
    """Width of the vectors that are compared."""
    nested: tuple[int, ...] = (32, 64)
    """Numbers of leading dimensions that are trained to suffice alone."""
    dims: int | None = None
    """Number of leading dimensions that are compared; None: all."""
    temperature: Annotated[float, Range(0.03, 0.2, log=True)] = 0.05
    """Divisor of the cosine of member and post."""
    lr: Annotated[float, Range(3e-4, 6e-3, log=True)] = 1e-3
    """Peak learning rate of AdamW; decays linearly to 1 % over all epochs."""
    batch: int = 512
    """Examples per step."""
    epochs: int = 40
    """Passes over the examples, at most."""
    patience: int | None = 3
    """Validations (every 5 epochs) without a better NDCG@10 before training stops; None: all
    epochs.
    """

    texts_: list[str] = field(init=False, repr=False)
    """(N,) texts of the items, for members' prompts."""
    cuts_: np.ndarray = field(init=False, repr=False)
    """(numbers, CUTS) percentiles of each number in the training data."""
    vectors_: np.ndarray = field(init=False, repr=False)
    """(N, D) vectors of the items' prompts, unit length."""
    space_: str = field(init=False, repr=False)
    """Name of the encoder's vector space."""

    def __post_init__(self) -> None:
        check_settings(self)
        for name in ("length", "examples", "width", "batch"):
            if getattr(self, name) < 1:
                raise DataError(f"{name} is {getattr(self, name)}: it must be at least 1")
        if self.hard < 0 or self.epochs < 0 or not self.temperature > 0 or not self.lr > 0:
            raise DataError("hard and epochs must be at least 0, temperature and lr above 0")
        for dims in (*self.nested, *([] if self.dims is None else [self.dims])):
            if not 1 <= dims <= self.width:
                raise DataError(f"nested or dims names {dims}: vectors have {self.width} numbers")
        self._check_template("item_prompt", {"text", "numbers"})
        self._check_template("member_prompt", {"profile", "items"})

    def _check_template(self, name: str, slots: set[str]) -> None:
        """Raise DataError for a template with other slots."""
        if set(SLOT.findall(getattr(self, name))) - slots:
            raise DataError(
                f"{name} is {getattr(self, name)!r}: its slots are"
                f" {', '.join(f'{{{slot}}}' for slot in sorted(slots))}"
            )

    @classmethod
    def tiny(cls) -> "LinkedInFeed":
        return cls(HashingEncoder(32), width=8, nested=(4,), epochs=3)

    # prompts

    def _item_numbers(self, data: Dataset) -> np.ndarray:
        """Return (numbers, N) the numbers in the items' prompts.

        Raises DataError for a column that the items table lacks.
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
        """Return (N,) the prompts of the items of a data set, a preview of the template.

        The counters are the data set's, the percentiles those of the fit.
        """
        numbers = [""] * len(data.catalogue)
        values = self._item_numbers(data)
        for name, row, cuts in zip(self.numbers, values, self.cuts_, strict=True):
            phrases = self._number_phrases(name, row, cuts)
            pairs = zip(numbers, phrases, strict=True)
            numbers = [", ".join(filter(None, pair)) for pair in pairs]
        return [
            _fill(self.item_prompt, {"text": text, "numbers": phrase}) if text.strip() else ""
            for text, phrase in zip(data.item_texts, numbers, strict=True)
        ]

    def _number_phrases(self, name: str, values: np.ndarray, cuts: np.ndarray) -> list[str]:
        """Return (N,) phrases of one number of the items."""
        if self.wording == "percentiles":
            return Percentiles(cuts).words(values, name)
        if self.wording == "none":
            return [""] * len(values)
        return ["" if np.isnan(value) else f"{name}: {value:.10g}" for value in values.tolist()]

    def member_prompts(self, profiles: dict[str, list[Any]], histories: Ragged) -> list[str]:
        """Return (B,) the prompts of members: profile, and as many newest posts as fit.

        `profiles` holds the members' values by column, `histories` rows of `items_`.
        """
        recent = histories.last(self.length)
        prompts = []
        for i in range(len(recent)):
            values = [column[i] for column in profiles.values()]
            profile = ", ".join(str(value) for value in values if value is not None)
            posts = self._newest_posts(recent[i])
            prompts.append(_fill(self.member_prompt, {"profile": profile, "items": posts}))
        return prompts

    def _newest_posts(self, rows: np.ndarray) -> str:
        """Return the texts of posts, oldest first, without the oldest that exceed CHARACTERS."""
        remaining = CHARACTERS
        texts: list[str] = []
        for row in rows[::-1].tolist():
            text = self.texts_[row]
            remaining -= len(text)
            if remaining < 0 and texts:
                break
            texts.insert(0, text[:CHARACTERS])
        return "; ".join(text for text in texts if text.strip())

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
        finite = [row[np.isfinite(row)] for row in self._item_numbers(learned)]
        cuts = [Percentiles.of(row).cuts if len(row) else np.zeros(CUTS) for row in finite]
        self.cuts_ = np.array(cuts).reshape(-1, CUTS)
        self.vectors_ = item_vectors(encoder, self.item_prompts(learned), run.progress)
        self.space_ = encoder.space
        self._start_net(run)
        examples = _latest_examples(learned.sequences.rows, self.examples)
        if len(examples):
            report = self._train(data, learned, examples, validation, run)
        else:
            report = self._leave_untrained("no user has two events to learn from")
        self.fit_report_ = {
            "items_without_text": int((~self.vectors_.any(axis=1)).sum()),
            "examples": len(examples),
            **report,
        }

    def _train(
        self,
        data: Dataset,
        learned: Dataset,
        examples: np.ndarray,
        validation: Validation | None,
        run: Run,
    ) -> dict[str, Any]:
        """Train on examples, positions of events that have one before them."""
        rows = learned.sequences.rows
        users = rows.row_ids[examples]
        targets = rows.values[examples].astype(np.int64)
        members = self._example_members(learned, examples, run)
        counts = np.bincount(rows.values, minlength=len(self.items_))
        log_share = np.log(np.maximum(counts, 1) / len(rows.values)).astype(np.float32)
        not_chosen = impressions_not_chosen(learned)
        # members' vectors by prompt: every validation asks for the same ones
        self._validated: dict[str, np.ndarray] | None = {}

        def batches(rng: np.random.Generator) -> list[np.ndarray]:
            return np.array_split(rng.permutation(len(targets)), -(-len(targets) // self.batch))

        def loss(batch: np.ndarray, rng: np.random.Generator) -> Tensor:
            hard = sample_rows(not_chosen.take(users[batch]), self.hard, rng)
            return self._loss(members[batch], targets[batch], hard, log_share[targets[batch]])

        recipe = Recipe(self.epochs, self.lr, weight_decay=0.01, patience=self.patience, every=5)
        report = self._train_net(data, run, recipe, batches, loss, validation)
        del self._validated
        return {**report, "passed_over": len(not_chosen.values)}

    def _example_members(self, data: Dataset, examples: np.ndarray, run: Run) -> np.ndarray:
        """Return (M, D) vectors of the members' prompts just before each example."""
        rows = data.sequences.rows
        users = rows.row_ids[examples]
        contexts = data.contexts(data.users.ids[users])
        # in the order of the setting, as when queries are answered
        profiles = {name: contexts[name].tolist() for name in self.profile}
        histories = [
            rows.values[max(rows.offsets[user], position - self.length) : position]
            for user, position in zip(users, examples, strict=True)
        ]
        prompts = self.member_prompts(profiles, Ragged.of(histories))
        return self._encode_members(encoder_of(self.encoder), prompts, run)

    def _loss(
        self, members: np.ndarray, targets: np.ndarray, hard: np.ndarray, log_share: np.ndarray
    ) -> Tensor:
        """Return the mean loss over the nested widths; `hard` (M, H) are item rows, -1: none."""
        net = self._net
        device = net.texts.device
        states = net.encode(torch.from_numpy(members).to(device))
        target_rows = torch.from_numpy(targets).to(device)
        hard_rows = torch.from_numpy(hard).to(device)
        positive = net(target_rows)
        negative = net(hard_rows.clamp(min=0))
        share = torch.from_numpy(log_share).to(device)
        losses = []
        for width in (self.width, *self.nested):
            state, near, far = (
                normalize(vectors[..., :width].float(), dim=-1)
                for vectors in (states, positive, negative)
            )
            loss = InBatchSoftmax()
            losses.append(
                loss(state / self.temperature, near, target_rows, share, far, hard_rows >= 0)
            )
        return torch.stack(losses).mean()

    def _make_net(self) -> TextItemEncoder:
        return TextItemEncoder(torch.from_numpy(self.vectors_), self.width, 2 * self.width)

    def _encode_members(self, encoder: Encoder, prompts: list[str], run: Run = Run()) -> np.ndarray:
        """Return (B, D) vectors of members' prompts; zero for a prompt without a word.

        They are not cached on disk.
        """
        distinct = list(dict.fromkeys(prompts))
        parts = [distinct[start : start + ENCODED] for start in range(0, len(distinct), ENCODED)]
        progress = run.progress(parts, "reading members' prompts", len(parts))
        encoded = [encoder.encode(part) for part in progress]
        by_prompt = dict(zip(distinct, np.concatenate(encoded), strict=True)) if distinct else {}
        vectors = np.array([by_prompt[prompt] for prompt in prompts], dtype=np.float32)
        vectors = vectors.reshape(len(prompts), self.vectors_.shape[1])
        vectors[[not re.search(r"\w", prompt) for prompt in prompts]] = 0
        return vectors

    # answering

    @torch.inference_mode()
    def _scores(self, queries: Queries) -> np.ndarray:
        profiles = {name: queries.context(name) for name in self.profile}
        members = self._query_members(self.member_prompts(profiles, queries.histories))
        net = self._ready()
        width = self.dims or self.width
        states = net.encode(torch.from_numpy(members).to(net.texts.device))[:, :width]
        items = normalize(net.all_items()[:, :width], dim=-1)
        scores: np.ndarray = (normalize(states, dim=-1) @ items.T).float().cpu().numpy()
        scores[:, ~self.vectors_.any(axis=1)] = -np.inf
        scores[~members.any(axis=1)] = -np.inf
        return scores

    def _query_members(self, prompts: list[str]) -> np.ndarray:
        """Return (B, D) vectors of members' prompts, reused while the net is trained."""
        vectors = self.__dict__.get("_validated", {})
        new = [prompt for prompt in dict.fromkeys(prompts) if prompt not in vectors]
        encoder = asking(encoder_of(self.encoder), self.space_)
        vectors |= dict(zip(new, self._encode_members(encoder, new), strict=True))
        members = np.array([vectors[prompt] for prompt in prompts], dtype=np.float32)
        return members.reshape(len(prompts), -1)

    def refreshed(self, data: Dataset, run: Run = Run()) -> Self:
        """Return a copy with the items of `data` and their present counters.

        Only prompts that changed are encoded; nothing is learned. Raises ModelError for another
        encoder.
        """
        self._check_fitted()
        fresh = type(self)(**self.params())
        fresh.__dict__ |= self.state() | {"items_": data.catalogue, "texts_": data.item_texts}
        encoder = known_encoder(encoder_of(self.encoder), self.space_)
        fresh.vectors_ = item_vectors(encoder, fresh.item_prompts(data), run.progress)
        return fresh


def _fill(template: str, slots: dict[str, str]) -> str:
    """Return a template with its slots filled at once, so that braces in texts mean nothing.

    Punctuation around empty slots is removed at both ends.
    """
    return SLOT.sub(lambda match: slots[match[1]], template).strip(" .,;:")


def _latest_examples(rows: Ragged, count: int) -> np.ndarray:
    """Return positions of each row's last `count` values that have one before them."""
    has_earlier = rows.from_end < np.repeat(rows.lengths, rows.lengths) - 1
    return np.flatnonzero((rows.from_end < count) & has_earlier)
