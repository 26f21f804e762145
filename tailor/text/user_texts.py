"""Users as vectors of the texts that they wrote."""

from dataclasses import dataclass

import numpy as np
import polars as pl

from tailor.core.defaults import DEFAULT
from tailor.core.defaults import encoder as encoder_of
from tailor.data.dataset import Dataset
from tailor.data.vocabulary import Vocabulary
from tailor.errors import DataError
from tailor.ports.base import Encoder
from tailor.progress import Progress, silent
from tailor.text.cached import plain
from tailor.text.sentences import unit_length

DAY_MS = 86_400_000
BATCH = 512  # texts between two steps of a progress bar


@dataclass(frozen=True)
class UserTextEncoder:
    """The mean of the vectors of a user's texts, newer texts counting more.

    It compares users with items, with queries, and with one another. Texts are encoded as they are
    and kept nowhere on disk, whatever cache the encoder has: they are users' own words.
    """

    encoder: Encoder | str = DEFAULT
    """The encoder; or "default": TAILOR_ENCODER, tailor.toml, else MiniLM."""
    half_life_days: float | None = 180.0
    """Days after which a text counts half; None: all count alike, as without times."""
    kinds: tuple[str, ...] = ()
    """Kinds of texts that count, such as "review"; (): all."""
    latest: int = 50
    """Number of a user's latest texts that are read."""

    def __post_init__(self) -> None:
        if self.latest < 1 or (self.half_life_days is not None and not self.half_life_days > 0):
            raise DataError(
                f"latest is {self.latest}, half_life_days {self.half_life_days}: from 1, and"
                " above 0"
            )

    def of_texts(self, texts: list[str], ages_days: list[float] | None = None) -> np.ndarray:
        """Return the (D,) vector of one user's texts, zero where all are blank.

        `ages_days` holds the age of each text.
        """
        frame = pl.DataFrame(
            {"user_id": [""] * len(texts), "text": texts, "age": ages_days or [0.0] * len(texts)},
            schema={"user_id": pl.String, "text": pl.String, "age": pl.Float64},
        )
        vector: np.ndarray = self._pooled(frame, Vocabulary([""]), silent)[0]
        return vector

    def encode(
        self, data: Dataset, now_ms: int | None = None, progress: Progress = silent
    ) -> np.ndarray:
        """Return (U, D) float32 vectors of unit length, zero for a user without texts.

        Texts after `now_ms`, by default the time of the newest text, are not read. Raises DataError
        where the data set has no table of texts, or none of these kinds.
        """
        return self._pooled(_with_ages(self._texts(data), now_ms), data.users, progress)

    def _texts(self, data: Dataset) -> pl.DataFrame:
        if "texts" not in data.tables:
            raise DataError(
                f'data set "{data.name}" has no table "texts": give one with user_id and text'
            )
        frame = data.tables["texts"]
        if not self.kinds:
            return frame
        if "kind" in frame.columns:
            frame = frame.filter(pl.col("kind").is_in(self.kinds))
        else:
            frame = frame.head(0)
        if not len(frame):
            raise DataError(f'data set "{data.name}" has no text of kind {", ".join(self.kinds)}')
        return frame

    def _pooled(self, frame: pl.DataFrame, users: Vocabulary, progress: Progress) -> np.ndarray:
        """Return (U, D) vectors from rows of user_id, text and age, the newest first."""
        frame = frame.filter(pl.col("text").str.contains(r"\S").fill_null(False))
        frame = frame.group_by("user_id", maintain_order=True).head(self.latest)
        encoder = plain(encoder_of(self.encoder))
        if not len(frame):
            return np.zeros((len(users), encoder.encode([]).shape[1]), dtype=np.float32)
        user_rows = users.rows(frame["user_id"].to_list())
        texts = frame["text"].to_list()
        weights = self._weights(frame["age"])
        sums: np.ndarray | None = None
        starts = range(0, len(texts), BATCH)
        for start in progress(starts, "reading what people wrote", len(starts)):
            batch = slice(start, start + BATCH)
            vectors = encoder.encode(texts[batch]) * weights[batch, None]
            if sums is None:
                sums = np.zeros((len(users), vectors.shape[1]))
            is_known = user_rows[batch] >= 0
            np.add.at(sums, user_rows[batch][is_known], vectors[is_known])
        return unit_length(np.asarray(sums, dtype=np.float32))

    def _weights(self, ages_days: pl.Series) -> np.ndarray:
        """Return the weight of each text; texts without a time count as the oldest."""
        if self.half_life_days is None:
            return np.ones(len(ages_days))
        ages = ages_days.fill_null(ages_days.max() or 0.0).to_numpy()
        weights: np.ndarray = 0.5 ** (np.maximum(ages, 0) / self.half_life_days)
        return weights


def _with_ages(frame: pl.DataFrame, now_ms: int | None) -> pl.DataFrame:
    """Return the texts up to a time, newest first, with their age in days."""
    if "time_ms" not in frame.columns:
        return frame.reverse().with_columns(age=pl.lit(0.0))
    if now_ms is None:
        now_ms = int(frame["time_ms"].max() or 0)  # type: ignore[arg-type]
    time_ms = pl.col("time_ms")
    frame = frame.filter(time_ms.is_null() | (time_ms <= now_ms))
    frame = frame.with_columns(age=(now_ms - time_ms) / DAY_MS)
    return frame.sort("time_ms", descending=True, nulls_last=True, maintain_order=True)
