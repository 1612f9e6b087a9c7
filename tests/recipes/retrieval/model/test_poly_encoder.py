"""The poly-encoder over a real encoder: with one code a bi-encoder, padding without effect, cached documents."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor

pytest.importorskip("transformers", reason="the transformers library is not installed")

from quincunx.errors import UsageError
from quincunx.nn.poly import ContextCodes, upper_bound
from quincunx.recipes.retrieval.model.bi_encoder import BiEncoder
from quincunx.recipes.retrieval.model.poly_encoder import PolyEncoder
from quincunx.recipes.retrieval.model.text_encoder import Projection, TextEncoder
from small_encoders import backbone, batch

QUERIES, DOCUMENTS = [7, 3, 12], [4, 9, 2, 6]
CODES = {
    "codes": {"reduction": "codes", "count": 4},
    "codes-multihead": {"reduction": "codes", "count": 4, "attention": "multihead", "heads": 2},
    "first-m": {"reduction": "first-m", "count": 5},
    "all": {"reduction": "all", "count": None},
}


def poly(codes: str = "codes", share: str = "backbone", **options: object) -> PolyEncoder:
    torch.manual_seed(0)
    model = backbone()
    made = ContextCodes(16, **CODES[codes])
    if share == "all":
        return PolyEncoder(TextEncoder(model, "mean"), None, made, **options).double().eval()
    other = copy.deepcopy(model) if share == "nothing" else model
    document = TextEncoder(other, "mean", projection=Projection.linear(16, 6))
    query = TextEncoder(model, "none", projection=Projection.linear(16, 6))
    return PolyEncoder(query, document, made, **options).double().eval()


def vectors(model: PolyEncoder) -> Tensor:
    return model.encode_document(*batch(DOCUMENTS, seed=1))


@pytest.mark.parametrize("codes", CODES)
@pytest.mark.parametrize("attention", ["basic", "sqrt", "multihead"])
@pytest.mark.parametrize("similarity", ["dot", "cosine"])
def test_padding_changes_no_score(codes, attention, similarity):
    model = poly(codes, attention=attention, similarity=similarity, heads=2 if attention == "multihead" else None)
    documents = vectors(model)
    tokens, lengths = batch(QUERIES, size=20, filling=77)
    together = model.score(*model.encode_query(tokens, lengths), documents)
    for row, length in enumerate(QUERIES):
        alone = model.score(*model.encode_query(tokens[row : row + 1, :length], lengths[row : row + 1]), documents)
        assert torch.allclose(together[row], alone[0], atol=1e-10)
    assert together.shape == (3, 4) and together.std() > 1e-2
    assert torch.equal(model(tokens, lengths, *batch(DOCUMENTS, seed=1)), together)


def test_one_code_is_the_bi_encoder_with_attention_pooling():
    torch.manual_seed(0)
    encoder = TextEncoder(backbone(), "attention", projection=Projection.linear(16, 6)).double().eval()
    bare = TextEncoder(encoder.backbone, "none", projection=encoder.projection)
    codes = ContextCodes(16, "codes", 1).double()
    codes.codes.data[0] = encoder.attention_pool.query.data
    model = PolyEncoder(bare, encoder, codes)
    two = BiEncoder(encoder)
    documents = two.encode(*batch(DOCUMENTS, seed=1), "document")
    scores = model.score(*model.encode_query(*batch(QUERIES)), documents)
    assert torch.allclose(scores, two.encode(*batch(QUERIES), "query") @ documents.T, atol=1e-12)


def test_documents_are_those_of_a_bi_encoder_and_need_no_query():
    model = poly()
    expected = BiEncoder(model.document).encode(*batch(DOCUMENTS, seed=1), "document")
    assert torch.equal(vectors(model), expected)
    codes, mask = model.encode_query(*batch(QUERIES))
    scores = model.score(codes, mask, vectors(model))
    piecewise = torch.cat([model.score(codes, mask, part) for part in vectors(model).split(1)], dim=1)
    assert torch.allclose(scores, piecewise, atol=1e-12)
    best, places = model.rank(codes, mask, vectors(model), 2)
    assert torch.allclose(best, scores.sort(dim=1, descending=True).values[:, :2])
    assert torch.equal(scores.gather(1, places), best)


def test_codes_of_all_states_can_be_padded_to_one_number():
    model = poly("all")
    tokens, lengths = batch(QUERIES)
    codes, mask = model.encode_query(tokens, lengths, pad_to=24)
    assert codes.shape == (3, 24, 6) and mask.sum(1).tolist() == QUERIES
    plain = model.score(*model.encode_query(tokens, lengths), vectors(model))
    assert torch.allclose(model.score(codes, mask, vectors(model)), plain, atol=1e-12)


@pytest.mark.parametrize("share", ["all", "backbone", "nothing"])
@pytest.mark.parametrize("codes", CODES)
def test_every_parameter_is_trained(codes, share):
    model = poly(codes, share, attention="multihead", heads=2)
    model(*batch(QUERIES), *batch(DOCUMENTS, seed=1)).square().sum().backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []
    assert (model.query is model.document) == (share == "all")
    assert (model.query.backbone is model.document.backbone) == (share != "nothing")


def test_the_bound_is_offered_where_it_holds():
    model = poly()
    codes, mask = model.encode_query(*batch(QUERIES))
    assert (
        model.bounded and (model.score(codes, mask, vectors(model)) <= upper_bound(codes, mask, vectors(model))).all()
    )
    assert not poly(similarity="cosine").bounded and not poly(attention="multihead", heads=2).bounded


def test_parts_that_do_not_fit_are_refused():
    model = backbone()
    with pytest.raises(UsageError, match="codes replace the queries' pooling 'mean'"):
        PolyEncoder(TextEncoder(model, "mean"), TextEncoder(model, "cls"), ContextCodes(16))
    with pytest.raises(UsageError, match="codes have width 16, documents 6"):
        PolyEncoder(
            TextEncoder(model, "none"), TextEncoder(model, projection=Projection.linear(16, 6)), ContextCodes(16)
        )
    with pytest.raises(UsageError, match="unknown similarity"):
        poly(similarity="euclid")
    with pytest.raises(UsageError, match="has none"):
        poly(heads=2)
