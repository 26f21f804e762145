"""Read lists made by other programs, and lists of candidates, and check them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from tailor.data.arrays import Ragged
from tailor.data.dataset import Dataset
from tailor.data.queries import Queries, Rankings
from tailor.data.splits import TRAIN, Split
from tailor.data.vocabulary import Vocabulary
from tailor.errors import DataError, nearest

COLUMNS = ("user_id", "item_id", "score")
TREC_COLUMNS = ("user_id", "q0", "item_id", "rank", "score", "tag")
TREC_SUFFIXES = (".run", ".trec")
READERS: dict[str, Callable[[Path], pl.LazyFrame]] = {
    ".csv": lambda path: pl.scan_csv(path, infer_schema=False),  # "007" is an id, and not 7
    ".tsv": lambda path: pl.scan_csv(path, separator="\t", infer_schema=False),
    ".parquet": pl.scan_parquet,
    ".jsonl": pl.scan_ndjson,
}


@dataclass(frozen=True, eq=False)
class ExternalRun:
    """Items and scores for every user, made by another program.

    `evaluate` takes it in place of a method. Higher scores come first; equal ones are ordered by
    the seeded hash of the item's id, whatever their order in the file.
    """

    table: pl.DataFrame
    """Columns user_id, item_id, score."""

    def __post_init__(self) -> None:
        missing = [name for name in COLUMNS if name not in self.table.columns]
        if missing:
            raise DataError(
                f"lists need the columns {', '.join(COLUMNS)}; {missing[0]} is"
                f" missing.{nearest(missing[0], self.table.columns)}"
            )
        table = self.table.select(
            pl.col("user_id", "item_id").cast(pl.String),
            pl.col("score").cast(pl.Float64, strict=False),
        )
        object.__setattr__(self, "table", table)
        self._check_rows()

    def _check_rows(self) -> None:
        """Raise DataError for missing values, scores that are no numbers and repeated items."""
        if not len(self.table):
            raise DataError("these lists are empty: there is nothing to judge")
        is_finite = pl.col("score").is_finite().fill_null(False)
        has_no_id = pl.any_horizontal(pl.col("user_id", "item_id").is_null())
        bad_rows = self.table.filter(~is_finite | has_no_id)
        if len(bad_rows):
            raise DataError(
                f"{len(bad_rows):,} rows have no user, no item or no finite score, the first"
                f" {bad_rows.row(0)}: mend or drop them"
            )
        repeats = self.table.filter(self.table.select("user_id", "item_id").is_duplicated())
        if len(repeats):
            raise DataError(
                f"{len(repeats):,} rows name an item twice for one user, the first"
                f" {repeats.row(0)}: a list holds an item once"
            )

    @classmethod
    def read(cls, path: str | Path) -> "ExternalRun":
        """Read a table or a TREC run.

        .csv, .tsv, .jsonl and .parquet have columns user_id, item_id and score; lines of a TREC run
        (.run, .trec) are: user Q0 item rank score tag. Raises DataError for other files.
        """
        path = Path(path)
        if not path.is_file():
            raise DataError(f"{path} is no file: name the file that holds the lists")
        if path.suffix not in (*READERS, *TREC_SUFFIXES):
            suffixes = ", ".join([*READERS, *TREC_SUFFIXES])
            raise DataError(f"{path}: lists are read from {suffixes}")
        try:
            if path.suffix in TREC_SUFFIXES:
                table = _read_trec(path)
            else:
                table = READERS[path.suffix](path).collect()
            return cls(table)
        except (pl.exceptions.PolarsError, UnicodeDecodeError, OSError) as error:
            reason = str(error).splitlines()[0]
            raise DataError(f"{path} cannot be read as lists: {reason}") from None
        except DataError as error:
            raise DataError(f"{path}: {error}") from None

    @classmethod
    def of(cls, lists: Mapping[str, Sequence[str]]) -> "ExternalRun":
        """Return a run from user id -> item ids, best first."""
        rows = [
            (user_id, item_id, -float(i))
            for user_id, item_ids in lists.items()
            for i, item_id in enumerate(item_ids)
        ]
        schema = {"user_id": pl.String, "item_id": pl.String, "score": pl.Float64}
        return cls(pl.DataFrame(rows, schema=schema, orient="row"))

    def answer(self, queries: Queries, k: int) -> Rankings:
        """Return the k best items per query that are not excluded; users without a list get none.

        The catalogue of the answer also holds items that the queries' catalogue lacks: they keep
        their ranks. Raises DataError where no user, or no item of theirs, is known.
        """
        is_known = pl.Series(queries.catalogue.codes(self.table["item_id"]) >= 0)
        unknown_ids = self.table["item_id"].filter(~is_known).unique()
        queries = queries.reindexed(queries.catalogue.joined(Vocabulary.of_items(unknown_ids)))
        users = pl.DataFrame(
            {"user_id": queries.user_ids.tolist(), "query": np.arange(len(queries))},
            schema={"user_id": pl.String, "query": pl.Int64},
        )
        table = (
            self.table.with_columns(
                row=pl.Series(queries.catalogue.codes(self.table["item_id"])), is_known=is_known
            )
            .join(users, on="user_id")
            .sort("query", "score", "row", descending=[False, True, False])
        )
        if not table["is_known"].any():
            user_id, item_id = self.table.row(0)[:2]
            raise DataError(
                "these lists name none of the users and items of this part; they begin with user"
                f' "{user_id}" and item "{item_id}", ours are such as "{users["user_id"][0]}" and'
                f' "{queries.catalogue.ids[0]}"'
            )
        lengths = np.bincount(table["query"].to_numpy(), minlength=len(queries))
        rows = Ragged.of_lengths(lengths, table["row"].to_numpy())
        return _ranked(queries, rows, table["score"].to_numpy(), k)


def _read_trec(path: Path) -> pl.DataFrame:
    """Read the lines of a TREC run as strings."""
    lines = path.read_text(encoding="utf-8").splitlines()
    rows = [line.split() for line in lines if line.strip()]
    return pl.DataFrame(rows, schema=dict.fromkeys(TREC_COLUMNS, pl.String), orient="row")


def _ranked(queries: Queries, rows: Ragged, scores: np.ndarray, k: int) -> Rankings:
    """Return the first k rows per query that are not excluded, in the order of `rows`."""
    if queries.exclude is not None:
        items = max(len(queries.catalogue), 1)
        excluded_pairs = queries.exclude.row_ids * items + queries.exclude.values
        is_allowed = ~np.isin(rows.row_ids * items + rows.values, excluded_pairs)
        rows, scores = rows.keep(is_allowed), scores[is_allowed]
    is_first = rows.from_start < k
    return _rankings(queries, rows.keep(is_first), scores[is_first])


def _rankings(queries: Queries, rows: Ragged, scores: np.ndarray | float) -> Rankings:
    """Return one ranking per query from lists of item rows, as wide as the longest."""
    width = max(int(rows.lengths.max(initial=0)), 1)
    rankings = Rankings.empty(queries.catalogue, len(queries), width)
    rankings.rows[rows.row_ids, rows.from_start] = rows.values
    rankings.scores[rows.row_ids, rows.from_start] = scores
    return rankings


@dataclass(frozen=True, eq=False)
class Candidates:
    """Items that a method may choose from, user by user.

    Figures over candidates are not comparable with those over the whole catalogue; `label` marks
    them.
    """

    label: str
    user_ids: np.ndarray
    """(U,) object."""
    rows: Ragged
    """Item rows of the split's catalogue, in catalogue order, which carries no information."""

    def over(self, queries: Queries) -> Rankings:
        """Return one list per query, with equal scores.

        Raises DataError where a query's user has no candidates.
        """
        positions = {user_id: i for i, user_id in enumerate(self.user_ids.tolist())}
        missing = [user_id for user_id in queries.user_ids if user_id not in positions]
        if missing:
            raise DataError(
                f"{len(missing):,} of {len(queries):,} users have no candidates, such as"
                f' "{missing[0]}": give every user of the part a list'
            )
        order = np.array([positions[user_id] for user_id in queries.user_ids], dtype=np.int64)
        return _rankings(queries, self.rows.take(order), 0)


