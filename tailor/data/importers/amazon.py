"""Amazon Reviews 2023 (lines of reviews, lines of products), and a set that holds one user's
reviews a line.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from tailor.data.importers.json_lines import converted
from tailor.data.importers.packed import inner_name
from tailor.data.importers.sources import Distinct, Fields, Source, together
from tailor.errors import DataError

EVENT = "user_id item_id time_ms action value"
WRITTEN = "user_id item_id kind text time_ms"


def amazon_2023(src: Path, encoding: str) -> dict[str, Source]:
    """Files CATEGORY.jsonl of reviews and meta_CATEGORY.jsonl of products, perhaps packed: one of
    them, or a folder of any number.
    """
    files = _files(src)
    reviews = [path for path in files if not path.name.startswith("meta_")]
    products = [path for path in files if path.name.startswith("meta_")]
    if not src.is_dir() and reviews and (beside := _beside(src)):
        products = [beside]
    found: dict[str, Source] = {}
    if reviews:
        found["events"] = together(
            src,
            [
                converted(
                    path,
                    encoding,
                    EVENT + " verified_purchase helpful_vote variant",
                    _review,
                    ("user_id", "parent_asin"),
                )
                for path in reviews
            ],
        )
        found["texts"] = together(
            src, [converted(path, encoding, WRITTEN, _words, quiet=True) for path in reviews]
        )
    if products:
        found["items"] = together(
            src,
            [
                converted(
                    path,
                    encoding,
                    "item_id title text categories price main_category store average_rating "
                    "rating_number",
                    _product,
                    ("parent_asin",),
                )
                for path in products
            ],
        )
    return found


def per_user(src: Path, encoding: str) -> dict[str, Source]:
    """Lines {user_id, category, history: [review, ...], heldout: review}; `heldout` in events says
    which review was held out.
    """
    files = _files(src)

    def joined(columns: str, convert: Any, quiet: bool = False) -> Source:
        return together(
            src,
            [converted(path, encoding, columns, convert, ("user_id",), quiet) for path in files],
        )

    return {
        "events": joined(EVENT + " heldout domain", _user_events),
        "texts": joined(WRITTEN + " excerpt", _user_texts, True),
        "items": Distinct(
            joined("item_id title price categories brand", _user_products, True), "item_id"
        ),
    }


def _files(src: Path) -> list[Path]:
    if not src.is_dir():
        return [src]
    files = sorted(
        path for path in src.iterdir() if inner_name(path).endswith((".jsonl", ".ndjson"))
    )
    if not files:
        raise DataError(
            f"{src} holds no .jsonl or .jsonl.gz file: name the file or the folder of them"
        )
    return files


def _beside(reviews: Path) -> Path | None:
    """The products of a file of reviews."""
    guess = reviews.with_name(f"meta_{reviews.name}")
    return guess if guess.exists() else None


def _review(record: dict[str, Any]) -> Iterator[Fields]:
    variant = record.get("asin")
    yield {
        "user_id": record["user_id"],
        "item_id": record["parent_asin"],
        "time_ms": record.get("timestamp"),
        "action": "review",
        "value": record.get("rating"),
        "verified_purchase": record.get("verified_purchase"),
        "helpful_vote": record.get("helpful_vote"),
        "variant": variant if variant != record["parent_asin"] else None,
    }


def _words(record: dict[str, Any]) -> Iterator[Fields]:
    words = _joined_words([record.get("title"), record.get("text")])
    if words and record.get("user_id") is not None and record.get("parent_asin") is not None:
        yield {
            "user_id": record["user_id"],
            "item_id": record["parent_asin"],
            "kind": "review",
            "text": words,
            "time_ms": record.get("timestamp"),
        }


def _product(record: dict[str, Any]) -> Iterator[Fields]:
    kinds = list(
        dict.fromkeys(
            one for one in [record.get("main_category"), *(record.get("categories") or [])] if one
        )
    )
    price = record.get("price")
    further = {
        name: record.get(name)
        for name in ("main_category", "store", "average_rating", "rating_number")
    }
    yield {
        "item_id": record["parent_asin"],
        "title": record.get("title"),
        "categories": kinds or None,
        "text": _joined_words(
            [*(record.get("features") or []), *(record.get("description") or [])]
        ),
        "price": price.lstrip("$").replace(",", "") if isinstance(price, str) else price,
        **further,
    }


def _user_reviews(record: dict[str, Any]) -> Iterator[tuple[dict[str, Any], bool]]:
    yield from ((review, False) for review in record["history"])
    if record.get("heldout"):
        yield record["heldout"], True


def _user_events(record: dict[str, Any]) -> Iterator[Fields]:
    for review, heldout in _user_reviews(record):
        yield {
            "user_id": record["user_id"],
            "item_id": review["parent_asin"],
            "time_ms": review["timestamp_ms"],
            "action": "review",
            "value": review.get("rating"),
            "heldout": heldout,
            "domain": record.get("category"),
        }


def _user_texts(record: dict[str, Any]) -> Iterator[Fields]:
    for review, _ in _user_reviews(record):
        words = _joined_words([review.get("review_title"), review.get("review_full")])
        if words:
            yield {
                "user_id": record["user_id"],
                "item_id": review["parent_asin"],
                "kind": "review",
                "text": words,
                "time_ms": review["timestamp_ms"],
                "excerpt": review.get("review_excerpt"),
            }


def _user_products(record: dict[str, Any]) -> Iterator[Fields]:
    for review, _ in _user_reviews(record):
        product = review.get("product") or {}
        kinds = [one for one in (product.get("main_category"),) if one]
        yield {
            "item_id": review["parent_asin"],
            "title": product.get("title"),
            "price": product.get("price"),
            "categories": kinds or None,
            "brand": product.get("brand"),
        }


def _joined_words(parts: Iterable[Any]) -> str | None:
    """Title and text of a review, or the paragraphs of a description, a line each."""
    return "\n".join(str(one) for one in parts if one and str(one).strip()) or None
