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


@pytest.mark.parametrize("text", WISHES.strip().splitlines())
def test_a_wish_not_to_be_remembered_is_heeded(text: str) -> None:
    assert asks_to_forget(text)


@pytest.mark.parametrize("text", EVERYDAY.strip().splitlines())
def test_an_everyday_sentence_is_no_such_wish(text: str) -> None:
    assert not asks_to_forget(text)
