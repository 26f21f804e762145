import unicodedata

import pytest

from tailor.text.words import words


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Salt &amp; 0.5-Ounce", ["salt", "0", "5", "ounce"]),
        ("", []),
        (" \t\n--- !", []),
        ("Don't stop", ["don't", "stop"]),
        ("L'Oréal ÉLAN", ["l'oréal", "élan"]),
        ("rock'n'roll", ["rock'n", "roll"]),
        ("'quoted'", ["quoted"]),
        ("ΑΣΦΑΛΕΙΑ Straße", ["ασφαλεια", "straße"]),
        ("日本 カメラ", ["日", "本", "カ", "メ", "ラ"]),
        ("&quot;A&quot;&lt;B&gt;", ["a", "b"]),
        ("one_two 3x", ["one_two", "3x"]),
        ("🙂 ok\x00end", ["ok", "end"]),
        ("a" * 10_000, ["a" * 10_000]),
    ],
)
def test_words(text, expected):
    assert words(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("हिन्दी भाषा", ["हिन्दी", "भाषा"]),  # vowel signs are marks, not letters
        ("தமிழ் மொழி", ["தமிழ்", "மொழி"]),
        ("বাংলা ভাষা", ["বাংলা", "ভাষা"]),
        ("مُحَمَّد كِتَاب", ["مُحَمَّد", "كِتَاب"]),
        ("שָׁלוֹם עוֹלָם", ["שָׁלוֹם", "עוֹלָם"]),
        # a letter and its accent apart are the letter with it
        ("cafe\u0301 nai\u0308ve", ["café", "naïve"]),
        ("\u0301 x", ["x"]),  # a mark alone is no word
        ("か\u3099", ["が"]),
        ("नहीं\u200d", ["नहीं"]),
    ],
)
def test_marks_belong_to_their_letters(text, expected):
    assert words(text) == [unicodedata.normalize("NFC", one) for one in expected]
