import unicodedata

import pytest

from tailor.errors import DataError
from tailor.text.words import Variants, check_language, compounds, search_words, words


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Salt &amp; 0.5-Ounce", ["salt", "0", "5", "ounce"]),
        ("", []),
        (" \t\n--- !", []),
        ("Don't stop", ["don't", "stop"]),
        ("L'Oréal ÉLAN", ["l'oreal", "elan"]),
        ("rock'n'roll", ["rock'n", "roll"]),
        ("'quoted'", ["quoted"]),
        ("ΑΣΦΑΛΕΙΑ Straße", ["ασφαλεια", "strasse"]),
        ("日本 カメラ", ["日本", "カメ", "メラ"]),
        ("&quot;A&quot;&lt;B&gt;", ["a", "b"]),
        ("one_two 3x", ["one_two", "3x"]),
        ("🙂 ok\x00end", ["🙂", "ok", "end"]),
        ("a" * 10_000, ["a" * 10_000]),
        ("\ud800 lone", ["lone"]),
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
        # vowel points are left out, as they are in what is typed
        ("مُحَمَّد كِتَاب", ["محمد", "كتاب"]),
        ("שָׁלוֹם עוֹלָם", ["שלום", "עולם"]),
        # a letter and its accent apart are the letter with it
        ("cafe\u0301 nai\u0308ve", ["cafe", "naive"]),
        ("\u0301 x", ["x"]),  # a mark alone is no word
        ("か\u3099", ["が"]),
        ("नहीं\u200d", ["नहीं"]),
    ],
)
def test_marks_belong_to_their_letters(text, expected):
    assert words(text) == [unicodedata.normalize("NFC", one) for one in expected]


ALIKE = {
    "typographic apostrophe": ("O’Neill", "o'neill"),
    "other apostrophes": (
        "Oʼneill O‘neill O′neill O´neill O`neill O＇neill",
        " ".join(["o'neill"] * 6),
    ),
    "full width": ("ＳＯＮＹ　ＷＨ－１０００", "sony wh-1000"),
    "half width kana": ("ｶﾞﾝﾀﾞﾑ", "ガンダム"),
    "sharp s": ("STRASSE Straße straẞe", "strasse strasse strasse"),
    "accents": ("Café Crème Ångström Señor Čapek Żubr", "cafe creme angstrom senor capek zubr"),
    "letters with strokes": (
        "Smørrebrød Łódź Đặng Ærø Œuvre Þór",
        "smorrebrod lodz dang aero oeuvre thor",
    ),
    "Turkish i": ("İSTANBUL Iğdır ısı", "istanbul igdir isi"),
    "Vietnamese": ("Phở Bò Đường", "pho bo duong"),
    "ligatures": ("eﬃcient oﬀ ﬁne", "efficient off fine"),
    "decomposed": (unicodedata.normalize("NFD", "Crème brûlée ガ 한국"), "creme brulee ガ 한국"),
    "soft hyphen": ("Zauber\u00adflöte", "zauberflote"),
    "characters without width": (
        "i\u200bPhone \ufeffX\u2060Box \u200eSony\u200f",
        "i phone xbox sony",
    ),
    "joiner of an Indian script": ("क्\u200dष", "क्ष"),
    "Persian": ("می\u200cخواهم کتابی", "مي خواهم كتابي"),
    "Arabic hamza and stretch": ("أحمـد إلى فاطمة", "احمد الى فاطمه"),
    "digits": ("٣ ४ ５ ๓", "3 4 5 3"),
    "superscripts": ("m² H₂O №5", "m2 h2o no5"),
    "fraction": ("5½ in", "5 1 2 in"),
    "trade marks": ("Sony™ Levi’s® ©2024", "sony levi's 2024"),
    "non-breaking": ("10\u00a0kg re\u2011run", "10 kg re-run"),
    "Greek": ("Ασφάλεια ΟΔΌΣ", "ασφαλεια οδοσ"),
    "Russian": ("Ёлка зна\u0301ние", "елка знание"),
    "emoji": ("👍🏽 ❤️ 👩\u200d🚀", "👍 ❤ 👩🚀"),
    "Dutch ij": ("ĳsvogel", "ijsvogel"),
    "musical sharp": ("C♯", "c#"),
}


