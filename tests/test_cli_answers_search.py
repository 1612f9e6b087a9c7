"""The verb search on small trained runs: all ways, a file of queries, JSON, the prompt, and misuse."""

from __future__ import annotations

import json
import os
import pty
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from conftest import Said
from quincunx import Run, train
from quincunx.errors import UsageError
from quincunx.index.building import add, build, delete
from quincunx.index.store import Store
from quincunx.metrics.ranking.trec import read_run
from quincunx.recipes.retrieval.encode import Encoder
from quincunx.recipes.retrieval.encode_corpus import encode_corpus
from quincunx.recipes.retrieval.search import WORDS, Searcher, Way
from recipes.retrieval.collections_made import config_of, write_collection

Cli = Callable[..., Said]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data, runs of all three modes, and stores and indexes of two of them."""
    folder = tmp_path_factory.mktemp("search")
    write_collection(folder / "data", train=48, test=12, shared_word=True)
    modes = {"bi": {}, "poly": {"mode": "poly-encoder", "poly__codes": 3}, "cross": {"mode": "cross-encoder"}}
    for name, changes in modes.items():
        train(config_of(folder / "data", folder / name, folder / "cache", budget__epochs=1, **changes))
    for name in ("bi", "poly"):
        encode_corpus(folder / name, folder / "data" / "corpus.jsonl", folder / f"{name}-store", shard_size=30)
        build(Store.open(folder / f"{name}-store"), folder / f"{name}-index")
    build(Store.open(folder / "bi-store"), folder / "hnsw", "hnsw")
    build(Store.open(folder / "poly-store"), folder / "poly-hnsw", "hnsw")
    return folder


@pytest.fixture
def here(made: Path, work: Path) -> Path:
    """The working folder with links to the runs, and copies of what a search may write into."""
    for name in ("bi", "poly", "cross", "data"):
        (work / name).symlink_to(made / name)
    for name in ("bi-store", "bi-index", "poly-index", "hnsw", "poly-hnsw"):
        shutil.copytree(made / name, work / name)
    lines = (made / "data" / "queries.jsonl").read_text().splitlines()[:6]
    rows = [json.loads(line) for line in lines]
    (work / "queries.tsv").write_text("".join(f"{row['_id']}\t{row['text']}\n" for row in rows))
    return work


def results(said: Said) -> list[tuple[str, float]]:
    return [(hit["id"], hit["score"]) for hit in json.loads(said.out)["results"]]


def dense_by_hand(folder: Path, query: str, k: int) -> list[tuple[str, float]]:
    encoder, store = Encoder.load(folder / "bi"), Store.open(folder / "bi-store")
    scores = store.read() @ encoder.encode([query], side="query")[0]
    best = np.argsort(-scores, kind="stable")[:k]
    return [(store.ids[number], pytest.approx(float(scores[number]), abs=1e-5)) for number in best]


def test_dense_search_finds_the_nearest_vectors(cli: Cli, here: Path):
    said = cli("search", "bi-index", "ask3x1 ask3x2", "--run", "bi", "-k", 4, "--json")
    assert said.code == 0, said.err
    assert results(said) == dense_by_hand(here, "ask3x1 ask3x2", 4)
    for words in (
        ["--run", "bi", "ask3x1 ask3x2"],
        ["ask3x1", "--run", "bi", "ask3x2"],
        ["ask3x1", "ask3x2", "--run", "bi"],
    ):
        assert cli("search", "bi-index", *words, "-k", 4, "--json").out == said.out
    exact = cli("search", "hnsw", "ask3x1 ask3x2", "--run", "bi", "-k", 4, "--json", "--exact")
    assert results(exact) == results(said)


def test_words_are_found_without_a_run_and_their_index_is_kept(cli: Cli, here: Path):
    said = cli("search", "bi-index", "tell7y1 n7", "--json", "-k", 3)
    assert said.code == 0, said.err
    texts = dict(zip((store := Store.open(here / "bi-store")).ids, store.texts(), strict=True))
    first = json.loads(said.out)["results"][0]
    assert "tell7y1" in texts[first["id"]] and first["passage"] == texts[first["id"]]
    bold = [first["passage"][start:stop] for start, stop in first["marks"]]
    assert bold.count("tell7y1") == texts[first["id"]].count("tell7y1")
    kept = here / "bi-index" / WORDS
    before = kept.stat().st_mtime_ns
    again = cli("search", "bi-index", "tell7y1 n7", "--json", "-k", 3)
    assert (again.out, kept.stat().st_mtime_ns) == (said.out, before)
    kept.write_bytes(kept.read_bytes()[:100])
    assert cli("search", "bi-index", "tell7y1 n7", "--json", "-k", 3).out == said.out, "what is damaged is made anew"


def test_words_follow_what_is_added_and_deleted(here: Path):
    assert [hit.id for hit in Searcher.open("bi-index").ask("tell7y1", k=100)]
    gone = Searcher.open("bi-index").ask("tell7y1", k=1)[0].id
    delete("bi-index", [gone])
    after = Searcher.open("bi-index").ask("tell7y1", k=100)
    assert gone not in [hit.id for hit in after]
    store = Store.open("bi-store")
    assert [hit.text for hit in after] == [store.text(list(store.ids).index(hit.id)) for hit in after]
    (here / "more.jsonl").write_text(json.dumps({"_id": gone, "title": "", "text": "zebra"}) + "\n")
    encode_corpus("bi", "more.jsonl", "more")
    add("bi-index", Store.open("more"))
    (found,) = Searcher.open("bi-index").ask("zebra")
    assert (found.id, found.text) == (gone, "zebra"), "the text of the store that was added last"
    assert found.passage is not None and found.passage.marks == [(0, 5)]


@pytest.mark.parametrize("by", ["rrf", "weighted"])
def test_fusions_say_where_each_document_stood(cli: Cli, here: Path, by: str):
    said = cli("search", "bi-index", "ask3x1 tell3y2", "--run", "bi", "--by", by, "-k", 5, "--json", "--weights", "2,1")
    hits = json.loads(said.out)["results"]
    assert {tuple(hit["rankings"]) for hit in hits} <= {("dense", "bm25", "fused"), ("dense", "fused")}
    assert any("bm25" in hit["rankings"] for hit in hits)
    for hit in hits:
        assert hit["rankings"]["fused"] == {"rank": hit["rank"], "score": hit["score"]}
        if by == "rrf":
            places = hit["rankings"]
            wanted = 2 / (60 + places["dense"]["rank"]) + (1 / (60 + places["bm25"]["rank"]) if "bm25" in places else 0)
            assert hit["score"] == pytest.approx(wanted, rel=1e-6)


def test_a_cross_encoder_puts_the_candidates_in_order(cli: Cli, here: Path):
    query = "ask3x1 ask3x2"
    options = ["--rerank", "cross", "--candidates", 7, "-k", 4, "--json", "--precision", "float32"]
    said = cli("search", "bi-index", query, "--run", "bi", *options)
    first = [name for name, _ in dense_by_hand(here, query, 7)]
    texts = dict(zip((store := Store.open(here / "bi-store")).ids, store.texts(), strict=True))
    row = {"query": query, "documents": [texts[name] for name in first]}
    (scored,) = Run(here / "cross").predict([row])
    wanted = sorted(zip(first, scored["scores"], strict=True), key=lambda pair: -pair[1])[:4]
    assert [name for name, _ in results(said)] == [name for name, _ in wanted]
    assert [score for _, score in results(said)] == pytest.approx([score for _, score in wanted], abs=2e-3)


def test_a_poly_encoder_is_searched_exactly_and_says_how_much_it_scored(cli: Cli, here: Path, made: Path):
    query = "ask3x1 ask5x2"
    said = cli("search", "poly-index", query, "--run", "poly", "-k", 5, "--json")
    assert said.code == 0, said.err
    assert re.search(r"exact: certified for \d of 1 queries, scoring [\d.]+% of the documents", said.err)
    encoder, store = Encoder.load(made / "poly"), Store.open(made / "poly-store")
    codes = encoder.encode([query], side="query")
    scores = encoder.model.score(
        torch.tensor(np.asarray(codes)), torch.tensor(codes.mask), torch.from_numpy(store.read())
    )[0]
    best = scores.detach().numpy().argsort(kind="stable")[::-1][:5]
    assert [name for name, _ in results(said)] == [store.ids[int(number)] for number in best]
    loose = cli("search", "poly-hnsw", query, "--run", "poly", "-k", 5, "--json")
    assert "not certified: an index of kind hnsw may miss documents" in loose.err
    exact = cli("search", "poly-hnsw", query, "--run", "poly", "-k", 5, "--json", "--exact")
    assert exact.out == said.out and "exact: certified" in exact.err


def test_a_file_of_queries_becomes_a_run_file(cli: Cli, here: Path):
    said = cli("search", "bi-index", "--run", "bi", "--queries", "queries.tsv", "--out", "out/found.trec", "-k", 3)
    assert said.code == 0, said.err
    assert "out/found.trec: 18 results for 6 queries" in said.out
    run = read_run("out/found.trec")
    rows = [line.split("\t") for line in (here / "queries.tsv").read_text().splitlines()]
    for name, text in rows:
        assert run[name] == dict(dense_by_hand(here, text, 3))
    assert Path("out/found.trec").read_text().splitlines()[0].endswith(" quincunx")
    lines = cli("search", "bi-index", "--run", "bi", "--queries", "queries.tsv", "--json", "-k", 3).out.splitlines()
    assert {(row := json.loads(line))["id"]: [hit["id"] for hit in row["results"]] for line in lines} == {
        name: list(ranking) for name, ranking in run.items()
    }
    (here / "none.tsv").write_text("q1\tunicorn\nq2\ttell3\n")
    nothing = cli("search", "bi-index", "--queries", "none.tsv", "--out", "none.trec", "--tag", "mine")
    assert "nothing was found for 1 of 2 queries, the first 'q1'" in nothing.err and nothing.code == 0
    assert set(read_run("none.trec")) == {"q2"} and (here / "none.trec").read_text().splitlines()[0].endswith(" mine")


def test_bad_rows_are_all_named_and_nothing_is_written(cli: Cli, here: Path):
    rows = ["q1\tgood", "no tab", "q2\t  ", "q1\tagain", "a b\tspace in its id", "\tno id", "q3\tgood too"]
    bad = here / "bad.tsv"
    bad.write_bytes("\n".join(rows).encode() + b"\nq4\t\xff\n")
    said = cli("search", "bi-index", "--run", "bi", "--queries", "bad.tsv", "--out", "found.trec")
    assert said.code == 1 and said.out == ""
    assert "6 bad rows" in said.err
    for line, reason in {
        2: "no tab",
        3: "a query without text",
        4: "the id 'q1' is that of line 1 already",
        5: "the id 'a b' has a space",
        6: "an empty id",
        8: "bytes that are no UTF-8",
    }.items():
        assert f"bad.tsv:{line}: {reason}" in said.err
    assert not (here / "found.trec").exists()
    kept = cli("search", "bi-index", "--run", "bi", "--queries", "bad.tsv", "--out", "found.trec", "--skip-bad-rows")
    assert kept.code == 0 and "left out: 6 bad rows" in kept.err
    assert set(read_run("found.trec")) == {"q1", "q3"}
    (here / "many.jsonl").write_text('{"_id": "q", "question": "no text"}\n' * 30)
    many = cli("search", "bi-index", "--run", "bi", "--queries", "many.jsonl", "--out", "found2.trec")
    assert "30 bad rows" in many.err and "many.jsonl:20: no text" in many.err and "and 10 more" in many.err


@pytest.mark.parametrize(
    ("command", "code", "answer"),
    [
        ("search nowhere words", 2, "nowhere"),
        ("search bi-store words", 2, "holds no index"),
        ("search bi-index words --run cross", 2, "cross-encoder"),
        ("search bi-index words --run bi --rerank bi", 2, "bi-encoder: documents are reranked by a cross-encoder"),
        ("search bi-index words --run poly", 2, "does not fit the encoder: weights"),
        ("search bi-index words --by dense", 2, "needs the run that encoded the documents"),
        ("search bi-index words --by rrf --run bi --normalisation none", 2, "--normalisation has no effect"),
        ("search bi-index words --weights 1,2", 2, "--weights has no effect"),
        ("search bi-index words --run bi --by rrf --weights 1", 2, "two numbers"),
        ("search bi-index words --run bi --by rrf --weights 0,0", 2, "one of them above 0"),
        ("search bi-index words --exact", 2, "--exact has no effect"),
        ("search bi-index words --run bi --nprobe 3", 2, "nprobe is no option here"),
        ("search bi-index words --run bi -k 0", 2, "at least one document"),
        ("search bi-index words --run bi --by rrf --candidates 0", 2, "candidates is 0"),
        ("search bi-index words --run bi --out x.trec", 2, "--out has no effect here: it is for --queries"),
        ("search bi-index --run bi --queries queries.tsv", 2, "Give --out FILE"),
        ("search bi-index words --run bi --queries queries.tsv --json", 2, "both given"),
        ("search bi-index --run bi --queries absent.tsv --json", 1, "absent.tsv does not exist"),
        ("search bi-index words --unknown", 2, "unrecognized arguments: --unknown"),
        ("search bi-index words --store data", 2, "data holds no store"),
        ("search bi-index words --run bi --checkpoint update-99", 2, "no checkpoint update-99"),
    ],
)
def test_misuse_is_answered(cli: Cli, here: Path, command: str, code: int, answer: str):
    said = cli(*command.split())
    assert (said.code, said.out) == (code, ""), said.text
    assert answer in said.err


def test_an_empty_question_is_refused(cli: Cli, here: Path):
    said = cli("search", "bi-index", "  ", "--run", "bi")
    assert said.code == 2 and "the query is empty" in said.err


def test_a_damaged_index_is_an_error_that_names_the_file(cli: Cli, here: Path):
    vectors = next((here / "bi-index").glob("vectors-*.npy"))
    vectors.write_bytes(vectors.read_bytes()[:-5])
    said = cli("search", "bi-index", "words", "--run", "bi")
    assert said.code == 1 and vectors.name in said.err
    manifest = here / "hnsw" / "index.json"
    manifest.write_text(manifest.read_text().replace('"vectors-00000.npy"', '"../bi-store/manifest.json"'))
    said = cli("search", "hnsw", "words", "--run", "bi")
    assert said.code == 1 and "outside" in said.err


def test_without_texts_documents_are_found_and_words_are_not(cli: Cli, here: Path):
    encode_corpus("bi", "data/corpus.jsonl", "bare", texts=False)
    build(Store.open("bare"), "bare-index")
    said = cli("search", "bare-index", "ask3x1 ask3x2", "--run", "bi", "-k", 4, "--json")
    assert results(said) == dense_by_hand(here, "ask3x1 ask3x2", 4)
    assert "no passages are shown" in said.err and "--no-texts" in said.err
    assert json.loads(said.out)["results"][0]["passage"] is None
    for more in (["--by", "rrf"], ["--rerank", "cross"]):
        refused = cli("search", "bare-index", "ask3x1", "--run", "bi", *more)
        assert refused.code == 2 and "needs the documents' texts" in refused.err
    assert cli("search", "bare-index", "n3", "--store", "bi-store", "--json").code == 0, "the texts may lie elsewhere"


def test_a_store_that_was_moved_is_named(cli: Cli, here: Path, made: Path):
    shutil.copytree(made / "bi-store", here / "moved")
    build(Store.open("moved"), "of-moved")
    (here / "moved").rename(here / "elsewhere")
    said = cli("search", "of-moved", "n3", "--json")
    assert said.code == 2 and "say where it is by --store" in said.err
    found = cli("search", "of-moved", "n3", "--json", "--store", "elsewhere")
    assert json.loads(found.out)["results"][0]["passage"]


def test_questions_may_come_through_a_pipe(cli: Cli, here: Path):
    asked = subprocess.run(
        [sys.executable, "-m", "quincunx", "search", "bi-index", "-k", "1"],
        input="tell7y1\n\nunicorn\n:1\n",
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert asked.returncode == 0, asked.stderr
    assert asked.stdout.startswith("tell7y1\n 1  d") and "unicorn\nnothing found\nno document 1" in asked.stdout
    assert "\x1b" not in asked.stdout


def test_the_prompt_shows_words_in_bold_on_a_terminal(here: Path):
    """A real terminal: what is typed, what comes back, and that the text of a document cannot drive it."""
    text = "A zebra \x1b]0;owned\x07 crossed. Then it rained. " + "More. " * 80
    row = {"_id": "evil\x1b[2J", "title": "", "text": text}
    (here / "evil.jsonl").write_text(json.dumps(row) + "\n")
    encode_corpus("bi", "evil.jsonl", "evil")
    add("bi-index", Store.open("evil"))
    terminal = Terminal([sys.executable, "-m", "quincunx", "search", "bi-index", "-k", "2"])
    shown = terminal.until("search> ")
    assert "Ctrl-D ends" in shown
    terminal.type("zebra\n")
    shown = terminal.until("search> ")
    assert re.search("A \x1b\\[1;33mzebra\x1b\\[0m", shown), shown
    assert "\x1b]0;" not in shown and "\x1b[2J" not in shown and "\N{REPLACEMENT CHARACTER}]0;owned" in shown
    assert "…" in shown
    terminal.type(":1\n")
    assert terminal.until("search> ").count("More.") == 80
    terminal.type(":9\n")
    assert "no document 9: there are 1 to 1" in terminal.until("search> ")
    terminal.type("unicorn\n")
    assert "nothing found" in terminal.until("search> ")
    terminal.type("\x04")
    assert terminal.end() == 0


class Terminal:
    """A program on a pseudo-terminal."""

    def __init__(self, command: list[str]) -> None:
        self.process, self.descriptor = pty.fork()
        if self.process == 0:
            os.environ.update(TERM="xterm-256color", COLUMNS="100", OMP_NUM_THREADS="1")
            os.environ.pop("NO_COLOR", None)
            os.execv(command[0], command)

    def until(self, text: str, seconds: float = 90) -> str:
        """Return what was shown up to and with a text."""
        shown, deadline = b"", time.monotonic() + seconds
        while text.encode() not in shown:
            assert time.monotonic() < deadline, shown
            try:
                shown += os.read(self.descriptor, 4096)
            except OSError as error:
                raise AssertionError(shown.decode(errors="replace")) from error
        return shown.decode()

    def type(self, text: str) -> None:
        os.write(self.descriptor, text.encode())

    def end(self) -> int:
        """Return the exit code, once it has ended."""
        while True:
            try:
                if not os.read(self.descriptor, 4096):
                    break
            except OSError:  # how Linux says that the other side is gone
                break
        return os.waitstatus_to_exitcode(os.waitpid(self.process, 0)[1])


def test_ways_without_meaning_are_refused_in_python():
    with pytest.raises(UsageError, match="there are: dense, bm25, rrf, weighted"):
        Way("sparse")  # pyright: ignore[reportArgumentType]
