"""Passages keep their offsets, and exact parts are looked up as whole words."""

from tailor.text.hashing import HashingEncoder
from tailor.text.passages import (
    PassageFinder,
    clause_spans,
    coverage,
    exact_parts,
    sentence_spans,
)

TEXT = 'Ann: it cost 3.5 dollars! See http://a.b/c?d=1. He said "no." Then left\nBob: yes.\n\nEnd'


def test_sentences_end_at_marks_and_lines_and_not_within_numbers():
    sentences = [TEXT[start:end] for start, end in sentence_spans(TEXT)]
    assert sentences == [
        "Ann: it cost 3.5 dollars!",
        "See http://a.b/c?d=1.",
        'He said "no."',
        "Then left",
        "Bob: yes.",
        "End",
    ]
    assert sentence_spans("") == [] and sentence_spans(" \n ") == []


def clauses(text, **settings):
    return [text[start:end] for start, end in clause_spans(text, **settings)]


def test_clauses_end_at_commas_brackets_and_before_conjunctions():
    text = "It broke at 3.5 bar, so I sent it back because the shop said so (on the phone). Why?"
    assert clauses(text) == [
        "It broke at 3.5 bar,",
        "so I sent it back",
        "because the shop said so",
        "on the phone",
        "Why?",
    ]
    assert clauses("the brandy was ordinary and the andiron whole") == [
        "the brandy was ordinary",
        "and the andiron whole",
    ]


def test_short_clauses_stay_with_a_neighbour_of_their_sentence():
    assert clauses("Well, yes, it works and how.") == ["Well, yes, it works and how."]
    assert clauses("I love the pole, and it holds. Great!<br />Really.\nEnd") == [
        "I love the pole,",
        "and it holds.",
        "Great!",
        "Really.",
        "End",
    ]
    assert clauses("Well, yes, it works", least=1) == ["Well,", "yes,", "it works"]
    assert clauses("") == clauses(" ... <br> ?!") == []


def test_exact_parts_are_found_as_whole_words_only():
    source = "In 2012 Bob paid 12,000 by `pay --now`."
    text = "It was 12, not 12,000, in 2012 with Ann and bob. See http://a.b/c?d=1."
    found = {part.text: part.is_found for part in exact_parts(text, source)}
    assert found == {
        "12": False,
        "12,000": True,
        "2012": True,
        "http://a.b/c?d=1": False,
        "Ann": False,
        "See": False,
    }
    names = "a 1968 Kustom K-200A at -5 degrees"  # a hyphen within a name is no sign
    parts = exact_parts(names, names)
    assert [part.text for part in parts] == ["1968", "K-200A", "-5", "Kustom"]
    assert all(part.is_found for part in parts)
    typed = "it`s great! Give it a shot, it`s nice"  # apostrophes, not code
    assert exact_parts(typed[:32], "anything") == [("Give", -1, -1)]
    (part,) = exact_parts("12,000", source)
    assert source[part.start : part.end] == "12,000"


def test_a_capital_that_opens_a_sentence_can_be_left_out():
    def missing(text):
        parts = exact_parts(text, "It is dear.", skips_openings=True)
        return [part.text for part in parts if not part.is_found]

    assert missing("Names the price. (States why.)") == []
    assert missing("Van Gogh's price. Ghent: 7") == ["7", "Van", "Gogh's"]
    assert missing("Ghent's price, in Delft") == ["Ghent's", "Delft"]
    assert missing("Delft, in Holland") == ["Holland"]


def test_rare_words_of_the_request_cover_more():
    shares = coverage("the red kettle", ["a red cup", "a red tent", "a kettle", "nothing"])
    assert shares[2] > shares[0] == shares[1] > shares[3] == 0


def test_passages_keep_to_their_share_and_join_what_is_adjacent():
    lines = [f"Line {letter} is about nothing." for letter in "abcdefgh"]
    lines[3] = "What did the kettle cost?"
    lines[4] = "Nine."
    text = "\n".join(lines)
    finder = PassageFinder(HashingEncoder(64), most=1, share=0.2)
    ((span,),) = finder.of([("kettle", text)])
    assert text[span.start : span.end] == "What did the kettle cost?\nNine."
    assert finder.of([("kettle", "kettle")]) == [[]]  # its one sentence is over the share
    assert finder.of([("kettle", ""), ("", text)])[0] == []
    assert finder.of([]) == []
