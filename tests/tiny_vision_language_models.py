"""Small vision-language models of transformers with random weights, and two examples for each.

The second example ends with padding; where pictures stand among the words, they stand first.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

IMAGE, VIDEO, OPEN, CLOSE = 39, 38, 37, 36
"""Words that stand for a piece of a picture or a film, and for the begin and end of one."""
WORDS = range(4, 36)
VISION: dict[str, Any] = {
    "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24, "image_size": 16,
    "patch_size": 8,
}  # fmt: skip
SPECIAL: dict[str, Any] = {"vocab_size": 40, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
BERT: dict[str, Any] = {
    **SPECIAL, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24,
    "max_position_embeddings": 64, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0,
}  # fmt: skip
LLAMA: dict[str, Any] = {
    **SPECIAL, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "intermediate_size": 24, "max_position_embeddings": 64,
}  # fmt: skip
BART: dict[str, Any] = {
    **SPECIAL, "d_model": 16, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 2,
    "decoder_attention_heads": 2, "encoder_ffn_dim": 24, "decoder_ffn_dim": 24, "max_position_embeddings": 64,
    "dropout": 0.0, "decoder_start_token_id": 2,
}  # fmt: skip
T5: dict[str, Any] = {
    "model_type": "t5", "d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 2, "num_heads": 2, "dropout_rate": 0.0,
    "decoder_start_token_id": 0, "vocab_size": 40, "pad_token_id": 0, "eos_token_id": 2,
}  # fmt: skip
OPT: dict[str, Any] = {
    **SPECIAL, "model_type": "opt", "hidden_size": 16, "word_embed_proj_dim": 16, "ffn_dim": 24,
    "num_hidden_layers": 2, "num_attention_heads": 2, "max_position_embeddings": 64, "dropout": 0.0,
}  # fmt: skip


@dataclass(frozen=True)
class Family:
    """A class of models."""

    make: Callable[[], nn.Module]
    before: tuple[int, ...] = ()
    """The words that stand for the picture."""
    answer: bool = False
    """Whether what is written is a text of its own, and not the one that is read."""
    vision: str = ""
    """Path of the list of layers that see pictures."""
    language: tuple[str, ...] = ()
    """Paths of the lists of layers that read and write words."""

    def model(self) -> Any:
        """Return a model, the same every time, none of its weights nought."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = self.make().eval()
            for parameter in model.parameters():
                parameter.data += 0.1 * torch.randn_like(parameter)
        return model

    def batch(self) -> dict[str, Tensor]:
        """Return two examples of one picture each, as new tensors: some models write into them."""
        generator = torch.Generator().manual_seed(1)
        words = torch.randint(WORDS.start, WORDS.stop, (2, 6), generator=generator)
        ids = torch.cat([torch.tensor([self.before] * 2, dtype=torch.long), words], 1)
        mask = torch.ones_like(ids)
        mask[1, -2:] = 0
        ids = ids * mask
        found = {
            "input_ids": ids,
            "attention_mask": mask,
            "pixel_values": torch.randn(2, 3, 16, 16, generator=generator),
        }
        found["labels"] = torch.randint(WORDS.start, WORDS.stop, (2, 5), generator=generator)
        if not self.answer:
            found["labels"] = ids.where((mask > 0) & (ids < WORDS.stop), torch.tensor(-100))
        kind = self.make.__name__
        if kind.startswith("qwen"):  # patches of all pictures behind one another
            found["pixel_values"] = torch.randn(32, 3 * 2 * 8 * 8, generator=generator)
            found["image_grid_thw"] = torch.tensor([[1, 4, 4]] * 2)
            found["mm_token_type_ids"] = (ids == IMAGE).int()
        elif kind in {"smolvlm", "idefics3"}:
            found["pixel_values"] = found["pixel_values"][:, None]
        elif kind == "paligemma":
            found["token_type_ids"] = (found["labels"] != -100).long()
        elif kind == "instructblip":
            found["qformer_input_ids"] = words[:, :4].clone()
            found["qformer_attention_mask"] = torch.ones(2, 4, dtype=torch.long)
        elif kind == "kosmos2":
            found["image_embeds_position_mask"] = (ids == IMAGE).long()
        return found

    def prompt(self) -> dict[str, Tensor]:
        """Return the batch without what is to be written."""
        return {name: value for name, value in self.batch().items() if name != "labels"}

    def pass_of(self, model: Any, **more: Any) -> Any:
        """Return what a model gives for the batch."""
        return model(**self.batch(), **more)

    def written(self, model: Any, **more: Any) -> Tensor:
        """Return what a model writes for the batch."""
        return model.generate(**self.prompt(), max_new_tokens=3, min_new_tokens=3, do_sample=False, **more)


