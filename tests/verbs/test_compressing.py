"""The verbs compress and generate."""

from __future__ import annotations

import io
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from conftest import Said
from quincunx import Compressor, train
from recipes.compression.runs_made import config_of

Cli = Callable[..., Said]
TEXT = "The bridge over the river was built in the spring."


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that compresses, with another one beside it."""
    home = tmp_path_factory.mktemp("run")
    terms = {"objective.forward": 1, "objective.without": 1, "objective.full": 1}
    with pytest.MonkeyPatch.context() as patch:
        # the pictures of reports take longer than these runs
        patch.setattr("quincunx.report.to_png", lambda chart: b"")
        train(config_of(home, "other", {"budget.updates": 1, "positions.kind": "random", "positions.size": 90}))
        return train(config_of(home, "run", {**terms, "objective.reconstruction": 1})).path


@pytest.fixture
def text(work: Path) -> Path:
    path = work / "text.txt"
    path.write_text(TEXT)
    return path


def test_texts_become_a_file_that_is_gone_on_from(cli: Cli, run: Path, text: Path, work: Path):
    other, out = work / "other.txt", work / "contexts.safetensors"
    other.write_text("The lamps")
    said = cli("compress", run, "--input", text, other, "--out", out)
    assert said.code == 0
    rows = [re.split(r"\s{2,}", line) for line in said.out.splitlines()[:4]]
    # 2 layers of 2 heads of 8 numbers, keys and values, 4 bytes each: 256 bytes a token
    assert rows == [
        ["text", "tokens", "compressed", "ratio", "bytes", "bytes saved"],
        [str(text), "50", "15", "3.333", "3840", "8960"],
        [str(other), "9", "3", "3", "768", "1536"],
        ["all", "59", "18", "3.278", "4608", "10496"],
    ]
    compressor = Compressor.load(run, device="cpu")
    assert re.fullmatch(
        rf"[\d,]+ tokens/s; {out}: made by the model {compressor.fingerprint}", said.out.splitlines()[4]
    )
    assert f"{text} has 50 tokens and is read in 5 segments; training had contexts of up to 12 in 1" in said.err
    assert str(other) not in said.err
    said = cli("generate", run, "--compressed", out, "--most", 6, "--json")
    assert said.code == 0
    texts = compressor.generate(compressor.compress([TEXT, "The lamps"]), most=6)
    assert [json.loads(line)["text"] for line in said.out.splitlines()] == texts
    assert {"text", "tokens", "ended"} == json.loads(said.out.splitlines()[0]).keys()
    assert re.search(r"^12 tokens, [\d.]+ ms each, [\d,]+ bytes kept of the context$", said.err, re.MULTILINE)
    shown = cli("generate", run, "--compressed", out, "--most", 2).out
    assert shown.startswith("--- 1\n") and "\n--- 2\n" in shown


def test_fewer_slots_and_telling_again(cli: Cli, run: Path, text: Path, work: Path):
    said = cli("compress", run, "--input", text, "--out", work / "c", "--slots", 2, "--reconstruct")
    assert said.out.splitlines()[1].split()[2] == "10"
    told = Compressor.load(run, device="cpu").retell([TEXT], 2)[0]
    assert f"{text}, told again: {told.right} of 50 tokens right\n" in said.out


def test_the_standard_input_is_a_text(cli: Cli, run: Path, monkeypatch: pytest.MonkeyPatch, work: Path):
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(TEXT.encode())))
    said = cli("generate", run, "--context", "-", "--most", 4, "--json")
    compressor = Compressor.load(run, device="cpu")
    assert json.loads(said.out)["text"] == compressor.generate(compressor.compress([TEXT]), most=4)[0]


def test_contexts_whole_and_prompts(cli: Cli, run: Path, text: Path):
    compressor = Compressor.load(run, device="cpu")
    said = cli("generate", run, "--context", text, "--full", "--most", 4, "--json")
    assert json.loads(said.out)["text"] == compressor.generate(compressor.read([TEXT]), most=4)[0]
    assert "12,800 bytes kept of the context" in said.err
    said = cli("generate", run, "--context", text, "--prompt", "It", "--most", 4, "--json")
    assert json.loads(said.out)["text"] == compressor.generate(compressor.compress([TEXT]), prompt="It", most=4)[0]
    draw = {"most": 4, "temperature": 2.0, "top_k": 30, "top_p": 0.9, "seed": 5}
    flags = [part for name, value in draw.items() for part in (f"--{name.replace('_', '-')}", value)]
    said = cli("generate", run, "--prompt", "It", *flags, "--json")
    assert json.loads(said.out)["text"] == compressor.generate(prompt="It", **draw)[0]


def test_positions_are_drawn_for_what_follows(cli: Cli, run: Path, text: Path, work: Path):
    other, out = run.parent / "other", work / "c"
    assert json.loads(cli("generate", other, "--context", text, "--most", 20, "--json").out)["tokens"] <= 20
    assert cli("compress", other, "--input", text, "--out", out).code == 0
    assert "positions for 9 tokens" in cli("generate", other, "--compressed", out, "--most", 20).err
    assert cli("compress", other, "--input", text, "--out", out, "--ahead", 20).code == 0
    assert cli("generate", other, "--compressed", out, "--most", 20).code == 0
    assert "this one counts them" in cli("compress", run, "--input", text, "--out", out, "--ahead", 20).err


def test_bad_input_is_refused_and_nothing_is_written(cli: Cli, run: Path, text: Path, work: Path, finished: Path):
    empty, bad, out = work / "empty.txt", work / "bad.txt", work / "out.safetensors"
    empty.write_bytes(b"")
    bad.write_bytes(b"caf\xe9")
    base = ("compress", run, "--out", out, "--input")
    for given, code, match in (
        ((*base, empty), 2, "empty.txt is empty: there is nothing to compress"),
        (
            (*base, bad),
            2,
            "bad.txt is not UTF-8: unexpected end of data at byte 3",
        ),
        ((*base, work / "none.txt"), 2, "none.txt cannot be read"),
        ((*base, "-", "-"), 2, r"the standard input \(-\) can be read once"),
        ((*base, text, "--slots", 4), 2, "trained with 1 to 3 compressed tokens for a segment, asked for 4"),
        ((*base, text, "--checkpoint", "none"), 2, "no checkpoint none"),
        (("compress", finished, "--out", out, "--input", text), 2, "run of the recipe long_range"),
        (("compress", work, "--out", out, "--input", text), 2, "holds no run"),
        (("compress", run.parent / "other", "--out", out, "--input", text, "--reconstruct"), 2, "not trained to tell"),
        (("compress", run, "--out", work, "--input", text), 2, "is a folder: name the file to write"),
    ):
        said = cli(*given)
        assert said.code == code and re.search(match, said.err), said.err
        assert not out.exists() and said.out == ""


def test_what_generate_refuses(cli: Cli, run: Path, text: Path, work: Path):
    out, other = work / "out.safetensors", run.parent / "other"
    cli("compress", run, "--input", text, "--out", out)
    said = cli("generate", other, "--compressed", out, "--most", 3)
    mine, theirs = (Compressor.load(each, device="cpu").fingerprint for each in (run, other))
    assert said.code == 1
    assert said.err.startswith(
        f"{out} was compressed by the model {mine}, this is {theirs}: other weights cannot read it"
    )
    for given, code, match in (
        (("--most", 3), 2, "nothing to go on from: give --compressed FILE, --context FILE or --prompt TEXT"),
        (("--prompt", "x", "--most", 3, "--full"), 2, "--full has no effect here"),
        (("--prompt", "x", "--most", 3, "--seed", 1), 2, "--seed has no effect here: it is for --temperature above 0"),
        (("--prompt", "x", "--most", 3, "--top-k", 1), 2, "--top-k has no effect here"),
        (("--prompt", "x", "--most", 0), 2, "at least one token is to be generated"),
        (("--prompt", "x", "--most", 3, "--temperature", -1), 2, "temperature must not lie below 0"),
        (("--prompt", "", "--most", 3), 1, "prompt 1 is empty"),
        (("--compressed", text, "--most", 3), 1, "is no whole file of compressed contexts"),
        (("--compressed", out, "--context", text, "--most", 3), 2, "not allowed with argument"),
    ):
        said = cli("generate", run, *given)
        assert said.code == code and match in said.err, said.err
