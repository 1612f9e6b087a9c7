"""The model of a decided config: a backbone that is loaded, built, or of the form that a run has kept, with eyes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from quincunx.config.sections.peft import Peft
from quincunx.errors import DataError, RunError, UsageError
from quincunx.nn.foreign import recomputing
from quincunx.nn.pretrained import kept
from quincunx.nn.pretrained.load import only_shapes
from quincunx.nn.pretrained.seq2seq import build_seq2seq, load_seq2seq, read_seq2seq
from quincunx.nn.pretrained.train_tokenizer import train_tokenizer
from quincunx.recipes.vision_language.adapted import peft_of
from quincunx.recipes.vision_language.kinds import is_raw, points, routes_of, row_width
from quincunx.recipes.vision_language.model.connect import CONNECTORS
from quincunx.recipes.vision_language.model.downsample import DOWNSAMPLERS
from quincunx.recipes.vision_language.model.heads import AnswerHead, PointerHead
from quincunx.recipes.vision_language.model.initialise import initialise
from quincunx.recipes.vision_language.model.joint import JointOptions
from quincunx.recipes.vision_language.model.seq2seq import VisionLanguageModel
from quincunx.recipes.vision_language.model.tokens import add_visual_tokens
from quincunx.recipes.vision_language.model.vision.build import build_encoder
from quincunx.recipes.vision_language.model.visual import make_visual_embedding, start
from quincunx.recipes.vision_language.presence import fewer_is_more
from quincunx.recipes.vision_language.pretraining.heads import add_region_heads
from quincunx.recipes.vision_language.pretraining.regions import RegionWords
from quincunx.recipes.vision_language.weights import load_file
from quincunx.tuners import attach

FOLDER = "language"
"""Of a run: the tokenizer, and the form of the language model."""
ASKED = "asked.json"
"""Within it: what the model was built for."""
VISION = ("vision_tower.*",)
"""Modules that adapters of the language model are not put into."""


@dataclass(frozen=True)
class Language:
    """A backbone and what reads and writes for it."""

    backbone: Any
    tokenizer: Any
    begins: bool
    """Whether what is said begins with the tokenizer's first special token."""
    files: dict[str, str] = field(default_factory=dict[str, str])
    """What a run keeps of it, by path within the run."""
    fresh: bool = True
    """Whether weights are still to be had; else a checkpoint of a run brings them."""


@dataclass(frozen=True)
class Asked:
    """What a model is built for, besides its config: it follows from the data, and a run keeps it."""

    pictures: int = 2
    """Of an example, at most."""
    answers: tuple[str, ...] = ()
    """Known ones, where a head chooses among them."""
    words: RegionWords | None = None
    """Classes and attributes of regions, where heads find them."""
    size: int | None = None
    """How many known answers there are where they have not been read."""

    @property
    def files(self) -> dict[str, str]:
        """What a run keeps of it, by path within the run."""
        kept: dict[str, Any] = {"pictures": self.pictures, "answers": list(self.answers)}
        if self.words is not None:
            kept |= {"names": list(self.words.names), "attributes": list(self.words.attributes)}
        return {f"{FOLDER}/{ASKED}": json.dumps(kept, ensure_ascii=False) + "\n"}


def asked_again(home: Path) -> Asked:
    """Return what a run's model was built for; RunError where the file is damaged."""
    path = home / FOLDER / ASKED
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        words = None
        if "names" in found:
            words = RegionWords(tuple(map(str, found["names"])), tuple(map(str, found["attributes"])))
        return Asked(int(found["pictures"]), tuple(map(str, found["answers"])), words)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"{path} is damaged, which says what the run's model was built for: {error}") from error


def language_of(config: Any, texts: Callable[[], Iterable[str]]) -> Language:
    """Return the backbone and tokenizer of a decided config; `texts` gives what a tokenizer would be trained on.

    Raises:
        UsageError: A model or tokenizer that is not there, or sizes that do not fit.
    """
    chosen = config.model
    if chosen.path is not None:
        backbone, tokenizer = load_seq2seq(chosen.path, dropout=chosen.dropout)
        if chosen.tokenizer is not None:
            _, tokenizer = load_tokenizer(chosen.tokenizer)
        return with_visual_tokens(config, backbone, tokenizer)
    sizes = chosen.build
    if chosen.tokenizer is not None:
        _, tokenizer = load_tokenizer(chosen.tokenizer)
    else:
        tokenizer = train_tokenizer(texts(), vocabulary=sizes.vocab_size, lowercase=config.text.lowercase)
    return with_visual_tokens(config, built(config, tokenizer), tokenizer)


def built(config: Any, tokenizer: Any) -> Any:
    """Return a backbone of a config's sizes, from torch's generator."""
    sizes = config.model.build
    numbers = {
        "width": sizes.width,
        "hidden": sizes.hidden or 4 * sizes.width,
        "num_layers": sizes.num_layers,
        "num_heads": sizes.num_heads,
    }
    return build_seq2seq(sizes.architecture, numbers, tokenizer, dropout=config.model.dropout, options=sizes.options)


def again(home: Path, config: Any) -> Language:
    """Return a backbone of the form that a run has kept, its weights to be loaded."""
    folder = home / FOLDER
    tokenizer = kept.read_tokenizer(folder)
    return Language(read_seq2seq(folder), tokenizer, _begins(config, tokenizer), fresh=False)


def load_tokenizer(path: str) -> tuple[str, Any]:
    """Return a folder's or a hub name's tokenizer beside its path; UsageError where there is none."""
    from quincunx.nn.pretrained.folder import find_folder

    folder = find_folder(path)
    return path, kept.read_tokenizer(folder)


