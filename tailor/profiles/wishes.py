"""Notice where somebody asks that their words be kept nowhere.

A wish is said to the one who remembers: "don't remember that", "you must not save this". Sentences
about oneself or others ("I don't remember that film", "we don't keep sweets") are none, nor are
orders about things ("do not store the cake in the fridge").
"""

import re

MAX_CHARACTERS = 20_000  # of a text that are read
QUOTED = re.compile(
    r'(?<!\w)"[^"\n]*"|\u201c[^\u201c\u201d\n]*\u201d'
    r"|\u00ab[^\u00ab\u00bb\n]*\u00bb|\B\'[^\'\n]+\'\B"
)
# "it" is a thing where a reason or another order follows: "don't keep it since it smells"
THIS = (
    r"(?:this|that|these|those|it(?!,?\s+(?:and|since|because|as|but|spend|buy|use|eat|throw)\b))"
)
SAID = (
    r"i(?:'ve| have|'m| am)?(?: ever| just| only)? (?:said|told|mentioned|wrote|say|tell|telling)\b"
)
THINGS = (
    r"(?:conversation|chat|message|discussion|exchange|part|bit|fact|detail|information|secret)s?"
)
MINE = r"my (?:name|age|address|password|number|phone|e-?mail|card|data|details?|location|birthday)"
ABOUT = rf"(?:(?:any|anything|a word) (?:part )?of )?{THIS}"
# where the object ends: "this", and not "this many pictures" or "this in pencil"
END = (
    r"(?=\s{0,9}(?:$|[.,;:!?)*<\u2014-]|(?:please|pls|plz|thanks|thx|i|ok|okay"
    r"|anywhere|anymore|either|at all|and|but"
    r"|since|because|as|though|or|for me|about me|on file"
    r"|(?:in|to|from|on|among) (?:your|my|the|any)"
    r" (?:memory|memories|records?|profile|notes|logs?|files?|history|database|account))\b))"
)
OBJECT = (
    rf"(?:(?:{ABOUT}(?: {THINGS})?|(?:my|these|those) words|my (?:last|previous) \w+"
    rf"|anything about me){END}"
    rf"|(?:the fact )?that (?:i|i'm|i've|my|we|our)\b|{MINE}\b"
    rf"|(?:any(?:thing)? of )?(?:what|anything|everything|all(?: that)?) {SAID})"
)
KEEP = (
    rf"(?:(?:remember|store|save|keep|retain|record|log|memori[sz]e)(?: (?:any )?(?:a )?"
    rf"(?:copy|record|note|trace)s? of)? {OBJECT}"
    rf"|(?:note|write|jot) {ABOUT} down{END}|(?:note|write|jot) down {OBJECT}"
    rf"|(?:make|take) (?:a |any )?(?:note|record)s? of {OBJECT})"
)
KEEPING = (
    rf"(?:remembering|storing|saving|keeping|retaining|recording|logging|memori[sz]ing) {OBJECT}"
)
KEPT = (
    r"(?:remembered|stored|saved|kept|retained|recorded|logged|memori[sz]ed|written down"
    rf"|noted(?: down)?){END}"
)
NOT = r"(?:do not|don't|dont|never)(?: you)?(?: ever)?"
# an order stands at the beginning, or behind what lets an order begin
BEGIN = (
    r"(?:^|[^\w\s'\"]|\n|\b(?:please|pls|plz|and|but|so|then|also|just|okay|ok|now|kindly|sure"
    r"|though|really|to you|actually|wait|no|oh|hmm|hey \w{1,20}))\s{0,9}"
)
LAST = r"\s{0,9}(?:(?:please|pls|plz|thanks|thx|now)\b\s{0,9})?[.!]{0,9}\s{0,9}$"
ORDERS = (
    rf"{BEGIN}{NOT} {KEEP}",
    rf"\byou (?:must|should|shall|may|can|need|are)(?: not|n't)(?: to| allowed to)? {KEEP}",
    rf"\b(?:make sure|see to it|promise)(?: me)?(?: that)? (?:you )?(?:do not|don't|not to) {KEEP}",
    rf"\b(?:can|could|would|will) you (?:please |kindly |maybe )*not {KEEP}",
    rf"\byou mind not {KEEPING}",
    rf"\bi(?:'d| would| do)?(?: not|n't)? (?:like|want|need|wish) you (?:not )?to {KEEP}",
    rf"\bi (?:beg|ask|am asking|'m asking) you (?:please )?not to {KEEP}",
    rf"\bi(?:'d| would) (?:rather|prefer)(?: it)?(?: that| if)? you"
    rf" (?:did not|didn't|do not|don't|not|would not|wouldn't) {KEEP}",
    rf"\b(?:{THIS}|what {SAID}) (?:must|should|may|shall)(?: not| never|n't) be {KEPT}",
    rf"\b(?:nothing|none) of {THIS} (?:must|should|may|shall|is to|has to) be {KEPT}",
    rf"\bi (?:do not|don't) want {ABOUT}(?: {THINGS})?(?: to be)? {KEPT}",
    rf"\bi(?:'d| would) appreciate it if you (?:did not|didn't|do not|don't) {KEEP}",
    rf"{BEGIN}(?:delete|erase|scratch|wipe|remove)"
    rf" (?:{ABOUT} from (?:(?:your|the) )?(?:memory|records?"
    rf"|notes|logs?|profile)|(?:what|everything|all)(?: that)? {SAID})",
    rf"{BEGIN}(?:keep|make|take) no (?:record|note|copy)s? of {OBJECT}",
    rf"{BEGIN}remember (?:none|nothing) of {OBJECT}",
    rf"{BEGIN}(?:delete|erase)"
    rf" (?:that|(?:my|the|that) (?:last|previous) (?:message|sentence)){LAST}",
    rf"\byou to forget (?:this|that){END}",
    r"\boff the record(?=\s{0,9}(?:[,:.;!\u2014-]|$))",
    rf"{BEGIN}(?:let's )?keep {THIS} (?:just )?"
    rf"(?:between (?:us|you and me)|to yourself|private{END}"
    r"|(?:out of|off) (?:your|my|the) (?:memory|records?|profile|notes|logs?|files?))\b",
    rf"\b{THIS} (?:is|stays|must stay) (?:strictly |just )?"
    rf"(?:confidential{END}|between (?:us|you and me))\b",
    rf"\b{THIS} (?:stays|must stay) private\b",
    rf"(?:{BEGIN}|\b(?<!did )you (?:can|could|may|should|must) |\b(?:can|could|would|will) you"
    rf" (?:please |just )*)forget (?:that )?(?:(?:what|everything|all|anything)(?: that)? {SAID}"
    rf"|{SAID} (?:you )?(?:{THIS}|anything|so|all|about)\b"
    rf"|{THIS}(?= (?:again|right away|afterwards|please|conversation\b)|\s{{0,9}}[.!]?$))",
)
# no wish is without one of these, and most messages are: a quick look first
HINT = re.compile(
    r"not\b|n't|\bdont\b|never|\bno\b|none|nothing|forget|off the record|delete|erase|scratch|wipe"
    r"|remove|private|confidential|keep|between",
    re.IGNORECASE,
)
BLANKS = re.compile(r"[^\S\n]+")
LINES = re.compile(r"\s*\n\s*")
APOSTROPHES = str.maketrans(dict.fromkeys("\u2019\u2018\u00b4`", "'"))
WISH = re.compile("|".join(ORDERS), re.IGNORECASE)


def asks_to_forget(text: str) -> bool:
    """Return whether a text asks that it, or what was said before, be kept nowhere."""
    words = BLANKS.sub(" ", own_words(text))
    if HINT.search(words) is None:
        return False
    # a line may end a sentence, and may break one
    readings = dict.fromkeys([words, LINES.sub(" ", words)])
    return any(WISH.search(reading) is not None for reading in readings)


def own_words(text: str) -> str:
    """Return the beginning of a text, with blanks for quoted words: they are somebody else's.

    Characters keep their places.
    """
    readable = text[:MAX_CHARACTERS].translate(APOSTROPHES)
    return QUOTED.sub(lambda match: " " * len(match.group()), readable)
