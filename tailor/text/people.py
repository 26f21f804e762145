"""People as what they wrote: one vector each of a person's texts."""

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
ENCODED = 512  # texts between two steps of a progress bar


@dataclass(frozen=True)
class UserTextEncoder:
    """The mean of the vectors of what a person wrote, newer texts counting more; for comparing
    people with items, with queries, and with one another.

    Texts are encoded as they are and kept nowhere on disk, whatever cache the encoder has: they are
    people's own words.
    """

    encoder: Encoder | str = DEFAULT
    """Or "default": TAILOR_ENCODER, tailor.toml, else MiniLM."""
    half_life_days: float | None = 180.0
    """After which a text counts half; none: all alike, as where texts have no times."""
    kinds: tuple[str, ...] = ()
    """Of texts that count, such as "review"; none: all."""
    latest: int = 50
    """Texts of a person that are read."""

    def __post_init__(self) -> None:
        if self.latest < 1 or (self.half_life_days is not None and not self.half_life_days > 0):
            raise DataError(
                f"latest is {self.latest}, half_life_days {self.half_life_days}: from 1, and"
                " above 0"
            )

    def of_texts(self, texts: list[str], ages_days: list[float] | None = None) -> np.ndarray:
        """(D,) of one person's texts, `ages_days` old each; zero where none says anything."""
        frame = pl.DataFrame(
            {"user_id": [""] * len(texts), "text": texts, "age": ages_days or [0.0] * len(texts)},
            schema={"user_id": pl.String, "text": pl.String, "age": pl.Float64},
        )
        vector: np.ndarray = self._pooled(frame, Vocabulary([""]), silent)[0]
        return vector

    def encode(
        self, data: Dataset, now_ms: int | None = None, progress: Progress = silent
    ) -> np.ndarray:
        """(U, D) float32 of unit length, one row a user of the data set; zero for who wrote
        nothing. Texts after `now_ms` are not read.

        `now_ms` is the time of the newest text unless given. Raises DataError where the data set
        has no table of texts, or none of these kinds.
        """
        if "texts" not in data.tables:
            raise DataError(
                f'data set "{data.name}" has no table "texts": give one with user_id and text'
            )
        frame = data.tables["texts"]
        if self.kinds:
            frame = (
                frame.filter(pl.col("kind").is_in(self.kinds))
                if "kind" in frame.columns
                else frame.head(0)
            )
            if not len(frame):
                raise DataError(
                    f'data set "{data.name}" has no text of kind {", ".join(self.kinds)}'
                )
        if "time_ms" in frame.columns:
            now = int(frame["time_ms"].max() or 0) if now_ms is None else now_ms  # type: ignore[arg-type]
            frame = frame.filter(
                pl.col("time_ms").is_null() | (pl.col("time_ms") <= now)
            ).with_columns(age=(now - pl.col("time_ms")) / DAY_MS)
            frame = frame.sort("time_ms", descending=True, nulls_last=True, maintain_order=True)
        else:
            frame = frame.reverse().with_columns(age=pl.lit(0.0))
        return self._pooled(frame, data.users, progress)

    def _pooled(self, frame: pl.DataFrame, users: Vocabulary, progress: Progress) -> np.ndarray:
        """(U, D) of rows user_id, text, age, the newest first."""
        frame = (
            frame.filter(pl.col("text").str.contains(r"\S").fill_null(False))
            .group_by("user_id", maintain_order=True)
            .head(self.latest)
        )
        encoder = plain(encoder_of(self.encoder))
        owners, texts = users.rows(frame["user_id"].to_list()), frame["text"].to_list()
        ages = (
            frame["age"].fill_null(frame["age"].max() or 0.0).to_numpy()
            if len(frame)
            else np.zeros(0)
        )
        weights = (
            np.ones(len(texts))
            if self.half_life_days is None
            else 0.5 ** (np.maximum(ages, 0) / self.half_life_days)
        )
        summed: np.ndarray | None = None
        starts = range(0, len(texts), ENCODED)
        for start in progress(starts, "reading what people wrote", len(starts)):
            vectors = (
                encoder.encode(texts[start : start + ENCODED])
                * weights[start : start + ENCODED, None]
            )
            summed = np.zeros((len(users), vectors.shape[1])) if summed is None else summed
            known = owners[start : start + ENCODED] >= 0
            np.add.at(summed, owners[start : start + ENCODED][known], vectors[known])
        if summed is None:
            return np.zeros((len(users), encoder.encode([]).shape[1]), dtype=np.float32)
        return unit_length(summed.astype(np.float32))
