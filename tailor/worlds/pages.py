"""Make documents of pages as pictures, and requests that name words and looks of one page."""

import itertools
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import polars as pl

from tailor.data.dataset import Dataset
from tailor.errors import DataError
from tailor.worlds.assets import asset_table
from tailor.worlds.pictures import CHARTS, COLOURS, STAMPS, TABLES, Page, draw_page
from tailor.worlds.seeds import opaque_ids, random_of
from tailor.worlds.words import article

SYLLABLES = "ba co di fe gu ha ju ka lo mi ne po ra su te vi wo xa yu ze"
TOPIC_WORDS, PAGE_WORDS, ASKED_WORDS = 24, 8, 2
PAGES_OF_TOPIC = 20
HAS_CHART, HAS_TABLE, HAS_STAMP = 0.8, 0.6, 0.6  # share of the pages
FRAMES = (  # of requests that are learned from, and of the others
    (
        "{words}: the page with {looks}",
        "find {looks} about {words}",
        "{looks}, in the report on {words}",
        "show me {words}, there is {looks}",
    ),
    ("which page on {words} shows {looks}?", "I remember {looks} somewhere near {words}"),
)
NAMES = {  # of what a page shows: those that are learned from, and others
    "bars": (("bar chart", "chart of columns"), ("bar graph",)),
    "line": (("line chart", "curve"), ("line graph",)),
    "pie": (("pie chart", "pie"), ("pie diagram",)),
    "short": (("short table", "small table"), ("brief table",)),
    "long": (("long table", "large table"), ("big table",)),
    "round": (("round stamp", "circular stamp"), ("round seal",)),
    "square": (("square stamp", "rectangular stamp"), ("square seal",)),
}


@dataclass(frozen=True, eq=False)
class Pages:
    """Two data sets of pages and judged requests that share no page, topic and wording."""

    learned: Dataset
    """Pages and requests to learn from."""
    judged: Dataset
    """Pages and requests to judge by."""


def pages(learned: int = 1_000, judged: int = 500, seed: int = 0) -> Pages:
    """Make pages, and a request for every second one.

    An item is a page: its text has eight words of its topic, and its picture (64 x 64) a chart, a
    table and a stamp, each or none. The columns chart, colour, table and stamp tell what is drawn.
    A request names two words of its page and two looks of it, such as "a red pie chart". Texts
    tell nothing about looks. About two other pages of the topic have both words. The same
    arguments give the same data. Raises DataError for less than a topic of pages.
    """
    if min(learned, judged) < PAGES_OF_TOPIC:
        raise DataError(f"learned {learned}, judged {judged}: at least {PAGES_OF_TOPIC} pages each")
    rng = random_of(seed, "pages")
    vocabulary = _vocabulary(rng)
    ids = opaque_ids("p-", learned + judged, seed).to_list()
    starts = (0, -(-learned // PAGES_OF_TOPIC))  # the first topics of both parts
    parts = (ids[:learned], ids[learned:])
    return Pages(
        *(
            _part(part_ids, vocabulary[start * TOPIC_WORDS :], part, rng, f"pages-{seed}-{part}")
            for part, (part_ids, start) in enumerate(zip(parts, starts, strict=True))
        )
    )


def _vocabulary(rng: np.random.Generator) -> list[str]:
    """Return all words of three syllables in random order."""
    words = ["".join(parts) for parts in itertools.product(SYLLABLES.split(), repeat=3)]
    return [words[i] for i in rng.permutation(len(words))]


def _part(
    ids: Sequence[str], vocabulary: Sequence[str], part: int, rng: np.random.Generator, name: str
) -> Dataset:
    """Return the pages of one part, and requests in its wordings."""
    looks = [_draw_looks(rng) for _ in ids]
    texts = []
    for number in range(len(ids)):
        start = number // PAGES_OF_TOPIC * TOPIC_WORDS
        words = vocabulary[start : start + TOPIC_WORDS]
        texts.append([words[i] for i in rng.choice(TOPIC_WORDS, PAGE_WORDS, replace=False)])
    targets = [i for i in range(0, len(ids), 2) if len(_shown(looks[i])) >= 2]
    requests = [_request(texts[i], looks[i], part, rng) for i in targets]
    request_ids = [f"{name}-{number}" for number in range(len(requests))]
    attributes = pl.DataFrame([asdict(page) for page in looks])
    items = pl.DataFrame({"item_id": ids, "asset": ids, "text": [" ".join(t) for t in texts]})
    tables = {
        "items": items.hstack(attributes),
        "assets": asset_table(ids, [draw_page(page, rng) for page in looks]),
        "requests": pl.DataFrame({"request_id": request_ids, "text": requests}),
        "judgements": pl.DataFrame(
            {"query_id": request_ids, "item_id": [ids[i] for i in targets], "grade": 1.0}
        ),
    }
    return Dataset(tables, name)


def _draw_looks(rng: np.random.Generator) -> Page:
    """Draw the attributes of a page."""
    has_chart, has_table, has_stamp = rng.random(3) < (HAS_CHART, HAS_TABLE, HAS_STAMP)
    return Page(
        str(rng.choice(CHARTS[1:])) if has_chart else "none",
        str(rng.choice(list(COLOURS))) if has_chart else "none",
        str(rng.choice(list(TABLES)[1:])) if has_table else "none",
        str(rng.choice(STAMPS[1:])) if has_stamp else "none",
    )


def _shown(page: Page) -> list[str]:
    """Return the names of what a page shows."""
    return [name for name in (page.chart, page.table, page.stamp) if name != "none"]


def _request(words: Sequence[str], page: Page, part: int, rng: np.random.Generator) -> str:
    """Return a request for a page, in the wordings of a part."""
    looks = []
    for part_name in rng.permutation(_shown(page))[:2].tolist():
        name = str(rng.choice(NAMES[part_name][part]))
        look = f"{page.colour} {name}" if part_name == page.chart else name
        looks.append(f"{article(look).lower()} {look}")
    chosen = rng.permutation(words)[:ASKED_WORDS].tolist()
    frame = str(rng.choice(FRAMES[part]))
    return frame.format(words=" ".join(chosen), looks=" and ".join(looks))