def llava() -> nn.Module:
    from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

    vision = CLIPVisionConfig(**{**VISION, "num_hidden_layers": 3})  # the last but one is read
    return LlavaForConditionalGeneration(
        LlavaConfig(vision_config=vision, text_config=LlamaConfig(**LLAMA), image_token_index=IMAGE)
    )


def paligemma() -> nn.Module:
    from transformers import PaliGemmaConfig, PaliGemmaForConditionalGeneration

    vision, text = {"model_type": "siglip_vision_model", **VISION}, {"model_type": "gemma", "head_dim": 8, **LLAMA}
    config = PaliGemmaConfig(vision_config=vision, text_config=text, image_token_index=IMAGE, projection_dim=16)
    return PaliGemmaForConditionalGeneration(config)


QWEN: dict[str, Any] = {
    "text_config": {
        **LLAMA, "rope_parameters": {"rope_type": "default", "mrope_section": [1, 1, 0], "rope_theta": 1e4},
    },
    "image_token_id": IMAGE, "video_token_id": VIDEO, "vision_start_token_id": OPEN, "vision_end_token_id": CLOSE,
}  # fmt: skip
QWEN_VISION: dict[str, Any] = {
    "depth": 2, "num_heads": 2, "patch_size": 8, "temporal_patch_size": 2, "spatial_merge_size": 2, "hidden_size": 16,
}  # fmt: skip


def qwen2_vl() -> nn.Module:
    from transformers import Qwen2VLConfig, Qwen2VLForConditionalGeneration

    vision = {**QWEN_VISION, "embed_dim": 16, "mlp_ratio": 2}
    return Qwen2VLForConditionalGeneration(Qwen2VLConfig(vision_config=vision, **copy.deepcopy(QWEN)))


def qwen2_5_vl() -> nn.Module:
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    more = {"out_hidden_size": 16, "intermediate_size": 24, "window_size": 32, "fullatt_block_indexes": [1]}
    vision = {**QWEN_VISION, **more}
    return Qwen2_5_VLForConditionalGeneration(Qwen2_5_VLConfig(vision_config=vision, **copy.deepcopy(QWEN)))


IDEFICS: dict[str, Any] = {"image_token_id": IMAGE, "scale_factor": 2, "pad_token_id": 0}


def smolvlm() -> nn.Module:
    from transformers import SmolVLMConfig, SmolVLMForConditionalGeneration

    text = {"model_type": "llama", **LLAMA}
    return SmolVLMForConditionalGeneration(SmolVLMConfig(vision_config=dict(VISION), text_config=text, **IDEFICS))


def idefics3() -> nn.Module:
    from transformers import Idefics3Config, Idefics3ForConditionalGeneration

    text = {"model_type": "llama", **LLAMA}
    return Idefics3ForConditionalGeneration(Idefics3Config(vision_config=dict(VISION), text_config=text, **IDEFICS))


def git() -> nn.Module:
    from transformers import GitConfig, GitForCausalLM

    return GitForCausalLM(GitConfig(vision_config=dict(VISION), **BERT))


def _blip() -> Any:
    from transformers import BlipConfig

    text = {**BERT, "encoder_hidden_size": 16, "projection_dim": 16, "sep_token_id": 2}
    vision = {**VISION, "projection_dim": 16}
    return BlipConfig(text_config=text, vision_config=vision, projection_dim=16, image_text_hidden_size=16)


def blip() -> nn.Module:
    from transformers import BlipForConditionalGeneration

    return BlipForConditionalGeneration(_blip())


def blip_answers() -> nn.Module:
    from transformers import BlipForQuestionAnswering

    return BlipForQuestionAnswering(_blip())


def _blip_2(text: dict[str, Any]) -> dict[str, Any]:
    between = {**BERT, "cross_attention_frequency": 2, "encoder_hidden_size": 16}
    return {
        "vision_config": dict(VISION), "qformer_config": between, "text_config": text, "num_query_tokens": 3,
        "image_token_index": IMAGE,
    }  # fmt: skip


