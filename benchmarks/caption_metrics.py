"""How long it takes to measure captions: BLEU-1 to 4, ROUGE-L, CIDEr and CIDEr-D of 1,000 captions, 5 references each.

The captions are drawn, with words as frequent as in English (Zipf's law, 4,000 words) and 8 to 14 words long; half of a
caption's words are those of its first reference. Everything is timed that a user waits for: cutting texts into words,
counting, all captions' values. Beside it METEOR-lite, bootstrap intervals, and the plain dictionaries of the tests'
reference, which must agree to 1e-9. One thread.

    python benchmarks/caption_metrics.py [--rounds 15] [--captions 1000] [--references 5] [--no-reference]
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from measure import Seconds, Watch, alternate, machine, spread, table

from quincunx.metrics.caption import ptb_words, score_captions

sys.path.append(str(Path(__file__).parents[1] / "tests"))
from reference import caption as plain

WORDS, BAR = 4000, 1.0
PUBLISHED = ("bleu", "rouge_l", "cider")

Texts = dict[str, list[str]]


def make(captions: int, references: int, seed: int = 0) -> tuple[Texts, dict[str, str]]:
    """Return references and captions by id."""
    generator = np.random.default_rng(seed)
    shares = 1 / np.arange(1, WORDS + 1)
    shares /= shares.sum()

    def text() -> list[str]:
        return [f"word{number}" for number in generator.choice(WORDS, generator.integers(8, 15), p=shares)]

    true = {str(number): [text() for _ in range(references)] for number in range(captions)}
    told = {
        name: [mine if generator.random() < 0.5 else other for mine, other in zip(texts[0], text(), strict=False)]
        for name, texts in true.items()
    }
    sentences = {name: [" ".join(words).capitalize() + "." for words in texts] for name, texts in true.items()}
    return sentences, {name: " ".join(words) + " ." for name, words in told.items()}


def by_reference(references: Texts, captions: dict[str, str]) -> dict[str, float]:
    """Return what the tests' plain dictionaries find for a corpus."""
    texts = {name: [ptb_words(text) for text in some] for name, some in references.items()}
    told = {name: ptb_words(text) for name, text in captions.items()}
    found = {f"bleu_{longest}": plain.bleu(texts, told, longest) for longest in range(1, 5)}
    found["rouge_l"] = float(np.mean([plain.rouge_l(told[name], some) for name, some in texts.items()]))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--captions", type=int, default=1000)
    parser.add_argument("--references", type=int, default=5)
    parser.add_argument("--no-reference", action="store_true", help="leave the slow reference out")
    chosen = parser.parse_args()
    references, captions = make(chosen.captions, chosen.references)
    found = score_captions(references, captions, PUBLISHED)
    some = list(references)[:40]  # the reference's CIDEr counts the whole corpus again for every caption
    few = {name: references[name] for name in some}
    expected = by_reference(few, captions)
    words = {name: [ptb_words(text) for text in texts] for name, texts in few.items()}
    told = {name: ptb_words(captions[name]) for name in some}
    ours = score_captions(few, {name: captions[name] for name in some}, PUBLISHED)
    worst = max(abs(ours[name].value - value) for name, value in expected.items())
    worst = max(worst, *(abs(ours["cider"].by_name[name] - plain.cider(words, told, name)) for name in some))
    if worst > 1e-9:
        raise SystemExit(f"the figures differ from the reference's by {worst}")

    def timed(work: Callable[[], object]) -> Callable[[], Seconds]:
        def measured() -> Seconds:
            watch = Watch()
            work()
            return watch.read()

        return measured

    contestants: dict[str, Callable[[], object]] = {
        "BLEU, ROUGE-L, CIDEr": lambda: score_captions(references, captions, PUBLISHED),
        "METEOR-lite": lambda: score_captions(references, captions, ["meteor_lite"]),
        "intervals of the seven": lambda: [one.interval() for one in found.values()],
    }
    if not chosen.no_reference:
        contestants["plain dictionaries, without CIDEr"] = lambda: by_reference(references, captions)
    took = alternate({name: timed(work) for name, work in contestants.items()}, chosen.rounds)
    rows = [
        [
            name,
            f"{spread([1e3 * each.wall for each in rounds]):.0f}",
            f"{spread([1e3 * each.cpu for each in rounds]):.0f}",
        ]
        for name, rounds in took.items()
    ]
    print(
        f"{machine(1)}; {chosen.captions} captions, {chosen.references} references each, "
        f"{chosen.rounds} rounds in turn; largest difference from the reference {worst:.0e}\n"
    )
    print(table(["what", "ms", "ms of processor"], rows))
    print(f"\nThe bar: the first at most {BAR:g} s for 1,000 captions of 5 references.")


if __name__ == "__main__":
    main()
