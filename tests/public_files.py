"""Small files in the forms of public data sets of pictures and texts."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

Put = Callable[[str, Any], Path]
"""Writes a file of a name: an object as JSON, several as JSON lines where it is called so."""

GOOD = {"question_id": 1, "image_id": 1, "question": "a?", "answers": ["b"]}
PLAIN = {"picture": "1.jpg", "question": "a?"}


def refcoco_files(put: Put) -> list[Path]:
    instances = {
        "images": [{"id": 5, "file_name": "COCO_train2014_000000000005.jpg", "width": 40, "height": 30}],
        "annotations": [
            {"id": 70, "image_id": 5, "category_id": 1, "bbox": [1.0, 2.0, 10.0, 20.0]},
            {"id": 71, "image_id": 5, "category_id": 2, "bbox": [20.0, 0.0, 20.5, 30.0]},
        ],
        "categories": [{"id": 1, "name": "dog"}, {"id": 2, "name": "cat"}],
    }
    refs = [
        {
            "ref_id": number,
            "ann_id": ann,
            "image_id": 5,
            "category_id": 1,
            "file_name": "COCO_train2014_000000000005_3.jpg",
            "split": split,
            "sent_ids": [number * 10],
            "sentences": [{"sent_id": number * 10, "sent": "left dog", "raw": "Left dog", "tokens": ["left", "dog"]}],
        }
        for number, ann, split in ((1, 70, "train"), (2, 71, "val"), (3, 71, "testA"))
    ]
    return [put("refs(unc).p", pickle.dumps(refs, protocol=2)), put("instances.json", instances)]
