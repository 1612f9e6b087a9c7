"""A run's model as a folder that other programs read, with a card that says what it is."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from quincunx.api import Run

SENTENCES = """from sentence_transformers import SentenceTransformer

model = SentenceTransformer({name!r})
queries = model.encode_query(["what is asked"])
documents = model.encode_document(["a text", "another"])
print(model.similarity(queries, documents))"""
PAIRS = """from sentence_transformers import CrossEncoder

model = CrossEncoder({name!r})
print(model.predict([("what is asked", "a text"), ("what is asked", "another")]))"""
"""Python that uses a folder of each kind."""
TEXTS = """side = facts["sides"]["document"]
tokenizer = AutoTokenizer.from_pretrained(folder + "/" + side["tokenizer"])
texts = [side["prompt"] + text for text in ["a text", "another"]]
tokens = tokenizer(texts, truncation=True, max_length=side["max_length"], padding=True, return_tensors="np")"""
TWO_TEXTS = """side = facts
tokenizer = AutoTokenizer.from_pretrained(folder)
pairs = ["what is asked", "what is asked"], ["a text", "another"]
tokens = tokenizer(*pairs, truncation=True, max_length=side["max_length"], padding=True, return_tensors="np")"""
"""The tokens of a graph's inputs."""
RUNS = {
    "onnx": """session = onnxruntime.InferenceSession(folder + "/" + side["file"])
print(session.run(None, {each: tokens[each] for each in side["inputs"]})[0])""",
    "openvino": """model = openvino.Core().compile_model(folder + "/" + side["file"], "CPU")
print(model({each: tokens[each] for each in side["inputs"]})[0])""",
}
"""How a graph is run, by format."""


def export_run(
    run: Run | str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    format: str = "sentence-transformers",
    checkpoint: str = "best",
    int8: bool = False,
    corpus: str | None = None,
) -> list[str]:
    """Write a run's model as a folder that other programs read, compared with the run before it is kept.

    Args:
        run: A retrieval run, or its folder.
        out: A folder that is not there yet.
        format: `sentence-transformers` (of a cross-encoder a folder of its CrossEncoder), `onnx` or `openvino`.
        checkpoint: `best`, `last`, or its name.
        int8: Of `onnx` and `openvino`: linear maps in 8 bits.
        corpus: With `int8`: texts from which scales are taken, in any form that `encode` reads.

    Returns:
        Sentences on what was compared.

    Raises:
        UsageError: A run, model or option that the format has no form for, or `out` is there already.
        RunError: The run has no checkpoint; what was written does not do what the run does; `out` cannot be written.
        MissingExtra: A package that writes or runs the format is not installed.
    """
    from quincunx.api import Run
    from quincunx.errors import UsageError
    from quincunx.recipes.retrieval.export import export_model
    from quincunx.report.card import Exported, card

    run = run if isinstance(run, Run) else Run(run)
    if run.config.recipe != "retrieval":
        raise UsageError(
            f"{run.path} is a run of the recipe {run.config.recipe}: what can be exported is a model of the recipe "
            "retrieval"
        )
    out, path = Path(out), run.checkpoint(checkpoint)

    def describe(opened: Any, notes: list[str]) -> str:
        pairs, graph = run.config.mode == "cross-encoder", format in RUNS
        task = "text-ranking" if pairs else "sentence-similarity"
        head: dict[str, Any] = {"pipeline_tag": task, "tags": ["quincunx", "cross-encoder" if pairs else "retrieval"]}
        exported = Exported(
            command=_command(run.path, out, format, checkpoint, int8, corpus),
            format=f"{format}, linear maps in 8 bits" if int8 else format,
            checkpoint=path.name,
            update=int(path.name.rpartition("-")[2]),
            facts=_facts(opened),
            usage=_usage(format, pairs, out.name),
            notes=notes,
            head=head if graph else {"library_name": "sentence-transformers", **head},
        )
        return card(run.path, exported)

    return export_model(run.path, run.config, path, out, format=format, int8=int8, corpus=corpus, card=describe)


def _usage(format: str, pairs: bool, name: str) -> str:
    """Return Python that loads a folder of this name beside it, and calls the model."""
    if format not in RUNS:
        return (PAIRS if pairs else SENTENCES).format(name=name)
    library = "onnxruntime" if format == "onnx" else "openvino"
    imports = f"import json\n\nimport {library}\nfrom transformers import AutoTokenizer"
    facts = f"folder = {name!r}\nfacts = json.load(open(folder + '/export.json'))"
    return "\n".join([f"{imports}\n\n{facts}", TWO_TEXTS if pairs else TEXTS, RUNS[format]])


def _command(run: Path, out: Path, format: str, checkpoint: str, int8: bool, corpus: str | None) -> list[str]:
    words = ["quincunx", "export", str(run), "--format", format, "--out", str(out), "--checkpoint", checkpoint]
    return [*words, *(["--int8", "--corpus", str(corpus)] if int8 else [])]


def _facts(opened: Any) -> dict[str, str]:
    """Return what a model is, in words of its config."""
    config = opened.config
    encoder, build = config.encoder, config.encoder.build
    built = f"{build.architecture}, {build.num_layers} layers of width {build.width}, from random weights"
    facts = {"mode": config.mode, "encoder": encoder.path or built}
    if config.document.path is not None:
        facts["encoder of documents"] = config.document.path
    if opened.pairs is not None:
        return {**facts, "longest pair": f"{opened.pairs.max_length} tokens"}
    facts |= {"similarity": opened.similarity, "numbers of a vector": str(opened.model.width)}
    if config.objective.matryoshka.widths:
        widths = ", ".join(map(str, sorted(config.objective.matryoshka.widths)))
        facts["numbers that are a vector by themselves"] = f"the first {widths} (objective.matryoshka)"
    for name, side in opened.sides.items():
        pooling = config.poly.kind if config.mode == "poly-encoder" and name == "query" else side.encoder.pooling
        said = f"{pooling} pooling, at most {side.max_length} tokens, cut on the {side.truncate}"
        facts[name] = f"{said}, prompt {side.prompt!r}" if side.prompt else said
    return facts