def make_model(config: Any, language: Language, asked: Asked | None = None) -> tuple[VisionLanguageModel, list[str]]:
    """Return the model round a backbone, adapted and frozen as a decided config says, and what to say about it.

    Raises:
        UsageError: What is asked for does not go together with the backbone.
    """
    asked = asked or Asked()
    model, notes = bare_model(config, language, asked.pictures)
    if config.model.from_scratch and language.fresh:
        initialise(model, config.seed or 0)
        notes.append("the weights of the backbone are drawn anew")
    heads = _add_heads(config, model, asked)
    if config.model.weights is not None and language.fresh and not only_shapes():
        notes += load_file(model, Path(config.model.weights), partial=config.init_partial)
    model, more = _adapted(config, model, heads)
    if asked.words is not None:
        add_region_heads(model, asked.words, config.pretraining.losses)
    return model, [*notes, *more]


def _adapted(
    config: Any, model: VisionLanguageModel, heads: Sequence[nn.Module]
) -> tuple[VisionLanguageModel, list[str]]:
    section = section_of(config, model)
    if section.method is None and section.train is None and model.vision_tower is not None:
        model.vision_tower.requires_grad_(False)
    if section == Peft():
        return model, []
    attached = attach(model, section, tasks=routes_of(config))
    if attached.model is not model:
        raise UsageError(
            f"peft.method {section.method} of the library peft wraps a model, which is none of this recipe's then: "
            "choose lora, or a method of this package (docs/tuners.md)"
        )
    for head in heads:
        head.requires_grad_(True)
    return model, list(attached.notes)


def section_of(config: Any, model: VisionLanguageModel) -> Peft:
    """Return what is put into a model and trained of it, as the section `peft` says it."""
    biases = any(name.endswith("bias") and weight.ndim == 1 for name, weight in model.language_model.named_parameters())
    tower = model.vision_tower
    attends = tower is not None and any("_proj" in name or "attention" in name for name, _ in tower.named_modules())
    return peft_of(config, config.data.tasks, VISION if attends else (), biases=biases)


def _add_heads(config: Any, model: VisionLanguageModel, asked: Asked) -> list[nn.Module]:
    """Put heads beside the one that writes, from torch's generator; they are always trained."""
    width = model.get_input_embeddings().embedding_dim
    assert isinstance(width, int)
    found: list[nn.Module] = []
    if config.model.classifier:
        count = len(asked.answers) or asked.size
        if not count:
            raise DataError("no training example has a right answer, so a classifier has nothing to choose among")
        model.answer_head = AnswerHead(width, count)
        found.append(model.answer_head)
    if points(config):
        model.pointer_head = PointerHead(width)
        found.append(model.pointer_head)
    for head in found:
        start(head, model.config)
    return found


def bare_model(config: Any, language: Language, images: int) -> tuple[VisionLanguageModel, list[str]]:
    """Return the model before adapters are put into it, and what to say about it."""
    chosen, backbone = config.pictures, language.backbone
    if config.model.gradient_checkpointing:
        enable = getattr(backbone, "activation_checkpointing_enable", None) or backbone.gradient_checkpointing_enable
        enable({"use_reentrant": False, "context_fn": partial(recomputing, backbone)})
    if not chosen.use:
        return VisionLanguageModel(backbone), []
    tower, notes = None, list[str]()
    width = row_width(config)
    if is_raw(config):
        size = (int(chosen.image_size[0]), int(chosen.image_size[1]))
        # a run has its own weights; of a ViT's folder the form is needed all the same
        weights = chosen.encoder if language.fresh or chosen.features == "raw_ViT" else None
        tower = build_encoder(chosen.features, size, weights=weights, pooled=chosen.pooled)
        notes += tower.origin.notes
        width = tower.width
    word, options = connector(config)
    assert word in CONNECTORS
    visual = make_visual_embedding(
        backbone,
        width,
        connector=word,
        layer_norm=chosen.layer_norm,
        individual_layer_norm=chosen.individual_layer_norm,
        order_embedding=chosen.order_embedding,
        images=max(2, images),
        tokens=chosen.expand_tokens if chosen.expand else 1,
        options=options,
    )
    ways = [name for name in DOWNSAMPLERS if getattr(chosen, name)]
    if tower is not None:
        notes = [*notes, *fewer_is_more(ways, chosen.boxes, tower.rows)]
    fewer = DOWNSAMPLERS[ways[0]](chosen.boxes, chosen.reduce) if ways else None
    joint = JointOptions(norm="shared" if chosen.shared_layer_norm else "own")
    model = VisionLanguageModel(backbone, visual, downsample=fewer, vision=tower, joint=joint)
    return model, [*notes, *model.joint.notes]


def connector(config: Any) -> tuple[str, dict[str, Any]]:
    """Return the word of what makes tokens of features, and its options."""
    chosen = config.pictures
    if chosen.expand:
        return "expand", {}
    if chosen.transformer:
        return "transformer", {"heads": 12, "depth": 2, "dropout": config.model.dropout}
    if chosen.embedding_layers:
        return "layers", {"further": chosen.embedding_layers}
    return "linear", {}


def with_visual_tokens(config: Any, backbone: Any, tokenizer: Any) -> Language:
    """Return backbone and tokenizer, where there are pictures with words for visual tokens, and what a run keeps."""
    if config.pictures.use:
        add_visual_tokens(tokenizer, backbone, seed=config.seed or 0)
    files = {f"{FOLDER}/{name}": text for name, text in kept.files_of(backbone, tokenizer).items()}
    return Language(backbone, tokenizer, _begins(config, tokenizer), files)


def _begins(config: Any, tokenizer: Any) -> bool:
    ids = tokenizer("a")["input_ids"]
    return config.model.path is not None and bool(ids) and ids[0] in (tokenizer.bos_token_id, tokenizer.cls_token_id)
