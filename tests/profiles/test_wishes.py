"""Wishes not to be remembered, beside everyday sentences that are none.

The first fifty wishes and seventy sentences were written before the pattern was looked at.
"""

import pytest

from tailor.profiles.wishes import asks_to_forget

WISHES = """
Please don't remember that.
Don't remember this.
Do not remember what I just said.
Please do not remember any of this.
don't save this please
Please do not save this conversation.
Do not store this.
Please don't store that anywhere.
Don't record this.
Please don't record what I am telling you.
Please don't keep this.
Do not keep that.
Please don't keep a record of this.
Don't keep any of this.
Don't write this down.
Please do not write that down.
Don't note this down.
Don't make a note of that, please.
Please don't log this.
Don't memorize this.
Please don't memorise that.
Forget what I just said.
Please forget what I told you.
Forget I said that.
Forget I said anything.
Forget I ever mentioned it.
Please forget that I told you this.
You can forget what I just told you.
Could you please not remember this?
Can you please not save that?
Would you mind not storing this?
I don't want you to remember this.
I do not want you to keep this.
I'd rather you didn't remember that.
I would prefer that you don't store this.
You must not remember this.
You should not keep that.
Never mention this again and don't remember it.
This is off the record.
Off the record, I am seeing a therapist.
This is between us, don't save it.
I have been diagnosed with asthma, but please don't remember that.
My password is swordfish. Do not store it.
Let's keep this off the record.
This must not be remembered.
Nothing of this should be stored.
Please keep no record of this.
Make sure you don't remember this.
Just between us: I am pregnant. Don\u2019t remember this.
Remember none of this.
Please don't keep that in your memory.
Hey, don't store any of that.
I'd appreciate it if you didn't remember this.
Please do not retain this.
Delete that from your memory.
Erase what I just said.
Please forget this conversation.
Don't remember my last message.
I don't want this to be remembered.
I don't want this saved.
Don't ever store this!
Please don't remember that I live in Oslo.
Don't save my address.
"""
EVERYDAY = """
We don't keep sweets.
We don't keep sweets at home.
I don't keep chickens any more.
They don't keep records of that album.
I don't remember his name.
I don't remember that film.
I do not remember what I had for lunch.
I can't remember this song.
I don't remember this being so hard.
I never remember birthdays.
You don't remember me, do you?
You don't remember that film, do you?
Don't you remember me?
Don't you remember this song?
Do you remember that I like tea?
Please remember that I like green tea.
Don't forget that I like tea.
Please don't forget this.
Do not forget my birthday.
Never forget this: I am allergic to nuts.
I don't save money.
I don't save this kind of thing.
I do not store wine in the kitchen.
The shop doesn't store this brand.
This shop does not store data in the cloud.
My phone won't store this many pictures.
I don't record concerts.
I don't record my runs with a watch.
I don't write letters.
I don't write this well when I am tired.
My mother doesn't keep the heating on.
He does not remember that day.
She doesn't remember that we met.
My grandfather no longer remembers this house.
I forget names easily.
I forget what I said to her yesterday.
I forgot what I told you.
I always forget that you are vegan.
You forget that I like coffee.
Did you forget what I told you?
I can't forget what you said.
I will never forget what he told me.
How do I make Excel not save this file?
Why does my editor not store this setting?
How can I stop the camera from recording?
I don't want to remember that day.
I don't want to keep this dress.
We do not want to save this marriage.
I do not keep a diary.
I don't keep track of my spending.
I bought a record yesterday.
My favourite record is Off the Wall.
He broke the record last year.
I don't note down recipes.
I don't log in often.
I don't mind if you keep this.
You don't need to keep the receipt.
My landlord told me not to keep pets.
My teacher said: don't write this in pencil.
The doctor told me not to store insulin in the freezer.
I like a jar that does not keep the smell.
Don't keep me waiting.
Don't save me a seat, I am late.
Do not store the cake in the fridge.
Do not keep the milk outside.
Don't record over my tape.
Don't write to her.
Never keep eggs in the door of the fridge.
I should not keep buying shoes.
I prefer not to keep meat at home.
This is private property.
We keep this out of the sun.
Keep this out of reach of children.
Forget it, I'll take the bus.
I said I don't remember this place.
You should not keep the change.
Don't keep doing this.
Never save this for later if it smells.
What should not be kept in the fridge?
This is not recorded live.
This should not be stored in the fridge.
He took it off the record player.
You don't remember that I like tea.
She doesn't remember my name.
My sister said, "Don't remember this."
"""