@pytest.mark.parametrize("name", ALIKE)
def test_forms_of_one_word_are_one_word(name):
    written, typed = ALIKE[name]
    assert words(written) == words(typed) and words(typed)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("мой", "мои"),
        ("か", "が"),
        ("ป่า", "ปา"),
        ("कि", "की"),
        ("ї", "і"),
        ("C++", "C#"),
        ("C", "C++"),
    ],
)
def test_letters_that_tell_words_apart_stay(a, b):
    assert words(a) != words(b)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ร้านอาหาร", ["ร้า", "าน", "นอ", "อา", "าห", "หา", "าร"]),
        ("黒い猫", ["黒い", "い猫"]),
        ("猫", ["猫"]),
        ("iPhone手机壳2个", ["iphone", "手机", "机壳", "2", "个"]),
        ("한국어 책", ["한국", "국어", "책"]),
        ("ភាសាខ្មែរ", ["ភាសា", "សាខ្", "ខ្មែ", "មែរ"]),
        ("𠮷野家", ["𠮷野", "野家"]),  # beyond the first 65,536 characters
        ("コーヒー・ミル", ["コー", "ーヒ", "ヒー", "ミル"]),
        ("中文，日本語。", ["中文", "日本", "本語"]),
    ],
)
def test_scripts_without_spaces_are_pairs_of_characters(text, expected):
    assert words(text) == expected


def test_programming_languages_are_words_beside_their_letter():
    assert words("C++ primer") == ["c", "c++", "primer"]
    assert words("Learn C#, F#.") == ["learn", "c", "c#", "f", "f#"]
    assert words("#5 a+b x#y 10# bag+") == ["5", "a", "b", "x", "y", "10", "bag"]


@pytest.mark.parametrize("text", ["It", "Up", "The Who", "To be, or not to be", "IT"])
def test_common_words_count_where_nothing_else_is_left(text):
    assert search_words(text, "english") and search_words("a" + text[:0], "english") == ["a"]
    assert search_words(f"{text} kettle", "english") == ["kettl"]


def test_signs_count_where_there_is_no_word():
    assert search_words("!!!") == ["!!!"] and search_words("+ / -") == ["+", "/", "-"]
    assert search_words("  \n") == [] and search_words("!!! kettle") == ["kettle"]


def test_stems_follow_the_language():
    assert search_words("Kettles boiling", "english") == ["kettl", "boil"]
    assert search_words("Häuser", "german") == search_words("Haus", "german")
    assert search_words("L’eau de l'été", "french")[0] == search_words("eau", "french")[0]
    assert search_words("Straßen", "german") == search_words("STRASSE", "german")
    with pytest.raises(DataError, match="german"):
        check_language("germam")


def test_plain_english_is_read_as_it_always_was():
    text = "The Newton's 2nd law isn't in well-known e-mail, don't you_know? 3.14 (U.S.A.)"
    assert words(text) == [
        *("the", "newton's", "2nd", "law", "isn't", "in", "well", "known", "e", "mail"),
        *("don't", "you_know", "3", "14", "u", "s", "a"),
    ]


def test_contractions_are_not_the_words_that_look_like_them():
    indexed = ["well", "we'll", "oneill", "o'neill", "levi's", "黒猫", "猫背", "猫"]
    variants = Variants()
    for word in indexed:
        variants.add(word)
    assert variants.matches("well", indexed) == ["well"]
    assert variants.matches("oneill", indexed) == ["oneill", "o'neill"]
    assert variants.matches("o'neill", indexed) == ["o'neill", "oneill"]
    assert variants.matches("levis", indexed) == ["levi's"]
    assert variants.matches("猫", indexed) == ["猫", "黒猫", "猫背"]
    assert variants.matches("we'll", indexed) == ["we'll"]
    assert variants.matches("he'll", ["hell"]) == [] == variants.matches("zebra", indexed)


def test_words_with_hyphens_are_also_one_word():
    assert compounds("a Wi-Fi router, T\u2011Shirts and well - spaced") == {
        "wifi": ["wi", "fi"],
        "tshirts": ["t", "shirts"],
    }
    assert compounds("T-Shirts", "english") == {"tshirt": ["t", "shirt"]}
    variants = Variants()
    variants.add_text("a wi-fi router")
    index = ["a", "wi", "fi", "router"]
    assert variants.indexed_words("WiFi", index) == ["wi", "fi"]
    assert variants.indexed_words("e-mail", ["email", "mail"]) == ["mail", "email"]
    assert variants.indexed_words("wi-fi", [*index, "wifi"]) == ["wi", "fi"]
