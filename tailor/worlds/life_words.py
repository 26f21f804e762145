"""Words of planted lives: values, wordings of facts, small talk, other people's affairs."""

CITIES = (
    *("Delft", "Oslo", "Porto", "Ghent", "Turin", "Bergen", "Lyon", "Graz"),
    *("Cork", "Malaga", "Tartu", "Basel", "Leeds", "Varna", "Bruges", "Aarhus"),
)
FIRMS = (
    *("Norrland", "Tarnfell", "Kestrel", "Bracken", "Solvane", "Huldra"),
    *("Pinnacle", "Marlow", "Cairnway", "Lumenry", "Ashby", "Vantor"),
)
JOBS = (
    *("teacher", "plumber", "baker", "nurse", "librarian"),
    *("carpenter", "dentist", "gardener", "translator", "welder"),
)
CARS = ("Corsa", "Tiguan", "Fabia", "Yaris", "Clio", "Panda", "Micra", "Leaf")
VALUES: dict[str, tuple[str, ...]] = {
    "lives in": CITIES,
    "works at": FIRMS,
    "works as": JOBS,
    "follows the diet": ("vegan", "vegetarian", "pescatarian", "keto", "paleo", "halal"),
    "drives": CARS,
    "likes": (
        *("green tea", "jazz", "chess", "hiking", "sushi", "opera", "pottery", "cycling"),
        *("crime novels", "black coffee", "sailing", "salsa dancing", "board games", "yoga"),
        *("street photography", "craft beer", "horror films", "gardening", "rock climbing"),
        *("origami", "bird watching", "karaoke", "stand-up comedy", "trail running"),
    ),
    "wants to": (
        *("run a marathon", "learn the cello", "write a novel", "open a bakery"),
        *("visit Japan", "build a greenhouse", "pass the bar exam", "sail to Iceland"),
    ),
    "is allergic to": ("peanuts", "shellfish", "pollen", "cats", "penicillin", "kiwi"),
}
ONE_VALUE = ("lives in", "works at", "works as", "follows the diet", "drives")
SLOTS = {
    "lives in": "fact",
    "works at": "fact",
    "works as": "fact",
    "follows the diet": "constraint",
    "drives": "fact",
    "likes": "preference",
    "wants to": "goal",
    "is allergic to": "constraint",
}
SCOPES = ("at work", "on weekends", "for breakfast", "in the evening")
# Wordings that patterns of plain sentences know. "{0}" is the value.
PLAIN: dict[str, tuple[str, ...]] = {
    "lives in": ("I live in {0}.", "I moved to {0}.", "I'm living in {0} now."),
    "works at": ("I work at {0}.", "I started working at {0}.", "I'm employed by {0}."),
    "works as": ("I work as a {0}.", "I'm a {0}.", "I'm working as a {0}."),
    "follows the diet": ("I'm {0}.", "I went {0}.", "I eat {0}, so keep that in mind."),
    "drives": ("I drive a {0}.", "These days I drive a {0}.", "I now drive a {0}."),
    "likes": ("I love {0}.", "I really enjoy {0}.", "I'm a big fan of {0}."),
    "dislikes": ("I hate {0}.", "I don't like {0} anymore.", "I'm tired of {0}."),
    "wants to": ("I want to {0}.", "I'm hoping to {0}.", "My goal is to {0}."),
    "is allergic to": ("I'm allergic to {0}.", "I am allergic to {0}, sadly."),
}
# Wordings kept away from whoever writes patterns: a memory that knows sentences by heart fails.
FREE: dict[str, tuple[str, ...]] = {
    "lives in": (
        "Boxes everywhere, {0} is home as of this week.",
        "Still getting lost on my way back to my flat in {0}.",
        "My rent here in {0} went up.",
    ),
    "works at": (
        "First day behind my desk at {0} was long.",
        "My badge for {0} finally arrived.",
        "Payday at {0}, drinks are on me.",
    ),
    "works as": (
        "Another week of being a {0} behind me.",
        "They pay me as a {0}, after all.",
        "People always ask what a {0} like me does all day.",
    ),
    "follows the diet": (
        "Dinner has to be {0} for me.",
        "Since my checkup it's strictly {0} on my plate.",
        "Only {0} places for my birthday, please.",
    ),
    "drives": (
        "My {0} needs new tyres.",
        "Parked my {0} two streets away.",
        "Washed my {0} this morning.",
    ),
    "likes": (
        "Could you polish my post about {0}?",
        "Find me something with {0} for Saturday.",
        "Nothing beats {0} after a long day.",
    ),
    "dislikes": (
        "Keep {0} away from me.",
        "{0}? Never again, thanks.",
        "Whatever you suggest, leave out {0}.",
    ),
    "wants to": (
        "One day I will {0}, mark my words.",
        "Help me plan the steps to {0}.",
        "My notebook is full of ideas to {0}.",
    ),
    "is allergic to": (
        "My throat swells up with {0}.",
        "The doctor said no more {0} for me.",
    ),
}
OTHERS = ("mother", "brother", "sister", "boss", "neighbour", "best friend", "flatmate", "uncle")
OF_OTHERS: dict[str, tuple[str, ...]] = {
    "lives in": ("My {1} moved to {0}.", "My {1} lives in {0} these days."),
    "works at": ("My {1} works at {0}.", "My {1} just joined {0}."),
    "works as": ("My {1} works as a {0}.", "My {1} is a {0}."),
    "follows the diet": ("My {1} is {0}.", "My {1} went {0}."),
    "drives": ("My {1} drives a {0}.", "My {1} bought a {0}."),
    "likes": ("My {1} loves {0}.", 'My {1} said: "I love {0}."', "My {1} is into {0}."),
    "wants to": ("My {1} wants to {0}.",),
    "is allergic to": ("My {1} is allergic to {0}.",),
}
SECRET = (
    "Please don't remember this: {0}",
    "{0} Keep that private, don't store it.",
    "Off the record: {0}",
)
SMALL_TALK = (
    *("The weather is dull today.", "Thanks, that was useful.", "How long does rice keep?"),
    *("Can you sum up this page for me?", "What time is it in Tokyo?", "Tell me a joke."),
    *("The train was late again.", "Remind me what a sonnet is.", "That meeting went on forever."),
    *("Is it going to rain tomorrow?", "My phone battery died.", "Translate 'window' for me."),
    *("I'm a bit tired today.", "I saw a film last night.", "I have a meeting at nine."),
    *("I need a minute.", "The neighbours are loud.", "What rhymes with orange?"),
)
REPLIES = ("Noted.", "Of course.", "Happy to help.", "Sure, one moment.", "I see.", "Sounds good.")
QUESTIONS = {
    "lives in": "Which city does the user live in now?",
    "works at": "Which firm does the user work at now?",
    "works as": "What does the user work as now?",
    "follows the diet": "Which diet does the user follow now?",
    "drives": "Which car does the user drive now?",
    "likes": "What does the user like?",
    "wants to": "What does the user want to do?",
    "is allergic to": "What is the user allergic to?",
}
