"""Both sides of a batch as one: rows, padding, and ids that tell a query from a document of the same name."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch

from quincunx.config.sections.peft import Peft
from quincunx.engine.experiment import Parts
from quincunx.engine.step import Step
from quincunx.recipes.retrieval.model.bi_encoder import BiEncoder
from quincunx.recipes.retrieval.model.text_encoder import TextEncoder
from quincunx.recipes.retrieval.objective.contrastive import Contrastive
from quincunx.recipes.retrieval.objective.sides import joined
from retrieval_toys import make, texts
from toys import cpu, plan


def test_queries_come_first_padded_to_the_longer_side() -> None:
    query, document = texts([1, 2], [1001, 1002]), texts([2, 3, 1], [2002, 2003, 2001])
    both = joined(query, document)
    width = max(query["tokens"].shape[1], document["tokens"].shape[1])
    assert both["tokens"].shape == (5, width) and both.rows.tolist() == [0, 1, 2, 3, 4]
    for start, side in ((0, query), (2, document)):
        for row in range(len(side)):
            length = int(side["lengths"][row])
            assert torch.equal(both["tokens"][start + row, :length], side["tokens"][row, :length])
            assert not both["tokens"][start + row, length:].any()
    assert both.lengths is not None and both.lengths.tolist() == [*query["lengths"], *document["lengths"]]
    assert both.ids == ["query:text-1", "query:text-2", "document:text-2", "document:text-3", "document:text-1"]


def test_a_cache_of_states_knows_both_texts_of_one_id_apart(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Where they had one name, it would take the one for the other with another text, and say so."""
    pytest.importorskip("peft")
    from quincunx.tuners import attach
    from small_encoders import backbone

    options = {"reduction_factor": 2.0, "cache": str(tmp_path)}
    model: Any = backbone(num_hidden_layers=2)
    attach(model, Peft(method="ladder", options=options))
    made = Parts(BiEncoder(TextEncoder(model, "mean")).train(), Contrastive(one_pass=True))
    alike = [k for k in range(40) if int(texts([k], [1000 + k])["lengths"]) == int(texts([k], [2000 + k])["lengths"])]
    batch = make(alike[:3], alike[:3], [(0, 0), (1, 1), (2, 2)])
    step = Step(made.model, made.objective, cpu(), plan(), seed=5)
    computed: list[int] = []
    layers = [module for name, module in model.named_modules() if name.endswith("layer.0.base_layer")]
    assert len(layers) == 1
    layers[0].register_forward_hook(lambda *_: computed.append(1))
    with caplog.at_level(logging.WARNING):
        first = step.gradient(0, [batch])
        assert len(computed) == 1
        again = step.gradient(1, [batch])
    assert not caplog.records
    assert len(computed) == 1, "all of them were kept"
    assert torch.equal(first.sums["query_to_document"], again.sums["query_to_document"])