# sentences of somebody who attacked the pattern; it was widened by them
FURTHER_WISHES = [
    "Don't remember that.",
    "Please forget that.",
    "Forget it.",
    "Forget I said that",
    "Forget what I just said",
    "Please don't store this conversation",
    "Can you not remember this?",
    "I'd rather you didn't remember this.",
    "Please do not keep this on file.",
    "don't save this pls",
    "Do not remember this!",
    "dont remember this",
    "Don\u2019t remember that",
    "You needn't remember this",
    "I want you to forget that",
    "I would like you to forget this",
    "Delete that.",
    "Delete my last message",
    "Delete that last message please",
    "Erase what I told you",
    "Erase that from memory",
    "Please remove that from your memory",
    "This is just between us",
    "This is confidential.",
    "Never mind, forget it",
    "Off the record: I hate my boss",
    "please forget i ever said that",
    "Please do not memorize any of this",
    "Do not write this down",
    "Don't log this",
    "please dont save any of that",
    "do not ever save this",
    "this shouldn't be saved",
    "This should not be stored anywhere",
    "don't remember this message",
    "do not remember this chat",
    "Don't keep it",
    "Don't remember what I said about my mom",
    "Don't remember that I'm pregnant",
    "Don't keep anything I say today",
    "Don't save my previous message",
    'My 5" nail. Don\'t remember this. 6" nail',
    "**Don't remember that**",
    "<b>Don't remember this</b>",
    "DON'T REMEMBER THAT!!!",
    "don\u00b4t remember that",
    "don`t remember that",
    "Don't  remember  that",
    "Don't remember\nthat.",
    "- don't remember that",
    "(please don't remember that)",
    "\U0001f92b don't remember that",
    "Hey Tailor don't remember that",
    "Actually don't remember that",
    "Hmm don't store that",
    "Wait don't save that",
    "Oh don't save that",
    "No don't save that",
    "Plz don't save that",
    "don't save that thx",
    "don't remember that thanks",
    "don't remember this, thanks",
    "don't remember that :)",
    "Don't remember that I said that",
    "I don't want this saved",
    "I don't want you to remember this",
]
FURTHER_EVERYDAY = [
    "I don't remember that film",
    "You must not keep this in the fridge",
    "Don't forget that I love sushi",
    "Never forget what I said about nuts",
    "Do not save this for later, I want it now",
    "My doctor says do not keep that in the fridge",
    "I forget what I said yesterday",
    "Please remember that I'm vegan",
    "Don't store it in the freezer",
    "I can't remember this song",
    "Keep this private room for us",
    "I'll never forget that",
    "Can you forget the olives?",
    "Forget that place, it's awful. I love Luigi's",
    "Forget that, let's go with Thai",
    "Don't keep that one, I prefer the blue one",
    "I want to delete my account",
    "Please don't record that show, I hate it",
    "My wife told me not to save that",
    "Don't log it as a run, it was a walk",
    "don't keep it too long, I eat fast",
    "We keep this private label brand",
    "I like off the record podcasts",
    "This is confidential stuff at my job",
    "How do I make sure I don't save this file twice?",
    "Never store that brand of milk",
    "I like to keep it private",
    "I keep it to yourself... no",
    "Don't write that down in Latin",
    "Never save this for last, dessert first",
    "And never keep it between meals",
    "So don't save it, spend it",
    "Don't save it and enjoy the cake",
    "But don't keep these at home, kids",
    "Ok, don't save it, buy the other one",
    "Just don't keep it because it smells",
    "Why don't you remember that I'm vegan?",
    "why do you never remember what I said",
    "You don't remember what I said?",
    "You never remember that I like tea",
    "so you don't remember that I'm allergic",
    "You can not save this recipe?",
    "Can you save this recipe, or not?",
    'He said "hi. Don\'t remember that." ok',
]
MISSED = [
    "forget about it",
    "You don't need to remember that.",
    "Don't you dare save that",
    "Please avoid storing this",
    "Please refrain from saving that",
    "Stop remembering this.",
    "Please could you forget that?",
    "Between you and me, this is a secret",
    "Keep this secret",
    "Keep this a secret please",
    "Keep this confidential",
    "Don't tell anyone this",
    "Ignore that",
    "Ignore my last message",
    "Scratch that",
    "Strike that",
    "Nevermind what I said",
    "Disregard that",
    "Not for the record",
    "unremember that",
    "Forget my last message",
    "Forget my name",
    "Please forget my address",
    "Forget everything about me",
    "Forget everything",
    "Forget about what I said",
    "Please don't hold on to this",
    "Don't put this in my profile",
    "Don't add this to my profile",
    "Leave this out of my profile",
    "No need to remember this",
    "I don't consent to you storing this",
    "Don\u2019t keep that info",
    "Please don't remember I'm pregnant",
    "Don't remember my diagnosis",
    "Do not store my health data",
    "Don't use this",
    "Please don't remember the last thing I said",
    "Don't remember the above",
    "don't remember, ok?",
    "Don't memorise this one",
    "Lass das bitte nicht speichern",
    "Merk dir das nicht",
    "'tis private. Don't remember that 'kay?",
    "Do NOT, repeat NOT, remember this",
    "Alexa do not save this",
    "Hey, pls don't save this one",
    "Don't save that last one",
    "don't remember this/that",
    "I never want you to store that",
    "Don't be remembering this",
]
TAKEN = [
    "Do not record it, the recital is boring",
    "He said: don't remember this",
    "Don't keep it for me",
    "Don't save that since it's cheap",
    "Don't record it, please, I'll watch live",
    "I wish you could forget this",
    "Can you forget what I told you?",
]


@pytest.mark.parametrize("text", [*WISHES.strip().splitlines(), *FURTHER_WISHES])
def test_a_wish_not_to_be_remembered_is_heeded(text: str) -> None:
    assert asks_to_forget(text)


@pytest.mark.parametrize("text", [*EVERYDAY.strip().splitlines(), *FURTHER_EVERYDAY])
def test_an_everyday_sentence_is_no_such_wish(text: str) -> None:
    assert not asks_to_forget(text)


@pytest.mark.xfail(strict=True, reason="the pattern does not know it")
@pytest.mark.parametrize("text", MISSED)
def test_a_wish_that_is_missed(text: str) -> None:
    assert asks_to_forget(text)


@pytest.mark.xfail(strict=True, reason="the pattern takes it for a wish")
@pytest.mark.parametrize("text", TAKEN)
def test_an_everyday_sentence_that_is_taken_for_a_wish(text: str) -> None:
    assert not asks_to_forget(text)
