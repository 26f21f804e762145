"""OnePiece: hidden steps of reasoning, each taught by a deeper action."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, Self, cast

import numpy as np
import torch
from torch import Tensor, nn

from tailor.core.defaults import DEFAULT
from tailor.core.defaults import encoder as encoder_of
from tailor.core.methods import Paper, ScoringRecommender
from tailor.core.run import Run
from tailor.core.search_space import Choices, Range
from tailor.core.specs import check_settings
from tailor.data.arrays import Ragged
from tailor.data.dataset import Dataset
from tailor.data.queries import Queries
from tailor.data.requests import Requests
from tailor.data.sampling import sample_ragged, shuffled_batches
from tailor.data.splits import Split
from tailor.data.vocabulary import Vocabulary
from tailor.errors import DataError
from tailor.nn.attention import SelfAttention
from tailor.nn.blocks import TransformerBlock
from tailor.nn.devices import index_tensor
from tailor.nn.fitting import Recipe
from tailor.nn.item_encoders import TextItemEncoder
from tailor.nn.losses import InfoNCE
from tailor.nn.packing import pad_rows
from tailor.nn.positions import PositionsFromEnd
from tailor.nn.sequence import SequenceNet
from tailor.ports.base import Encoder
from tailor.text.cached import asking, item_vectors
from tailor.text.hashing import HashingEncoder
from tailor.training.nets import NetMethod
from tailor.training.sequences import check_blocks

PAPER = Paper(
    "onepiece",
    "OnePiece: Bringing Context Engineering and Reasoning to Industrial Cascade Ranking System",
    "https://arxiv.org/abs/2509.18091",
    "Where an order hangs on two look-ups in the history, two hidden steps find it more often than"
    " none at as many weights and steps of training; anchors of searches help with rare words,"
    " those of other searches do not",
)
SITUATION = 2  # tokens: the user's attributes and the search text
FEWEST_USERS = 3  # users who searched for a text, for it to be kept
SEGMENTS = 4  # history, anchors, attributes, search text


@dataclass(frozen=True, eq=False)
class Context:
    """A batch of requests as the net reads them. Shapes: T events, A anchors, E text width."""

    history: Tensor
    """(B, T) item rows, padded at the right."""
    history_lengths: Tensor
    """(B,)."""
    anchors: Tensor
    """(B, A) item rows, padded at the right."""
    anchor_counts: Tensor
    """(B,)."""
    situation: Tensor
    """(B, 2, E) text vectors of the user's attributes and of the search; zero for none."""


class ReasoningNet(SequenceNet):
    """Reads a context once, then thinks for some steps, whose number is K.

    A step is a block of two tokens, one for each token of the situation. It begins with what the
    step before made of them, and reads the context and all earlier steps.
    """

    def __init__(self, reason_steps: int, **settings: Any) -> None:
        super().__init__(**settings)
        width = self.norm.normalized_shape[0]
        self.segments = nn.Parameter(torch.empty(SEGMENTS, width).normal_(std=0.02))
        self.step_positions = nn.Parameter(
            torch.empty(reason_steps, SITUATION, width).normal_(std=0.02)
        )
        for layer in self.layers:
            _begin_alike(cast(TransformerBlock, layer))

    def step_states(self, context: Context) -> list[Tensor]:
        """Return K + 1 states (B, D): after the context, and after each step."""
        tokens, is_token = self._tokens(context)
        inputs = [tokens[:, :0]] * len(self.layers)  # what each layer has read, B, S, D
        block = self._extend(inputs, tokens, is_token)
        blocks = [block]
        for position in self.step_positions:
            is_token = nn.functional.pad(is_token, (0, SITUATION), value=True)
            block = self._extend(inputs, block + position, is_token)
            blocks.append(block)
        return [self.readout(block.mean(dim=1)) for block in blocks]

    def _extend(self, inputs: list[Tensor], tokens: Tensor, is_token: Tensor) -> Tensor:
        """Return what the layers make of the last two new tokens, (B, 2, D).

        The new `tokens` (B, n, D) read all earlier ones, which `inputs` hold as each layer read
        them; they are extended by the new. `is_token` (B, S) are all of them.
        """
        bias = torch.zeros(is_token.shape, device=tokens.device)
        bias = bias.masked_fill_(~is_token, float("-inf"))[:, None, None]
        for i, layer in enumerate(self.layers):
            inputs[i] = torch.cat([inputs[i], tokens], dim=1)
            is_last = i + 1 == len(self.layers)
            count = SITUATION if is_last else tokens.shape[1]
            tokens = cast(TransformerBlock, layer).forward_last(inputs[i], count, bias)
        return tokens

    def _tokens(self, context: Context) -> tuple[Tensor, Tensor]:
        """Return history, anchors and situation (B, S, D), and the mask (B, S) of real tokens."""
        history = self.table(context.history)
        if context.history.shape[1] and self.positions is not None:
            history = self.positions(history, lengths=context.history_lengths)
        parts = [history, self.table(context.anchors), *self._situation(context.situation)]
        tokens = torch.cat(
            [part + segment for part, segment in zip(parts, self.segments, strict=True)], dim=1
        )
        counts = (context.history_lengths, context.anchor_counts)
        masks = [
            torch.arange(part.shape[1], device=part.device) < count[:, None]
            for part, count in zip(parts, counts, strict=False)
        ]
        always = torch.ones(len(tokens), SITUATION, dtype=torch.bool, device=tokens.device)
        return self.dropout(tokens), torch.cat([*masks, always], dim=1)

    def _situation(self, texts: Tensor) -> tuple[Tensor, Tensor]:
        """Return a token (B, 1, D) of the user's attributes, and one of the search."""
        items = cast(TextItemEncoder, self.table)
        vectors = items.encode(texts)  # items and searches share their words
        return vectors[:, :1], vectors[:, 1:]


