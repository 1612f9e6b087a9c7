"""Guide 002's 136 keys, all at its root, and the settings that serve them."""

from __future__ import annotations

from typing import Any

from quincunx.config.schema import Name
from quincunx.config.sections.names import SHARED_NAMES
from quincunx.config.wording import show


def _boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"expected true or false, found {show(value)}")  # noqa: TRY004 - the contract of Name
    return value


def half(on: Any) -> str:
    """Return the precision for `fp16`."""
    return "fp16" if _boolean(on) else "float32"


def or_nothing(value: Any) -> Any:
    """Return null for the empty text, by which the guide leaves something out."""
    return None if value == "" else value


def or_none(value: Any) -> Any:
    """Return an empty list for null, by which the guide names no split."""
    return [] if value is None else value


def norm(value: Any) -> Any:
    """Return null for a negative bound, by which the guide does not clip."""
    return None if isinstance(value, int | float) and not isinstance(value, bool) and value <= 0 else value


KEYS: tuple[tuple[str, str, Any], ...] = (
    # data and quick looks
    ("train", "data.train", None),
    ("valid", "data.dev", None),
    ("test", "data.test", or_none),
    ("test_only", "evaluate.only", None),
    ("submit", "evaluate.submit", None),
    ("train_topk", "data.train_top", None),
    ("valid_topk", "data.dev_top", None),
    # hardware
    ("multiGPU", "compute.multi_gpu", None),
    ("fp16", "compute.precision", half),
    ("distributed", "compute.distributed", None),
    ("num_workers", "loading.workers", None),
    ("local_rank", "compute.local_rank", None),
    ("deepspeed", "compute.deepspeed", or_nothing),
    # weights and folders
    ("output", "run.dir", None),
    ("load", "model.weights", or_nothing),
    ("from_scratch", "model.from_scratch", None),
    ("run_name", "run.name", or_nothing),
    ("comment", "run.note", None),
    # training
    ("batch_size", "update.batch_size", None),
    ("valid_batch_size", "evaluate.batch_size", None),
    ("optim", "optimizer.kind", None),
    ("warmup_ratio", "schedule.warmup_ratio", None),
    ("weight_decay", "optimizer.weight_decay", None),
    ("clip_grad_norm", "update.clip_norm", norm),
    ("gradient_accumulation_steps", "update.accumulation", None),
    ("lr", "optimizer.learning_rate", None),
    ("vis_lr", "optimizer.vision_learning_rate", None),
    ("vis_weight_decay", "optimizer.vision_weight_decay", None),
    ("use_separate_optimizer_for_visual", "optimizer.separate_vision", None),
    ("use_adam_for_visual", "optimizer.vision_adam", None),
    ("adam_eps", "optimizer.eps", None),
    ("adam_beta1", "optimizer.beta1", None),
    ("adam_beta2", "optimizer.beta2", None),
    ("epochs", "budget.epochs", None),
    ("dropout", "model.dropout", None),
    ("losses", "pretraining.losses", None),
    ("log_train_accuracy", "log.train_accuracy", None),
    ("dry", "evaluate.at_start", None),
    # texts
    ("use_tasks_prompt", "text.task_prompts", None),
    ("do_lower_case", "text.lowercase", None),
    ("oscar_tags", "text.tags", None),
    ("prefix", "text.caption", or_nothing),
    ("no_prefix", "text.empty", None),
    ("prompt", "text.prompt", None),
    ("post_prompt", "text.post_prompt", None),
    # pretraining
    ("n_ground", "pretraining.grounded", None),
    ("word_mask_rate", "pretraining.word_mask_rate", None),
    ("obj_mask_rate", "pretraining.object_mask_rate", None),
    ("caption_only", "pretraining.captions_only", None),
    ("coco_only", "pretraining.coco_only", None),
    ("caption_cocoonly", "pretraining.caption_captions_only", None),
    ("itm_cocoonly", "pretraining.itm_captions_only", None),
    ("ground_upsample", "pretraining.ground_copies", None),
    ("ground_weight", "pretraining.ground_weight", None),
    ("single_vqa_prefix", "pretraining.one_question_prefix", None),
    # backbone
    ("backbone", "model.path", None),
    ("tokenizer", "model.tokenizer", or_nothing),
    ("classifier", "model.classifier", None),
    # pictures
    ("use_vision", "pictures.use", None),
    ("feature_type", "pictures.features", None),
    ("feat_dim", "pictures.feature_width", None),
    ("pos_dim", "pictures.box_width", None),
    ("image_size", "pictures.image_size", None),
    ("use_data_augmentation", "pictures.augment", None),
    ("vis_pooling_output", "pictures.pooled", None),
    ("use_vis_order_embedding", "pictures.order_embedding", None),
    ("use_vis_layer_norm", "pictures.layer_norm", None),
    ("individual_vis_layer_norm", "pictures.individual_layer_norm", None),
    ("share_vis_lang_layer_norm", "pictures.shared_layer_norm", None),
    ("n_boxes", "pictures.boxes", None),
    ("max_n_boxes", "pictures.max_boxes", None),
    ("additional_visual_embedding_layers", "pictures.embedding_layers", None),
    ("downsample", "pictures.grid", None),
    ("oneddownsample", "pictures.line", None),
    ("sparse_sample", "pictures.sparse", None),
    ("expand_vis_embedding", "pictures.expand", None),
    ("n_image_tokens", "pictures.expand_tokens", None),
    ("vis_use_transformer", "pictures.transformer", None),
    # what is trained of the backbone
    ("unfreeze_language_model", "unfreeze.language_model", None),
    ("unfreeze_lm_head", "unfreeze.head", None),
    ("unfreeze_layer_norms", "unfreeze.layer_norms", None),
    ("unfreeze_batch_norms", "unfreeze.batch_norms", None),
    ("unfreeze_vis_encoder", "unfreeze.vision", None),
    ("unfreeze_vis_last_layer", "unfreeze.vision_last_layer", None),
    ("freeze_ln_statistics", "unfreeze.hold_layer_norms", None),
    ("freeze_bn_statistics", "unfreeze.hold_batch_norms", None),
    # adapters
    ("use_adapter", "adapt.bottleneck", None),
    ("use_compacter", "adapt.compacter", None),
    ("use_lradapter", "adapt.low_rank", None),
    ("use_hyperformer", "adapt.hyperformer", None),
    ("use_single_adapter", "adapt.single", None),
    ("reduction_factor", "adapt.reduction_factor", None),
    ("add_adapter_cross_attn", "adapt.cross_attention", None),
    ("add_layer_norm_before_adapter", "adapt.norm_before", None),
    ("add_layer_norm_after_adapter", "adapt.norm_after", None),
    ("share_down_sampler", "adapt.share_down", None),
    ("share_up_sampler", "adapt.share_up", None),
    ("hypercomplex_division", "adapt.division", None),
    ("phm_rank", "adapt.phm_rank", None),
    ("factorized_phm", "adapt.factorized", None),
    ("shared_phm_rule", "adapt.shared_rule", None),
    ("shared_phm_rule_over_tasks", "adapt.shared_rule_over_tasks", None),
    ("phm_init_range", "adapt.init_range", None),
    ("low_rank_rank", "adapt.low_rank_rank", None),
    ("unique_hyper_net", "adapt.unique", None),
    ("efficient_unique_hyper_net", "adapt.efficient", None),
    ("projected_task_embedding_dim", "adapt.projection", None),
    ("use_vis_adapter", "adapt.vision", None),
    ("vis_adapter_type", "adapt.vision_type", None),
    ("vis_reduction_factor", "adapt.vision_reduction_factor", None),
    ("remove_bn_vis_adapter", "adapt.vision_without_batch_norm", None),
    ("use_lm_head_adapter", "adapt.head", None),
    ("use_lora", "adapt.lora", None),
    ("lora_dim", "adapt.lora_rank", None),
    ("lora_alpha", "adapt.lora_alpha", None),
    ("use_single_lora", "adapt.single_lora", None),
    ("encoder_prompt_len", "adapt.encoder_prompts", None),
    ("decoder_prompt_len", "adapt.decoder_prompts", None),
    ("use_single_prompt", "adapt.single_prompt", None),
    ("mid_dim", "adapt.prompt_width", None),
    ("use_attn_prefix", "adapt.prefix", None),
    ("track_z", "adapt.track_z", None),
    ("lambda_z", "adapt.z_weight", None),
    # generation and tasks
    ("num_beams", "generate.beams", None),
    ("gen_max_length", "generate.max_length", None),
    ("multitask_sampling", "mixing.sampling", None),
    ("tasks", "data.tasks", None),
    ("testing", "data.hidden", None),
    ("raw_label", "data.vqa.draw", None),
    ("answer_normalize", "data.vqa.normalize", None),
    ("test_answerable", "data.vqa.answerable", None),
    ("RefCOCO_GT", "data.refcoco.ground_truth", None),
    ("RefCOCO_BUTD", "data.refcoco.detections", None),
    ("shuffle_boxes", "data.refcoco.shuffle", None),
    ("vis_pointer", "data.refcoco.pointer", None),
    ("cls_task", "data.classification", None),
)
"""The guide's key, the setting that serves it, and what becomes of the value."""

SPELLINGS: tuple[tuple[str, str, Any], ...] = (
    ("use_tasks_prompts", "text.task_prompts", None),
    ("wordMaskRate", "pretraining.word_mask_rate", None),
    ("objMaskRate", "pretraining.object_mask_rate", None),
    ("max_text_length", "text.max_length", None),
)
"""The same keys as the original's command line and its scripts spell them, and one that the guide leaves out."""

NAMES: tuple[Name, ...] = (
    *(Name(old, new, guide="002", transform=change) for old, new, change in KEYS),
    *(Name(old, new, transform=change) for old, new, change in SPELLINGS),
    *SHARED_NAMES,
)

GUIDE_ROOTS = frozenset(old for old, _, _ in KEYS)
