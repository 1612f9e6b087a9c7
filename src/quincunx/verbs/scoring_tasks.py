"""The verbs below `score` for what is chosen or judged of pictures, from files: `gqa`, `nlvr`, `refcoco`, `vcr`."""

from __future__ import annotations

import argparse
from pathlib import Path

from quincunx.verbs.common import Adder
from quincunx.verbs.scoring_shown import add_output, of_file, say_measures


def add_below(add: Adder) -> None:
    """Add the verbs below `score`."""
    made = add("gqa", gqa, "measure answers to GQA's questions: accuracy, by type; validity, plausibility, consistency")
    _add_files(made, "[{questionId, prediction}, ...], or {id: answer}", "questions of GQA, or a collection's lines")
    made.add_argument("--choices", metavar="FILE", help="GQA's valid and plausible answers, to measure these as well")
    what = "also consistency: questions and predictions must hold all that is entailed, the unbalanced ones too"
    made.add_argument("--consistency", action="store_true", help=what)
    add_output(made)

    made = add("nlvr", nlvr, "measure statements judged true or false, of NLVR or NLVR2: accuracy and consistency")
    what = "JSON lines of NLVR or NLVR2, or of a collection"
    _add_files(made, "lines identifier,True, or {id: true}", what)
    add_output(made)

    made = add(
        "refcoco", refcoco, "measure boxes found for expressions: the share that overlap by half, and the overlap"
    )
    boxes = "[{uid, box}, ...], or {id: box}; x1, y1, x2, y2 in pixels"
    made.add_argument("--predictions", required=True, metavar="FILE", help=boxes)
    what = "a collection's lines or {id: box}; or two files, REFER's refs(...).p and COCO's instances.json"
    made.add_argument("--annotations", required=True, nargs="+", metavar="FILE", help=what)
    made.add_argument("--split", metavar="NAME", help="of REFER's file: val, testA ...; default: all of it")
    made.add_argument("--inclusive", action="store_true", help="x2 and y2 are pixels of the box, as VL-T5 counts them")
    made.add_argument("--threshold", type=float, default=0.5, metavar="X", help="overlap that counts; default: 0.5")
    add_output(made)

    made = add("vcr", vcr, "measure answers and rationales of VCR: Q->A (answer), QA->R (rationale), Q->AR (both)")
    what = "the leaderboard's table of probabilities, or {id: [answer, rationale]}"
    _add_files(made, what, "JSON lines of VCR, or of a collection")
    add_output(made)


def _add_files(made: argparse.ArgumentParser, predictions: str, annotations: str) -> None:
    made.add_argument("--predictions", required=True, metavar="FILE", help=predictions)
    made.add_argument("--annotations", required=True, metavar="FILE", help=annotations)


def gqa(options: argparse.Namespace) -> int:
    """Measure answers to GQA's questions."""
    from quincunx.errors import DataError
    from quincunx.metrics.judged_files import read_gqa_choices, read_gqa_predictions, read_gqa_questions
    from quincunx.metrics.measured import same_ids
    from quincunx.metrics.reasoning import GqaQuestion, gqa_scores

    rows, predictions = read_gqa_questions(options.annotations), read_gqa_predictions(options.predictions)
    same_ids(rows, predictions, "question", options.predictions)
    measured = [name for name, row in rows.items() if row.balanced]
    if not measured:
        raise DataError(f"{options.annotations}: no question has isBalanced, and accuracy is measured over those alone")
    choices = {name: (rows[name].valid, rows[name].plausible) for name in measured}
    if options.choices is not None:
        known = read_gqa_choices(options.choices)
        if lost := next((name for name in measured if name not in known), None):
            raise DataError(f"{options.choices}: no choices of question {lost!r}; do the two files fit together?")
        choices = {name: known[name] for name in measured}
    said = {name: predictions[name] for name in measured}

    def by(kind: str) -> dict[str, GqaQuestion]:
        return {
            name: GqaQuestion(rows[name].answer, getattr(rows[name], kind), (), *choices[name]) for name in measured
        }

    found, structural = gqa_scores(by("structural"), said)
    _, semantic = gqa_scores(by("semantic"), said)
    if options.consistency:
        chains = {
            name: GqaQuestion(row.answer, entailed=row.entailed if row.balanced else ()) for name, row in rows.items()
        }
        with of_file(options.annotations):
            whole, _ = gqa_scores(chains, predictions)
        if "consistency" not in whole:
            raise DataError(
                f"{options.annotations}: no question that was answered rightly has `entailed` questions, so "
                "consistency cannot be measured; leave --consistency out"
            )
        found["consistency"] = whole["consistency"]
    say_measures(options, found, {"structural type": structural, "semantic type": semantic})
    return 0


def nlvr(options: argparse.Namespace) -> int:
    """Measure statements judged true or false."""
    from quincunx.metrics.judged_files import read_judgements, read_statements
    from quincunx.metrics.measured import same_ids
    from quincunx.metrics.reasoning import statement_scores

    statements, judged = read_statements(options.annotations), read_judgements(options.predictions)
    same_ids(statements, judged, "statement", options.predictions)
    truth = {name: each.true for name, each in statements.items()}
    say_measures(options, statement_scores(truth, judged, {name: each.sentence for name, each in statements.items()}))
    return 0


def refcoco(options: argparse.Namespace) -> int:
    """Measure boxes found for expressions."""
    from quincunx.errors import UsageError
    from quincunx.metrics.chosen_files import read_boxes
    from quincunx.metrics.grounding import grounding_accuracy
    from quincunx.metrics.measured import same_ids

    files = options.annotations
    if not 0 < options.threshold <= 1:
        raise UsageError(f"--threshold is {options.threshold}: an overlap above 0 and at most 1")
    if len(files) > 2:
        raise UsageError(f"--annotations takes one file, or REFER's and COCO's, found {len(files)}")
    if options.split is not None and len(files) == 1:
        raise UsageError(
            f"--split {options.split} chooses among REFER's references: {files[0]} is of one split already"
        )
    if len(files) == 2:
        from quincunx.recipes.vision_language.data.importers.referring import referred_boxes

        targets = referred_boxes(Path(files[0]), Path(files[1]), options.split)
    else:
        targets = read_boxes(files[0])
    found = read_boxes(options.predictions)
    same_ids(targets, found, "expression", options.predictions)
    say_measures(options, grounding_accuracy(targets, found, options.threshold, options.inclusive))
    return 0


def vcr(options: argparse.Namespace) -> int:
    """Measure answers and rationales."""
    from quincunx.errors import DataError
    from quincunx.metrics.chosen_files import read_vcr_labels, read_vcr_predictions
    from quincunx.metrics.measured import same_ids
    from quincunx.metrics.reasoning import vcr_scores

    labels, predictions = read_vcr_labels(options.annotations), read_vcr_predictions(options.predictions)
    same_ids(labels, predictions, "question", options.predictions)
    chosen = {name: predictions[name].chosen(answer) for name, (answer, _) in labels.items()}
    asked = {name: rationale is not None for name, (_, rationale) in chosen.items()}
    if any(asked.values()):
        for place, whole in ((options.predictions, chosen), (options.annotations, labels)):
            if lost := next((name for name, (_, rationale) in whole.items() if rationale is None), None):
                raise DataError(f"{place}: question {lost!r} has no rationale, and others of the predictions have one")
    measures = vcr_scores(
        {name: (answer, rationale or 0) for name, (answer, rationale) in labels.items()},
        {name: (answer, rationale or 0) for name, (answer, rationale) in chosen.items()},
    )
    say_measures(options, measures if any(asked.values()) else {"answer": measures["answer"]})
    return 0
