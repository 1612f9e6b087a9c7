"""The config's sections on what is asked of which pictures: data, texts, mixing of tasks, pretraining."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from quincunx.config.schema import Accepts, AnyCase, Section, When, unless, when
from quincunx.recipes.vision_language.data.record import TASKS
from quincunx.recipes.vision_language.kinds import has_task, pretrains

TASK_WORDS = ", ".join(TASKS)
ON_TASKS = when("objective", "tasks")
PRETRAINING = when("objective", "pretraining")


def comma_list(value: Any) -> Any:
    """Return the words of a list that is written as one text with commas; other values as they are."""
    if not isinstance(value, str):
        return value
    return [word.strip() for word in value.split(",") if word.strip()]


def asks(*tasks: str) -> When:
    """Return the condition that one of these tasks is trained or measured (unset tasks: any may be in the folder)."""
    return When(f"data.tasks has {' or '.join(tasks)}", lambda config: has_task(config, *tasks), ("data.tasks",))


def with_loss(*names: str) -> When:
    """Return the condition that pretraining has one of these losses."""
    return When(
        f"the objective is pretraining and pretraining.losses has {' or '.join(names)}",
        lambda config: pretrains(config) and any(name in config.pretraining.losses for name in names),
        ("objective", "pretraining.losses"),
    )


Share = Annotated[int | float, Accepts("-1 for all, a share in (0, 1], or a number of examples")]
Names = Annotated[list[Annotated[str, Field(min_length=1)]], BeforeValidator(comma_list)]


class Vqa(Section):
    """How answers of several people are learnt from."""

    draw: Annotated[bool, asks("vqa")] = False
    """Learn one of the annotators' answers, each as likely as the others and of full weight; false: an answer drawn by
    its soft score, which weighs it."""
    normalize: Annotated[bool, when("data.vqa.draw", True)] = False
    """Bring what is drawn to the form in which answers are scored (lower case, no articles, numerals)."""
    answerable: Annotated[bool, asks("vqa", "gqa")] = False
    """Measure on questions alone whose answer occurs in training."""


class Refcoco(Section):
    """Which boxes a referring expression chooses from."""

    ground_truth: Annotated[bool, asks("refcoco")] = False
    """Development and test candidates are the annotated boxes; else those that the examples bring."""
    detections: Annotated[bool, asks("refcoco")] = False
    """They are the regions of the picture, as the detector of the features found them."""
    shuffle: Annotated[bool, asks("refcoco")] = False
    """Training sees the boxes of a picture in a random order, another one each time."""
    pointer: Annotated[bool, asks("refcoco")] = False
    """Choose a box by a head that points at its token; else the model says the token `<vis_extra_id_n>`."""


class Data(Section):
    """The collection: pictures, and what is asked of them (docs/vision_language.md)."""

    path: str | None = Field(default=None, min_length=1)
    """Folder of the collection; `quincunx data shapeworld` renders one, `quincunx data import` makes one of public
    files."""
    tasks: Annotated[
        list[Literal["vqa", "gqa", "nlvr", "refcoco", "vcr", "caption", "mmt", "cls"]],
        BeforeValidator(comma_list),
        Accepts(f"a list of {TASK_WORDS}, or a text of them with commas"),
        ON_TASKS,
    ] = Field(default_factory=list[Any])
    """What is trained and measured: adapters of tasks are made for these, in this order. Empty: every task that the
    folder has."""
    train: Annotated[Names, Accepts("names of splits, with commas between them")] = Field(
        default_factory=lambda: ["train"], min_length=1
    )
    """Splits to train on."""
    dev: Annotated[Names, Accepts("names of splits, with commas between them")] = Field(
        default_factory=lambda: ["dev"], min_length=1
    )
    """Splits that are measured during training; `dev`, `val` and `valid` are one name."""
    test: Annotated[Names, Accepts("names of splits, with commas between them")] = Field(default_factory=list[str])
    """Splits that are measured once, at the end, on the best weights."""
    train_top: Share = -1
    """Of each task's training examples: -1 all, a share of them drawn by the seed, or the first so many."""
    dev_top: Share = -1
    """Of each task's development and test examples, likewise."""
    hidden: Annotated[bool, ON_TASKS] = False
    """Predict the splits without answers too (`test` where nothing else is named), for `evaluate.submit`."""
    classification: Annotated[str, asks("cls")] | None = Field(default=None, min_length=1)
    """Which classification set of the folder: `cls-<name>`, for example `cls-tinyimagenet`. Unset: `cls`."""
    vqa: Vqa = Field(default_factory=Vqa)
    """Answers of several people."""
    refcoco: Refcoco = Field(default_factory=Refcoco)
    """Candidates of referring expressions."""


NOT_EMPTY = when("text.empty", False)
ALONE = When(
    "text.task_prompts is false and text.empty too",
    lambda config: not config.text.task_prompts and not config.text.empty,
    ("text.task_prompts", "text.empty"),
)


