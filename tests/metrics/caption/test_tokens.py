"""Words as Stanford's PTBTokenizer 3.4.1 cuts them: what it gave for these lines, punctuation dropped."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quincunx.metrics.caption.tokens import DROPPED, ptb_words


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "Don't stop; the dog's ball isn't here (really)!",
            "do n't stop the dog 's ball is n't here -lrb- really -rrb-",
        ),
        (
            "A black-and-white cat/dog & 3 men's T-shirts cost $1,000.50 at 10:30 a.m.",
            "a black-and-white cat/dog & 3 men 's t-shirts cost $ 1,000.50 at 10:30 a.m.",
        ),
        (
            "\"Quoted\" text... and 'single' quotes - with dash -- and – en dash",
            "quoted text and single quotes with dash and en dash",
        ),
        ("the u.s. flag on St. John's Rd. near Mr. Smith", "the u.s. flag on st. john 's rd. near mr. smith"),
        ("cannot gonna wanna gotta gimme lemme 'tis", "can not gon na wan na got ta gim me lem me 't is"),
        ("the dogs' house's #1 50% off @ home e.g. this", "the dogs house 's # 1 50 % off @ home e.g. this"),
        ('says "STOP." on 5th ave. and 3/4 of it', "says stop on 5th ave. and 3/4 of it"),
        ("it's he'll they've I'm we'd o'clock", "it 's he 'll they 've i 'm we 'd o'clock"),
        ("a man/woman w/ a hot-dog, fries, etc.", "a man/woman w / a hot-dog fries etc."),
        ("rock 'n' roll and the '90s and 90's", "rock 'n' roll and the '90s and 90 's"),
        ("a sign saying www.foo.com and #hashtag @user 100%", "a sign saying www.foo.com and #hashtag @user 100 %"),
        ("“The End”, she said...and left…now", "the end she said and left now"),
        ("Café naïve jalapeño £5 €5", "café naïve jalapeño # 5 $ 5"),
        ("what is this??? a _____ of m&m", "what is this ??? a _____ of m & m"),
        ("3:27pm, .99 cents, no. 5", "3:27 pm .99 cents no. 5"),
        ("a [red] {cube}", "a -lsb- red -rsb- -lcb- cube -rcb-"),
        (" .,;:!-`' ?", ""),
        ("", ""),
    ],
)
def test_words_are_those_of_the_treebank(text, expected):
    assert " ".join(ptb_words(text)) == expected


@given(st.text())
def test_any_text_becomes_words(text):
    words = ptb_words(text)
    assert not DROPPED & set(words)
    assert all(word and not any(letter.isspace() for letter in word) for word in words)
