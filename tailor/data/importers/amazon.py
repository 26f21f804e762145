"""Amazon Reviews 2023 (lines of reviews and of products), and reviews a line per user."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from tailor.data.importers.json_lines import converted
from tailor.data.importers.packed import inner_name
from tailor.data.importers.sources import Distinct, Fields, Source, together
from tailor.errors import DataError

EVENT = "user_id item_id time_ms action value"
TEXT = "user_id item_id kind text time_ms title"
REVIEW = EVENT + " verified_purchase helpful_vote variant"
FURTHER = ("main_category", "store", "average_rating", "rating_number")
PRODUCT = "item_id title text categories price " + " ".join(FURTHER)


def amazon_2023(src: Path, encoding: str) -> dict[str, Source]:
    """Return events and texts of CATEGORY.jsonl, and items of meta_CATEGORY.jsonl.

    `src` is one of these files, perhaps packed, or a folder of any number.
    """
    files = _files(src)
    reviews = [path for path in files if not path.name.startswith("meta_")]
    products = [path for path in files if path.name.startswith("meta_")]
    if not src.is_dir() and reviews:
        products = _products_of(src)
    tables: dict[str, Source] = {}
    if reviews:
        needs = ("user_id", "parent_asin")
        events = [converted(path, encoding, REVIEW, _review, needs) for path in reviews]
        texts = [converted(path, encoding, TEXT, _words, quiet=True) for path in reviews]
        tables = {"events": together(src, events), "texts": together(src, texts)}
    if products:
        items = [
            converted(path, encoding, PRODUCT, _product, ("parent_asin",)) for path in products
        ]
        tables["items"] = together(src, items)
    return tables


def per_user(src: Path, encoding: str) -> dict[str, Source]:
    """Return the tables of lines {user_id, category, history: [review, ...], heldout: review}.

    `heldout` in events says which review was held out.
    """
    files = _files(src)

    def joined(columns: str, convert: Any, quiet: bool = False) -> Source:
        return together(
            src,
            [converted(path, encoding, columns, convert, ("user_id",), quiet) for path in files],
        )

    return {
        "events": joined(EVENT + " heldout domain", _user_events),
        "texts": joined(TEXT + " excerpt", _user_texts, True),
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


def _products_of(reviews: Path) -> list[Path]:
    """Return the file of the products of a file of reviews, where it is there."""
    path = reviews.with_name(f"meta_{reviews.name}")
    return [path] if path.exists() else []


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
            "title": record.get("title"),
        }


def _product(record: dict[str, Any]) -> Iterator[Fields]:
    names = [record.get("main_category"), *(record.get("categories") or [])]
    categories = list(dict.fromkeys(name for name in names if name))
    paragraphs = [*(record.get("features") or []), *(record.get("description") or [])]
    price = record.get("price")
    if isinstance(price, str):
        price = price.lstrip("$").replace(",", "")
    yield {
        "item_id": record["parent_asin"],
        "title": record.get("title"),
        "categories": categories or None,
        "text": _joined_words(paragraphs),
        "price": price,
        **{name: record.get(name) for name in FURTHER},
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
                "title": review.get("review_title"),
                "excerpt": review.get("review_excerpt"),
            }


def _user_products(record: dict[str, Any]) -> Iterator[Fields]:
    for review, _ in _user_reviews(record):
        product = review.get("product") or {}
        category = product.get("main_category")
        yield {
            "item_id": review["parent_asin"],
            "title": product.get("title"),
            "price": product.get("price"),
            "categories": [category] if category else None,
            "brand": product.get("brand"),
        }


def _joined_words(parts: Iterable[Any]) -> str | None:
    """Return title and text of a review, or the paragraphs of a description, a line each."""
    texts = [str(part) for part in parts if part]
    return "\n".join(text for text in texts if text.strip()) or None
