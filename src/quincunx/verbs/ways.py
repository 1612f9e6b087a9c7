"""What the verbs that rank documents share: the options that say how, and that none of them is given in vain."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from quincunx.errors import UsageError
from quincunx.verbs.common import run_folder

if TYPE_CHECKING:
    from quincunx.recipes.retrieval.search import Way

_MODELS = {"checkpoint": "best", "precision": "auto", "device": "auto", "backend": "torch"}
"""Options that say how models compute, and their defaults."""

By = Literal["dense", "bm25", "rrf", "weighted"]

LookedAt = Mapping[str, tuple[Any, bool, str]]
"""By option: its value, None where it was not given; whether the verb will look at it; and if not, why."""


def add_way(made: argparse.ArgumentParser) -> None:
    """Add the options that say which ranking is asked for."""
    ways = "dense (default with --run), bm25 (default without), rrf or weighted (both fused)"
    made.add_argument("--by", choices=get_args(By), metavar="WAY", help=ways)
    made.add_argument("--weights", type=_two_numbers, metavar="D,B", help="of dense and BM25 in a fusion; default: 1,1")
    scales = "of --by weighted, how scores come to one scale: min-max (default), z-score or none"
    made.add_argument("--normalisation", choices=["min-max", "z-score", "none"], metavar="WORD", help=scales)
    made.add_argument("--rank-constant", type=float, metavar="C", help="of --by rrf: 1 / (C + rank); default: 60")


def add_index_options(made: argparse.ArgumentParser) -> None:
    """Add the options that an index is searched with."""
    from quincunx.index.options import OPTIONS

    made.add_argument("--exact", action="store_true", help="compare with every document, whatever the index's kind")
    for name, option in OPTIONS.items():
        if option.search:
            flag = f"--{name.replace('_', '-')}"
            made.add_argument(flag, dest=name, type=int, metavar="N", help=f"{option.text}; default: the index's")


def add_models(made: argparse.ArgumentParser) -> None:
    """Add the options that say how models compute."""
    made.add_argument("--checkpoint", help="of --run: best (default), last, or its name")
    made.add_argument("--precision", metavar="WORD", help="auto (default), float32 or bf16")
    made.add_argument("--backend", metavar="NAME", help="of --run: torch (default), onnxruntime or openvino")
    made.add_argument("--device", help="auto (default), cpu, mps, cuda or cuda:N")


def chosen_way(options: argparse.Namespace) -> By:
    """Return by what documents are ranked."""
    return options.by or ("bm25" if options.run is None else "dense")


def refuse_idle(looked_at: LookedAt) -> None:
    """Raise UsageError for an option that was given and that the verb would not look at."""
    for name, (value, used, why) in looked_at.items():
        if value is not None and not used:
            raise UsageError(f"{name} has no effect here: {why}. Leave it out")


def fusion_options(options: argparse.Namespace) -> LookedAt:
    """Return the options of a fusion, for `refuse_idle`."""
    by = chosen_way(options)
    return {
        "--weights": (options.weights, by in ("rrf", "weighted"), "it is for --by rrf or weighted"),
        "--normalisation": (options.normalisation, by == "weighted", "it is for --by weighted"),
        "--rank-constant": (options.rank_constant, by == "rrf", "it is for --by rrf"),
    }


def index_options(options: argparse.Namespace, used: bool, why: str) -> LookedAt:
    """Return the options that an index is searched with, for `refuse_idle`; `used` and `why` are of them all."""
    from quincunx.index.options import OPTIONS

    kinds = [name for name, option in OPTIONS.items() if option.search]
    found = {f"--{name.replace('_', '-')}": (getattr(options, name), used, why) for name in kinds}
    return {"--exact": (options.exact or None, used, why), **found}


def model_options(options: argparse.Namespace, *, run: bool, any_model: bool, why: str) -> LookedAt:
    """Return the options of models, for `refuse_idle`: of --run alone (not so: `why`), and of any model."""
    none = "BM25 computes with no model"
    return {
        "--backend": (options.backend, run, why),
        "--checkpoint": (options.checkpoint, run, why),
        "--precision": (options.precision, any_model, none),
        "--device": (options.device, any_model, none),
    }


def way_of(options: argparse.Namespace, *more: str) -> Way:
    """Return the ranking that the options ask for; `more` are further options of it."""
    from quincunx.index.options import OPTIONS
    from quincunx.recipes.retrieval.search import Way

    kinds = [name for name, option in OPTIONS.items() if option.search]
    return Way(
        chosen_way(options),
        exact=options.exact,
        options=given(options, *kinds),
        **given(options, "weights", "normalisation", "rank_constant", *more),
    )


def models_of(options: argparse.Namespace) -> dict[str, str]:
    """Return how models compute."""
    return {name: getattr(options, name) or default for name, default in _MODELS.items()}


def run_path(path: str | None) -> Path | None:
    """Return the run folder that an option names, None where it was not given."""
    return None if path is None else run_folder(path).path


def given(options: argparse.Namespace, *names: str) -> dict[str, Any]:
    """Return those options that were given; the others keep their defaults where these are defined."""
    return {name: value for name in names if (value := getattr(options, name)) is not None}


def _two_numbers(text: str) -> tuple[float, float]:
    try:
        one, other = (float(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not two numbers with a comma between, such as 0.7,0.3") from None
    return one, other
