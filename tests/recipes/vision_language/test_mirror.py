"""Left and right in texts about a mirrored picture: changed where they are sides, else the picture is kept."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quincunx.recipes.vision_language.data.mirror import AFTER, BEFORE, COMPOUND, NOUNS, mirrored_texts

SWAPPED = {
    "What is to the left of the car?": "What is to the right of the car?",
    "Is the red cube left of the blue ball?": "Is the red cube right of the blue ball?",
    "the cube is right of the ball": "the cube is left of the ball",
    "Which is on the right?": "Which is on the left?",
    "man on the left holding a dog": "man on the right holding a dog",
    "second from the left": "second from the right",
    "third car from right": "third car from left",
    "upper left corner": "upper right corner",
    "leftmost giraffe": "rightmost giraffe",
    "the right-most of them": "the left-most of them",
    "the boy's left hand": "the boy's right hand",
    "a right-handed batter": "a left-handed batter",
    "Left": "Right",
    "LEFT": "RIGHT",
    "on the left side": "on the right side",
    "both left and right sides": "both right and left sides",
    "Is the cat facing left or right?": "Is the cat facing right or left?",
    "a line of cars from left to right": "a line of cars from right to left",
    "To the Right of the cube, or in front of it?": "To the Left of the cube, or in front of it?",
    "the dog is looking left.": "the dog is looking right.",
    "turn right.": "turn left.",
    "man in the middle to the right of the left tree": None,  # the left tree: a tree at the left, or one that is left
}
"""Text -> what it is of the mirrored picture; None where it stays as it is."""
UNCHANGED = [
    "What color is the bright upright sign?",
    "yes",
    "",
    "2",
    "A man in a blue shirt is standing on a ladder.",
    "a copyrighted thing above the cube",
]
REFUSED = [
    "What is left of the cake?",
    "How much pizza is left?",
    "Who left the bag?",
    "the people who left",
    "Is this the right answer?",
    "Is it right now?",
    "Is this right or wrong?",
    "Is it alright, all right?",
    "who has the right of way",
    "the right to vote",
    "human rights",
    "leftover food",
    "right side up",
    "right next to the tree",
    "What does the left sign say?",
    "what letters are on the bus",
    "What time is it?",
    "what number is on the train",
    "What is the name of the street?",
    "Does the clock go clockwise?",
    "The left image contains twice the number of dogs as the right image.",
    "one photo shows a dog on the left image",
    "first zebra",
    "the last one",
    "the left tree",
    "a right",
]


@pytest.mark.parametrize(("text", "expected"), SWAPPED.items())
def test_sides_are_swapped(text: str, expected: str | None) -> None:
    assert mirrored_texts([text]) == (None if expected is None else (expected,))


@pytest.mark.parametrize("text", UNCHANGED)
def test_other_texts_are_true_of_both(text: str) -> None:
    assert mirrored_texts([text]) == (text,)


@pytest.mark.parametrize("text", REFUSED)
def test_doubt_leaves_the_picture_as_it_is(text: str) -> None:
    assert mirrored_texts([text]) is None


def test_question_and_answers_are_swapped_together_or_not_at_all() -> None:
    assert mirrored_texts(["Which side is the cat on?", "left", "on the left", "right"]) == (
        "Which side is the cat on?", "right", "on the right", "left",
    )  # fmt: skip
    assert mirrored_texts(["Which side is the cat on?", "left", "the one that was left"]) is None
    assert mirrored_texts([]) == ()


def test_other_languages_are_never_changed() -> None:
    assert mirrored_texts(["a man with a dog"], ["ein Mann mit einem Hund"]) == ("a man with a dog",)
    assert mirrored_texts(["a man on the left"], ["ein Mann, der steht"]) is None
    assert mirrored_texts(["a man standing there"], ["links steht ein Mann"]) is None
    assert mirrored_texts(["a man"], ["un homme à droite"]) is None


WORDS = sorted(BEFORE | AFTER | NOUNS | {"cube", "the", "ball", "red", "is", "what", "?", ",", "left", "right"})
WORDS += ["left" + end for end in sorted(COMPOUND)] + ["Right", "LEFT"]


@given(st.lists(st.lists(st.sampled_from(WORDS), max_size=9).map(" ".join), max_size=3))
def test_mirroring_twice_gives_what_was_given(texts: list[str]) -> None:
    once = mirrored_texts(texts)
    if once is not None:
        assert mirrored_texts(once) == tuple(texts)
        assert [len(text.split()) for text in once] == [len(text.split()) for text in texts]
        sides = [sum(text.lower().count(word) for word in ("left", "right")) for text in texts]
        assert sides == [sum(text.lower().count(word) for word in ("left", "right")) for text in once]
