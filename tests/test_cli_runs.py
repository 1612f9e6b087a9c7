"""Runs by the command line: training a guide's file, evaluating, predicting, resuming, breaking off."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from conftest import Said
from runner import finish, running, wait_for

Cli = Callable[..., Said]


@pytest.fixture(params=["lra_fragment.txt", "lra_module.txt"])
def guide_file(request: pytest.FixtureRequest, work: Path) -> Path:
    path = work / "lra_config.py"
    text = (Path(__file__).parent / "recipes/long_range" / request.param).read_text(encoding="utf-8")
    path.write_text(text, encoding="utf-8")
    return path


SMALL = ["dataset.train=48", "dataset.dev=12", "dataset.test=12", "data.min_length=4", "data.max_length=24"]
NARROW = ["model.embedding_dim=8", "model.transformer_hidden_dim=8", "model.head_dim=4", "model.max_seq_len=30"]


def test_the_guides_file_trains_as_it_stands(cli: Cli, guide_file: Path, work: Path):
    changes = ["training.num_epochs=2", "print_freq=1", "compute.threads=1", "compute.device=cpu", "seed=3"]
    said = cli("train", guide_file, "task=listops", "attention.kind=softmax", *SMALL, *NARROW, *changes)
    assert said.code == 0, said.err
    assert "`training.warmup_steps` (`schedule.warmup`) has no effect" in said.err
    assert said.out.count("update 4/4") == 1, "48 examples in batches of 32: 2 updates an epoch"
    assert "root-operator oracle" in said.out
    run = work / "runs/long_range-listops-1"
    for name in ("config.yaml", "origins.json", "plan.json", "environment.json", "metrics.jsonl", "summary.json"):
        assert (run / name).is_file(), name
    assert "<html" in (run / "report.html").read_text(encoding="utf-8")
    rates = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    rates = {row["update"]: row["value"] for row in rates if row["name"] == "learning_rate"}
    assert rates == {1: 0.001, 2: 0.001, 3: pytest.approx(0.0009), 4: pytest.approx(0.0009)}, "exp_decay by 0.9"


# NARROW, with the guide's 8 heads, 1 block, 32 token ids and 10 classes: embeddings and positions; the block's norm,
# three projections, the one back, norm, and the two maps of its MLP; the last norm; the classifier's two maps
BLOCK = 2 * 8 + 3 * (8 * 32 + 32) + (32 * 8 + 8) + 2 * 8 + 2 * (8 * 8 + 8)
PARAMETERS = 32 * 8 + 30 * 8 + BLOCK + 2 * 8 + (8 * 8 + 8) + (8 * 10 + 10)


@pytest.mark.parametrize("kind", ["hrr-individual", "hrr-bundled", "hrr-quadratic", "tpr"])
def test_every_kind_of_the_guide_trains(cli: Cli, guide_file: Path, work: Path, kind: str):
    changes = ["training.num_epochs=1", "compute.threads=1", "compute.device=cpu", "seed=3", "run.dir=there"]
    said = cli("train", guide_file, "task=listops", f"attention.kind={kind}", *SMALL, *NARROW, *changes)
    assert said.code == 0, said.err
    plans = json.loads((work / "there/plan.json").read_text())
    assert plans["parameters"]["total"] == PARAMETERS, "the same number of parameters under every kind"
    assert plans["chunk_samples"] == (64 if kind == "hrr-bundled" else 32)


def test_the_task_may_be_an_option_or_an_override(cli: Cli, guide_file: Path):
    assert cli("check", guide_file, "--task", "listops").code == 0
    assert cli("check", guide_file, "task=listops").code == 0
    without = cli("check", guide_file)
    if "text" in guide_file.read_text():
        assert without.code == 2
        assert "several tasks: listops, text" in without.err
        assert "choose one, for example task=listops" in without.err
    else:
        assert without.code == 0
    assert cli("check", guide_file, "--task", "listop").code == 2


def test_train_says_what_it_does(cli: Cli, tiny_file: Path, work: Path):
    said = cli("train", tiny_file, "run.dir=there/it is")
    assert said.code == 0, said.err
    assert said.err == ""
    lines = said.out.splitlines()
    assert [line for line in lines if line.startswith("update 2/24 (epoch 0.25): loss ")]
    assert sum(line.startswith("update ") and "/24 (epoch" in line for line in lines) == 12
    assert lines[-1] == "there/it is: trained to the end; report: there/it is/report.html"
    assert json.loads((work / "there/it is/summary.json").read_text())["state"] == "finished"


def test_evaluate_repeats_the_runs_own_evaluation(cli: Cli, finished: Path):
    written = sorted((finished / "evaluations").glob("test-*.json"))
    assert len(written) == 1
    wanted = json.loads(written[0].read_text())["scalars"]
    said = cli("evaluate", finished, "--json")
    assert said.code == 0, said.err
    found = json.loads(said.out)["scalars"]
    assert found == pytest.approx(wanted, rel=1e-6)
    last = json.loads(cli("evaluate", finished, "--split", "dev", "--checkpoint", "last", "--json").out)["scalars"]
    rows = [json.loads(line) for line in (finished / "metrics.jsonl").read_text().splitlines()]
    logged = {row["name"]: row["value"] for row in rows if (row["split"], row["update"]) == ("dev", 24)}
    assert last == pytest.approx(logged, rel=1e-6)
    text = cli("evaluate", finished).out
    assert "root-operator oracle" in text
    assert re.search(r"^Accuracy by outermost operator\noperator +examples +accuracy", text, re.MULTILINE)
    assert re.search(r"^Accuracy by depth\n", text, re.MULTILINE)


def test_evaluate_and_predict_leave_the_run_as_it_is(cli: Cli, finished: Path, work: Path):
    def state() -> dict[Path, tuple[int, int]]:
        return {path: (path.stat().st_size, path.stat().st_mtime_ns) for path in finished.rglob("*")}

    before = state()
    (work / "rows.jsonl").write_text('{"source": "[MAX 1 2 ]"}\n\n{"source": "( ( [SM 3 ) 4 ) ]", "id": 7}\n')
    said = cli("predict", finished, "rows.jsonl")
    assert said.code == 0, said.err
    assert cli("evaluate", finished).code == 0
    assert state() == before
    predictions = [json.loads(line) for line in said.out.splitlines()]
    assert len(predictions) == 2
    for prediction in predictions:
        assert sum(prediction["probabilities"]) == pytest.approx(1, abs=1e-4)
        assert prediction["prediction"] == max(range(10), key=prediction["probabilities"].__getitem__)


def test_expressions_longer_than_the_model_takes_are_cut_and_said_to_be(cli: Cli, finished: Path, work: Path):
    (work / "rows.jsonl").write_text(json.dumps({"source": "[MAX " + "1 " * 40 + "]"}) + '\n{"source": "3"}\n')
    said = cli("predict", finished, "rows.jsonl")
    assert said.code == 0
    assert len(said.out.splitlines()) == 2
    assert "1 of 2 rows are cut to encoder.max_seq_len (30)" in said.err


@pytest.mark.parametrize(
    ("rows", "code", "answer"),
    [
        (b"", 0, ""),
        (b"[1]\n", 1, "rows.jsonl:1: expected a JSON object, found list"),
        (b'{"source": "[MAX 1 ]"}\n{"source"\n', 1, "rows.jsonl:2: not a JSON object"),
        (b'{"sauce": "[MAX 1 ]"}\n', 1, 'row 1: under "source", expected a text'),
        (b'{"source": "[MAX 1 2"}\n', 1, 'row 1: under "source", not a ListOps expression: brackets that do not match'),
        (b'{"source": "1 2"}\n', 1, "more than one expression"),
        (b'{"source": "[MEAN 1 2 ]"}\n', 1, "unknown token '[MEAN'"),
        (b'{"source": ""}\n', 1, "an empty expression"),
        (b'{"source": "\\ud800"}\n', 1, "row 1"),
        (b"\xff\n", 2, "not UTF-8"),
    ],
)
def test_rows_that_cannot_be_predicted(cli: Cli, finished: Path, work: Path, rows: bytes, code: int, answer: str):
    (work / "rows.jsonl").write_bytes(rows)
    said = cli("predict", finished, "rows.jsonl")
    assert said.code == code, said.text
    assert answer in said.err
    assert said.out == ""


def test_a_folder_is_no_file_of_rows(cli: Cli, finished: Path, work: Path):
    (work / "rows").mkdir()
    said = cli("predict", finished, "rows")
    assert said.code == 2 and "rows is a folder; expected a file of JSON lines, or - for the standard" in said.err


def test_what_a_run_has_not(cli: Cli, finished: Path):
    said = cli("evaluate", finished, "--split", "train")
    assert said.code == 2
    assert "has no split 'train'; it has dev, test" in said.err
    said = cli("evaluate", finished, "--checkpoint", "update-1")
    assert said.code == 2
    assert "best, last, update-" in said.err
    assert cli("predict", finished, "nothing.jsonl").code == 2


def test_report_is_written_anew(cli: Cli, finished: Path):
    report = finished / "report.html"
    text = report.read_text(encoding="utf-8")
    report.unlink()
    said = cli("report", finished)
    assert said.code == 0
    assert said.out.strip() == str(report)
    strip = re.compile(r"Written [^<]* by quincunx")
    assert strip.sub("", report.read_text(encoding="utf-8")) == strip.sub("", text)


def test_runs_are_listed(cli: Cli, finished: Path, work: Path):
    said = cli("runs", "list", finished.parent)
    assert re.search(r"^run +finished +long_range +listops +24/24 +dev/accuracy 0\.\d+ at \d+", said.out, re.MULTILINE)
    assert cli("runs", "list").out == "no runs\n"


def test_a_run_that_diverges_says_where_and_is_listed_as_failed(cli: Cli, tiny_file: Path, work: Path):
    said = cli("train", tiny_file, "optimizer.learning_rate=1e30", "update.clip_norm=null")
    assert said.code == 1
    assert re.search(r"(loss|gradient_norm).* of update \d+ is not finite; stopped before applying it", said.err)
    assert "Examples of the update: " in said.err
    listed = cli("runs", "list").out
    assert re.search(r"failed +long_range +listops +\d+/24 +NonFiniteError: ", listed)
    assert max(map(len, listed.splitlines())) < 180
    assert "not finite" in (work / "runs/long_range-listops-1/report.html").read_text(encoding="utf-8")


def test_a_run_folder_stands_for_its_config(cli: Cli, finished: Path):
    said = cli("check", finished)
    assert said.code == 0, said.err
    found = json.loads(cli("plan", finished, "--json").out)
    assert found["total_updates"] == 24
    text = cli("convert", finished, "--full").out
    assert text.rstrip("\n") == (finished / "config.yaml").read_text(encoding="utf-8").rstrip("\n")


def test_data_writes_the_official_files_once(cli: Cli, work: Path):
    counts = ["--train", 30, "--dev", 5, "--test", 5, "--min-length", 4, "--max-length", 24]
    said = cli("data", "listops", "--out", "d", *counts)
    assert said.code == 0, said.err
    files = {path.name: path.read_bytes() for path in (work / "d").iterdir()}
    assert {"basic_train.tsv", "basic_val.tsv", "basic_test.tsv"} <= files.keys()
    assert len(files["basic_train.tsv"].splitlines()) == 31
    hashes = dict(re.findall(r"d/(\S+) +sha256 ([0-9a-f]{64})", said.out))
    assert hashes.keys() == {"basic_train.tsv", "basic_val.tsv", "basic_test.tsv"}
    again = cli("data", "listops", "--out", "d", *counts)
    assert again.code == 0
    assert {path.name: path.read_bytes() for path in (work / "d").iterdir()} == files
    other = cli("data", "listops", "--out", "d", *counts, "--seed", 1)
    assert other.code == 2
    assert {path.name: path.read_bytes() for path in (work / "d").iterdir()} == files


def test_a_run_trains_on_files_and_says_which_rows_it_left_out(cli: Cli, work: Path, tiny_file: Path):
    counts = ["--train", 30, "--dev", 5, "--test", 5, "--min-length", 4, "--max-length", 24]
    assert cli("data", "listops", "--out", "d", *counts).code == 0
    (work / "d/listops.json").unlink()
    train = work / "d/basic_train.tsv"
    lines = train.read_text().splitlines()
    lines[3] = "[MAX 1 2 ]\tthree"
    train.write_text("\n".join(lines) + "\n")
    changes = ["~data", "data.path=d", "budget.epochs=1", "schedule.warmup=0"]
    said = cli("train", tiny_file, *changes, "run.dir=r")
    assert said.code == 0, said.text
    rows = [json.loads(line) for line in (work / "r/skipped_rows.jsonl").read_text().splitlines()]
    assert len(rows) == 1
    assert rows[0]["line"] == 4
    assert rows[0]["file"].endswith("basic_train.tsv")
    assert rows[0]["reason"]
    # from its folder alone the run can be gone on with
    assert cli("train", "r", "--resume").code == 0
    assert cli("train", "--resume", "r").code == 0
    lines[4] = "[MAX 1 2 ]\t2"
    train.write_text("\n".join(lines) + "\n")
    changed = cli("train", "r", "--resume")
    assert changed.code == 1
    assert "the data is not what r was begun with" in changed.err
    plan = cli("plan", tiny_file, *changes)
    assert "d was not read" in plan.out


def test_resume_takes_no_override_for_a_run(cli: Cli, tiny_file: Path, work: Path):
    """`--resume` may be followed by nothing, a run, or an override."""
    assert cli("train", tiny_file, "budget.stop_at=4").code == 0
    said = cli("train", tiny_file, "--resume", "budget.stop_at=6")
    assert said.code == 0, said.err
    assert "resumed with budget.stop_at: 4 -> 6" in said.out
    run = work / "runs/long_range-listops-1"
    said = cli("train", tiny_file, "--resume", run, "budget.stop_at=8")
    assert said.code == 0, said.err
    said = cli("train", "--resume", run, "budget.stop_at=10")
    assert said.code == 0, said.err
    assert json.loads((run / "summary.json").read_text())["update"] == 10
    assert len(list((work / "runs").iterdir())) == 1
    said = cli("train", tiny_file, "--resume", "~run.note", "run.note=x")
    assert "run.note is not set, so it cannot be deleted" in said.err, "an override, not a run of that name"
    said = cli("train", tiny_file, "--resume")
    assert said.code == 0, said.err
    assert json.loads((run / "summary.json").read_text())["update"] == 24
    assert len(list((work / "runs").iterdir())) == 1


def test_resume_finds_the_newest_run_of_a_name(cli: Cli, tiny_file: Path, work: Path):
    name = "run.name=a [1]*"  # nothing that means something in a pattern may mean it here
    for _ in range(2):
        assert cli("train", tiny_file, name, "budget.stop_at=2").code == 0
    assert cli("train", tiny_file, "run.name=a", "budget.stop_at=2").code == 0
    said = cli("train", tiny_file, name, "budget.stop_at=3", "--resume")
    assert said.code == 0, said.err
    updates = {path.parent.name: json.loads(path.read_text())["update"] for path in work.glob("runs/*/summary.json")}
    assert updates == {"a [1]*-1": 2, "a [1]*-2": 3, "a-1": 2}


def test_going_back_to_an_earlier_checkpoint_leaves_the_later_ones_behind(cli: Cli, tiny_file: Path, work: Path):
    run = work / "r"
    assert cli("train", tiny_file, "run.dir=r", "checkpoint.keep=9").code == 0
    whole = (run / "metrics.jsonl").read_bytes()
    names = [path.name for path in sorted((run / "checkpoints").glob("update-*"))]
    assert names[-1] == "update-00000024"
    said = cli("train", "r", "--resume", "--from", "update-00000009", "budget.stop_at=11")
    assert said.code == 0, said.err
    assert [path.name for path in sorted((run / "checkpoints").glob("update-*"))][-1] == "update-00000011"
    assert cli("train", "r", "--resume", "~budget.stop_at").code == 0
    assert cli("train", "r", "--resume", "--from", "update-00000009").code == 0
    assert (run / "metrics.jsonl").read_bytes() == whole
    said = cli("train", "r", "--resume", "--from", "update-00000010")
    assert said.code == 1
    assert "has no checkpoint update-00000010" in said.err


def test_limit_uses_the_first_examples_and_the_run_goes_on(cli: Cli, tiny_file: Path, work: Path):
    said = cli("train", tiny_file, "--limit", 20, "run.dir=r", "budget.stop_at=3")
    assert said.code == 0, said.err
    plan = json.loads((work / "r/plan.json").read_text())
    assert plan["train_examples"] == 20
    assert plan["sizes"]["evaluation"] == {"dev": 20, "test": 20}
    assert cli("train", "r", "--resume", "~budget.stop_at").code == 0
    assert cli("evaluate", "r").code == 0


def test_limit_on_files_smaller_than_the_default_counts(cli: Cli, tiny_file: Path, work: Path):
    counts = ["--train", 30, "--dev", 5, "--test", 5, "--min-length", 4, "--max-length", 24]
    assert cli("data", "listops", "--out", "d", *counts).code == 0
    said = cli("train", tiny_file, "~data", "data.path=d", "--limit", 20, "run.dir=r", "budget.epochs=2")
    assert said.code == 0, said.err
    said = cli("train", "r", "--resume")
    assert said.code == 0, said.err


def test_a_batch_can_be_learnt_by_heart(cli: Cli, tiny_file: Path, work: Path):
    budget = ["~budget.epochs", "budget.updates=80", "schedule.kind=fixed", "log.every=1", "evaluate.every=null"]
    certain = ["encoder.dropout=0", "encoder.attention_dropout=0"]
    said = cli("train", tiny_file, "--overfit-batch", "run.dir=r", *budget, *certain)
    assert said.code == 0, said.err
    rows = [json.loads(line) for line in (work / "r/metrics.jsonl").read_text().splitlines()]
    losses = [row["value"] for row in rows if (row["split"], row["name"]) == ("train", "loss")]
    assert len(losses) == 80
    assert losses[0] > 2
    assert losses[-1] < 0.7


def test_profile_writes_a_trace(cli: Cli, tiny_file: Path, work: Path):
    said = cli("train", tiny_file, "--profile", "run.dir=r", "budget.stop_at=12")
    assert said.code == 0, said.err
    events = json.loads((work / "r/profile/trace.json").read_text())["traceEvents"]
    assert any("addmm" in event.get("name", "") for event in events)
    assert "Self CPU" in (work / "r/profile/operations.txt").read_text()
    short = cli("train", tiny_file, "--profile", "run.dir=s", "budget.stop_at=3")
    assert short.code == 0
    assert "nothing was profiled" in short.err


def test_tensorboard_gets_what_the_metrics_file_gets(cli: Cli, tiny_file: Path, work: Path):
    pytest.importorskip("tensorboard")
    said = cli("train", tiny_file, "log.trackers=[tensorboard]", "run.dir=r", "budget.stop_at=6")
    assert said.code == 0, said.err
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder = next(path.parent for path in (work / "r").rglob("*tfevents*"))
    events = EventAccumulator(str(folder))
    events.Reload()
    rows = [json.loads(line) for line in (work / "r/metrics.jsonl").read_text().splitlines()]
    wanted = {f"{row['split']}/{row['name']}" for row in rows}
    assert set(events.Tags()["scalars"]) == wanted
    loss = {event.step: event.value for event in events.Scalars("train/loss")}
    logged = {row["update"]: row["value"] for row in rows if (row["split"], row["name"]) == ("train", "loss")}
    assert loss == pytest.approx(logged, rel=1e-6)


def test_weights_to_start_from(cli: Cli, tiny_file: Path, finished: Path, work: Path):
    import torch

    from quincunx import Run

    # a rate of 0 leaves the weights as they were read
    still = ["optimizer.learning_rate=0", "budget.epochs=1"]
    said = cli("train", tiny_file, f"init_from={finished}", "run.dir=r", *still)
    assert said.code == 0, said.err
    assert "note: weights from" in said.out
    source, copied = Run(finished), Run("r")
    for name, tensor in source.model("best").state_dict().items():
        assert torch.equal(tensor, copied.model("last").state_dict()[name]), name
    last = finished / "checkpoints/update-00000024"
    assert cli("train", tiny_file, f"init_from={last}", "run.dir=s", *still).code == 0
    for name, tensor in source.model("last").state_dict().items():
        assert torch.equal(tensor, Run("s").model("last").state_dict()[name]), name
    # the run goes on from its own weights, not from those again
    assert cli("train", "s", "--resume").code == 0


def test_weights_that_do_not_fit_are_refused_or_listed(cli: Cli, tiny_file: Path, finished: Path, work: Path):
    wider = [f"init_from={finished}", "run.dir=r", "encoder.max_seq_len=40", "encoder.num_layers=3"]
    said = cli("train", tiny_file, *wider)
    assert said.code == 1
    assert "of another shape: positions" in said.err
    assert "missing: encoder" in said.err
    assert "takes those that do with init_partial=true" in said.err
    assert not (work / "r").exists()
    said = cli("train", tiny_file, *wider, "init_partial=true", "budget.epochs=1", "schedule.warmup=0")
    assert said.code == 0, said.err
    assert "note: of another shape: positions" in said.out
    assert "note: missing: encoder" in said.out
    assert "weights, as init_partial does" in said.out
    said = cli("train", tiny_file, f"init_from={finished}", "run.dir=s", "encoder.num_layers=1")
    assert said.code == 1
    assert "unexpected: encoder" in said.err
    said = cli("train", tiny_file, f"init_from={work}", "run.dir=s")
    assert said.code == 1
    assert "no checkpoint" in said.err
    assert not (work / "s").exists()


def test_ctrl_c_while_data_is_prepared(work: Path):
    log = work / "log"
    with running("data", "listops", "--out", work / "d", "--train", 2_000_000, "--max-length", 600, log=log) as process:
        wait_for(lambda: log.is_file() and "preparing data" in log.read_text(), process, log)
        send(process, signal.SIGINT)
        assert finish(process) == 1
    assert "stopped" in log.read_text()
    assert "Traceback" not in log.read_text()
    assert [path for path in (work / "d").iterdir() if path.suffix == ".tsv"] == [], "no half a data set"


def test_ctrl_c_is_answered_at_once_and_the_run_can_be_gone_on_with(work: Path, tiny_file: Path):
    log = work / "log"
    with running("train", tiny_file, "budget.epochs=4000", "run.dir=r", log=log) as process:
        wait_for(lambda: log.is_file() and "update 4/" in log.read_text(), process, log)
        send(process, signal.SIGINT)
        assert finish(process) == 1
    text = log.read_text()
    assert "SIGINT: saving and stopping after this update" in text
    assert "saved and stopped by SIGINT; --resume goes on" in text
    assert "Traceback" not in text
    summary = json.loads((work / "r/summary.json").read_text())
    assert summary["state"] == "interrupted"
    newest = sorted((work / "r/checkpoints").glob("update-*"))[-1]
    assert newest.name == f"update-{summary['update']:08d}"


def test_signals_to_every_process_of_a_run_reach_the_one_that_trains(work: Path, tiny_file: Path):
    """As Ctrl-C in a terminal and the end of a time slot on a cluster do."""
    log = work / "log"
    with running("train", tiny_file, "budget.epochs=4000", "run.dir=r", "loading.workers=2", log=log) as process:
        wait_for(lambda: log.is_file() and "update 4/" in log.read_text(), process, log)
        assert process.pid is not None
        workers = leaves(process.pid)
        assert len(workers) == 2
        for worker in workers:
            for number in (signal.SIGINT, signal.SIGUSR1, signal.SIGTERM):
                os.kill(worker, number)
        send(process, signal.SIGTERM)
        assert finish(process) == 1
    text = log.read_text()
    assert text.count("saving and stopping after this update") == 1
    assert "saved and stopped by SIGTERM" in text


def send(process: BaseProcess, number: signal.Signals) -> None:
    assert process.pid is not None
    os.kill(process.pid, number)


def leaves(pid: int) -> list[int]:
    """Return the processes below one that have none below themselves."""
    file = Path(f"/proc/{pid}/task/{pid}/children")
    if not file.exists():
        pytest.skip("this system does not list the children of a process")
    children = [int(text) for text in file.read_text().split()]
    return [leaf for child in children for leaf in leaves(child) or [child]]


def test_a_reader_that_goes_away_does_not_stop_the_run(work: Path, tiny_file: Path):
    """As `quincunx train ... | head` does."""
    pipe = work / "pipe"
    os.mkfifo(pipe)
    with running("train", tiny_file, "run.dir=r", "log.every=1", log=pipe) as process:
        with pipe.open(encoding="utf-8") as reader:
            assert "note: " in reader.readline()
        assert finish(process) == 0
    assert json.loads((work / "r/summary.json").read_text())["state"] == "finished"


@pytest.mark.slow
def test_the_starter_learns_in_a_minute(cli: Cli, work: Path):
    assert cli("init", "long_range", "--out", "first.yaml").code == 0
    said = cli("train", "first.yaml")
    assert said.code == 0, said.err
    found = re.findall(r"test accuracy \S+ %.*?: (\S+) points above the root-operator oracle", said.out)
    assert len(found) == 1
    assert len(list((work / "runs/long_range-listops-1/checkpoints").glob("update-*"))) >= 2