@dataclass(eq=False)
class OnePiece(NetMethod, ScoringRecommender):
    """Think in hidden steps, the first taught by clicks, the last by orders.

    A transformer without causal mask reads the history, anchors (items most often chosen after the
    same search), the user's attributes and the search. What it makes of the last two is appended to
    the sequence and read again, `reason_steps` times. Each step's state is compared with the items
    that the request led to by one action, from the shallow action to the deep one, by a contrast
    within the batch in both directions. Answers come from the last step.

    Differs from the paper: retrieval alone, without its ranking mode, whose candidates are part of
    the sequence; the contrast in both directions is the whole loss, without binary cross-entropy;
    attributes of the user are read as a text; a small net for a CPU.
    """

    reads_text = True

    encoder: Encoder | str = DEFAULT
    """Encoder of items, attributes and searches; "default": TAILOR_ENCODER, tailor.toml, else
    MiniLM.
    """
    reason_steps: Annotated[int, Choices(0, 1, 2, 3)] = 2
    """Hidden steps after reading the context; 0: none."""
    actions: tuple[str, ...] = ("click", "cart", "order")
    """Actions of events, from shallow to deep; events with others are history only."""
    supervision: Literal["progressive", "final"] = "progressive"
    """Whether actions teach the steps one after another, else the deepest one the last step alone.
    """
    anchors: int = 5
    """Items most often chosen after the same search that are read; 0: none."""
    width: Annotated[int, Choices(32, 64, 128)] = 64
    """Width of item vectors and states."""
    blocks: int = 1
    """Number of transformer blocks; all steps share them."""
    heads: int = 2
    """Attention heads; they must divide the width."""
    length: int = 50
    """Most recent events that are read."""
    dropout: Annotated[float, Range(0.0, 0.5)] = 0.1
    """Share of values zeroed during training."""
    temperature: Annotated[float, Range(0.03, 0.3, log=True)] = 0.1
    """Divisor of the cosine of state and item vector."""
    lr: Annotated[float, Range(3e-4, 6e-3, log=True)] = 2e-3
    """Peak learning rate of AdamW; decays linearly to 1 % over all epochs."""
    batch: int = 256
    """Requests of a batch."""
    epochs: int = 30
    """Passes over the requests."""

    item_texts_: np.ndarray = field(init=False, repr=False)
    """(N, E) text vectors of the items; zero for an item without text."""
    space_: str = field(init=False, repr=False)
    """Name of the encoder's vector space."""
    searches_: Vocabulary = field(init=False, repr=False)
    """Searches of at least three users."""
    anchors_: Ragged = field(init=False, repr=False)
    """Rows of the anchors of each search, the most frequent first."""

    def __post_init__(self) -> None:
        check_settings(self)
        check_blocks(self.blocks, self.heads, self.width)
        for name, minimum in {"reason_steps": 0, "anchors": 0, "length": 1, "batch": 2}.items():
            if getattr(self, name) < minimum:
                raise DataError(f"{name} is {getattr(self, name)}: it must be at least {minimum}")
        if not self.temperature > 0 or not self.lr > 0 or not 0 <= self.dropout < 1:
            raise DataError(
                f"temperature is {self.temperature}, lr {self.lr}, dropout {self.dropout}: the"
                " first two must be above 0, dropout from 0 to below 1"
            )
        if not self.actions:
            raise DataError("actions is empty: name at least one, such as order")

    @classmethod
    def tiny(cls) -> Self:
        return cls(encoder=HashingEncoder(32), width=8, length=10, epochs=3)

    # learning

    def _fit(self, data: Dataset, run: Run, valid: Split | None) -> None:
        encoder = encoder_of(self.encoder)
        self.items_ = data.catalogue
        self.item_texts_ = item_vectors(encoder, data.item_texts, run.progress)
        self.space_ = encoder.space
        requests = Requests.of(data, self.actions, self.length)
        earlier_anchors = self._learn_anchors(requests)
        self._start_net(run)
        if len(requests) > 1:
            report = self._train(data, requests, earlier_anchors, run)
        else:
            report = self._leave_untrained("no two requests led to an item")
        self.fit_report_ = {
            "requests": len(requests),
            **{
                f"requests with {action}": int((items.lengths > 0).sum())
                for action, items in zip(self.actions, requests.targets, strict=True)
            },
            "searches with anchors": len(self.searches_),
            **report,
        }

    def _learn_anchors(self, requests: Requests) -> Ragged:
        """Count what searches led to; return the anchors of each request, of earlier events."""
        searches = [_plain(requests.queries.text(i)) for i in range(len(requests))]
        reached = requests.reached()
        owners = reached.row_ids
        order, stops = _events_before(requests)
        counts: dict[str, Counter[int]] = defaultdict(Counter)
        users: dict[str, set[str | None]] = defaultdict(set)
        earlier: list[list[int]] = []
        counted = 0
        for i, search in enumerate([*searches, ""]):  # the last one is the end of the log
            for event in order[counted : stops[i]].tolist():
                counts[searches[owners[event]]][int(reached.values[event])] += 1
            counted = int(stops[i])
            earlier.append(_most_frequent(counts[search], self.anchors if search else 0))
        for search, user_id in zip(searches, requests.queries.user_ids, strict=True):
            users[search].add(user_id)
        common = [search for search in users if search and len(users[search]) >= FEWEST_USERS]
        self.searches_ = Vocabulary(sorted(common) if self.anchors else ())
        frequent = [_most_frequent(counts[search], self.anchors) for search in self.searches_.ids]
        self.anchors_ = Ragged.of(frequent)
        return Ragged.of(earlier[:-1])

    def _train(
        self, data: Dataset, requests: Requests, anchors: Ragged, run: Run
    ) -> dict[str, Any]:
        situation = self._situation_vectors(requests.queries)

        def batches(rng: np.random.Generator) -> list[np.ndarray]:
            return shuffled_batches(len(requests), self.batch, rng)

        def loss(rows: np.ndarray, rng: np.random.Generator) -> Tensor:
            histories = requests.queries.histories.take(rows)
            context = self._context(histories, anchors.take(rows), situation[rows])
            targets = [sample_ragged(items.take(rows), 1, rng)[:, 0] for items in requests.targets]
            return self._loss(context, targets)

        recipe = Recipe(self.epochs, self.lr, weight_decay=0.01)
        return self._train_net(data, run, recipe, batches, loss)

    def _loss(self, context: Context, targets: Sequence[np.ndarray]) -> Tensor:
        """Return the mean of the actions' losses; `targets` hold (B,) item rows, -1 for none."""
        states = self._net.step_states(context)
        losses = [
            self._contrast(states[step], rows)
            for step, rows in zip(self._step_of_action(), targets, strict=True)
            if step is not None
        ]
        return torch.stack(losses).mean()

    def _step_of_action(self) -> list[int | None]:
        """Return the step that each action teaches, the deepest always the last; None: no step."""
        deepest = len(self.actions) - 1
        if self.supervision == "final":
            return [*[None] * deepest, self.reason_steps]
        before = [i * self.reason_steps // max(deepest, 1) for i in range(deepest)]
        return [*before, self.reason_steps]

    def _contrast(self, states: Tensor, rows: np.ndarray) -> Tensor:
        """Return the contrast of states (B, D) with the items of their requests, both ways.

        A request that did not lead to an item says nothing.
        """
        has_target = np.flatnonzero(rows >= 0)
        if len(has_target) < 2:
            return states.sum() * 0
        targets = index_tensor(rows[has_target], states.device)
        users = states[index_tensor(has_target, states.device)]
        items = self._net.table(targets)
        is_same = targets[:, None] == targets
        contrast = InfoNCE(self.temperature)
        return (contrast(users, items, is_same) + contrast(items, users, is_same)) / 2

    # the net

    def _make_net(self) -> ReasoningNet:
        texts = torch.from_numpy(self.item_texts_)
        return ReasoningNet(
            self.reason_steps,
            items=len(self.items_),
            width=self.width,
            layers=[
                TransformerBlock(self.width, self.heads, self.dropout, causal=False)
                for _ in range(self.blocks)
            ],
            dropout=self.dropout,
            temperature=self.temperature,
            positions=PositionsFromEnd(self.length, self.width),
            item_encoder=TextItemEncoder(texts, self.width, own=True),
        )

    def _context(self, histories: Ragged, anchors: Ragged, situation: np.ndarray) -> Context:
        """Return requests as the net reads them."""
        device = self._net.device
        history = histories.last(self.length)
        history_rows, _ = pad_rows(history.values, history.offsets[:-1], history.lengths)
        anchor_rows, _ = pad_rows(anchors.values, anchors.offsets[:-1], anchors.lengths)
        return Context(
            index_tensor(history_rows, device),
            index_tensor(history.lengths, device),
            index_tensor(anchor_rows, device),
            index_tensor(anchors.lengths, device),
            torch.from_numpy(situation).to(device),
        )

    def _situation_vectors(self, queries: Queries) -> np.ndarray:
        """Return (B, 2, E) vectors of the users' attributes and of the searches; zero for none."""
        attributes = [
            ", ".join(
                f"{name} {values[i]}"
                for name, values in sorted(queries.contexts.items())
                if values[i] is not None
            )
            for i in range(len(queries))
        ]
        searches = [queries.text(i).strip() for i in range(len(queries))]
        texts = [text for pair in zip(attributes, searches, strict=True) for text in pair]
        distinct = sorted(set(texts))
        encoder = asking(encoder_of(self.encoder), self.space_)
        vectors = encoder.encode(distinct).astype(np.float32)
        vectors[[not text for text in distinct]] = 0
        rows = np.searchsorted(distinct, texts)
        return vectors[rows].reshape(len(queries), SITUATION, -1)

    # answering

    def anchors_of(self, queries: Queries) -> Ragged:
        """Return the anchors of each query's search, rows of `items_`."""
        searches = [_plain(queries.text(i)) for i in range(len(queries))]
        rows = self.searches_.rows(searches)
        anchors = self.anchors_
        offsets = np.r_[anchors.offsets, anchors.offsets[-1]]  # the last row is none
        with_none = Ragged(offsets, anchors.values)
        places = np.where(rows >= 0, rows, len(self.searches_))
        return with_none.take(places)

    def _scores(self, queries: Queries) -> np.ndarray:
        net: ReasoningNet = self._ready()
        situation = self._situation_vectors(queries)
        context = self._context(queries.histories, self.anchors_of(queries), situation)
        with torch.inference_mode():
            state = net.step_states(context)[-1]
            scores: np.ndarray = (state @ net.catalogue().T).softmax(dim=1).cpu().numpy()
        is_empty = (queries.histories.lengths == 0) & ~situation.any(axis=(1, 2))
        scores[is_empty] = -np.inf
        return scores


@torch.no_grad()
def _begin_alike(layer: TransformerBlock) -> None:
    """Begin with attention to what is alike, as a look-up is: queries and keys are equal.

    From small and unlike projections a second look-up is learned late or never.
    """
    weight = cast(SelfAttention, layer.attention).qkv_proj.weight  # 3 * D, D
    nn.init.xavier_uniform_(weight)
    width = weight.shape[1]
    weight[width : 2 * width] = weight[:width]


def _plain(text: str) -> str:
    """Return a search without differences of case and space."""
    return " ".join(text.casefold().split())


def _events_before(requests: Requests) -> tuple[np.ndarray, np.ndarray]:
    """Return (E,) what requests led to, by time, and (R + 1,) how much was before each request.

    The last number is E. What a request led to is never before it. Without times, all of the
    earlier requests is.
    """
    reached, times_ms = requests.reached(), requests.reached_ms()
    moments = np.arange(len(requests))
    if requests.queries.now_ms is not None:
        moments = requests.queries.now_ms
    since = moments[reached.row_ids]
    if times_ms is not None:
        since = np.maximum(times_ms.values, since)
    order = np.argsort(since, kind="stable")
    stops = np.searchsorted(since[order], moments)
    return order, np.append(stops, len(order))


def _most_frequent(counts: Counter[int], most: int) -> list[int]:
    """Return up to `most` items by falling count; of equal ones the lower row, so any, first."""
    return sorted(counts, key=lambda row: (-counts[row], row))[:most]