def candidates_of(
    lists: ExternalRun | Dataset, split: Split, label: str = "given candidates"
) -> Candidates:
    """Return candidates from a run, or from the table `candidates` of a data set.

    The table's query_id is read as the user. Items that the catalogue lacks are left out.
    """
    if isinstance(lists, Dataset):
        if "candidates" not in lists.tables:
            raise DataError(f'data set "{lists.name}" has no table of candidates')
        table = lists.tables["candidates"].select(user_id="query_id", item_id="item_id")
    else:
        table = lists.table
    item_rows = split.data.catalogue.codes(table["item_id"])
    is_known = item_rows >= 0
    user_ids = table["user_id"].to_numpy().astype(object)
    users, user_codes = np.unique(user_ids, return_inverse=True)
    return _candidates_from_pairs(label, users, user_codes[is_known], item_rows[is_known])


def sampled(
    split: Split, part: str = "test", negatives: int = 99, by: str = "uniform", seed: int = 0
) -> Candidates:
    """Return each user's targets among random negatives, to compare with papers that did so.

    Negatives are neither targets nor in the history; `by` draws them "uniform" or by "popularity"
    in training. Sampled figures order methods differently from full ranking (Krichene and Rendle
    2020): do not put them beside it. Raises DataError for another `by` or too many negatives.
    """
    queries, targets = split.queries(part)
    items = len(split.data.catalogue)
    if by not in ("uniform", "popularity"):
        raise DataError(f'negatives drawn "{by}"?{nearest(by, ["uniform", "popularity"])}')
    weights = np.ones(items)
    if by == "popularity":
        train_rows = split.train.sequences.rows.values
        weights = np.bincount(train_rows, minlength=items).astype(float)
    most_excluded = int((queries.histories.lengths + targets.lengths).max())
    if not 0 < negatives < (weights > 0).sum() - most_excluded:
        raise DataError(
            f"negatives={negatives}: there are {items:,} items, of which some users know many; ask"
            " for fewer, at least 1"
        )
    cumulative = np.cumsum(weights)
    rng = np.random.default_rng(seed)
    lists = []
    for user in range(len(queries)):
        positives = targets[user].tolist()
        excluded = {*queries.histories[user].tolist(), *positives}
        drawn_rows = _draw_negatives(cumulative, negatives, excluded, rng)
        lists.append([*drawn_rows, *set(positives)])
    owners = np.repeat(np.arange(len(lists)), [len(rows) for rows in lists])
    label = f"{negatives} negatives drawn by {by}"
    return _candidates_from_pairs(label, queries.user_ids, owners, np.concatenate(lists))


