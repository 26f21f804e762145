"""LinkedIn's feed retriever: one encoder reads a member's prompt and a post's, numbers in it put
into words.
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
from tailor.data.queries import Queries
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
# of a member's prompt for posts: encoders read a few hundred tokens, and what is newest must not be
# cut
CHARACTERS = 500
ENCODED = 256  # prompts between two steps of a progress bar


@dataclass(eq=False)
class LinkedInFeed(NetMethod, ScoringRecommender):
    """A post's prompt is its text and its counters in words, a member's is what the profile says
    and the posts last chosen; near vectors are served (LinkedIn 2025).

    Learned from who chose what, against the batch's other targets and the posts shown and passed
    over. Differs from the paper (form for a processor, reconstructed): the encoder is frozen under
    one map for both prompts, where the paper trains a causal language model; the first `nested`
    numbers of a vector are trained to do alone (Matryoshka).
    """

    reads_impressions: ClassVar[bool] = True
    renamed_state = {"map_": "net_weights_"}

    encoder: Encoder | str = DEFAULT
    """Of both prompts; or "default": TAILOR_ENCODER, tailor.toml, else MiniLM."""
    numbers: tuple[str, ...] = ("events",)
    """That posts' prompts tell: "events" that an item has had, or numeric columns of the items."""
    wording: Literal["percentiles", "digits", "none"] = "percentiles"
    """How they are told."""
    profile: tuple[str, ...] = ()
    """Columns of the users that members' prompts tell."""
    item_prompt: str = "{numbers}. {text}"
    member_prompt: str = "{profile}. {items}"
    length: int = 6
    """Latest posts in a member's prompt, the newest last."""
    examples: int = 10
    """Latest events of every member that are learned from."""
    hard: int = 4
    """Posts that were shown to the member and passed over, an example."""
    width: int = 128
    nested: tuple[int, ...] = (32, 64)
    """First so many numbers, each trained to do alone."""
    dims: int | None = None
    """First so many numbers that are compared; none: all."""
    temperature: Annotated[float, Range(0.03, 0.2, log=True)] = 0.05
    lr: Annotated[float, Range(3e-4, 6e-3, log=True)] = 1e-3
    """Highest step; falls in a straight line to a hundredth over all epochs."""
    batch: int = 512
    """Examples."""
    epochs: int = 40
    """At most."""
    patience: int | None = 3
    """Validations (every 5 epochs) without a better NDCG@10 before training stops; None: all
    epochs.
    """

    texts_: list[str] = field(init=False, repr=False)
    """(N,) of the items, for members' prompts."""
    cuts_: np.ndarray = field(init=False, repr=False)
    """(numbers, 99) of percentiles, fixed when fitted."""
    vectors_: np.ndarray = field(init=False, repr=False)
    """(N, D) of the items' prompts, unit length."""
    space_: str = field(init=False, repr=False)
    """Which encoder's vectors these are."""

    def __post_init__(self) -> None:
        check_settings(self)
        for name in ("length", "examples", "width", "batch"):
            if getattr(self, name) < 1:
                raise DataError(f"{name} is {getattr(self, name)}: it must be at least 1")
        if self.hard < 0 or self.epochs < 0 or not self.temperature > 0 or not self.lr > 0:
            raise DataError("hard and epochs must be at least 0, temperature and lr above 0")
        for one in (*self.nested, *([] if self.dims is None else [self.dims])):
            if not 1 <= one <= self.width:
                raise DataError(f"nested or dims names {one}: vectors have {self.width} numbers")
        for name, slots in (
            ("item_prompt", {"text", "numbers"}),
            ("member_prompt", {"profile", "items"}),
        ):
            if set(SLOT.findall(getattr(self, name))) - slots:
                raise DataError(
                    f"{name} is {getattr(self, name)!r}: its slots are"
                    f" {', '.join(f'{{{one}}}' for one in sorted(slots))}"
                )

    @classmethod
    def tiny(cls) -> "LinkedInFeed":
        return cls(HashingEncoder(32), width=8, nested=(4,), epochs=3)

    # prompts

    def _values(self, data: Dataset) -> np.ndarray:
        """(numbers, N) what the items' prompts tell. Raises DataError for a column that the items
        lack.
        """
        out = np.empty((len(self.numbers), len(data.catalogue)))
        for i, name in enumerate(self.numbers):
            column = data.item_table[name] if name in data.item_table.columns else None
            if column is None and name == "events":
                out[i] = np.bincount(data.sequences.rows.values, minlength=len(data.catalogue))
            elif column is None or not column.dtype.is_numeric():
                raise DataError(
                    f'numbers names "{name}": it must be a numeric column of the items, or "events"'
                )
            else:
                out[i] = column.cast(pl.Float64).fill_null(float("nan")).to_numpy()
        return out

    def item_prompts(self, data: Dataset) -> list[str]:
        """(N,) prompts of the items of a data set, with its counters and the percentiles of the
        fit: the preview of the template.
        """
        values, told = self._values(data), [""] * len(data.catalogue)
        for name, row, cuts in zip(self.numbers, values, self.cuts_, strict=True):
            if self.wording == "percentiles":
                said = Percentiles(cuts).words(row, name)
            else:
                said = [
                    "" if self.wording == "none" or np.isnan(one) else f"{name}: {one:.10g}"
                    for one in row.tolist()
                ]
            told = [
                ", ".join(part for part in pair if part) for pair in zip(told, said, strict=True)
            ]
        pairs = zip(data.item_texts, told, strict=True)
        return [
            _filled(self.item_prompt, {"text": text, "numbers": numbers}) if text.strip() else ""
            for text, numbers in pairs
        ]

    def member_prompts(self, profiles: dict[str, list[Any]], histories: Ragged) -> list[str]:
        """(B,) prompts of members with these histories (rows of `items_`): profile and newest
        posts, as many as fit.
        """
        out, recent = [], histories.last(self.length)
        for i in range(len(recent)):
            room, chosen = CHARACTERS, list[str]()
            for text in (self.texts_[row] for row in recent[i][::-1].tolist()):
                room -= len(text)
                if room < 0 and chosen:
                    break
                chosen.insert(0, text[:CHARACTERS])
            profile = ", ".join(
                str(values[i]) for values in profiles.values() if values[i] is not None
            )
            out.append(
                _filled(
                    self.member_prompt,
                    {"profile": profile, "items": "; ".join(one for one in chosen if one.strip())},
                )
            )
        return out

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
        encoder, self.items_, self.texts_ = (
            encoder_of(self.encoder),
            data.catalogue,
            data.item_texts,
        )
        finite = [row[np.isfinite(row)] for row in self._values(learned)]
        self.cuts_ = np.array(
            [Percentiles.of(row).cuts if len(row) else np.zeros(99) for row in finite]
        ).reshape(-1, 99)
        self.vectors_, self.space_ = (
            item_vectors(encoder, self.item_prompts(learned), run.progress),
            encoder.space,
        )
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
        """Train on examples, places of events that have one before them."""
        rows = data.sequences.rows
        owners, targets = rows.row_ids[examples], rows.values[examples].astype(np.int64)
        known = data.contexts(data.users.ids[owners])
        # in the order in which they will be told
        profiles = {name: known[name].tolist() for name in self.profile}
        before = Ragged.of(
            [
                rows.values[max(rows.offsets[owner], at - self.length) : at]
                for owner, at in zip(owners, examples, strict=True)
            ]
        )
        members = self._encoded(
            encoder_of(self.encoder), self.member_prompts(profiles, before), run
        )
        log_share = np.log(
            np.maximum(np.bincount(rows.values, minlength=len(self.items_)), 1) / len(rows.values)
        ).astype(np.float32)
        passed_over = _passed_over(data)
        # members' vectors while it learns: they are asked again after every few epochs
        self._validated: dict[str, np.ndarray] | None = {}

        def batches(rng: np.random.Generator) -> list[np.ndarray]:
            return np.array_split(rng.permutation(len(targets)), -(-len(targets) // self.batch))

        def loss(batch: np.ndarray, rng: np.random.Generator) -> Tensor:
            return self._loss(
                members[batch],
                targets[batch],
                _drawn(passed_over.take(owners[batch]), self.hard, rng),
                log_share[targets[batch]],
            )

        recipe = Recipe(self.epochs, self.lr, weight_decay=0.01, patience=self.patience, every=5)
        report = self._train_net(whole, run, recipe, batches, loss, validation)
        del self._validated
        return {**report, "passed_over": len(passed_over.values)}

    def _loss(
        self, members: np.ndarray, targets: np.ndarray, hard: np.ndarray, log_share: np.ndarray
    ) -> Tensor:
        """The mean over the nested widths; `hard` (M, H) rows of items, -1 for none."""
        net = self._net
        to = net.texts.device
        of, own, target = (
            net.encode(torch.from_numpy(members).to(to)),
            torch.from_numpy(targets).to(to),
            torch.from_numpy(hard).to(to),
        )
        positive, negative, share = (
            net(own),
            net(target.clamp(min=0)),
            torch.from_numpy(log_share).to(to),
        )
        losses = []
        for width in (self.width, *self.nested):
            state, near, far = (
                nn.functional.normalize(one[..., :width].float(), dim=-1)
                for one in (of, positive, negative)
            )
            losses.append(
                InBatchSoftmax()(state / self.temperature, near, own, share, far, target >= 0)
            )
        return torch.stack(losses).mean()

    def _make_net(self) -> TextItemEncoder:
        return TextItemEncoder(torch.from_numpy(self.vectors_), self.width, 2 * self.width)

    def _encoded(self, encoder: Encoder, prompts: list[str], run: Run = Run()) -> np.ndarray:
        """(B, D) vectors of members' prompts, which are kept nowhere; zero for one that says
        nothing.
        """
        different = list(dict.fromkeys(prompts))
        parts = [different[at : at + ENCODED] for at in range(0, len(different), ENCODED)]
        vectors = [
            encoder.encode(part)
            for part in run.progress(parts, "reading members' prompts", len(parts))
        ]
        of = dict(zip(different, np.concatenate(vectors), strict=True)) if different else {}
        found = np.array([of[prompt] for prompt in prompts], dtype=np.float32).reshape(
            len(prompts), self.vectors_.shape[1]
        )
        found[[not re.search(r"\w", prompt) for prompt in prompts]] = 0
        return found

    @torch.inference_mode()
    def _scores(self, queries: Queries) -> np.ndarray:
        prompts = self.member_prompts(
            {name: queries.context(name) for name in self.profile}, queries.histories
        )
        known = self.__dict__.get("_validated", {})
        new = [prompt for prompt in dict.fromkeys(prompts) if prompt not in known]
        known |= dict(
            zip(new, self._encoded(asking(encoder_of(self.encoder), self.space_), new), strict=True)
        )
        members = np.array([known[prompt] for prompt in prompts], dtype=np.float32).reshape(
            len(prompts), -1
        )
        net, width = self._ready(), self.dims or self.width
        asked = net.encode(torch.from_numpy(members).to(net.texts.device))[:, :width]
        scores: np.ndarray = (
            (
                nn.functional.normalize(asked, dim=-1)
                @ nn.functional.normalize(net.all_items()[:, :width], dim=-1).T
            )
            .float()
            .cpu()
            .numpy()
        )
        scores[:, ~self.vectors_.any(axis=1)] = -np.inf
        scores[~members.any(axis=1)] = -np.inf
        return scores

    def refreshed(self, data: Dataset, run: Run = Run()) -> Self:
        """A copy with the items of `data` and their counters of now; only prompts that changed are
        encoded, nothing is learned. Raises ModelError for another encoder.
        """
        self._check_fitted()
        fresh = type(self)(**self.params())
        fresh.__dict__ |= self.state() | {"items_": data.catalogue, "texts_": data.item_texts}
        fresh.vectors_ = item_vectors(
            known_encoder(encoder_of(self.encoder), self.space_),
            fresh.item_prompts(data),
            run.progress,
        )
        return fresh


def _filled(template: str, slots: dict[str, str]) -> str:
    """The template with its slots filled at once, so that braces in a text mean nothing; what
    stands around empty slots goes.
    """
    return SLOT.sub(lambda found: slots[found[1]], template).strip(" .,;:")


def _latest(rows: Ragged, most: int) -> np.ndarray:
    """Places of each row's last `most` values that have one before them."""
    return np.flatnonzero(
        (rows.from_end < most) & (rows.from_end < np.repeat(rows.lengths, rows.lengths) - 1)
    )


def _passed_over(data: Dataset) -> Ragged:
    """Item rows that each user was shown and never chose."""
    none = Ragged.of([[]] * len(data.users))
    if (
        not {"impressions", "requests"} <= set(data.tables)
        or "user_id" not in data.tables["requests"].columns
    ):
        return none
    shown = (
        data.tables["impressions"]
        .join(data.tables["requests"].select("request_id", "user_id"), on="request_id")
        .select("user_id", "item_id")
        .unique()
    )
    left = shown.join(
        data.events.select("user_id", "item_id").unique(), on=["user_id", "item_id"], how="anti"
    ).sort("user_id", "item_id")
    users, items = data.users.codes(left["user_id"]), data.catalogue.codes(left["item_id"])
    known = (users >= 0) & (items >= 0)
    order = np.argsort(users[known], kind="stable")
    return Ragged.of_lengths(
        np.bincount(users[known], minlength=len(data.users)), items[known][order]
    )


def _drawn(lists: Ragged, size: int, rng: np.random.Generator) -> np.ndarray:
    """(n, size) values of each row, with repetition; -1 of an empty one."""
    place = (rng.random((len(lists), size)) * lists.lengths[:, None]).astype(
        np.int64
    ) + lists.offsets[:-1, None]
    has = np.broadcast_to(lists.lengths[:, None] > 0, place.shape)
    out = np.full(place.shape, -1, dtype=np.int64)
    out[has] = lists.values[place[has]]
    return out
