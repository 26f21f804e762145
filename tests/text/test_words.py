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