def _draw_negatives(
    cumulative: np.ndarray, n: int, excluded: set[int], rng: np.random.Generator
) -> list[int]:
    """Draw n different item rows that are not excluded, by cumulative weights (N,)."""
    negatives: dict[int, None] = {}
    while len(negatives) < n:
        points = rng.random(2 * n) * cumulative[-1]
        drawn_rows = np.searchsorted(cumulative, points, side="right")
        negatives.update(dict.fromkeys(row for row in drawn_rows.tolist() if row not in excluded))
    return list(negatives)[:n]


def only_new_items(split: Split, part: str = "test") -> Candidates:
    """Return the items without a training event as the candidates of every user.

    Raises DataError where there are none.
    """
    queries, _ = split.queries(part)
    sequences = split.data.sequences
    is_train = split.part[sequences.events] == TRAIN
    has_events = np.zeros(len(split.data.catalogue), dtype=bool)
    has_events[sequences.rows.values[is_train]] = True
    new_rows = np.flatnonzero(~has_events)
    if not len(new_rows):
        raise DataError(
            f"the split by {split.kind} has no item without a training event: use new-items or time"
        )
    lengths = np.full(len(queries), len(new_rows))
    lists = Ragged.of_lengths(lengths, np.tile(new_rows, len(queries)))
    return Candidates("items without a training event", queries.user_ids, lists)


def _candidates_from_pairs(
    label: str, users: np.ndarray, user_codes: np.ndarray, item_rows: np.ndarray
) -> Candidates:
    """Return candidates from pairs of a place in `users` (U,) and an item row."""
    pairs = np.unique(np.stack([user_codes, item_rows]), axis=1)
    lengths = np.bincount(pairs[0], minlength=len(users))
    return Candidates(label, users, Ragged.of_lengths(lengths, pairs[1].astype(np.int32)))
