"""What of the library peft has no use here, or cannot do what it is for, and why: methods, options, values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

UNSUITED: Mapping[str, str] = {
    "adalora": "it takes ranks away between updates, by calls and a term of the loss that are not made here",
    "adaption_prompt": "it is made for the attention of decoders such as Llama",
    "cartridge": "it compresses the context of a decoder that generates",
    "cpt": "it is made for language models that generate",
    "multitask_prompt_tuning": "it needs the task of every example, and an encoder of texts has none",
    "poly": "it needs the task of every example, and an encoder of texts has none",
    "shadow": "it is made for the layers of decoders",
    "xlora": "it mixes adapters of a decoder that were trained before",
}
"""Methods of peft that cannot do what they are for here, each with the reason."""

OURS: Mapping[str, str] = {
    "peft_type": "peft.method says it",
    "task_type": "models are called for the states of their tokens",
    "inference_mode": "adapters are trained",
    "auto_mapping": "it matters to peft's own files alone",
    "base_model_name_or_path": "the model is there already",
    "revision": "the model is there already",
    "peft_version": "the one that is installed counts",
    "trained": "it follows from the other options",
}
"""Arguments of every config class of peft that say nothing here."""

REFUSED: Mapping[tuple[str, str], tuple[tuple[Any, ...], str]] = {
    ("lora", "init_lora_weights"): (("eva", "corda", "lora_ga"), "it needs a pass over the data beforehand"),
    ("lora", "alora_invocation_tokens"): ((), "it is made for language models that generate"),
    ("lora", "arrow_config"): ((), "it mixes adapters that were trained before"),
    ("adamss", "use_asa"): ((True,), "it chooses parts between updates, by calls that are not made here"),
    ("prompt_tuning", "prompt_tuning_init"): (("TEXT",), "it would load a tokenizer of its own"),
}
"""(method, option) -> the values that are refused (none: all), and why."""
