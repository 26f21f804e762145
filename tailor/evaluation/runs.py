"""Lists that were not made here, and lists of what may be chosen: read from files or tables,
checked, laid over a split's users.
"""

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
READERS: dict[str, Callable[[Path], pl.LazyFrame]] = {
    ".csv": lambda path: pl.scan_csv(path, infer_schema=False),  # "007" is an id, and not 7
    ".tsv": lambda path: pl.scan_csv(path, separator="\t", infer_schema=False),
    ".parquet": pl.scan_parquet,
    ".jsonl": pl.scan_ndjson,
}


@dataclass(frozen=True, eq=False)
class GivenLists:
    """Every user's items and scores, as another program gave them; `evaluate` takes them where it
    takes methods.

    Higher scores stand first; equal ones by the seeded hash of the item's id, as everywhere,
    whatever their order in the file.
    """

    table: pl.DataFrame
    """user_id, item_id, score."""

    def __post_init__(self) -> None:
        missing = [name for name in COLUMNS if name not in self.table.columns]
        if missing:
            raise DataError(
                f"lists need the columns {', '.join(COLUMNS)}; {missing[0]} is"
                f" missing.{nearest(missing[0], self.table.columns)}"
            )
        typed = self.table.select(
            pl.col("user_id", "item_id").cast(pl.String),
            pl.col("score").cast(pl.Float64, strict=False),
        )
        object.__setattr__(self, "table", typed)
        if not len(typed):
            raise DataError("these lists are empty: there is nothing to judge")
        bad = typed.filter(
            ~pl.col("score").is_finite().fill_null(False)
            | pl.any_horizontal(pl.col("user_id", "item_id").is_null())
        )
        if len(bad):
            raise DataError(
                f"{len(bad):,} rows have no user, no item or no finite score, the first"
                f" {bad.row(0)}: mend or drop them"
            )
        twice = typed.filter(typed.select("user_id", "item_id").is_duplicated())
        if len(twice):
            raise DataError(
                f"{len(twice):,} rows name an item twice for one user, the first {twice.row(0)}: an"
                " item stands in a list once"
            )

    @classmethod
    def read(cls, path: str | Path) -> "GivenLists":
        """From .csv, .tsv, .jsonl or .parquet with columns user_id, item_id, score, or a TREC run
        (.run, .trec): user Q0 item rank score tag.
        """
        path = Path(path)
        if not path.is_file():
            raise DataError(f"{path} is no file: name the file that holds the lists")
        try:
            if path.suffix in (".run", ".trec"):
                names = ["user_id", "q0", "item_id", "rank", "score", "tag"]
                lines = [
                    line.split()
                    for line in path.read_text(encoding="utf-8").splitlines()
                    if line.strip()
                ]
                return cls(
                    pl.DataFrame(lines, schema=dict.fromkeys(names, pl.String), orient="row")
                )
            if path.suffix not in READERS:
                raise DataError(
                    f"{path}: lists are read from {', '.join([*READERS, '.run', '.trec'])}"
                )
            return cls(READERS[path.suffix](path).collect())
        except (pl.exceptions.PolarsError, UnicodeDecodeError, OSError) as error:
            raise DataError(
                f"{path} cannot be read as lists: {str(error).splitlines()[0]}"
            ) from None
        except DataError as error:
            raise DataError(f"{path}: {error}".replace(f"{path}: {path}", str(path))) from None

    @classmethod
    def of(cls, lists: Mapping[str, Sequence[str]]) -> "GivenLists":
        """From user id -> item ids, best first."""
        rows = [
            (user, item, -float(rank))
            for user, items in lists.items()
            for rank, item in enumerate(items)
        ]
        return cls(
            pl.DataFrame(
                rows,
                schema=dict(zip(COLUMNS, (pl.String, pl.String, pl.Float64), strict=True)),
                orient="row",
            )
        )

    def answer(self, queries: Queries, k: int) -> Rankings:
        """The k best of each query's user that are not excluded; users without a list get none.
        Raises DataError where no user, or no item of theirs, is known.

        The answer's catalogue holds the items that the queries' lacks besides: they were shown, and
        keep their places.
        """
        is_known = pl.Series(queries.catalogue.codes(self.table["item_id"]) >= 0)
        queries = queries.reindexed(
            queries.catalogue.joined(
                Vocabulary.of_items(self.table["item_id"].filter(~is_known).unique())
            )
        )
        table = self.table.with_columns(
            row=pl.Series(queries.catalogue.codes(self.table["item_id"])), is_known=is_known
        )
        users = pl.DataFrame(
            {"user_id": queries.user_ids.tolist(), "at": np.arange(len(queries))},
            schema={"user_id": pl.String, "at": pl.Int64},
        )
        table = table.join(users, on="user_id").sort(
            "at", "score", "row", descending=[False, True, False]
        )
        if not table["is_known"].any():
            user, item = self.table.row(0)[:2]
            raise DataError(
                "these lists name none of the users and items of this part; they begin with user"
                f' "{user}" and item "{item}", ours are such as "{users["user_id"][0]}" and'
                f' "{queries.catalogue.ids[0]}"'
            )
        lengths = np.bincount(table["at"].to_numpy(), minlength=len(queries))
        rows, scores = (
            Ragged.of_lengths(lengths, table["row"].to_numpy()),
            table["score"].to_numpy(),
        )
        if queries.exclude is not None:
            base = max(len(queries.catalogue), 1)
            kept = ~np.isin(
                rows.row_ids * base + rows.values,
                queries.exclude.row_ids * base + queries.exclude.values,
            )
            rows, scores = rows.keep(kept), scores[kept]
        first = np.arange(len(rows.values)) - np.repeat(rows.offsets[:-1], rows.lengths) < k
        rows, scores = rows.keep(first), scores[first]
        out = Rankings.empty(queries.catalogue, len(queries), k)
        place = np.arange(len(rows.values)) - np.repeat(rows.offsets[:-1], rows.lengths)
        out.rows[rows.row_ids, place], out.scores[rows.row_ids, place] = rows.values, scores
        return out


