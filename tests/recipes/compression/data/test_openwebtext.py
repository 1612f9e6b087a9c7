"""OpenWebText from its local forms, and how soon and how plainly a missing one is said."""

import os
import socket
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from quincunx.errors import DataError
from quincunx.recipes.compression.data import hub
from quincunx.recipes.compression.data import openwebtext as module
from quincunx.recipes.compression.data.documents import Documents
from quincunx.recipes.compression.data.openwebtext import openwebtext

ROWS = [f"page {n}\nü" for n in range(30)]


def save(folder: Path, splits: dict[str, list[str]], column: str = "text") -> Path:
    datasets = pytest.importorskip("datasets", reason="the extra `text` is not installed")
    made = {
        name: datasets.Dataset.from_dict({"id": list(range(len(rows))), column: rows}) for name, rows in splits.items()
    }
    (made["train"] if list(made) == ["train"] else datasets.DatasetDict(made)).save_to_disk(str(folder))
    return folder


def texts(source: Documents) -> list[tuple[str, str | None]]:
    return [(document.texts[0], document.split) for document in source.read()]


def test_a_saved_data_set_is_read_from_the_cache_or_from_a_path(tmp_path: Path) -> None:
    save(tmp_path / "openwebtext", {"train": ROWS})
    expected = [(text, None) for text in ROWS]
    assert texts(openwebtext(None, tmp_path)) == expected
    assert texts(openwebtext(tmp_path / "openwebtext", tmp_path / "elsewhere")) == expected


def test_splits_of_a_saved_data_set_are_kept(tmp_path: Path) -> None:
    save(tmp_path / "own", {"train": ROWS[:3], "validation": ROWS[3:5], "other": ROWS[5:]}, "body")
    source = openwebtext(tmp_path / "own", tmp_path, "body")
    assert texts(source) == [(text, None if n < 3 else "dev") for n, text in enumerate(ROWS[:5])]
    assert source.drawn == ("test",)
    with pytest.raises(DataError, match=r"there is no column 'text'; found id, body; name one by data.field"):
        texts(openwebtext(tmp_path / "own", tmp_path))


def test_other_forms_are_read_as_well(tmp_path: Path) -> None:
    for name, content in {"a.jsonl": '{"text": "one"}\n{"text": "two"}', "b/c.txt": "three\n\nfour"}.items():
        path = tmp_path / Path(name).stem / name
        path.parent.mkdir(parents=True)
        path.write_text(content)
    assert texts(openwebtext(tmp_path / "a", tmp_path)) == [("one", None), ("two", None)]
    assert texts(openwebtext(tmp_path / "a" / "a.jsonl", tmp_path)) == [("one", None), ("two", None)]
    assert texts(openwebtext(tmp_path / "c", tmp_path)) == [("three\n\nfour", None)]
    (tmp_path / "d").mkdir()
    with pytest.raises(DataError, match="holds nothing that is read as OpenWebText; expected a saved Hugging Face"):
        openwebtext(tmp_path / "d", tmp_path)
    with pytest.raises(DataError, match="nowhere does not exist"):
        openwebtext(tmp_path / "nowhere", tmp_path)


def test_a_missing_one_is_said_at_once_where_the_hub_is_switched_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(DataError, match=rf"looked in {tmp_path}/openwebtext\), and HF_HUB_OFFLINE is set; put a saved"):
        openwebtext(None, tmp_path)
    assert not (tmp_path / "openwebtext").exists()


@pytest.fixture
def online(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "HTTPS_PROXY", "HTTP_PROXY", "https_proxy", "http_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("no_proxy", "")


@pytest.mark.usefixtures("online")
def test_nobody_there_is_found_out_within_two_seconds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, and nobody listens
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{taken.getsockname()[1]}")
        start = time.monotonic()
        with pytest.raises(DataError, match=r"cannot be reached \(Connection refused\)"):
            openwebtext(None, tmp_path)
        assert time.monotonic() - start < 2


@pytest.mark.usefixtures("online")
def test_a_name_that_is_looked_up_for_ever_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object, **__: object) -> None:
        time.sleep(1.5)
        raise TimeoutError

    monkeypatch.setattr(hub.socket, "create_connection", never)
    start = time.monotonic()
    assert hub.unreachable(0.2) == "https://huggingface.co did not answer within 0.2 seconds"
    assert time.monotonic() - start < 1


@pytest.mark.usefixtures("online")
def test_whoever_listens_is_reached_directly_or_by_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        here = f"127.0.0.1:{server.getsockname()[1]}"
        monkeypatch.setenv("HF_ENDPOINT", f"http://{here}")
        assert hub.unreachable() is None
        monkeypatch.setenv("HF_ENDPOINT", "https://nowhere.invalid")
        assert "cannot be reached" in str(hub.unreachable())
        monkeypatch.setenv("HTTPS_PROXY", here)
        assert hub.unreachable() is None


@pytest.mark.usefixtures("online")
def test_what_the_hub_gives_is_kept_and_asked_for_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets", reason="the extra `text` is not installed")
    (tmp_path / "there").mkdir()
    datasets.Dataset.from_dict({"text": ROWS}).to_parquet(str(tmp_path / "there" / "train.parquet"))
    monkeypatch.setattr(module, "HUB", str(tmp_path / "there"))  # the library reads folders as it reads the hub's
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.getsockname()[1]}")
        assert texts(openwebtext(None, tmp_path / "cache")) == [(text, None) for text in ROWS]
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["openwebtext"]
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert texts(openwebtext(None, tmp_path / "cache")) == [(text, None) for text in ROWS]


class Nothing(BaseHTTPRequestHandler):
    """A hub without any data set."""

    def do_GET(self) -> None:
        self.send_error(404)

    do_HEAD = do_POST = do_GET

    def log_message(self, *_: object) -> None:
        return


CODE = """
import sys
from pathlib import Path
from quincunx.errors import DataError
from quincunx.recipes.compression.data.openwebtext import openwebtext
try:
    openwebtext(None, Path(sys.argv[1]))
except DataError as error:
    print(error)
"""


@pytest.mark.usefixtures("online")
def test_a_hub_that_has_none_is_said(tmp_path: Path) -> None:
    pytest.importorskip("datasets", reason="the extra `text` is not installed")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Nothing)
    Thread(target=server.serve_forever, daemon=True).start()
    # a process of its own: the library reads the address when it is imported
    environment = {**os.environ, "HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}", "HF_HOME": str(tmp_path)}
    environment["PYTHONPATH"] = os.pathsep.join(sys.path)
    ran = subprocess.run(
        [sys.executable, "-c", CODE, str(tmp_path / "cache")],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    server.shutdown()
    server.server_close()
    assert f"looked in {tmp_path}/cache/openwebtext), and the hub did not give it" in ran.stdout
    assert list((tmp_path / "cache").iterdir()) == []
