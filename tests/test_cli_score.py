"""The verb score."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from conftest import Said

Cli = Callable[..., Said]

QRELS = "b 0 d1 1\nb 0 d2 0\na 0 d1 2\na 0 d3 1\nmissing 0 d1 1\n"
RUN = "a Q0 d2 1 0.5 t\na Q0 d3 2 0.5 t\na Q0 d1 3 0.5 t\nb Q0 d1 1 1 t\nz Q0 d1 1 1 t\n"


@pytest.fixture
def files(work: Path) -> list[str]:
    """The options that name a qrels file and a run file."""
    (work / "qrels").write_text(QRELS)
    (work / "run").write_text(RUN)
    return ["--qrels", "qrels", "--run", "run"]


def test_a_table_as_trec_eval_prints_it(cli: Cli, files: list[str]):
    said = cli("score", "ranking", *files, "--measures", "num_q,num_rel,map,recip_rank,ndcg_cut_10", "-q")
    assert said.code == 0
    assert said.out.splitlines() == [
        "num_rel               \ta\t2",
        "map                   \ta\t0.8333",
        "recip_rank            \ta\t1.0000",
        "ndcg_cut_10           \ta\t0.7602",
        "num_rel               \tb\t1",
        "map                   \tb\t1.0000",
        "recip_rank            \tb\t1.0000",
        "ndcg_cut_10           \tb\t1.0000",
        "num_rel               \tmissing\t1",
        "map                   \tmissing\t0.0000",
        "recip_rank            \tmissing\t0.0000",
        "ndcg_cut_10           \tmissing\t0.0000",
        "num_q                 \tall\t3",
        "num_rel               \tall\t4",
        "map                   \tall\t0.6111",
        "recip_rank            \tall\t0.6667",
        "ndcg_cut_10           \tall\t0.5867",
    ]
    assert said.err == "note: 1 of 3 judged queries are not in run: they count 0\n"


def test_only_means_without_q_and_only_queries_of_both_with_intersection(cli: Cli, files: list[str]):
    said = cli("score", "ranking", *files, "--measures", "num_q,map", "--intersection")
    assert said.out == "num_q                 \tall\t2\nmap                   \tall\t0.9167\n"
    assert said.err == ""


def test_json_holds_means_and_queries(cli: Cli, files: list[str]):
    said = cli("score", "ranking", *files, "--measures", "P_1,first_rank", "--json")
    assert json.loads(said.out) == {
        "mean": {"P_1": 2 / 3, "first_rank": 1.0},
        "queries": {
            "a": {"P_1": 1.0, "first_rank": 1.0},
            "b": {"P_1": 1.0, "first_rank": 1.0},
            "missing": {"P_1": 0.0, "first_rank": None},
        },
    }


def test_ties_are_treated_as_asked(cli: Cli, files: list[str]):
    def precision(ties: str) -> float:
        said = cli("score", "ranking", *files, "--measures", "P_1", "--ties", ties, "--json")
        return json.loads(said.out)["queries"]["a"]["P_1"]

    values = {ties: precision(ties) for ties in ("trec", "expected", "optimistic", "pessimistic")}
    assert values == pytest.approx({"trec": 1.0, "expected": 2 / 3, "optimistic": 1.0, "pessimistic": 0.0})


def test_measures_have_a_default(cli: Cli, files: list[str]):
    out = cli("score", "ranking", *files).out
    assert "ndcg_cut_10           \tall\t0.5867" in out and "recall_100" in out


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (["--measures", "ndcg@10"], 2, "did you mean ndcg_cut_10?"),
        (["--ties", "none"], 2, "four ways"),
        (["--run", "nowhere"], 2, "nowhere cannot be read"),
        (["--run", "bad"], 1, "bad:1: 5 columns, expected 6"),
        (["--run", "other", "--intersection"], 1, "do the query ids of the two match?"),
    ],
)
def test_errors_are_one_line_that_says_where(cli: Cli, files: list[str], work: Path, options, code, said):
    (work / "bad").write_text("a Q0 d1 1 1\n")
    (work / "other").write_text("A Q0 d1 1 1 t\n")
    found = cli("score", "ranking", *files, *options)
    assert found.code == code
    assert said in found.err and found.out == ""


def test_wrong_measures_are_refused_before_files_are_read(cli: Cli, work: Path):
    said = cli("score", "ranking", "--qrels", "nowhere", "--run", "nowhere", "--measures", "mrr")
    assert "did you mean recip_rank?" in said.err


def test_torch_is_not_loaded(files: list[str]):
    script = (
        "import sys; from quincunx.cli import run; "
        f"code = run(['score', 'ranking', *{files!r}]); "
        "sys.exit(code or ('torch' in sys.modules) * 3)"
    )
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, check=False).returncode == 0
