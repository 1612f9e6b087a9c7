"""All measures of captions: equal to the slow reference, to published figures, to figures by hand; errors with ids."""

from __future__ import annotations

import json
import math
import os
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quincunx.errors import DataError, UsageError
from quincunx.metrics.caption import FAMILIES, Frequencies, document_frequencies, score_captions
from reference import caption as reference

WORDS = st.lists(st.sampled_from(["a", "b", "c", "d"]), max_size=7)
REFERENCES = st.lists(WORDS.filter(bool), min_size=1, max_size=3)
CORPORA = st.lists(st.tuples(REFERENCES, WORDS), min_size=1, max_size=5)


def scored(corpus, measures=("bleu", "rouge_l", "cider"), **more):
    """Return references and captions as words, and what is found for them as texts."""
    references = {str(number): texts for number, (texts, _) in enumerate(corpus)}
    captions = {str(number): caption for number, (_, caption) in enumerate(corpus)}
    found = score_captions(
        {name: [" ".join(text) for text in texts] for name, texts in references.items()},
        {name: " ".join(words) for name, words in captions.items()},
        measures,
        tokenizer=str.split,
        **more,
    )
    return references, captions, found


@settings(max_examples=150, deadline=None)
@given(CORPORA)
def test_every_value_is_the_references(corpus):
    references, captions, found = scored(corpus)
    for longest in range(1, 5):
        measured = found[f"bleu_{longest}"]
        assert measured.value == pytest.approx(reference.bleu(references, captions, longest), rel=1e-9, abs=1e-12)
        for name, value in measured.by_name.items():
            alone = reference.bleu({name: references[name]}, captions, longest)
            assert value == pytest.approx(alone, rel=1e-9, abs=1e-12)
    for name in references:
        assert found["rouge_l"].by_name[name] == pytest.approx(reference.rouge_l(captions[name], references[name]))
        published = reference.cider(references, captions, name)
        assert found["cider"].by_name[name] == pytest.approx(published, abs=1e-9)
        assert found["cider_d"].by_name[name] == found["cider"].by_name[name]
        plain = reference.cider(references, captions, name, published=False)
        assert found["cider_plain"].by_name[name] == pytest.approx(plain, abs=1e-9)
    for name in ("rouge_l", "cider", "cider_plain"):
        assert found[name].value == pytest.approx(np.mean(found[name].samples))


@settings(max_examples=40, deadline=None)
@given(CORPORA, st.randoms(use_true_random=False))
def test_the_order_of_the_corpus_does_not_matter(corpus, order):
    _, _, found = scored(corpus)
    references = {str(number): [" ".join(text) for text in texts] for number, (texts, _) in enumerate(corpus)}
    captions = {str(number): " ".join(caption) for number, (_, caption) in enumerate(corpus)}
    names = list(references)
    order.shuffle(names)
    again = score_captions(
        {name: references[name] for name in names}, captions, ("bleu", "rouge_l", "cider"), tokenizer=str.split
    )
    for name, measured in found.items():
        assert again[name].value == pytest.approx(measured.value, abs=1e-12)
        assert again[name].by_name == pytest.approx(measured.by_name, abs=1e-12)


def test_perfect_captions_have_the_highest_values():
    texts = ["a red cube stands here", "the green ball is far off", "two small cats sleep now", "one dog runs by us"]
    references = {str(number): [text, text] for number, text in enumerate(texts)}
    found = score_captions(references, dict(zip(references, texts, strict=True)))
    for length in range(1, 5):
        assert found[f"bleu_{length}"].value == pytest.approx(1, abs=1e-6)
    assert found["rouge_l"].value == pytest.approx(1)
    for name in ("cider", "cider_d", "cider_plain"):
        assert found[name].samples == pytest.approx([10] * 4)
    assert found["meteor_lite"].value == pytest.approx(np.mean([1 - 0.5 / len(text.split()) ** 3 for text in texts]))


def test_figures_by_hand():
    references = {"1": ["a cat sat", "cats sit on the mat"], "2": ["the dog"]}
    found = score_captions(references, {"1": "a cat on mat", "2": "dog"})
    # matches 4 + 1 of 4 + 1 words; pairs: "a cat" of 3 + 0; lengths 4 + 1 against 3 (as near as 5, and shorter) + 2
    assert found["bleu_1"].value == pytest.approx(1)
    assert found["bleu_2"].value == pytest.approx(math.sqrt(1 / 3))
    assert found["bleu_1"].by_name["2"] == pytest.approx(math.exp(1 - 2 / 1))
    # subsequences "a cat" of 3 words and "on mat" of 5: precision 2 / 4, recall 2 / 3
    precision, recall = 2 / 4, 2 / 3
    assert found["rouge_l"].by_name["1"] == pytest.approx(2.44 * precision * recall / (recall + 1.44 * precision))
    # "dog" against "the dog": no word is in both pictures but "the", of weight log(2 / 2) = 0; so the cosine is 1
    assert found["cider_plain"].by_name["2"] == pytest.approx(10 / 4)
    assert found["cider"].by_name["2"] == pytest.approx(10 / 4 * math.exp(-1 / 72))


