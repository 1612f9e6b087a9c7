"""The verbs of a run that compresses: `compress` texts into a file, `generate` what follows it, or a prompt."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from quincunx.errors import UsageError
from quincunx.verbs.common import Adder, aligned, read_text, run_folder, say, say_error
from quincunx.verbs.ways import refuse_idle

if TYPE_CHECKING:
    from quincunx.recipes.compression.answers.compress import Compressor
    from quincunx.recipes.compression.model.compressed import Compressed


def add_to(add: Adder) -> None:
    """Add the verbs."""
    made = add("compress", compress, "compress texts by a run's model, into a file that it goes on from")
    _add_run(made)
    what = "texts, one a file, of any length; - reads stdin"
    made.add_argument("--input", required=True, nargs="+", metavar="FILE", help=what)
    made.add_argument("--out", required=True, metavar="FILE", help="the safetensors file")
    made.add_argument("--slots", type=int, metavar="N", help="compressed tokens of a segment; default: all trained")
    what = "where positions are drawn: tokens that may follow later; default: as many as in training"
    made.add_argument("--ahead", type=int, metavar="N", help=what)
    made.add_argument("--reconstruct", action="store_true", help="also show the texts as the model tells them again")

    made = add("generate", generate, "write what follows compressed contexts, or a prompt")
    _add_run(made)
    which = made.add_mutually_exclusive_group()
    which.add_argument("--compressed", metavar="FILE", help="what quincunx compress wrote")
    which.add_argument("--context", metavar="FILE", help="a text, which is compressed first; - reads stdin")
    made.add_argument("--prompt", metavar="TEXT", help="what the text begins with; alone, or after a context")
    made.add_argument("--full", action="store_true", help="of --context: read it whole, without compression")
    made.add_argument("--most", type=int, required=True, metavar="N", help="tokens to write at most")
    what = "0 (default) takes the likeliest token; 1 draws by the model's own chances"
    made.add_argument("--temperature", type=float, default=0.0, metavar="T", help=what)
    made.add_argument("--top-k", type=int, metavar="K", help="draw from the K likeliest tokens")
    made.add_argument("--top-p", type=float, metavar="P", help="draw from the fewest tokens whose chances reach P")
    made.add_argument("--seed", type=int, metavar="N", help="of what is drawn; default: 0")
    made.add_argument("--json", action="store_true", help="as JSON, one object a text")


def _add_run(made: argparse.ArgumentParser) -> None:
    made.add_argument("run", help="run folder")
    made.add_argument("--checkpoint", default="best", help="best, last, or a checkpoint's name")
    made.add_argument("--device", default="auto", help="auto (default), cpu, mps, cuda or cuda:N")


def compress(options: argparse.Namespace) -> int:
    """Compress texts."""
    if options.input.count("-") > 1:
        raise UsageError("the standard input (-) can be read once")
    texts = [_text(path) for path in options.input]
    out = Path(options.out).expanduser()
    if out.is_dir():
        raise UsageError(f"{out} is a folder: name the file to write")
    found = _compressor(options)
    lengths = found.lengths(texts)
    retold = found.retell(texts, options.slots) if options.reconstruct else []
    start = perf_counter()
    compressed = found.compress(texts, options.slots, ahead=options.ahead)
    seconds = perf_counter() - start
    found.save(out, compressed)
    _say_long(found, options.input, lengths)
    say(aligned(_measured(found, options.input, lengths, compressed)))
    say(f"{sum(lengths) / seconds:,.0f} tokens/s; {out}: made by the model {found.fingerprint}")
    for path, told in zip(options.input, retold, strict=False):
        say(f"\n{path}, told again: {told.right:,} of {told.tokens:,} tokens right\n{_shown(told.text)}")
    return 0


def _measured(found: Compressor, names: list[str], lengths: list[int], compressed: Compressed) -> list[list[Any]]:
    """Return the table of what was compressed into what."""
    kept = compressed.seen.sum(1).tolist()
    each = compressed.bytes // compressed.seen.numel()
    rows = [
        [name, length, count, length / count, count * each, length * found.bytes_of_token - count * each]
        for name, length, count in zip(names, lengths, kept, strict=True)
    ]
    if len(rows) > 1:
        totals = [sum(row[column] for row in rows) for column in (1, 2, 4, 5)]
        rows.append(["all", totals[0], totals[1], totals[0] / totals[1], *totals[2:]])
    return [["text", "tokens", "compressed", "ratio", "bytes", "bytes saved"], *rows]


def _say_long(found: Compressor, names: list[str], lengths: list[int]) -> None:
    """Say of texts that are longer than any context of training."""
    for name, length in zip(names, lengths, strict=True):
        if (segments := found.segments(length)) > found.config.compress.segments:
            say_error(
                f"note: {name} has {length:,} tokens and is read in {segments} segments; training had contexts of up "
                f"to {found.trained_context:,} in {found.config.compress.segments}"
            )


def generate(options: argparse.Namespace) -> int:
    """Write on."""
    _check(options)
    from quincunx.recipes.compression.answers.generate import Sampling

    sampling = Sampling(options.temperature, options.top_k, options.top_p)
    text = None if options.context is None else _text(options.context)
    found = _compressor(options)
    compressed = None
    if options.compressed is not None:
        compressed = found.load_compressed(options.compressed)
    elif text is not None:
        ahead = None
        if found.draws:  # positions are drawn for what follows, whatever that is
            ahead = options.most + (
                0 if options.prompt is None else len(found.vocabulary.tokens(options.prompt, "--prompt"))
            )
        compressed = (found.read if options.full else found.compress)([text], ahead=ahead)
    start = perf_counter()
    written = found.write(
        compressed, prompt=options.prompt, most=options.most, sampling=sampling, seed=options.seed or 0
    )
    seconds = perf_counter() - start
    for number, each in enumerate(written):
        if options.json:
            say(json.dumps({"text": each.text, "tokens": len(each.tokens), "ended": each.ended}, ensure_ascii=False))
        else:
            say(_shown(each.text) if len(written) == 1 else f"--- {number + 1}\n{_shown(each.text)}")
    count = max(1, sum(len(each.tokens) for each in written))
    kept = "" if compressed is None else f", {compressed.bytes:,} bytes kept of the context"
    say_error(f"{count:,} tokens, {1000 * seconds / count:,.1f} ms each{kept}")
    return 0


def _check(options: argparse.Namespace) -> None:
    """Refuse options that contradict each other, or that would not be looked at."""
    if options.compressed is None and options.context is None and options.prompt is None:
        raise UsageError("there is nothing to go on from: give --compressed FILE, --context FILE or --prompt TEXT")
    draws = options.temperature > 0
    why = "it is for --temperature above 0"
    refuse_idle(
        {
            "--full": (options.full or None, options.context is not None, "it is for --context"),
            "--top-k": (options.top_k, draws, why),
            "--top-p": (options.top_p, draws, why),
            "--seed": (options.seed, draws, why),
        }
    )


def _compressor(options: argparse.Namespace) -> Compressor:
    folder = run_folder(options.run)
    from quincunx.recipes.compression.answers.compress import Compressor

    return Compressor.load(folder.path, checkpoint=options.checkpoint, device=options.device)


def _text(path: str) -> str:
    text = read_text(path)
    if not text:
        raise UsageError(f"{'the standard input' if path == '-' else path} is empty: there is nothing to compress")
    return text


def _shown(text: str) -> str:
    """Return a text that does nothing to a terminal."""
    from quincunx.verbs.asking import harmless

    return harmless(text)
