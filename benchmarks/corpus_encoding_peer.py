"""sentence-transformers' own OpenVINO int8 backend, as `corpus_encoding.py` starts it: in another Python, for it needs
optimum-intel, which asks for an older transformers than ours.

    peer/bin/python corpus_encoding_peer.py WEIGHTS TEXTS FOLDER LENGTH

TEXTS holds one JSON string a line. The model is quantized by their own function with its own settings, on a sample of
the same texts. Then each line that comes in encodes them all and is answered by a line of JSON: seconds by the wall and
of all threads. Vectors of length 1 are saved as FOLDER/vectors.npy.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

import numpy as np
import torch
from sentence_transformers import SentenceTransformer, export_static_quantized_openvino_model

SAMPLE = 300
"""Texts that scales are taken from, as many as their function takes by itself."""


def quantized(weights: str, texts: list[str], folder: Path, length: int) -> SentenceTransformer:
    """Return their model in 8 bits."""
    threads = {"INFERENCE_NUM_THREADS": torch.get_num_threads()}
    exact = SentenceTransformer(weights, backend="openvino", model_kwargs={"export": True, "ov_config": threads})
    exact.save(str(folder / "model"))
    sample = folder / "sample"
    sample.mkdir()
    places = np.linspace(0, len(texts) - 1, min(SAMPLE, len(texts))).astype(int)
    lines = [json.dumps({"text": texts[place]}) + "\n" for place in places]
    (sample / "train.jsonl").write_text("".join(lines), encoding="utf-8")
    export_static_quantized_openvino_model(
        exact,
        quantization_config=None,
        model_name_or_path=str(folder / "model"),
        dataset_name=str(sample),
        dataset_config_name="default",
        dataset_split="train",
        column_name="text",
    )
    (file,) = (folder / "model").rglob("*qint8_quantized.xml")
    options = {"file_name": str(file.relative_to(folder / "model")), "ov_config": threads}
    model = SentenceTransformer(str(folder / "model"), backend="openvino", model_kwargs=options)
    model.max_seq_length = length
    return model


def main() -> None:
    weights, texts_file, place, length = sys.argv[1:]
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # their progress bars are no answers
    texts = [json.loads(line) for line in Path(texts_file).read_text(encoding="utf-8").splitlines()]
    model = quantized(weights, texts, Path(place), int(length))
    print("ready", file=answers, flush=True)
    for _ in sys.stdin:
        wall, cpu = time.perf_counter(), time.process_time()
        vectors = model.encode(texts, show_progress_bar=False, normalize_embeddings=True)
        seconds = [time.perf_counter() - wall, time.process_time() - cpu]
        np.save(Path(place) / "vectors.npy", vectors)
        print(json.dumps(seconds), file=answers, flush=True)


if __name__ == "__main__":
    main()
