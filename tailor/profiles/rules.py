"""Read what English sentences say about the person who says them, by patterns.

Only the speaker's own words count: what other people like, quoted speech, questions and wishes say
nothing about the speaker. Patterns miss much and invent little.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Literal, NamedTuple

from tailor.profiles.propositions import DAY_MS, Act, Slot
from tailor.profiles.sensitive_words import sensitivity_of
from tailor.profiles.wishes import asks_to_forget, own_words
from tailor.text.passages import sentence_spans
from tailor.text.turns import MONTH, MONTHS

MAX_WORDS = 8  # of an object
MAX_LISTED = 3  # words of each part of "tea, coffee and long walks"

ADVERBS = (
    r"(?:\s+(?:really|still|also|just|now|always|actually|absolutely|truly|simply|currently|quite"
    r"|recently|finally|totally|particularly|especially|mostly|generally|usually|do|certainly))*"
)
OBJECT = r"\s+(?P<object>[^\n]{1,160})"
NAMED = r"(?P<object>\w[^\n]{0,80})"
NEGATED = rf"\bi{ADVERBS}\s+(?:do not|don't|no longer|never|didn't|did not|cannot|can't)"
SAID = rf"\bi{ADVERBS}"
IS = rf"\bi(?:'m|\s+am){ADVERBS}"
HAVE = rf"\bi(?:'ve|\s+have)?{ADVERBS}"
LIKE = r"(?:like[ds]?|loved?|enjoy(?:ed)?|adored?|prefer(?:red)?|cherish)"
FOND = (
    r"(?:fond of|into|a (?:big |huge )?fan of|keen on|crazy about|passionate about|addicted to"
    r"|obsessed with|partial to)"
)
DIET = (
    r"(?P<object>vegan|vegetarian|pescatarian|flexitarian|halal|kosher|keto|paleo"
    r"|gluten[- ]free|lactose[- ]free|low[- ]carb)\b"
)
JOB_ENDING = (
    r"\w*(?:er|or|ist|ian|ant|ect|eer|nurse|chef|cook|pilot|clerk|student|judge|surgeon|midwife"
    r"|coach|guide|scientist|technician|agent|intern|analyst)"
)
JOB = rf"an?\s+(?P<object>(?:[\w-]+\s+){{0,2}}{JOB_ENDING})\b(?!\s+(?:of|to|than|at heart))"
NO_JOB_WORDS = """
lover beginner owner member user reader fighter sufferer believer dreamer stranger winner loser
sinner father mother sister brother daughter partner foreigner newcomer minor senior junior winter
summer player walker smoker drinker eater vegetarian better number other later matter
"""
NO_JOBS = frozenset(NO_JOB_WORDS.split())


class Rule(NamedTuple):
    """A pattern, and what a sentence says where it matches."""

    pattern: re.Pattern[str]
    slot: Slot
    predicate: str
    sign: Literal[1, -1] = 1
    form: Literal["things", "place", "phrase", "exact"] = "phrase"
    """How the object is read: a list of things, a place or firm, a phrase, or as matched."""
    is_dated: bool = False
    """Whether a date in the clause says when it began or ended."""


def _rule(
    pattern: str,
    slot: Slot,
    predicate: str,
    sign: Literal[1, -1] = 1,
    form: Literal["things", "place", "phrase", "exact"] = "phrase",
    is_dated: bool = False,
) -> Rule:
    return Rule(re.compile(pattern, re.IGNORECASE), slot, predicate, sign, form, is_dated)


# Of rules that match at one place the first counts.
RULES = (
    # likes and aversions
    _rule(rf"{NEGATED}\s+{LIKE}(?!\s+to\s+be\b){OBJECT}", "preference", "likes", -1, "things"),
    _rule(rf"{NEGATED}\s+(?:care for|want any){OBJECT}", "preference", "likes", -1, "things"),
    _rule(
        rf"{SAID}\s+(?:hated?|disliked?|can't stand|cannot stand|can't bear|detest(?:ed)?|loathed?"
        rf"|despised?|used to (?:like|love|enjoy)|stopped (?:liking|enjoying)|went off){OBJECT}",
        "preference",
        "likes",
        -1,
        "things",
    ),
    _rule(
        rf"{IS}\s+(?:not|no longer)\s+(?:\w+\s+)?{FOND}{OBJECT}",
        "preference",
        "likes",
        -1,
        "things",
    ),
    _rule(
        rf"{IS}\s+(?:tired of|sick of|fed up with|bored (?:of|with|by)|over){OBJECT}",
        "preference",
        "likes",
        -1,
        "things",
    ),
    _rule(rf"{SAID}\s+{LIKE}{OBJECT}", "preference", "likes", 1, "things"),
    _rule(rf"{IS}\s+(?:really |very |so )?{FOND}{OBJECT}", "preference", "likes", 1, "things"),
    _rule(
        rf"{HAVE}\s+(?:fallen in love with|grown fond of|come to (?:like|love)|got(?:ten)? into"
        rf"|fell in love with){OBJECT}",
        "preference",
        "likes",
        1,
        "things",
    ),
    _rule(
        rf"\bmy (?:all-time )?favou?rite(?:\s+[\w-]+){{0,3}}?\s+(?:is|are){OBJECT}",
        "preference",
        "likes",
        1,
        "things",
    ),
    # places
    _rule(
        rf"{SAID}\s+(?:no longer live|don't live|do not live|stopped living)\s+in{OBJECT}",
        "fact",
        "lives in",
        -1,
        "place",
    ),
    _rule(
        rf"{HAVE}\s+(?:moved (?:away from|out of)|left)(?! my\b){OBJECT}",
        "fact",
        "lives in",
        -1,
        "place",
        True,
    ),
    _rule(
        rf"{HAVE}\s+(?:moved|relocated|settled|moved back)\s+(?:over |down |up )?"
        rf"(?:to|in)(?!to){OBJECT}",
        "fact",
        "lives in",
        1,
        "place",
        True,
    ),
    _rule(
        rf"{SAID}\s+live\s+in{OBJECT}|{IS}\s+(?:living|based)\s+in(?P<also>\s+[^\n]{{1,160}})",
        "fact",
        "lives in",
        1,
        "place",
    ),
    # work and study
    _rule(
        rf"{HAVE}\s+(?:quit(?: my job)?|left my job|resigned|been fired|was laid off"
        rf"|no longer work)\s+(?:at|from|for){OBJECT}",
        "fact",
        "works at",
        -1,
        "place",
        True,
    ),
    _rule(
        rf"{HAVE}\s+(?:joined|started (?:working )?(?:at|for)|got a (?:new )?job (?:at|with)"
        rf"|been hired by|signed on with){OBJECT}",
        "fact",
        "works at",
        1,
        "place",
        True,
    ),
    _rule(rf"{SAID}\s+work\s+(?:at|for){OBJECT}", "fact", "works at", 1, "place"),
    _rule(rf"{IS}\s+(?:working|employed)\s+(?:at|for|by){OBJECT}", "fact", "works at", 1, "place"),
    _rule(rf"\bmy (?:new )?employer is{OBJECT}", "fact", "works at", 1, "place"),
    _rule(rf"{SAID}\s+work\s+as\s+{JOB}", "fact", "works as", 1, "exact"),
    _rule(rf"{IS}\s+(?:working as\s+)?{JOB}", "fact", "works as", 1, "exact"),
    _rule(rf"{SAID}\s+(?:became|retrained as)\s+{JOB}", "fact", "works as", 1, "exact", True),
    _rule(
        rf"{SAID}\s+study\s+at{OBJECT}"
        rf"|{IS}\s+(?:studying|enrolled)\s+at(?P<also>\s+[^\n]{{1,160}})",
        "fact",
        "studies at",
        1,
        "place",
    ),
    # about the person
    _rule(rf"\b(?:my name is|call me|{IS[2:]}\s+called)\s+{NAMED}", "fact", "is named", 1, "place"),
    _rule(
        rf"(?:{IS}|{SAID}\s+(?:just )?turned)\s+(?P<object>\d{{1,3}})"
        r"(?= years| today| now|[.,!]|$)",
        "fact",
        "is aged",
        1,
        "exact",
    ),
    _rule(
        rf"(?:{IS}\s+(?:no longer|not)|{SAID}\s+stopped being)\s+(?:an?\s+)?{DIET}",
        "constraint",
        "follows the diet",
        -1,
        "exact",
    ),
    _rule(
        rf"(?:{IS}|{HAVE}\s+(?:went|turned|become|became|gone)|{SAID}\s+(?:eat|follow))"
        rf"\s+(?:an?\s+)?(?:strict\s+)?{DIET}",
        "constraint",
        "follows the diet",
        1,
        "exact",
        True,
    ),
    _rule(rf"{IS}\s+allergic\s+to{OBJECT}", "constraint", "is allergic to", 1, "things"),
    _rule(rf"{SAID}\s+(?:can't|cannot)\s+eat{OBJECT}", "constraint", "avoids", 1, "things"),
    _rule(rf"{SAID}\s+avoid{OBJECT}", "constraint", "avoids", 1, "things"),
    _rule(
        r"\bmy budget is\s+(?P<object>[\w$€£ ,.-]{1,40}?)(?=[.!?;]|$)",
        "constraint",
        "price band",
        1,
        "exact",
    ),
    _rule(
        rf"(?:{IS}\s+married to|{HAVE}\s+married|\bmy (?:wife|husband) is(?: called| named)?)"
        rf"\s+{NAMED}",
        "relation",
        "is married to",
        1,
        "place",
        True,
    ),
    _rule(rf"{SAID}\s+drive\s+(?:an?\s+){NAMED}", "fact", "drives"),
    _rule(rf"{SAID}\s+(?:can\s+)?speak\s+{NAMED}", "skill", "speaks", 1, "things"),
    _rule(rf"{IS}\s+fluent\s+in{OBJECT}", "skill", "speaks", 1, "things"),
    _rule(rf"{SAID}\s+(?:can|know how to)\s+(?!eat|not){NAMED}", "skill", "can"),
    _rule(
        rf"{HAVE}\s+(?:have|own|adopted|got|bought)\s+an?\s+{NAMED}",
        "relation",
        "has",
    ),
    _rule(rf"{SAID}\s+(?:suffer from|was diagnosed with|have){OBJECT}", "fact", "has"),
    # goals and style
    _rule(
        rf"(?:{SAID}\s+(?:want|hope|plan|intend|need)|{IS}\s+(?:planning|hoping|trying|going)"
        rf"|\bi'd like|\bi would like|\bmy goal is)\s+to\s+{NAMED}",
        "goal",
        "wants to",
    ),
    _rule(
        rf"{IS}\s+(?:training for|saving (?:up )?for|looking for|working towards?){OBJECT}",
        "goal",
        "works towards",
    ),
    _rule(rf"{IS}\s+learning{OBJECT}", "goal", "learns", 1, "things"),
    _rule(rf"{SAID}\s+need{OBJECT}", "goal", "needs", 1, "things"),
    _rule(
        r"\b(?:please |always )+(?:answer|reply|write|keep (?:it|answers))(?: to me)?\s+"
        r"(?P<object>(?:in \w+|briefly|short|formally|informally|politely)\b)",
        "style",
        "wants answers",
        1,
        "exact",
    ),
)
# What ends an object: another clause, a time, an afterthought.
END = re.compile(
    rf"""\s*(?:
    [.;!?()"\n] | \s[-\u2013\u2014]\s
    | ,\s*(?=(?:i|but|so|which|who|and\s+i|though|because|we|it|my|do|don't|right|you)\b)
    | \b(?:because|but|so|since|which|who|whom|whose|although|though|while|until|unless|whenever
      |if|after|before|these\ days|nowadays|anymore|any\ more|any\ longer|again|lately|recently
      |too|as\ well|a\ lot|very\ much|so\ much|more\ than|than|over|rather|right\ now
      |at\ the\ moment|for\ now|now|instead|please|yesterday|today|tomorrow|at\ all|either)\b
    | \b(?:last|this|next)\ (?:week|month|year|spring|summer|autumn|fall|winter|{MONTH})\b
    | \bin\ (?:(?:early|late|mid)[- ])?(?:(?:19|20)\d\d|{MONTH})\b
    | \b(?:\d+|a|two|three|four|five|six|a\ few)\ (?:days?|weeks?|months?|years?)\ ago\b
    | \bfor\ (?:\d+|a\ few|two|three|four|five|six|ten|many|some)\ (?:days|weeks|months|years)\b
    | \band\ (?:i|we|my|it|that|he|she|they|now|then|also|never)\b
    ).*""",
    re.IGNORECASE | re.VERBOSE | re.DOTALL,
)
SCOPES = (
    r"at work|at home|at the office|on (?:weekdays|weekends|the weekend|holidays?|vacation"
    r"|(?:mon|tues|wednes|thurs|fri|satur|sun)days?)|in the (?:morning|evening|afternoon)s?"
    r"|in (?:summer|winter|spring|autumn)|at night|during the (?:week|day|holidays)"
    r"|for (?:breakfast|lunch|dinner)|while travell?ing|on the (?:train|plane|road)"
    r"|when (?:i'm|i am|i|we) [\w ]{2,30}|with (?:friends|colleagues|the kids|my kids)"
)
SCOPE_BEHIND = re.compile(rf"\s+(?P<scope>{SCOPES})[\s,]*$", re.IGNORECASE)
SCOPE_BEFORE = re.compile(rf"(?:^|[.,;]\s*)(?P<scope>{SCOPES}),?\s*$", re.IGNORECASE)
ARTICLES = re.compile(
    r"^(?:(?:the|a|an|my|some|any|to|of|this|that|all|eating|drinking)\s+)+", re.I
)
PLACE = re.compile(r"[A-Z][\w'.&-]*(?:\s+(?:of|de|la|le|am|upon|the|&|[A-Z][\w'.&-]*|\d+))*")
LIST = re.compile(r"\s*,\s*(?:and\s+|or\s+)?|\s+(?:and|or|as well as)\s+", re.IGNORECASE)
# What stands before "I" where a sentence does not say that it is so.
DOUBTFUL = re.compile(
    r"\b(?:if|wish(?:es)?|imagine|pretend|suppose|unless|whether|say|says|said|thinks?|thought"
    r"|claims?|tells?|told|asks?|asked|believes?|insists?|swears?|assumes?|hopes)\b"
    r"|\b(?:do|did|am|should|could|would|will|what|why|where|how|when|until|does)\s*$",
    re.IGNORECASE,
)
DENIAL_BEFORE = re.compile(r"\b(?:not (?:true|right)|never|don't think|doubt)\b[^.,;]*$", re.I)
FORGET = re.compile(r"\bforget (?:that |about )?$", re.IGNORECASE)
NO_THINGS = frozenset(
    ["it", "this", "that", "them", "him", "her", "you", "one", "how", "what", "to"]
)
PASSING_WORDS = """
minute moment second break meeting call question problem idea feeling look chance while headache
cold deadline appointment
"""
PASSING = frozenset(PASSING_WORDS.split())  # what somebody has or needs for an hour
ADVERB = re.compile(r"^\w+ly$")
NUMBER_WORDS = {"a": 1, "an": 1, "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6}
AGO = re.compile(
    rf"\b(?P<number>\d{{1,4}}|{'|'.join(NUMBER_WORDS)})\s+(?P<unit>day|week|month|year)s?\s+ago\b",
    re.I,
)
LAST = re.compile(r"\blast (?P<unit>week|month|year)\b|\b(?P<day>yesterday)\b", re.IGNORECASE)
IN_DATE = re.compile(
    rf"\b(?:in|since) (?:(?P<month>{MONTH}) )?(?P<year>(?:19|20)\d\d)\b", re.IGNORECASE
)
UNIT_DAYS = {"day": 1, "week": 7, "month": 30, "year": 365}


@dataclass(frozen=True)
class Statement:
    """Something that a sentence says about its speaker."""

    slot: Slot
    predicate: str
    object: str
    sign: Literal[1, -1]
    span: tuple[int, int]
    """Where the text says it, in characters."""
    scope: str = ""
    """When it holds, such as "at work"; "": always."""
    act: Act = "say"
    """reject: the speaker asks to forget it."""
    since_ms: int | None = None
    """When it began or ended, where the sentence says so."""

    @property
    def sensitivity(self) -> int:
        """0 to 3, by words about health, faith, love, politics (3) and private affairs (2)."""
        return sensitivity_of(f"{self.predicate} {self.object}")


def statements(text: str, said_ms: int = 0) -> list[Statement]:
    """Return what a text says about its speaker, in order; nothing where it asks not to be kept.

    `said_ms` is when it was said, for "two years ago" and the like.
    """
    if asks_to_forget(text):
        return []
    words = own_words(text)
    all_statements: list[Statement] = []
    for span in sentence_spans(words):
        all_statements += _of_sentence(words[span.start : span.end], span.start, said_ms)
    return all_statements


def _of_sentence(sentence: str, offset: int, said_ms: int) -> Iterator[Statement]:
    """Yield the statements of a sentence; of rules that match at one place the first."""
    taken: list[tuple[int, int]] = []
    hits = []
    for order, rule in enumerate(RULES):
        for match in rule.pattern.finditer(sentence):
            hits.append((match.start(), order, rule, match))
    for start, _, rule, match in sorted(hits, key=lambda hit: hit[:2]):
        before = sentence[:start]
        if any(begin <= start < end for begin, end in taken) or DOUBTFUL.search(before):
            continue
        group = "object" if match.group("object") is not None else "also"
        parts = _objects(rule, match.group(group))
        if not parts:
            continue
        scope = _scope(before, match.group(group))
        since_ms = stated_ms(sentence, said_ms) if rule.is_dated else None
        begin = match.start(group)
        taken.append((start, begin + parts[-1].end()))
        for part in parts:
            sign: Literal[1, -1] = (
                -1 if rule.sign > 0 and DENIAL_BEFORE.search(before) else rule.sign
            )
            span = (offset + start, offset + begin + part.end())
            statement = Statement(
                rule.slot, rule.predicate, part.text, sign, span, scope, since_ms=since_ms
            )
            is_rejected = FORGET.search(before) is not None
            yield replace(statement, act="reject") if is_rejected else statement


class _Part(NamedTuple):
    """An object, and where it stands in the words behind the verb."""

    text: str
    start: int

    def end(self) -> int:
        return self.start + len(self.text)


def _objects(rule: Rule, words: str) -> list[_Part]:
    """Return the objects that the words behind a verb name; none where they name nothing."""
    if rule.form == "exact":
        text = words.strip()
        is_job = rule.predicate == "works as"
        if is_job and text.split()[-1].casefold() in NO_JOBS:
            return []
        return [_Part(text, words.find(text))]
    phrase = _until_end(words)
    if rule.form == "place":
        return _places(phrase, words, rule.predicate)
    pieces = LIST.split(phrase)
    is_list = rule.form == "things" and len(pieces) > 1
    if is_list and all(0 < len(_bare(piece).split()) <= MAX_LISTED for piece in pieces):
        bare = [_bare(piece) for piece in pieces]
    else:
        bare = [_bare(re.split(r"\s*,\s*", phrase)[0] if phrase else "")]
    short = [" ".join(piece.split()[:MAX_WORDS]) for piece in bare]
    return [_Part(piece, max(words.find(piece), 0)) for piece in short if _is_thing(piece)]


def _until_end(words: str) -> str:
    phrase = END.sub("", words)
    return SCOPE_BEHIND.sub("", phrase).strip(" ,.:;!?-")


def _bare(piece: str) -> str:
    return ARTICLES.sub("", piece.strip(" ,.:;!?-'"))


def _is_thing(piece: str) -> bool:
    """Return whether a piece names something that lasts: not "it", "a minute", "sadly"."""
    pieces = piece.casefold().split()
    if not pieces or not re.search(r"\w|[^\x00-\x7f]", piece) or pieces[0] in NO_THINGS:
        return False
    is_adverb = len(pieces) == 1 and ADVERB.match(pieces[0]) is not None
    return not is_adverb and not PASSING.intersection(pieces[:2])


def _places(phrase: str, words: str, predicate: str) -> list[_Part]:
    """Return the name that a phrase begins with: capitalised words, else one or two words."""
    match = PLACE.match(phrase)
    if match:
        name = match.group().rstrip(" .'")
        return [_Part(name, words.find(name))]
    is_common = ARTICLES.match(phrase) is not None
    if is_common and predicate != "works at":
        return []
    following = ARTICLES.sub("", phrase).split(",")[0].split()
    name = " ".join(following[: 4 if is_common else 2])
    return [_Part(name, max(words.find(name), 0))] if name and _is_thing(name) else []


def _scope(before: str, words: str) -> str:
    """Return the scope that stands before "I" or behind the object, "" for none."""
    behind = SCOPE_BEHIND.search(END.sub("", words))
    match = behind or SCOPE_BEFORE.search(before)
    return " ".join(match.group("scope").casefold().split()) if match else ""


def stated_ms(text: str, said_ms: int) -> int | None:
    """Return the past time that a text names, None for none: "in May 2021", "two years ago"."""
    in_date = IN_DATE.search(text)
    if in_date:
        month = in_date.group("month")
        number = MONTHS.index(month.casefold()) + 1 if month else 1
        date = datetime(int(in_date.group("year")), number, 1, tzinfo=UTC)
        stated = int(date.timestamp() * 1000)
        return stated if stated <= said_ms else None
    ago = AGO.search(text)
    if ago:
        word = ago.group("number").casefold()
        count = NUMBER_WORDS.get(word) or int(word)
        return max(said_ms - count * UNIT_DAYS[ago.group("unit").casefold()] * DAY_MS, 0)
    last = LAST.search(text)
    if last:
        unit = "day" if last.group("day") else last.group("unit").casefold()
        return max(said_ms - UNIT_DAYS[unit] * DAY_MS, 0)
    return None