class Text(Section):
    """What the model reads."""

    task_prompts: Annotated[bool, ON_TASKS, NOT_EMPTY] = False
    """Begin every text with its task's own words (`vqa:`, `gqa:`, `caption:` ...): shared adapters need them to tell
    tasks apart. false: `prompt` for questions and captions, nothing for the others."""
    prompt: Annotated[str, ON_TASKS, ALONE] = "vqa: "
    """Before questions, and the whole text of a caption."""
    post_prompt: Annotated[str, NOT_EMPTY] = ""
    """After questions."""
    caption: Annotated[
        Literal["span", "denoise", "mask"], AnyCase, asks("caption"), NOT_EMPTY,
    ] | None = None  # fmt: skip
    """What a caption is asked for by: `span`, a prompt and a masked span to restore; `denoise`, a prompt and the
    tokenizer's mask; `mask`, that mask alone. Unset: the prompt."""
    empty: Annotated[bool, asks("caption")] = False
    """Captions are asked for by the picture alone, without any text."""
    lowercase: bool = False
    """Bring texts, asked and answered, to lower case."""
    tags: bool = False
    """Name what the detector saw, `tags: dog ball`, after the text."""
    max_length: int | None = Field(default=None, ge=3)
    """Tokens of a text that is read, at most; what is longer is cut, and that is said. Unset: what each task usually
    has (20; captions and translations 40, refcoco 30, vcr 100)."""


SEVERAL = When(
    "data.tasks is empty or has several",
    lambda config: config.objective == "tasks" and len(config.data.tasks) != 1,
    ("objective", "data.tasks"),
)


class Mixing(Section):
    """Which task each logical batch is of."""

    sampling: Annotated[
        Literal[
            "roundrobin", "round_robin", "balanced", "proportional", "temperature", "weights", "uniform", "annealed"
        ],
        AnyCase,
        SEVERAL,
    ] = "roundrobin"
    """`roundrobin`, as VL-Adapter has it: every batch of every task once an epoch, shuffled, which is proportional to
    their sizes; `round_robin`: one after the other in turn; `balanced`: as many of each, small tasks begin anew;
    `proportional`, `uniform`, `temperature` (by size^(1/T)), `weights`: drawn; `annealed`: from proportional to uniform
    over training (Stickland and Murray 2019)."""
    temperature: Annotated[float, SEVERAL, when("mixing.sampling", "temperature")] = Field(default=2.0, gt=0)
    """T of `temperature`."""
    weights: Annotated[
        dict[str, Annotated[float, Field(ge=0)]], SEVERAL, when("mixing.sampling", "weights")
    ] = Field(default_factory=dict[str, float])  # fmt: skip
    """Of each task, by its name."""
    stop: (
        Annotated[
            Literal["first_exhausted", "all_exhausted", "updates"],
            AnyCase,
            SEVERAL,
            unless("mixing.sampling", "roundrobin"),
        ]
        | None
    ) = None
    """When an epoch ends: when the first task has been seen whole, when all have, or after
    `budget.batches_per_epoch`. Unset: after as many batches as all tasks have."""
    mixed: Annotated[bool, SEVERAL] = False
    """Draw the task of each example, so that a batch holds several; false: of each batch. Tasks that are measured by
    words (captions, translations) then add one mean to the loss, all others together another."""


class Pretraining(Section):
    """Learning from pictures and their texts without a task, by several losses."""

    losses: Annotated[
        list[Literal["lm", "qa", "itm", "caption", "ground_caption", "refer", "obj", "attr", "feat"]],
        BeforeValidator(comma_list),
        Accepts(
            "a list of lm, qa, itm, caption, ground_caption, refer, obj, attr, feat, or a text of them with commas"
        ),
        PRETRAINING,
    ] = Field(default_factory=lambda: ["lm", "obj", "attr", "feat"], min_length=1)
    """`lm`: restore masked words (T5: spans by their markers; BART: the whole text); `qa`: answer; `itm`: whether text
    and picture belong together; `caption`; `ground_caption`: say what is in a region; `refer`: name the region of a
    text; `obj`, `attr`, `feat`: class, attribute and features of masked regions."""
    word_mask_rate: Annotated[float, with_loss("lm")] = Field(default=0.15, gt=0, lt=1)
    """Share of the words that are masked, at least one; neighbours are one span."""
    object_mask_rate: Annotated[float, with_loss("obj", "attr", "feat")] = Field(default=0.15, gt=0, lt=1)
    """Share of the regions whose features are masked, at least one."""
    grounded: Annotated[int, with_loss("ground_caption", "refer")] = Field(default=1, ge=1, le=100)
    """Regions of an example that are named or described; one is without markers."""
    ground_copies: Annotated[int, with_loss("ground_caption", "refer")] = Field(default=1, ge=1)
    """How often each picture's grounding examples occur in an epoch."""
    ground_weight: Annotated[float, with_loss("ground_caption", "refer")] = Field(default=1.0, gt=0)
    """Weight of a grounding example in the loss."""
    itm_captions_only: Annotated[bool, with_loss("itm")] = True
    """`itm` takes and swaps captions alone, no questions."""
    caption_captions_only: Annotated[bool, with_loss("caption")] = True
    """`caption` learns captions alone, no other sentences about a picture."""
    captions_only: Annotated[bool, PRETRAINING] = False
    """Only captions are used as texts."""
    coco_only: Annotated[bool, PRETRAINING] = False
    """Only the texts of one source are used: captions of the task `caption`; implies the two settings above."""
    one_question_prefix: Annotated[bool, with_loss("qa")] = False
    """All questions begin with `vqa:`; false: with their task's name."""