def test_the_same_words_twice_are_clipped():
    found = score_captions({"1": ["red cube"], "2": ["blue ball"]}, {"1": "red red red red", "2": "blue ball"})
    assert found["bleu_1"].value == pytest.approx(3 / 6)
    assert found["cider_plain"].by_name["1"] == pytest.approx(10 / 4 / math.sqrt(2))
    # the count is clipped at the reference's, the norm is not
    assert found["cider"].by_name["1"] == pytest.approx(10 / 4 * (1 / 4) / math.sqrt(2) * math.exp(-(2**2) / 72))


def test_one_picture_alone_tells_no_words_apart():
    found = score_captions({"1": ["a cat"]}, {"1": "a cat"}, ["cider"])
    assert found["cider"].value == found["cider_plain"].value == 0


def test_kept_document_frequencies_are_those_of_the_larger_corpus():
    generator = random.Random(0)
    corpus = [([[generator.choice("abcde") for _ in range(6)]], list("abcab")) for _ in range(20)]
    references, _, whole = scored(corpus, ["cider"])
    kept = document_frequencies(references.values())
    assert kept.pictures == 20
    _, _, part = scored(corpus[:5], ["cider"], frequencies=kept)
    for name in ("cider", "cider_plain"):
        assert part[name].samples == pytest.approx(whole[name].samples[:5])
    _, _, alone = scored(corpus[:5], ["cider"])
    assert alone["cider"].value != pytest.approx(part["cider"].value)


def test_impossible_document_frequencies_are_refused():
    with pytest.raises(DataError, match="3 of 2 pictures"):
        Frequencies(2, {("a",): 3})


def test_a_caption_without_words_has_nothing():
    found = score_captions({"1": ["a cat"], "2": ["the dog runs"]}, {"1": "", "2": "..."})
    assert all(measured.value == pytest.approx(0, abs=1e-5) for measured in found.values())


def test_words_are_cut_before_they_are_compared():
    found = score_captions({"1": ["The man's hat."], "2": ["A dog"]}, {"1": "the man 's hat", "2": "a dog !"})
    assert found["bleu_1"].value == pytest.approx(1) and found["rouge_l"].value == pytest.approx(1)


def test_only_what_is_asked_for_is_measured():
    texts = {"1": ["a cat"]}, {"1": "a cat"}
    for family, names in FAMILIES.items():
        assert tuple(score_captions(*texts, [family])) == names
    assert set(score_captions(*texts)) == {name for names in FAMILIES.values() for name in names}
    with pytest.raises(UsageError, match="'spice' is no measure of captions"):
        score_captions(*texts, ["spice"])


def test_intervals_hold_the_value_and_bleus_is_of_the_corpus():
    generator = random.Random(1)
    corpus = [
        ([[generator.choice("abcdefgh") for _ in range(8)]], [generator.choice("abcdefgh") for _ in range(7)])
        for _ in range(60)
    ]
    references, captions, found = scored(corpus)
    for measured in found.values():
        bounds = measured.interval()
        assert bounds.low < bounds.value < bounds.high and bounds.value == measured.value
    drawn = []
    for _ in range(200):
        names = generator.choices(list(references), k=60)
        again = {str(number): references[name] for number, name in enumerate(names)}
        told = {str(number): captions[name] for number, name in enumerate(names)}
        drawn.append(reference.bleu(again, told, 2))
    low, high = np.quantile(drawn, [0.025, 0.975])
    bounds = found["bleu_2"].interval()
    assert [bounds.low, bounds.high] == pytest.approx([low, high], abs=0.02)


@pytest.mark.parametrize("which", ["good", "bad"])
def test_published_figures(which: str):
    if "QUINCUNX_DATA" not in os.environ:
        pytest.skip("QUINCUNX_DATA names no data folder")
    folder = Path(os.environ["QUINCUNX_DATA"]) / "caption_example"
    expected = json.loads((folder / "expected.json").read_text())[which]
    references = json.loads((folder / "refs.json").read_text())
    found = score_captions(references, json.loads((folder / f"{which}_captions.json").read_text()))
    assert [found[f"bleu_{n}"].value for n in range(1, 5)] == pytest.approx(expected["BLEU"], abs=6e-5)
    assert found["rouge_l"].value == pytest.approx(expected["ROUGE_L"], abs=6e-5)
    assert found["cider"].value == found["cider_d"].value == pytest.approx(expected["CIDEr"], abs=6e-5)


@pytest.mark.parametrize(
    ("references", "candidates", "said"),
    [
        ({}, {}, "no caption to measure"),
        ({"1": ["a"], "2": ["b"]}, {"1": "a"}, "candidates: 1 of 2 captions have none: '2'"),
        ({"1": ["a"]}, {"1": "a", "x": "b"}, "candidates: 1 belong to no caption: 'x'"),
        ({"1": []}, {"1": "a"}, "references, id '1': found \\[\\]"),
        ({"1": "a"}, {"1": "a"}, "references, id '1': found 'a', expected a list"),
        ({"1": ["a", "..."]}, {"1": "a"}, "references, id '1', number 1: no words in '...'"),
        ({"1": ["a", None]}, {"1": "a"}, "references, id '1', number 1: found None"),
        ({"1": ["a"]}, {"1": ["a"]}, "candidates, id '1': found \\['a'\\], expected one text"),
    ],
)
def test_errors_name_the_id(references, candidates, said):
    with pytest.raises(DataError, match=said):
        score_captions(references, candidates)
