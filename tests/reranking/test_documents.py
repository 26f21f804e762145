"""Documents with pictures: they reach rerankers that read pictures, from wherever they come."""

import base64
import hashlib
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import polars as pl
import pytest

from tailor.core.run import Run
from tailor.data.dataset import Dataset
from tailor.data.nouns import Query, Ranking
from tailor.data.pictures import write_png
from tailor.errors import DataError
from tailor.reranking.reranker import Reranker
from tailor.reranking.shortlist import Shortlist, ordered

RED, BLUE = (
    write_png(np.full((4, 4, 3), colour, np.uint8)) for colour in ((250, 0, 0), (0, 0, 250))
)


@dataclass(eq=False)
class Brightest(Reranker):
    """Orders documents by the size of their pictures, and keeps what it was handed."""

    reads_pictures: ClassVar[bool] = True

    def _rerank(self, shortlists, limits, trace):
        self.handed = [shortlist.images for shortlist in shortlists]
        sizes = [np.array([float(len(image)) for image in images]) for images in self.handed]
        return [
            ordered(shortlist, of_list, ["ranked"] * len(shortlist), "bytes")
            for shortlist, of_list in zip(shortlists, sizes)
        ]


@dataclass(eq=False)
class Blind(Brightest):
    reads_pictures: ClassVar[bool] = False


def test_documents_are_texts_or_mappings():
    encoded = base64.b64encode(RED).decode()
    shortlist = Shortlist.of_documents(
        "red",
        [
            "a text",
            {"text": "bytes", "image": RED},
            {"image": f"data:image/png;base64,{encoded}", "title": "A"},
            {"image": encoded},
        ],
    )
    assert shortlist.texts == ("a text", "bytes", "", "")
    assert shortlist.images == (b"", RED, RED, RED) and shortlist.titles == ("", "", "A", "")
    assert shortlist.request == "red" and shortlist.prior.tolist() == [0, -1, -2, -3]
    plain = Shortlist.of_documents("red", ["a", {"text": "b"}])
    assert plain.images == () and plain.titles == ()
    assert len(Shortlist.of_documents("red", [])) == 0


@pytest.mark.parametrize(
    ("document", "words"),
    [
        (3, "a document is 3"),
        ({"txt": "a"}, "'txt'"),
        ({"text": 4}, "texts"),
        ({"image": "no base64!"}, "an image"),
        ({"image": 4.5}, "an image"),
    ],
)
def test_what_is_no_document_is_named(document, words):
    with pytest.raises(DataError, match=words):
        Shortlist.of_documents("red", [document])


def test_there_is_a_picture_for_each_document_or_for_none():
    with pytest.raises(DataError, match="2 documents with 1 images"):
        Shortlist(Query(), ("a", "b"), np.zeros(2), images=(RED,))


def catalogue():
    digest = [hashlib.sha256(picture).hexdigest() for picture in (RED, BLUE)]
    assets = {"asset_id": ["r", "b"], "path": ["r", "b"], "sha256": digest, "content": [RED, BLUE]}
    items = {"item_id": ["one", "two", "bare"], "asset": ["r", "b", None]}
    events = {"user_id": ["u"], "item_id": ["one"]}
    tables = {"events": events, "items": items, "assets": assets}
    return Dataset({name: pl.DataFrame(table) for name, table in tables.items()})


def test_pictures_come_from_the_candidate_else_from_the_catalogue():
    method = Brightest().fit(catalogue(), Run())
    own = {"one": {"image": BLUE + b"own"}, "new": {"image": RED}}
    ids = ("two", "one", "new", "bare", "stranger")
    ranking = Ranking(ids, -np.arange(5), details=own)
    method.recommend([Query(text="x")], 5, [ranking])
    assert method.handed == [(BLUE, BLUE + b"own", RED, b"", b"")]
    assert [method.pictures_[row].tobytes() for row in method.items_.rows(["one"])] == [RED]
    blind = Blind().fit(catalogue(), Run())
    assert "pictures_" not in blind.state()