def blip_2_opt() -> nn.Module:
    from transformers import Blip2Config, Blip2ForConditionalGeneration

    return Blip2ForConditionalGeneration(Blip2Config(**_blip_2(dict(OPT))))


def blip_2_t5() -> nn.Module:
    from transformers import Blip2Config, Blip2ForConditionalGeneration

    return Blip2ForConditionalGeneration(Blip2Config(**_blip_2(dict(T5))))


def instructblip() -> nn.Module:
    from transformers import InstructBlipConfig, InstructBlipForConditionalGeneration

    return InstructBlipForConditionalGeneration(InstructBlipConfig(**_blip_2(dict(T5))))


def florence2() -> nn.Module:
    from transformers import Florence2Config, Florence2ForConditionalGeneration

    vision: dict[str, Any] = {
        "depths": [1, 1], "patch_size": [3, 3], "patch_stride": [4, 2], "patch_padding": [1, 1],
        "patch_prenorm": [False, True], "embed_dim": [8, 16], "num_heads": [2, 2], "num_groups": [2, 2],
        "window_size": 2, "projection_dim": 16, "max_position_embeddings": 8, "drop_path_rate": 0.0,
    }  # fmt: skip
    config = Florence2Config(text_config=dict(BART), vision_config=vision, image_token_id=IMAGE)
    return Florence2ForConditionalGeneration(config)


def kosmos2() -> nn.Module:
    from transformers import Kosmos2Config, Kosmos2ForConditionalGeneration

    text: dict[str, Any] = {
        **SPECIAL, "embed_dim": 16, "layers": 2, "ffn_dim": 24, "attention_heads": 2, "max_position_embeddings": 64,
        "dropout": 0.0, "attention_dropout": 0.0,
    }  # fmt: skip
    config = Kosmos2Config(text_config=text, vision_config=dict(VISION), latent_query_num=3)
    return Kosmos2ForConditionalGeneration(config)


SEEN = (OPEN, *[IMAGE] * 4, CLOSE)
LANGUAGE, TEXT, ENCODER = ("model.language_model.layers",), ("model.text_model.layers",), "vision_model.encoder.layers"
T5_STACKS = ("language_model.encoder.block", "language_model.decoder.block")
FAMILIES: dict[str, Family] = {
    "llava": Family(llava, (IMAGE,) * 4, False, "model.vision_tower.encoder.layers", LANGUAGE),
    "paligemma": Family(paligemma, (IMAGE,) * 4, False, "model.vision_tower.encoder.layers", LANGUAGE),
    "qwen2_vl": Family(qwen2_vl, SEEN, False, "model.visual.blocks", LANGUAGE),
    "qwen2_5_vl": Family(qwen2_5_vl, SEEN, False, "model.visual.blocks", LANGUAGE),
    "smolvlm": Family(smolvlm, (IMAGE,), False, f"model.{ENCODER}", TEXT),
    "idefics3": Family(idefics3, (IMAGE,), False, f"model.{ENCODER}", TEXT),
    "git": Family(git, (), False, f"git.image_encoder.{ENCODER}", ("git.encoder.layer",)),
    "blip": Family(blip, (), False, ENCODER, ("text_decoder.bert.encoder.layer",)),
    "blip_answers": Family(
        blip_answers, (), True, ENCODER, ("text_encoder.encoder.layer", "text_decoder.bert.encoder.layer")
    ),
    "blip_2_opt": Family(blip_2_opt, (IMAGE,) * 3, False, ENCODER, ("language_model.model.decoder.layers",)),
    "blip_2_t5": Family(blip_2_t5, (IMAGE,) * 3, True, ENCODER, T5_STACKS),
    "instructblip": Family(instructblip, (IMAGE,) * 3, True, ENCODER, T5_STACKS),
    "florence2": Family(
        florence2, (IMAGE,) * 5, True, "model.vision_tower.blocks",
        ("model.language_model.encoder.layers", "model.language_model.decoder.layers"),
    ),
    "kosmos2": Family(
        kosmos2, (IMAGE,) * 3, False, "vision_model.model.encoder.layers", ("text_model.model.layers",)
    ),
}  # fmt: skip
