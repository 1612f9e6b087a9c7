"""Two towers: what they share is one object, trained once, saved once."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

pytest.importorskip("transformers", reason="the transformers library is not installed")

from quincunx.engine.checkpoint import Checkpoints, load_weights
from quincunx.errors import UsageError
from quincunx.recipes.retrieval.assemble import make_model
from quincunx.recipes.retrieval.encoders import make_encoders
from quincunx.recipes.retrieval.model.bi_encoder import BiEncoder
from quincunx.recipes.retrieval.model.text_encoder import Projection, TextEncoder
from retrieval_guides import loaded
from small_encoders import backbone, batch, tokenizer


def towers(share: str, seed: int = 0, *, pooling: str = "attention") -> BiEncoder:
    """Return a bi-encoder, with a projection and, on a side of its own, a learned pooling."""
    model = backbone(seed=seed)

    def side(own: object) -> TextEncoder:
        return TextEncoder(own, pooling, projection=Projection.linear(16, 6))

    query = side(model)
    if share == "all":
        return BiEncoder(query)
    return BiEncoder(query, side(copy.deepcopy(model) if share == "nothing" else model))


@pytest.mark.parametrize("share", ["all", "backbone", "nothing"])
def test_shared_means_the_same_object(share):
    model = towers(share)
    assert model.share == share and model.one_pass == (share == "all")
    assert (model.query is model.document) == (share == "all")
    assert (model.query.backbone is model.document.backbone) == (share != "nothing")
    assert (model.query.projection is model.document.projection) == (share == "all")
    assert (model.query.attention_pool is model.document.attention_pool) == (share == "all")


@pytest.mark.parametrize("share", ["all", "backbone", "nothing"])
def test_an_optimizer_sees_each_parameter_once_and_every_one_is_trained(share):
    model = towers(share)
    inner = sum(parameter.numel() for parameter in model.query.backbone.parameters())
    outer = sum(p.numel() for p in model.query.parameters()) - inner
    expected = {"all": inner + outer, "backbone": inner + 2 * outer, "nothing": 2 * (inner + outer)}[share]
    assert sum(parameter.numel() for _, parameter in model.named_parameters()) == expected
    for side in ("query", "document"):
        model.encode(*batch([3, 5]), side).square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in model.parameters() if
               parameter.grad is None or parameter.numel() > 16)  # fmt: skip


@pytest.mark.parametrize("share", ["all", "backbone", "nothing"])
def test_both_sides_train_what_they_share_and_only_that(share):
    model = towers(share)
    before = {side: model.encode(*batch([3, 5]), side).detach() for side in ("query", "document")}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    model.encode(*batch([3, 5], seed=1), "document").sum().backward()
    optimizer.step()
    after = {side: model.encode(*batch([3, 5]), side) for side in before}
    assert not torch.equal(after["document"], before["document"])
    assert torch.equal(after["query"], before["query"]) == (share == "nothing")


@pytest.mark.parametrize("share", ["all", "backbone", "nothing"])
def test_a_checkpoint_holds_shared_weights_once_and_is_read_back_whole(share, tmp_path: Path):
    model = towers(share)
    path = Checkpoints(tmp_path).save(1, {"model": model.state_dict()}, {}, {})
    with safe_open(path / "model.safetensors", "pt") as file:
        stored = {name: file.get_tensor(name).numel() for name in file.keys()}  # noqa: SIM118 - no mapping
    buffers = sum(buffer.numel() for name, buffer in model.named_buffers() if name in model.state_dict())
    assert sum(stored.values()) == sum(parameter.numel() for parameter in model.parameters()) + buffers
    other = towers(share, seed=5)
    expected = {side: model.eval().encode(*batch([3, 5]), side) for side in ("query", "document")}
    assert not torch.equal(other.eval().encode(*batch([3, 5]), "query"), expected["query"])
    weights = Checkpoints(tmp_path).load(path).weights["model"]
    assert load_weights(other, weights, "the model") == []
    for side, vectors in expected.items():
        assert torch.equal(other.encode(*batch([3, 5]), side), vectors)


def test_weights_of_a_shared_model_start_a_separate_one(tmp_path: Path):
    shared, separate = towers("all"), towers("nothing", seed=5).eval()
    path = Checkpoints(tmp_path).save(1, {"model": shared.state_dict()}, {}, {})
    assert load_weights(separate, Checkpoints(tmp_path).load(path).weights["model"], "the model") == []
    expected = shared.eval().encode(*batch([3, 5]), "query")
    assert torch.equal(separate.encode(*batch([3, 5]), "document"), expected)


def test_sides_of_their_own_start_alike_or_from_another_encoder(tmp_path: Path):
    for name in ("bert", "distilbert"):
        backbone(name).save_pretrained(tmp_path / name)
        tokenizer().save_pretrained(tmp_path / name)
    settings = {"recipe": "retrieval", "data": {"path": "d"}, "encoder": {"path": str(tmp_path / "bert")}}
    expected = TextEncoder(backbone(), "mean").eval()(*batch([3]))

    def made(*overrides: str) -> BiEncoder:
        config = loaded(settings, "encoder.pooling=mean", "encoder.share=nothing", *overrides).config
        model = make_model(config, make_encoders(config))
        assert isinstance(model, BiEncoder) and model.share == "nothing"
        return model.eval()

    alike = made()
    assert not {id(p) for p in alike.query.parameters()} & {id(p) for p in alike.document.parameters()}
    for side in ("query", "document"):
        assert torch.equal(alike.encode(*batch([3]), side), expected)
    other = made(f"document.path={tmp_path / 'distilbert'}")
    assert torch.equal(other.encode(*batch([3]), "query"), expected)
    assert torch.equal(other.encode(*batch([3]), "document"), TextEncoder(backbone("distilbert"), "mean")(*batch([3])))


def test_sides_of_different_widths_and_unknown_sides_are_refused():
    with pytest.raises(UsageError, match=r"width 16, documents of 6"):
        BiEncoder(TextEncoder(backbone()), TextEncoder(backbone(), projection=Projection.linear(16, 6)))
    with pytest.raises(ValueError, match="query or document, not 'passage'"):
        towers("all").encode(*batch([3]), "passage")


def test_compiling_changes_no_name():
    model = towers("backbone").eval()
    names = list(model.state_dict())
    expected = {side: model.encode(*batch([3, 5]), side) for side in ("query", "document")}
    graphs: list[object] = []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph

    torch._dynamo.reset()
    model.compile(backend=backend, dynamic=True)
    for side, vectors in expected.items():
        assert torch.allclose(model.encode(*batch([3, 5]), side), vectors, atol=1e-6)
    assert list(model.state_dict()) == names and graphs
