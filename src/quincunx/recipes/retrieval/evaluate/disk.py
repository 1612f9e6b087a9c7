"""The corpus's embeddings on disk, so that a later command with the same weights and documents need not encode them.

A file is named by a hash of all that its numbers follow from, and mapped when it is read: a corpus larger than memory
is paged in as it is searched. N documents, D width.
"""

from __future__ import annotations

import json
import logging
import os
from contextlib import suppress
from hashlib import blake2b
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from quincunx.data.cache import cache_folder
from quincunx.data.partial import finish, partial_file
from quincunx.engine.runtime import Runtime
from quincunx.recipes.retrieval.config import RetrievalConfig
from quincunx.recipes.retrieval.evaluate.ranker import BEFORE_INDEXING, POST_PROCESSING, Encodes, Validator
from quincunx.recipes.retrieval.evaluate.remembered import Keeps, Remembered, options_of, weights_hash
from quincunx.recipes.retrieval.model.text_encoder import TextEncoder

FORMAT = 1
"""Raised when the same request would be answered with other numbers."""
PLACES = ("_name_or_path", "transformers_version", "dtype", "torch_dtype")
"""Entries of a transformers config that tell where a model comes from, not what it computes."""

log = logging.getLogger("quincunx")


class OnDisk:
    """Embeddings of any corpora by any weights, float32, in files that together take no more than a limit.

    Two processes that want the same encode it once: the second waits for the first. A file that cannot be written costs
    the time of encoding again and nothing else, and is warned of.
    """

    def __init__(self, folder: Path, limit: int, settings: Any = None) -> None:
        """Keep files in `folder`, at most `limit` bytes of them.

        `settings`, plain values, enter the files' names: what else the numbers may follow from.
        """
        self.folder = folder
        self.limit = limit
        self.settings = settings

    def documents(self, model: nn.Module, by: Encodes, texts: Any) -> Tensor:
        """Return the embeddings `[N, D]` of the texts: mapped from their file, or encoded now and kept."""
        name = self._name(model, by, texts)
        if name is None:
            return by.documents(texts)
        path = self.folder / f"{name}.npy"
        found = _mapped(path, len(texts.texts))
        return self._encoded(path, by, texts) if found is None else found

    def _encoded(self, path: Path, by: Encodes, texts: Any) -> Tensor:
        vectors: Tensor | None = None
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with partial_file(path, wait=True) as file:
                found = _mapped(path, len(texts.texts))  # another process may have made it meanwhile
                if found is not None:
                    return found
                vectors = by.documents(texts).float().contiguous()
                if vectors.nbytes > self.limit:
                    log.warning(
                        "the embeddings of this corpus take %.1f MiB, and evaluate.corpus_cache_limit is %.1f: they "
                        "are not kept",
                        vectors.nbytes / 2**20,
                        self.limit / 2**20,
                    )
                    return vectors
                np.save(file, vectors.numpy())
                finish(file, path)
            self._make_room(path)
        except OSError as error:
            log.warning("embeddings are not kept in %s: %s", self.folder, error.strerror or error)
        found = _mapped(path, len(texts.texts))
        return found if found is not None else by.documents(texts) if vectors is None else vectors

    def _make_room(self, latest: Path) -> None:
        """Remove the files used the longest time ago until the rest, and the latest, keep to the limit."""
        known: list[tuple[int, int, Path]] = []
        for path in self.folder.glob("*.npy"):
            with suppress(FileNotFoundError):  # another process makes room as well
                facts = path.stat()
                known.append((facts.st_mtime_ns, facts.st_size, path))
        total = sum(size for _, size, _ in known)
        for _, size, path in sorted(known):
            if total <= self.limit:
                return
            if path != latest:
                path.unlink(missing_ok=True)  # whoever has it mapped keeps what it maps
                total -= size

    def _name(self, model: nn.Module, by: Encodes, texts: Any) -> str | None:
        """Return the name of a request; None where functions that nothing is known of decide the numbers."""
        options = options_of(by)
        validator = options.get("validator")
        if isinstance(validator, Validator):
            options["validator"] = _words(validator)
            if options["validator"] is None:
                return None
        runtime: Runtime = getattr(by, "runtime")  # noqa: B009 - every ranker has one
        request = {
            "format": FORMAT,
            "ranker": type(by).__name__,
            "options": options,
            "settings": self.settings,
            "weights": weights_hash(model).hex(),
            "forms": _forms(model),
            "computed": [str(runtime.dtype), runtime.device.type],
            "texts": blake2b(texts.texts.hashes.astype("<u8").tobytes(), digest_size=16).hexdigest(),
            "tokens": dict(texts.tokenize.request),
            "libraries": [version(name) for name in ("torch", "transformers")],
        }
        text = json.dumps(request, sort_keys=True, default=str)
        return blake2b(text.encode(), digest_size=16).hexdigest()


def kept_where(config: RetrievalConfig) -> Keeps | None:
    """Return where a run's evaluations keep embeddings of a corpus; None: nowhere."""
    chosen = config.evaluate
    if chosen.corpus_cache == "none":
        return None
    if chosen.corpus_cache == "memory":
        return Remembered()
    tree = config.model_dump(mode="json")
    # what a model makes of a document follows from these and its weights; what it never looks at costs a file more
    settings = {name: tree[name] for name in ("mode", "encoder", "document", "poly", "peft")}
    folder = cache_folder(config.data.cache) / "corpus-embeddings"
    return OnDisk(folder, chosen.corpus_cache_limit * 2**20, settings)


def _mapped(path: Path, count: int) -> Tensor | None:
    """Return the tensor that a file holds, and note that it was used; None where there is none, or no sound one."""
    try:
        # copy on write: torch wants memory that could be written, and the file stays as it is
        array: NDArray[Any] = np.lib.format.open_memmap(path, mode="c")
        if array.ndim != 2 or len(array) != count or array.dtype != np.float32:
            return None
        with suppress(OSError):  # a folder that others may read only
            os.utime(path)
        return torch.from_numpy(np.asarray(array))
    except (OSError, ValueError):
        return None


def _words(validator: Validator) -> list[str] | None:
    """Return the words of a validator's two functions; None where one is not ours, which no word stands for."""
    pairs = (
        (POST_PROCESSING, validator.post_processing_fn),
        (BEFORE_INDEXING, validator.processing_before_indexing_fn),
    )
    found = [word for words, function in pairs for word, known in words.items() if known is function]
    return found if len(found) == len(pairs) else None


def _forms(model: nn.Module) -> list[Any]:
    """Return what a model is beside its weights: its modules, what encoders say of themselves, how texts are pooled."""
    found: list[Any] = [repr(model)]
    for module in dict.fromkeys(model.modules()):
        config = getattr(module, "config", None)
        if config is not None and hasattr(config, "to_dict"):
            found.append({name: value for name, value in config.to_dict().items() if name not in PLACES})
        if isinstance(module, TextEncoder):
            found.append([module.pooling, module.normalize])
    return found
