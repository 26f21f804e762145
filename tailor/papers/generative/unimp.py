"""UniMP: read histories of pictures and texts, and answer six tasks with one net."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal, Self, get_args

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from tailor.core.methods import Paper
from tailor.core.run import Run
from tailor.core.search_space import Range
from tailor.data.arrays import Ragged
from tailor.data.dataset import Dataset
from tailor.data.nouns import Explanation, Output, Query, Ranking
from tailor.data.pictures import item_pictures, small_pictures, write_png
from tailor.data.queries import Queries, Rankings
from tailor.data.sampling import shuffled_batches
from tailor.errors import DataError, ModelError
from tailor.generative.record_learner import TEXT_WORDS, RecordData, RecordLearner
from tailor.generative.records import (
    ITEM,
    PICTURE,
    Part,
    Picture,
    Record,
    Template,
    shared_words,
)
from tailor.generative.user_events import UserEvents, rating_word, rating_words
from tailor.nn.fitting import Recipe
from tailor.nn.item_encoders import CodeItemEncoder
from tailor.nn.picture_codes import GRID, SIDE, PictureCodes
from tailor.nn.pictured_net import PicturedNet
from tailor.nn.token_net import TokenNet
from tailor.text.hashing import HashingEncoder
from tailor.text.words import words
from tailor.training.sequences import TrainingData, Windows, as_tensor
from tailor.training.validation import Validation

PAPER = Paper(
    "unimp",
    "Towards Unified Multi-Modal Personalization: Large Vision-Language Models for Generative"
    " Recommendation and Beyond",
    "https://arxiv.org/abs/2403.10667",
    "Where pictures alone show the colour that a user keeps to, the net that reads pictures and"
    " texts finds the next item among ten more often than with either alone, and loses at least 0.8"
    " of that gain with the pictures of other items; one net of six tasks keeps at least 0.95 of"
    " what nets of single tasks reach in as many steps, in at least 4 of 5 tasks",
)
TaskName = Literal["rec", "search", "exp", "img_sel", "img_gen", "preference"]
TASKS: tuple[TaskName, ...] = get_args(TaskName)
TURNS = 3  # questions of a record, at most, each about the event after the one before
KIND_STEPS, KIND_BATCH = 200, 64  # of the first training of what reads pictures; pictures
PICTURED = 0.3  # share of the searches that show the picture of what is looked for
UNASKED = 0.5  # share of the pictures that are drawn for nothing but the history
QUESTIONS: Mapping[str, Template] = {
    "rec": Template("{history} what comes next {answer}"),
    "search": Template("{history} find {query} {answer}"),
    "exp": Template("{history} why does {item} suit {answer}"),
    "img_sel": Template("{history} which picture suits {answer}"),
    "img_gen": Template("{history} draw {query} {answer}"),
    "preference": Template("{history} how many stars for {item} {answer}"),
}


@dataclass(eq=False)
class UniMP(RecordLearner):
    """Tell histories as items and pictures, and let one net answer six kinds of questions.

    An item is followed by its picture, which the tokens up to the next picture read by
    cross-attention, multiplied by a gate that starts closed. Tasks are next items, searches with
    words or pictures, reasons, the kind of picture that suits, ratings, and new pictures, which are
    said patch by patch. Items of histories and answers are learned, hard ones more (focal loss).

    Differs from the paper: a small net that has read nothing before, in place of OpenFlamingo; the
    metadata of an item is the vector of its title; an item is spelled by a code of its title and
    the kind of its picture, and that digit of it is never read; questions of a record are about up
    to three events in a row; pictures are selected by the probability of their kind; all tasks are
    learned at once, without a fine-tuning for each; the part that reads pictures first learns their
    kinds, in place of a vision encoder that others have trained.
    """

    tasks: tuple[str, ...] = TASKS
    """Tasks that are learned: rec, search, exp, img_sel, img_gen, preference."""
    reads: Literal["both", "text", "pictures"] = "both"
    """What is read of items, and what their codes are made from: texts, pictures, or both."""
    gamma: Annotated[float, Range(0.0, 4.0)] = 2.0
    """Exponent of the focal loss: an answer of probability p weighs (1 - p) ** gamma."""
    task_weights: Mapping[str, float] = field(default_factory=dict)
    """Weight of a task's mean loss; 1 for tasks that are not named."""
    patches: int = 32
    """Different patches that pictures are drawn from, at most."""
    kinds: int = 16
    """Kinds of pictures that the codes of items tell apart, at most."""

    pixels_: np.ndarray = field(init=False, repr=False)
    """(N, 16, 16, 3) uint8 the picture of each item, white where it has none."""
    has_picture_: np.ndarray = field(init=False, repr=False)
    """(N,) bool: items with a picture that is read."""
    picture_codes_: dict[str, np.ndarray] = field(init=False, repr=False)
    """`nn.picture_codes.PictureCodes` as arrays; {} where no picture is read."""
    rating_words_: list[str] = field(init=False, repr=False)
    """Ratings as words, ascending; empty where there are none."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.tasks = tuple(self.tasks)
        unknown = sorted({*self.tasks, *self.task_weights} - set(TASKS))
        if unknown or not self.tasks:
            raise DataError(f"tasks are {self.tasks}, weights {self.task_weights}: among {TASKS}")
        if self.gamma < 0 or min(self.task_weights.values(), default=1.0) < 0:
            raise DataError(
                f"gamma is {self.gamma}, weights {self.task_weights}: none may be below 0"
            )
        if self.patches < 2 or self.kinds < 2:
            raise DataError(f"patches {self.patches}, kinds {self.kinds}: at least 2 of each")

    @classmethod
    def tiny(cls) -> Self:
        return cls(encoder=HashingEncoder(32), levels=2, width=8, epochs=1, batch_places=512)

    # pictures and codes

    @property
    def _sees(self) -> bool:
        return bool(self.picture_codes_)

    def _describable(self, data: Dataset) -> np.ndarray:
        """Return (N,) bool: items with what is read of them, a text or a picture."""
        mask = np.zeros(len(data.catalogue), dtype=bool)
        if self.reads != "pictures":
            mask |= super()._describable(data)
        if self.reads != "text":
            mask |= np.array([bool(picture) for picture in item_pictures(data)], dtype=bool)
        return mask

    def _prepare_items(self, training: TrainingData, run: Run) -> dict[str, Any]:
        assert isinstance(training, RecordData)
        self.rating_words_ = rating_words(training.users)
        rows = training.data.catalogue.rows(self.items_.ids.tolist())
        self.__dict__.pop("_pictures", None)
        self.pixels_, self.has_picture_, faults = self._pictures_of(training.data, rows)
        self.picture_codes_ = {}
        if self.has_picture_.any():
            pixels = self.pixels_[self.has_picture_]
            codes = PictureCodes.fit(pixels, run.rng("pictures"), self.patches, self.kinds)
            self.picture_codes_ = codes.arrays()
        report = super()._prepare_items(training, run)
        if self._sees:  # a new item may have no picture, where all others have one
            self.sizes_[self._kind_level] = len(self.picture_codes_["kinds"]) + 1
        return {**report, "pictures": int(self.has_picture_.sum()), "unread_pictures": faults}

    def _pictures_of(self, data: Dataset, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
        """Return pixels (n, 16, 16, 3), which items have some (n,), and the number of faults."""
        files = [b""] * len(rows)
        if self.reads != "text":
            pictures = item_pictures(data)
            files = [pictures[row] for row in rows.tolist()]
        pixels, faults = small_pictures(files, SIDE)
        has_picture = np.array([bool(file) for file in files], dtype=bool)
        has_picture[list(faults)] = False
        return pixels, has_picture, len(faults)

    def _code_vectors(self, training: TrainingData, run: Run) -> np.ndarray:
        if self.reads != "pictures":
            return super()._code_vectors(training, run)
        self.space_ = ""
        return np.zeros((len(self.items_), 0), dtype=np.float32)

    def _learn_prefixes(
        self, vectors: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, dict[str, Any]]:
        self.codebooks_ = {}
        codes = np.zeros((len(vectors), 0), dtype=np.int32)
        report: dict[str, Any] = {}
        if self.reads != "pictures":
            codes, report = super()._learn_prefixes(vectors, rng)
        return self._with_kinds(codes, self.pixels_, self.has_picture_), report

    def _with_kinds(
        self, codes: np.ndarray, pixels: np.ndarray, has_picture: np.ndarray
    ) -> np.ndarray:
        """Return codes (n, levels) with the kind of each picture as a further digit."""
        if not self._sees:
            return codes
        picture_codes = PictureCodes.of(self.picture_codes_)
        kinds = picture_codes.kinds_of(pixels)
        kinds[~has_picture] = len(picture_codes.kinds)
        return np.column_stack([codes, kinds]).astype(np.int32)

    def _codes_of_new(self, items: Dataset, rows: np.ndarray, vectors: np.ndarray) -> np.ndarray:
        codes = super()._codes_of_new(items, rows, vectors)
        pixels, has_picture, _ = self._pictures_of(items, rows)
        return self._with_kinds(codes, pixels, has_picture)

    def with_items(self, items: Dataset, run: Run = Run()) -> Self:
        """Return a copy that can recommend the items of another data set too.

        They are read by text and picture. Nothing is learned. Raises DataError where texts are not
        read, and as `Speller.with_items`.
        """
        self._check_fitted()
        if self.reads == "pictures":
            raise DataError('reads is "pictures": new items need a text that is read; use "both"')
        extended = super().with_items(items, run)
        old_rows = self.items_.rows(extended.items_.ids.tolist())
        rows = np.maximum(items.catalogue.rows(extended.items_.ids.tolist()), 0)
        pixels, has_picture, _ = extended._pictures_of(items, rows)
        is_old = old_rows >= 0
        pixels[is_old] = self.pixels_[old_rows[is_old]]
        has_picture[is_old] = self.has_picture_[old_rows[is_old]]
        return extended._with_state(pixels_=pixels, has_picture_=has_picture)

    def _read_levels(self) -> np.ndarray:
        """Return all digits but the picture's."""
        levels = super()._read_levels()
        return np.delete(levels, self._kind_level) if self._sees else levels

    @property
    def _kind_level(self) -> int:
        return int(self.codes_.shape[1]) - 2

    def _make_body(self, item_encoder: CodeItemEncoder, layers: list[nn.Module]) -> TokenNet:
        if not self._sees:
            return super()._make_body(item_encoder, layers)
        return PicturedNet(
            len(self.vocabulary_),
            len(self.items_),
            item_encoder,
            self.width,
            layers,
            self.dropout,
            heads=self.heads,
        )

    # learning

    def _marks(self) -> list[str]:
        patches = len(self.picture_codes_["patches"]) if self._sees else 0
        kinds = len(self.picture_codes_["kinds"]) if self._sees else 0
        return [
            PICTURE,
            *(_kind_mark(kind) for kind in range(kinds)),
            *(_patch_mark(patch) for patch in range(patches)),
        ]

    def _told_words(self, training: RecordData) -> Iterable[Sequence[str]]:
        for task in self.tasks:
            yield [piece for piece, is_slot in QUESTIONS[task].pieces if not is_slot]
        yield self.rating_words_
        if {"search", "img_gen"} & set(self.tasks) and self.reads != "pictures":
            yield from (words(title) for title in self._titles_of(training))
        if "exp" in self.tasks and "texts" in training.users.columns:
            texts = training.users.columns["texts"]
            by_user = [[text or "" for text in texts[user]] for user in range(len(texts))]
            self._said_words = set(shared_words(by_user))
            yield from (self._reason(text or "") for text in texts.values)

    def _reason(self, text: str) -> list[str]:
        """Return the words of a user's text that several users write."""
        return [word for word in words(text)[:TEXT_WORDS] if word in self._said_words]

    def _train(
        self, training: TrainingData, validation: Validation | None, run: Run
    ) -> dict[str, Any]:
        self._titles = [words(title) for title in self._titles_of(training)]
        self._drawings = self._picture_words(self.pixels_)
        kinds = self._teach_kinds(training.data, run) if self._sees and training.has_pairs else {}
        try:
            report = super()._train(training, validation, run)
        finally:
            for name in ("_titles", "_drawings", "_said_words"):
                self.__dict__.pop(name, None)
        body = self._body(self._net)
        gates = body.open_gates() if isinstance(body, PicturedNet) else []
        return {**report, **kinds, "gates": [round(gate, 4) for gate in gates]}

    def _teach_kinds(self, data: Dataset, run: Run) -> dict[str, Any]:
        """Teach what reads pictures to say their kinds, as a vision encoder has been taught."""
        body = self._body(self._net)
        assert isinstance(body, PicturedNet)
        pixels = self.pixels_[self.has_picture_]
        kinds = PictureCodes.of(self.picture_codes_).kinds_of(pixels)
        names = [_kind_mark(kind) for kind in kinds.tolist()]
        marks = self.vocabulary_.rows(names)

        def batches(rng: np.random.Generator) -> list[np.ndarray]:
            return shuffled_batches(len(pixels), KIND_BATCH, rng)

        def loss(batch: np.ndarray, rng: np.random.Generator) -> Tensor:
            device = self._net.device
            regions = body.picture_encoder(torch.from_numpy(pixels[batch]).to(device))
            logits = body.word_logits(regions.mean(dim=1))
            return cross_entropy(logits, as_tensor(marks[batch], self._net))

        steps_per_epoch = len(batches(run.rng("kinds")))
        epochs = -(-KIND_STEPS // steps_per_epoch)
        report = self._train_net(data, run, Recipe(epochs, self.lr), batches, loss, stage="kinds")
        losses = report["loss"]  # empty where time was up before the first epoch's end
        return {"kind_loss": round(float(losses[-1]), 4)} if losses else {}

    def _picture_words(self, pixels: np.ndarray) -> list[list[Part]]:
        """Return how pictures (n, 16, 16, 3) are said: the mark of the kind, then of patches."""
        if not self._sees:
            return []
        codes = PictureCodes.of(self.picture_codes_)
        kinds = codes.kinds_of(pixels).tolist()
        grids = codes.grids_of(pixels).tolist()
        return [
            [_kind_mark(kind), *(_patch_mark(patch) for patch in grid)]
            for kind, grid in zip(kinds, grids, strict=True)
        ]

    def _answer_loss(self, log_probs: Tensor, tasks: np.ndarray) -> Tensor:
        """Return the weighted mean over tasks of each one's mean focal loss."""
        losses = -log_probs
        if self.gamma:
            unsure = 1 - log_probs.exp()
            losses = losses * unsure.clamp(min=0) ** self.gamma
        total = torch.zeros((), device=losses.device)
        numbers = np.unique(tasks)
        for number in numbers.tolist():
            mask = torch.from_numpy(tasks == number).to(losses.device)
            total = total + self.task_weights.get(TASKS[number], 1.0) * losses[mask].mean()
        return total / len(numbers)

    def _make_records(self, training: RecordData, rng: np.random.Generator) -> list[Record]:
        users = training.users
        records = []
        for user in np.flatnonzero(users.histories.lengths > 1).tolist():
            events = UserEvents.of(users, user)
            for task in self.tasks:
                record = self._record(task, events, rng)
                records.append(replace(record, task=TASKS.index(task)))
        return records

    def _record(self, task: str, events: UserEvents, rng: np.random.Generator) -> Record:
        """Return a record of a task about a user, which may have no answer."""
        cut = int(rng.integers(1, len(events.rows)))
        history = self._told_items(events.rows[max(0, cut - self.length) : cut])
        if task == "rec":
            later = self._told_items(events.rows[cut : cut + self.length])
            return QUESTIONS[task].fill({"history": history}, later, spoken=["history"])
        record = Record(())
        turns = 1 if task == "img_gen" else TURNS
        for event in range(cut, min(cut + turns, len(events.rows))):
            turn = self._turn(task, history, events, event, rng)
            if turn is not None:
                record = _joined(record, turn)
                history = self._picture_of(events.rows[event]) if task == "search" else []
        return record

    def _turn(
        self,
        task: str,
        history: list[Part],
        events: UserEvents,
        event: int,
        rng: np.random.Generator,
    ) -> Record | None:
        """Return the question and answer about an event; None where the data have no answer."""
        row = events.rows[event]
        fields = {"history": history, "item": self._told_items([row])}
        answer: list[Part] = []
        if task == "search":
            fields["query"] = self._drawn_query(row, rng)
            answer = [row]
        elif task == "exp" and events.texts[event]:
            answer = [*self._reason(events.texts[event])]
        elif task == "preference" and np.isfinite(events.values[event]):
            word = rating_word(events.values[event])
            answer = [word] if word in self.rating_words_ else []
        elif task == "img_sel" and self.has_picture_[row]:
            answer = self._drawings[row][:1]
        elif task == "img_gen" and self.has_picture_[row]:
            is_asked = rng.random() >= UNASKED
            fields["query"] = self._drawn_words(row, rng) if is_asked else []
            answer = self._drawings[row]
        return QUESTIONS[task].fill(fields, answer, spoken=["history"]) if answer else None

    def _told_items(self, rows: Sequence[int]) -> list[Part]:
        """Return items, each followed by its picture where it has one."""
        return [part for row in rows for part in (row, *self._picture_of(row))]

    def _picture_of(self, row: int) -> list[Part]:
        """Return the picture of an item as a part, or nothing."""
        if not self._sees or not self.has_picture_[row]:
            return []
        pictures: dict[int, Picture] = self.__dict__.setdefault("_pictures", {})
        return [pictures.setdefault(row, Picture(self.pixels_[row]))]

    def _drawn_words(self, row: int, rng: np.random.Generator) -> list[Part]:
        """Return some words of an item's title, in their order."""
        title = self._titles[row][:TEXT_WORDS]
        if not title or self.reads == "pictures":
            return []
        count = int(rng.integers(1, len(title) + 1))
        places = rng.choice(len(title), count, replace=False)
        return [title[i] for i in np.sort(places).tolist()]

    def _drawn_query(self, row: int, rng: np.random.Generator) -> list[Part]:
        """Return a search for an item: words of its title, at times its picture."""
        query = self._drawn_words(row, rng)
        return [*query, *self._picture_of(row)] if rng.random() < PICTURED else query

    # answering

    def _history(self, queries: Queries, i: int) -> list[Part]:
        return self._told_items(queries.histories[i][-self.length :].tolist())

    def _prompts(self, queries: Queries) -> list[Record]:
        records = []
        for i in range(len(queries)):
            fields = {"history": self._history(queries, i), "query": self._search(queries, i)}
            is_search = bool(fields["query"]) and "search" in self.tasks
            record = QUESTIONS["search" if is_search else "rec"].fill(fields)
            records.append(Record((*record.parts, ITEM)))
        return records

    def _search(self, queries: Queries, i: int) -> list[Part]:
        """Return what is read of a query's search: its words, and its pictures where it sees."""
        pictures = _brought(queries.images_of(i)) if self._sees else []
        return [*words(queries.text(i))[:TEXT_WORDS], *pictures]

    def _recommend(self, queries: Queries, k: int, candidates: Rankings | None) -> Rankings:
        rankings = super()._recommend(queries, k, candidates)
        notes = dict(rankings.notes)
        for i in range(len(queries)):
            pictures = queries.images_of(i)
            if not pictures:
                continue
            _, faults = _read_pictures(pictures)
            if not self._sees:
                faults = {0: f"{self.name} has seen no pictures"}
            unread = tuple(f"{self.name}: left out, {fault}" for fault in faults.values())
            if unread:
                notes[i] = (*notes.get(i, ()), *unread)
        return replace(rankings, notes=notes)

    def _query_batches(self, queries: Queries) -> Iterator[tuple[np.ndarray, Windows]]:
        """Yield queries in batches: those with a history, then searches without one."""
        yield from super()._query_batches(queries)
        if "search" not in self.tasks:
            return
        cold = np.flatnonzero(queries.histories.lengths == 0).tolist()
        numbers = np.array([i for i in cold if self._search(queries, i)], dtype=np.int64)
        if len(numbers):
            empty = np.zeros(len(numbers), dtype=np.int64)
            windows = Windows(queries.histories.values, empty, empty)
            yield numbers, windows

    def answer(
        self,
        task: str,
        user: Query,
        query: str = "",
        item_id: str | None = None,
        pictures: Sequence[bytes] = (),
        k: int = 10,
    ) -> Output:
        """Answer one task for a user, whose history is that of the query `user`.

        - "rec", "search": up to k items; a search has words (`query`), a picture, or both.
        - "exp", "preference": a reason for an item, and its expected rating, by `item_id`.
        - "img_sel": the one of `pictures` that suits best; `details` hold its place and all shares.
        - "img_gen": a new picture of 16 x 16 pixels, of what `query` says where it says something.

        Raises DataError for a task without what it is about, ModelError for one not learned.
        """
        self._check_learned(task)
        if task in ("rec", "search"):
            return self._answer_items(task, user, query, pictures, k)
        if task in ("exp", "preference"):
            if item_id is None or self.items_.rows([item_id])[0] < 0:
                raise DataError(
                    f"item {item_id!r} is unknown: {task} is about an item of the model"
                )
            return self._answer_item(task, user, item_id)
        if task == "img_sel":
            if not pictures:
                raise DataError("there are no pictures: img_sel chooses among some")
            shares = self.suits([user], [pictures])[0]
            best = int(np.nanargmax(shares))
            return Output(image=pictures[best], details={"place": best, "shares": shares.tolist()})
        return Output(image=write_png(self.draw([replace(user, text=query)])[0]))

    def _answer_items(
        self, task: str, user: Query, query: str, pictures: Sequence[bytes], k: int
    ) -> Output:
        request = replace(user, text="", images=())
        if task == "search":
            request = replace(user, text=query or user.text, images=tuple(pictures) or user.images)
            if not request.text.strip() and not request.images:
                raise DataError("the search is empty: give words or a picture")
            if request.images and not self._sees:
                raise ModelError(f"{self.name} has seen no pictures: search with words")
            _, faults = _read_pictures(request.images)
            for fault in faults.values():
                raise DataError(f"the search has a picture that cannot be read: {fault}")
        ranking = self.recommend([request], k)[0]
        return Output(", ".join(ranking.ids), item_ids=ranking.ids, notes=ranking.notes)

    def _answer_item(self, task: str, user: Query, item_id: str) -> Output:
        if task == "preference":
            (ratings,) = self.rate([user], [[item_id]])
            rating = float(ratings[0])
            return Output(f"{rating:.2f}", item_ids=(item_id,), details={"rating": rating})
        batch = Queries.of([user]).reindexed(self.items_)
        row = int(self.items_.rows([item_id])[0])
        (text,) = self._say([self._why(batch, 0, row)], TEXT_WORDS)
        return Output(" ".join(text), item_ids=(item_id,))

    def _check_learned(self, task: str) -> None:
        """Raise an error for what is no task, or was not learned."""
        self._check_fitted()
        if task not in TASKS:
            raise DataError(f'task is "{task}": it must be among {", ".join(TASKS)}')
        if task not in self.tasks:
            raise ModelError(f"{self.name} has not learned {task}: fit it with this task")
        if task in ("img_sel", "img_gen") and not self._sees:
            raise ModelError(f"{self.name} has seen no pictures: {task} needs items with pictures")
        if task == "preference" and not self.rating_words_:
            raise ModelError(f"{self.name} has learned no ratings: fit it on events with values")

    def rate(self, queries: Sequence[Query], item_ids: Sequence[Sequence[str]]) -> list[np.ndarray]:
        """Return the expected ratings (K,) of named items by each query, NaN for unknown items.

        Raises ModelError where ratings were not learned.
        """
        self._check_learned("preference")
        batch = Queries.of(queries).reindexed(self.items_)
        if len(item_ids) != len(batch):
            raise DataError(f"{len(item_ids)} lists of item ids for {len(batch)} queries")
        rows = Ragged.of([self.items_.rows(ids) for ids in item_ids])
        records = [
            QUESTIONS["preference"].fill(
                {"history": self._history(batch, i), "item": self._told_items([max(row, 0)])}
            )
            for i, row in zip(rows.row_ids.tolist(), rows.values.tolist(), strict=True)
        ]
        ratings = self._expected_ratings(records, self.rating_words_)
        return np.split(np.where(rows.values >= 0, ratings, np.nan), rows.offsets[1:-1])

    def suits(
        self, queries: Sequence[Query], pictures: Sequence[Sequence[bytes]]
    ) -> list[np.ndarray]:
        """Return how likely the kind of each picture (O,) comes next, NaN for unreadable ones.

        Pictures are contents of PNG files; those of one kind are equal. Raises ModelError where
        this was not learned, DataError where none of a query's pictures can be read.
        """
        self._check_learned("img_sel")
        batch = Queries.of(queries).reindexed(self.items_)
        if len(pictures) != len(batch):
            raise DataError(f"{len(pictures)} lists of pictures for {len(batch)} queries")
        codes = PictureCodes.of(self.picture_codes_)
        marks = [_kind_mark(kind) for kind in range(len(codes.kinds))]
        records = [
            QUESTIONS["img_sel"].fill({"history": self._history(batch, i)})
            for i in range(len(batch))
        ]
        shares = []
        for i, of_kinds in enumerate(self._word_probabilities(records, marks)):
            pixels, faults = _read_pictures(pictures[i])
            if len(pixels) and len(faults) == len(pixels):
                raise DataError(f"no picture of query {i} can be read: {faults[0]}")
            values = of_kinds[codes.kinds_of(pixels)]
            values[list(faults)] = np.nan
            shares.append(values)
        return shares

    def draw(self, queries: Sequence[Query], seed: int = 0) -> list[np.ndarray]:
        """Return a picture (16, 16, 3) uint8 that each query would like, patch by patch.

        It is of the likeliest kind, its patches by chance. The text of a query says what it shows,
        in words of items' titles. Raises ModelError where drawing was not learned.
        """
        self._check_learned("img_gen")
        batch = Queries.of(queries).reindexed(self.items_)
        records = []
        for i in range(len(batch)):
            query: list[Part] = [*words(batch.text(i))[:TEXT_WORDS]]
            fields = {"history": self._history(batch, i), "query": query}
            records.append(QUESTIONS["img_gen"].fill(fields))
        codes = PictureCodes.of(self.picture_codes_)
        kinds = self._say(records, 1, [_kind_mark(kind) for kind in range(len(codes.kinds))])
        begun = [
            Record((*record.parts, *kind)) for record, kind in zip(records, kinds, strict=True)
        ]
        marks = [_patch_mark(patch) for patch in range(len(codes.patches))]
        patches = self._say(begun, GRID * GRID, marks, np.random.default_rng(seed))
        grids = [[marks.index(mark) for mark in grid] for grid in patches]
        return list(codes.drawn(np.array(grids, dtype=np.int64).reshape(-1, GRID * GRID)))

    def explain(
        self, queries: Sequence[Query], rankings: Sequence[Ranking]
    ) -> list[list[Explanation]]:
        """Explain items in words, as users say them of items that they chose.

        The evidence is that of `Speller.explain`, similarities of codes: the words are made for
        item and history, and are no account of what the net computed.
        """
        explanations = super().explain(queries, rankings)
        if "exp" in self.tasks:
            self._add_reasons(explanations, queries, rankings, self._why)
        return explanations

    def _why(self, queries: Queries, i: int, row: int) -> Record:
        """Return the question why an item suits a query over `items_`."""
        fields = {"history": self._history(queries, i), "item": self._told_items([row])}
        return QUESTIONS["exp"].fill(fields)


def _kind_mark(kind: int) -> str:
    return f"<kind {kind}>"


def _patch_mark(patch: int) -> str:
    return f"<patch {patch}>"


def _joined(record: Record, turn: Record) -> Record:
    """Return a record that goes on with a further question and its answer."""
    offset = len(record.parts)
    answers = (*record.answers, *(offset + position for position in turn.answers))
    return Record((*record.parts, *turn.parts), answers, record.task)


def _read_pictures(pictures: Sequence[bytes]) -> tuple[np.ndarray, dict[int, str]]:
    """Return pixels (n, 16, 16, 3), and position -> what was wrong; an empty file is a fault."""
    pixels, faults = small_pictures(pictures, SIDE)
    empty = {i: "a picture is empty" for i, picture in enumerate(pictures) if not picture}
    return pixels, {**faults, **empty}


def _brought(pictures: Sequence[bytes]) -> list[Part]:
    """Return the pictures of a query that can be read as parts."""
    pixels, faults = _read_pictures(pictures)
    return [Picture(picture) for i, picture in enumerate(pixels) if i not in faults]
