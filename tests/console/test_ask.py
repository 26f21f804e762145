"""The page Ask: strategies side by side, with scores, moves and cost, and texts as texts."""

import pytest

pytest.importorskip("nicegui")

from tailor.console.pages.ask import detail_text, documents_of, one_line, place_text, usage_text

MARKUP = "<script>alert(1)</script> mug"


def test_documents_are_lines_that_are_not_blank():
    assert documents_of(" a \n\n b\r\n") == ["a", "b"]
    assert one_line("a\nb  c") == "a b c"


def test_a_document_s_place_is_said_in_words():
    extra = {"rank": 1, "prior_rank": 3, "score": 0.5, "score_kind": "grade", "status": "repaired"}
    assert place_text(extra) == "grade 0.5, up 2, repaired"
    extra |= {"rank": 3, "prior_rank": 1, "status": "ranked"}
    assert place_text(extra) == "grade 0.5, down 2"


def test_cost_is_said_where_a_language_model_was_asked():
    usage = {"calls": 0, "tokens_in": 0, "tokens_out": 0, "cached": 0, "usd": 0.0, "ms": 1.26}
    assert usage_text(usage) == "1.3 ms"
    usage |= {"calls": 3, "tokens_in": 1200, "usd": 0.00125}
    assert usage_text(usage) == "1.3 ms, 3 calls, 1,200 tokens in, 0.001250 USD"


def test_details_are_short():
    assert detail_text(0.123456) == "0.1235"
    assert len(detail_text("x" * 5000)) < 400


@pytest.mark.slow
def test_strategies_stand_side_by_side(visitor):
    page = visitor.open("/ask", role="read")
    page.get_by_label("Query").fill("mug")
    page.get_by_label("Documents").fill(f"a chair\n{MARKUP}\na lamp")
    page.get_by_role("button", name="Order them").click()
    page.get_by_text("Answered by bm25").first.wait_for()
    assert page.get_by_text("Answered by bm25").count() == 2
    first = page.get_by_role("listitem").first
    assert MARKUP in first.inner_text() and "up 1" in first.inner_text()


@pytest.mark.slow
def test_a_search_fills_in_documents_and_a_strategy_that_is_not_there_says_so(visitor):
    page = visitor.open("/ask", role="read")
    page.get_by_role("button", name="Fill in").click()
    page.get_by_text("Write a query first.").wait_for()
    page.get_by_label("Query").fill("mug lamp chair bottle")
    page.get_by_role("button", name="Fill in").click()
    page.wait_for_function("document.querySelector('textarea').value.length > 0")
    page.get_by_label("Strategies").click()
    page.get_by_text("By meaning (embed)").click()
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Order them").click()
    page.get_by_text("embed needs an encoder").wait_for()
    page.get_by_text("Answered by bm25").first.wait_for()


@pytest.mark.slow
def test_search_and_recommendations_answer_one_text(visitor):
    page = visitor.open("/ask", role="read")
    page.get_by_label("Text", exact=True).fill("mug")
    page.get_by_role("button", name="Ask", exact=True).click()
    page.get_by_text("By bm25, in").wait_for()
    page.get_by_text("Recommendations by the text").wait_for()
