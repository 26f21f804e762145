"""MM-R5: note what the picture of each page shows, and order pages by a listwise policy."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from tailor.core.defaults import DEFAULT
from tailor.core.defaults import encoder as encoder_of
from tailor.core.methods import Paper
from tailor.core.run import Run
from tailor.data.dataset import Dataset
from tailor.data.labels import Labels
from tailor.data.pictures import small_pictures
from tailor.data.splits import Split
from tailor.errors import ModelError
from tailor.nn.blocks import TransformerBlock
from tailor.nn.fitting import Recipe
from tailor.nn.pictures import SIZE, PictureReader, sure_values
from tailor.nn.policy import advantages, clipped, draw_orders, plackett_luce
from tailor.ports.base import Encoder
from tailor.reranking.examples import Example
from tailor.reranking.learned_reranker import LearnedReranker, ListLoss
from tailor.reranking.pair_features import request_vectors
from tailor.reranking.shortlist import Reranked, Shortlist, deviations
from tailor.text.cached import known_encoder
from tailor.text.hashing import HashingEncoder
from tailor.training.picture_labels import teach_labels

PAPER = Paper(
    "mm-r5",
    "MM-R5: MultiModal Reasoning-Enhanced ReRanker via Reinforcement Learning for Document"
    " Retrieval",
    "https://arxiv.org/abs/2506.12364",
    "Where requests name words and looks of a page, looking at the pictures puts the right page"
    " first more often than the first stage, by 4 points and more; with other pages' pictures the"
    " gain is gone, and texts alone stay at the first stage",
)
HEADS = 4  # of attention
LEAST_SURE = 0.5  # probability of a value that a note names


@dataclass(frozen=True, eq=False)
class PageList:
    """A list as the net reads it."""

    request: np.ndarray
    """(E,) vector of what is asked for."""
    prior: np.ndarray
    """(n,) float32 first-stage scores, in deviations."""
    pixels: np.ndarray
    """(n, S, S, 3) uint8 pictures of the documents; white for none."""
    has_picture: np.ndarray
    """(n,) true where there is a picture that could be read."""
    vectors: np.ndarray | None
    """(n, D) float32 vectors of the pictures; None while the encoder of pictures learns."""
    problems: tuple[str, ...] = ()
    """What could not be read, in words."""


class PagePolicy(nn.Module):
    """Scores the pages of a list side by side: log-worths of a Plackett-Luce policy.

    It notes what every picture shows, and compares the pages with the request and one another. Its
    last layer begins at zero, so that training begins with the first stage's order.
    """

    def __init__(self, request_width: int, width: int, sizes: Mapping[str, int]) -> None:
        super().__init__()
        self.reader = PictureReader(width, sizes)
        self.request_proj = nn.Linear(request_width, width)
        self.page_proj = nn.Linear(width + sum(sizes.values()), width)
        self.prior_proj = nn.Linear(1, width, bias=False)
        self.block = TransformerBlock(width, HEADS, causal=False)
        self.norm = nn.LayerNorm(width)
        self.score_proj = nn.Linear(width, 1)
        self.prior_weight = nn.Parameter(torch.ones(()))
        nn.init.zeros_(self.score_proj.weight)
        nn.init.zeros_(self.score_proj.bias)

    def forward(self, pages: Tensor, request: Tensor, prior: Tensor) -> Tensor:
        """Vectors of pictures (n, D), a request (E,), first-stage scores (n,) -> scores (n,)."""
        # notes stay true to the pictures: orders are learned from them, and do not change them
        notes = [logits.softmax(dim=1).detach() for logits in self.reader.labels(pages)]
        page = self.page_proj(torch.cat([pages, *notes], dim=1))  # n, D
        query = self.request_proj(request)  # D
        matches = page * query + self.prior_proj(prior[:, None])
        tokens = torch.cat([query[None], page + matches])  # n + 1, D
        states = self.block(tokens[None])[0, 1:]  # n, D
        scores: Tensor = self.score_proj(self.norm(states))[:, 0] + self.prior_weight * prior
        return scores


@dataclass(eq=False)
class MMR5(LearnedReranker):
    """Looks at the pictures of documents, and orders the list by what they show.

    A small net encodes each picture and notes what it shows; then the pages are compared side by
    side, with the request and the first stage's scores, and the notes are the reasons (Xu et al.
    2025). It first learns to note, then right orders. Last, orders are drawn, and those that put
    relevant pages higher than the other draws become likelier (GRPO): a page at rank r earns
    1 / r^3, so that the first place counts most. The encoder of pictures is fixed meanwhile.

    Differs from the paper: a net of 64 x 64 pixels and a Plackett-Luce policy stand for the
    vision-language model, so that every answer is a whole order and needs no reward for its form;
    notes are values of columns of the items (`notes`) in place of free words; the documents' own
    words count by the first stage's scores alone.
    """

    reads_pictures = True
    _encoder_learns = False

    encoder: Encoder | str = DEFAULT
    """Encoder of requests; "default": TAILOR_ENCODER, tailor.toml, else MiniLM."""
    notes: tuple[str, ...] = ()
    """Columns of the items that say what a picture shows, such as ("chart", "colour"): they are
    learned as notes, and notes become reasons; (): none."""
    note_epochs: int = 20
    """Epochs over the catalogue's pictures in which notes are learned."""
    width: int = 64
    """Width of a picture's vector."""
    rewards: bool = True
    """Learn by rewards of drawn orders after right orders."""
    draws: int = 4
    """Orders drawn of each list."""
    power: float = 3.0
    """Power of the rank that a relevant page's reward is divided by; 1: reciprocal rank."""
    places: int = 10
    """First places of an order that earn rewards."""

    space_: str = field(init=False, repr=False)
    """Name of the encoder's vector space."""
    request_width_: int = field(init=False, repr=False)
    """Width of the encoder's vectors."""
    values_: dict[str, list[str]] = field(init=False, repr=False)
    """Column -> values that notes may name."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.draws < 2 or self.places < 1 or not self.power > 0:
            raise ModelError(
                f"draws is {self.draws}, places {self.places}, power {self.power}: at least 2, at"
                " least 1, above 0"
            )
        if self.width < HEADS or self.width % HEADS or self.note_epochs < 1:
            raise ModelError(
                f"width is {self.width}, note_epochs {self.note_epochs}: a multiple of {HEADS}, and"
                " at least 1"
            )

    @classmethod
    def tiny(cls) -> Self:
        encoder = HashingEncoder(32)
        return cls(depth=8, encoder=encoder, epochs=2, width=8, notes=("categories",))

    # --- learning

    def _fit(self, data: Dataset, run: Run, valid: Split | None) -> None:
        encoder = encoder_of(self.encoder)
        self.space_ = encoder.space
        self.request_width_ = encoder.encode([""]).shape[1]
        self._labels = Labels.of(data, self.notes)
        self.values_ = dict(self._labels.values)
        super()._fit(data, run, valid)

    def _make_net(self) -> PagePolicy:
        sizes = {name: len(values) for name, values in self.values_.items()}
        return PagePolicy(self.request_width_, self.width, sizes)

    def _learn(self, lists: Sequence[Example], data: Dataset, run: Run) -> dict[str, Any]:
        """Learn notes from the catalogue's pictures, then orders from lists."""
        pictures = [self.pictures_[row].tobytes() for row in range(len(self.pictures_))]
        recipe = Recipe(self.note_epochs, self.lr, weight_decay=0.01)
        codes, reader = self._labels.codes, self._net.reader
        notes = teach_labels(self, reader, pictures, codes, recipe, data, run)
        self._encoder_learns = "accuracy" not in notes
        report = super()._learn(lists, data, run)
        self._encoder_learns = False
        return {"notes": notes, **report}

    def _inputs(self, shortlists: Sequence[Shortlist]) -> list[PageList]:
        encoder = encoder_of(self.encoder)
        if "space_" in self.__dict__:
            encoder = known_encoder(encoder, self.space_)
        pairs = zip(shortlists, request_vectors(encoder, shortlists), strict=True)
        return [self._read(shortlist, request) for shortlist, request in pairs]

    def _read(self, shortlist: Shortlist, request: np.ndarray) -> PageList:
        images = shortlist.images or (b"",) * len(shortlist)
        pixels, faults = small_pictures(images, SIZE)
        has_picture = np.array([bool(image) and i not in faults for i, image in enumerate(images)])
        problems = [f"{self.name}: the picture of document {i + 1}: {faults[i]}" for i in faults]
        if not any(images):
            problems.append(f"{self.name}: no document has a picture")
        prior = deviations(shortlist.prior).astype(np.float32)
        with torch.no_grad():
            vectors = None if self._encoder_learns else self._vectors(pixels).cpu().numpy()
        return PageList(request, prior, pixels, has_picture, vectors, tuple(problems))

    def _stages(self) -> Mapping[str, ListLoss]:
        stages: dict[str, ListLoss] = {"orders": self._order_loss}
        if self.rewards:
            stages["rewards"] = self._reward_loss
        return stages

    def _order_loss(self, read: PageList, gains: Tensor) -> Tensor:
        """Return minus the log-probability of the relevant pages at the top, best first."""
        best = gains.argsort(descending=True, stable=True)[: int((gains > 0).sum())]
        encoder_learns = read.vectors is None
        pages = self._vectors(read.pixels) if encoder_learns else self._pages(read)
        return -plackett_luce(self._scores(read, pages), best)

    def _reward_loss(self, read: PageList, gains: Tensor) -> Tensor:
        """Return the loss of drawn orders, by their rewards above the mean of the draws."""
        scores = self._scores(read, self._pages(read))
        orders = draw_orders(scores.detach().cpu(), self.draws, torch.default_generator)
        orders = orders[:, : self.places].to(scores.device)  # G, K
        log_probs = plackett_luce(scores.expand(self.draws, -1), orders)
        rewards = rank_rewards(orders, gains, self.power)
        return clipped(log_probs, log_probs, advantages(rewards))

    # --- answering

    def _vectors(self, pixels: np.ndarray) -> Tensor:
        """Return the vectors (n, D) of pictures (n, S, S, 3)."""
        net = self._ready()
        vectors: Tensor = net.reader.encoder(torch.from_numpy(pixels).to(_device(net)))
        return vectors

    @torch.no_grad()
    def _pages(self, read: PageList) -> Tensor:
        """Return the vectors (n, D) of a list's pictures by the present encoder."""
        if read.vectors is None:
            return self._vectors(read.pixels)
        return torch.from_numpy(read.vectors).to(_device(self._ready()))

    def _scores(self, read: PageList, pages: Tensor) -> Tensor:
        """Return the log-worths (n,) of a list whose pictures have these vectors (n, D)."""
        net = self._ready()
        request, prior = (
            torch.from_numpy(values).to(_device(net)) for values in (read.request, read.prior)
        )
        scores: Tensor = net(pages, request, prior).float()
        return scores

    @torch.no_grad()
    def _list_scores(self, read: PageList) -> np.ndarray:
        if not len(read.prior):
            return np.zeros(0)
        scores: np.ndarray = self._scores(read, self._pages(read)).cpu().numpy()
        return scores.astype(np.float64)

    @torch.no_grad()
    def _details(self, read: PageList) -> dict[int, dict[str, Any]]:
        """Return the note on each picture as the reason of its place."""
        if not len(read.prior):
            return {}
        notes = sure_values(
            self._ready().reader.labels(self._pages(read)), self.values_, LEAST_SURE
        )
        return {
            doc: {"reason": note_words(values)}
            for doc, values in enumerate(notes)
            if values and read.has_picture[doc]
        }

    def _reranked(self, shortlist: Shortlist, read: PageList) -> Reranked:
        result = super()._reranked(shortlist, read)
        return replace(result, notes=(*result.notes, *read.problems))


def _device(net: nn.Module) -> torch.device:
    return next(net.parameters()).device


def note_words(values: Mapping[str, str]) -> str:
    """Return a note in words: "the picture shows chart pie, colour red"."""
    return f"the picture shows {', '.join(f'{name} {value}' for name, value in values.items())}"


def rank_rewards(orders: Tensor, gains: Tensor, power: float) -> Tensor:
    """Return the rewards (G,) of orders (G, K) of a list with gains (n,), 1 for the best.

    A page earns its gain divided by its rank to a power; the sum is divided by the best one.
    """
    worth = torch.arange(1, orders.shape[1] + 1, device=gains.device).float() ** -power  # K
    best = gains.sort(descending=True).values[: len(worth)]
    return (gains[orders] * worth).sum(dim=-1) / (best * worth).sum()
