"""The verbs below `score` that measure answers in words, from files: `caption`, `vqa`, `translation`."""

from __future__ import annotations

import argparse

from quincunx.verbs.common import Adder
from quincunx.verbs.scoring_shown import add_output, of_file, say_measures

REFERENCES = "{id: [text, ...]}, captions of COCO, or JSON lines with uid and references"
CANDIDATES = "{id: text}, or [{image_id, caption}, ...]"


def add_below(add: Adder) -> None:
    """Add the verbs below `score`."""
    made = add("caption", caption, "measure captions against references: BLEU, ROUGE-L, CIDEr, METEOR-lite; no Java")
    made.add_argument("--references", required=True, metavar="FILE", help=REFERENCES)
    made.add_argument("--candidates", required=True, metavar="FILE", help=CANDIDATES)
    made.add_argument("--measures", metavar="NAMES", help="such as bleu,cider; default: all")
    made.add_argument(
        "--tokenizer", choices=("ptb", "split"), default="ptb", help="ptb (default), or split at spaces only"
    )
    add_output(made)
    made = add("vqa", vqa, "measure answers to visual questions against ten people's, as the VQA challenge does")
    made.add_argument(
        "--predictions", required=True, metavar="FILE", help="[{question_id or uid, answer}, ...], or {id: answer}"
    )
    what = "annotations of VQA, or JSON lines with uid and annotations"
    made.add_argument("--annotations", required=True, metavar="FILE", help=what)
    what = "official (default): as the challenge's script, oversights included; fixed: without them; soft: by weights"
    made.add_argument("--mode", choices=("official", "fixed", "soft"), default="official", help=what)
    add_output(made)
    made = add("translation", translation, "measure translations against references: BLEU and chrF as sacrebleu's")
    made.add_argument("--references", required=True, metavar="FILE", help="as for captions")
    made.add_argument("--translations", required=True, metavar="FILE", help="as candidates for captions")
    made.add_argument("--lowercase", action="store_true", help="capitals count as small letters")
    add_output(made)


def caption(options: argparse.Namespace) -> int:
    """Measure captions against references."""
    from quincunx.metrics.answer_files import read_candidates, read_references
    from quincunx.metrics.caption import FAMILIES, ptb_words, score_captions
    from quincunx.metrics.measured import same_ids

    references, candidates = read_references(options.references), read_candidates(options.candidates)
    same_ids(references, candidates, "caption", options.candidates)
    tokenizer = ptb_words if options.tokenizer == "ptb" else str.split
    wanted = list(FAMILIES) if options.measures is None else [name.strip() for name in options.measures.split(",")]
    with of_file(options.references):
        found = score_captions(references, candidates, wanted, tokenizer=tokenizer)
    say_measures(options, found)
    return 0


def vqa(options: argparse.Namespace) -> int:
    """Measure answers to visual questions."""
    from quincunx.metrics.answer_files import read_predictions, read_questions, read_weights
    from quincunx.metrics.measured import same_ids
    from quincunx.metrics.vqa import soft_accuracy, vqa_accuracy
    from quincunx.metrics.vqa_words import normalised

    if options.mode == "soft":
        weights, predictions = read_weights(options.annotations), read_predictions(options.predictions)
        same_ids(weights, predictions, "question", options.predictions)
        said = {name: normalised(answer, "fixed") for name, answer in predictions.items()}
        say_measures(options, {"accuracy": soft_accuracy(weights, said)})
        return 0
    questions, predictions = read_questions(options.annotations), read_predictions(options.predictions)
    same_ids(questions, predictions, "question", options.predictions)
    with of_file(options.annotations):
        found = vqa_accuracy(questions, predictions, options.mode)
    kinds = {"question type": found.by_question_type, "answer type": found.by_answer_type}
    say_measures(options, {"accuracy": found.overall}, kinds)
    return 0


def translation(options: argparse.Namespace) -> int:
    """Measure translations against references."""
    from quincunx.metrics.answer_files import read_candidates, read_references
    from quincunx.metrics.measured import same_ids
    from quincunx.metrics.translation import translation_scores

    references, translations = read_references(options.references), read_candidates(options.translations)
    same_ids(references, translations, "sentence", options.translations)
    say_measures(options, translation_scores(references, translations, options.lowercase))
    return 0