@dataclass(frozen=True, eq=False)
class Candidates:
    """What a method may choose from, user by user; figures over candidates are never those over the
    whole catalogue, and `label` says so.
    """

    label: str
    user_ids: np.ndarray
    """(U,) object."""
    rows: Ragged
    """Item rows of the split's catalogue, in catalogue order, which tells nothing."""

    def over(self, queries: Queries) -> Rankings:
        """One list a query, equal scores. Raises DataError where a query's user has none."""
        at = {user: place for place, user in enumerate(self.user_ids.tolist())}
        lost = [user for user in queries.user_ids if user not in at]
        if lost:
            raise DataError(
                f'{len(lost):,} of {len(queries):,} users have no candidates, such as "{lost[0]}":'
                " give every user of the part a list"
            )
        rows = self.rows.take(np.array([at[user] for user in queries.user_ids], dtype=np.int64))
        width = int(rows.lengths.max(initial=1))
        out = Rankings.empty(queries.catalogue, len(queries), width)
        place = np.arange(len(rows.values)) - np.repeat(rows.offsets[:-1], rows.lengths)
        out.rows[rows.row_ids, place], out.scores[rows.row_ids, place] = rows.values, 0
        return out


def candidates_of(
    lists: GivenLists | Dataset, split: Split, label: str = "given candidates"
) -> Candidates:
    """From lists, or from the table `candidates` of a data set, whose query_id is read as the user.
    Items the catalogue lacks are left out.
    """
    if isinstance(lists, Dataset):
        if "candidates" not in lists.tables:
            raise DataError(f'data set "{lists.name}" has no table of candidates')
        table = lists.tables["candidates"].select(user_id="query_id", item_id="item_id")
    else:
        table = lists.table
    known = split.data.catalogue.codes(table["item_id"])
    users, code = np.unique(table["user_id"].to_numpy().astype(object), return_inverse=True)
    return _gathered(label, users, code[known >= 0], known[known >= 0])


def sampled(
    split: Split, part: str = "test", negatives: int = 99, by: str = "uniform", seed: int = 0
) -> Candidates:
    """The target of every user among `negatives` random items that are neither targets nor in the
    history: for comparing with papers that did this.

    `by`: "uniform" or "popularity" (in training). Sampled figures order methods differently from
    full ranking (Krichene and Rendle 2020) and are never put beside it. Raises DataError for
    another way or more negatives than items.
    """
    queries, targets = split.queries(part)
    items = len(split.data.catalogue)
    if by not in ("uniform", "popularity"):
        raise DataError(f'negatives drawn "{by}"?{nearest(by, ["uniform", "popularity"])}')
    weights = (
        np.ones(items)
        if by == "uniform"
        else np.bincount(split.train.sequences.rows.values, minlength=items).astype(float)
    )
    if (
        not 0
        < negatives
        < (weights > 0).sum() - int((queries.histories.lengths + targets.lengths).max())
    ):
        raise DataError(
            f"negatives={negatives}: there are {items:,} items, of which some users know many; ask"
            " for fewer, at least 1"
        )
    cumulative, rng = np.cumsum(weights), np.random.default_rng(seed)
    owners, rows = [], []
    for user in range(len(queries)):
        barred = {*queries.histories[user].tolist(), *targets[user].tolist()}
        drawn: dict[int, None] = {}
        while len(drawn) < negatives:
            some = np.searchsorted(
                cumulative, rng.random(2 * negatives) * cumulative[-1], side="right"
            )
            drawn.update(dict.fromkeys(one for one in some.tolist() if one not in barred))
        chosen = [*list(drawn)[:negatives], *set(targets[user].tolist())]
        owners.append(np.full(len(chosen), user))
        rows.append(np.array(chosen))
    return _gathered(
        f"{negatives} negatives drawn by {by}",
        queries.user_ids,
        np.concatenate(owners),
        np.concatenate(rows),
    )


def only_new_items(split: Split, part: str = "test") -> Candidates:
    """The items without a training event, for everybody: which of the new ones suits whom? Raises
    DataError where there are none.
    """
    queries, _ = split.queries(part)
    learned = np.zeros(len(split.data.catalogue), dtype=bool)
    learned[split.data.sequences.rows.values[split.part[split.data.sequences.events] == TRAIN]] = (
        True
    )
    new = np.flatnonzero(~learned)
    if not len(new):
        raise DataError(
            f"the split by {split.kind} has no item without a training event: use new-items or time"
        )
    return Candidates(
        "items without a training event",
        queries.user_ids,
        Ragged.of_lengths(np.full(len(queries), len(new)), np.tile(new, len(queries))),
    )


def _gathered(label: str, users: np.ndarray, owners: np.ndarray, rows: np.ndarray) -> Candidates:
    pairs = np.unique(np.stack([owners, rows]), axis=1)
    return Candidates(
        label,
        users,
        Ragged.of_lengths(np.bincount(pairs[0], minlength=len(users)), pairs[1].astype(np.int32)),
    )
