"""A trained run as what compresses texts, and goes on from what it compressed.

```python
from quincunx import Compressor

compressor = Compressor.load("runs/compression-1")
contexts = compressor.compress(["a text of any length", "another"])
print(compressor.generate(contexts, most=40))
compressor.save("contexts.safetensors", contexts)
```

B texts, P tokens of a prompt, K slots of a segment.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import torch
from torch import Tensor

from quincunx.config.load import load
from quincunx.engine.checkpoint import Checkpoints, load_weights
from quincunx.engine.runtime import Runtime, find_device
from quincunx.errors import UsageError
from quincunx.recipes import schemas
from quincunx.recipes.compression import assemble
from quincunx.recipes.compression.answers import saved
from quincunx.recipes.compression.answers.contexts import Contexts
from quincunx.recipes.compression.answers.generate import Sampling
from quincunx.recipes.compression.answers.vocabulary import Vocabulary
from quincunx.recipes.compression.answers.writing import Writer, Written
from quincunx.recipes.compression.config import CompressionConfig
from quincunx.recipes.compression.data.tokenizer import fingerprint
from quincunx.recipes.compression.evaluate.make import bytes_of_token
from quincunx.recipes.compression.kinds import branches, compresses, lengths, slots
from quincunx.recipes.compression.model import compressor
from quincunx.recipes.compression.model.compressed import Compressed
from quincunx.runs import reopen

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class Runs(Protocol):
    """What has a run folder; `quincunx.Run` does."""

    path: Path


class Retold(NamedTuple):
    """A text as it was told again from its compressed tokens."""

    text: str
    right: int
    """Tokens that came out at their place."""
    tokens: int
    """Of the text."""


class Compressor:
    """A run's model, ready to compress texts and to write on.

    Attributes:
        config: The run's.
        model: The module behind, in eval mode.
        runtime: Where and how precisely it computes.
    """

    def __init__(
        self,
        config: CompressionConfig,
        model: compressor.Compressor,
        tokenizer: PreTrainedTokenizerBase,
        runtime: Runtime,
    ) -> None:
        """Take the parts of a compressor; `Compressor.load` makes them."""
        self.config = config
        self.model = model.eval()
        self.runtime = runtime
        self.vocabulary = Vocabulary(config, tokenizer)
        self._tokenizer = tokenizer
        self._contexts = Contexts(config, model, runtime)
        self._writer = Writer(self._contexts, self.vocabulary)

    @classmethod
    def load(cls, run: str | os.PathLike[str] | Runs, *, checkpoint: str = "best", device: str = "auto") -> Compressor:
        """Return the compressor of a run; it computes in the type of the run's weights.

        Args:
            run: A run of the recipe compression, or its folder.
            checkpoint: `best`, `last`, or its name.
            device: Such as `cpu` or `cuda:1`; `auto` takes an accelerator where there is one.

        Raises:
            UsageError: The run is of another recipe, or has no such checkpoint; an unknown device.
            RunError: There is no run, or it has no checkpoint yet, or that is damaged.
        """
        if not re.fullmatch(r"auto|cpu|mps|cuda(:[0-9]+)?", device):
            raise UsageError(f"there is no device {device!r}: auto, cpu, mps, cuda or cuda:N")
        path = Path(run if isinstance(run, str | os.PathLike) else run.path)
        folder = reopen(path)
        config: Any = load(folder.config, (), schemas=schemas()).config
        if config.recipe != "compression":
            raise UsageError(
                f"{path} is a run of the recipe {config.recipe}: texts are compressed by runs of compression"
            )
        checkpoints = Checkpoints(folder.checkpoints)
        found = checkpoints.named(checkpoint)
        runtime = Runtime(find_device(device), torch.float32)
        language = assemble.again(path, config)
        model, _ = assemble.make_model(config, language)
        load_weights(model, checkpoints.load(found).weights["model"], str(found))
        return cls(config, model.to(runtime.device), language.tokenizer, runtime)

    @cached_property
    def fingerprint(self) -> str:
        """What tells the model, with its weights, from every other."""
        digest = sha256()
        for name, tensor in sorted(self.model.state_dict().items()):
            digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
            digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
        how = [self.config.compress.model_dump(mode="json"), self.config.positions.model_dump(mode="json")]
        digest.update(json.dumps([*how, fingerprint(self._tokenizer)], sort_keys=True).encode())
        return digest.hexdigest()[:16]

    @property
    def trained_context(self) -> int:
        """Tokens of the longest contexts in training; longer ones are cut into several."""
        return lengths(self.config)[0]

    def segments(self, length: int) -> int:
        """Return into how many segments a text of so many tokens is cut."""
        return self._contexts.segments(length)

    @property
    def bytes_of_token(self) -> int:
        """Bytes that keys and values of one uncompressed token take, in all layers."""
        return bytes_of_token(self.model)

    @property
    def draws(self) -> bool:
        """Whether positions are drawn, so that `compress` has to know how many tokens may follow."""
        return self._contexts.drawn

    def left(self, context: str | None, prompt: str) -> int | None:
        """Return how many tokens positions reach to after a compressed context, or none, and a prompt; None: any."""
        room = self._contexts.room
        if room is None:
            return None
        taken = len(self.vocabulary.before_texts) + len(self.vocabulary.tokens(prompt, "the prompt"))
        if context is not None:
            taken += self._contexts.places(len(self._tokens([context])[0]), self._slots(None), 0)
        return room - taken

    def lengths(self, texts: Sequence[str]) -> list[int]:
        """Return the tokens of each text; errors as of `compress`."""
        return [len(tokens) for tokens in self._tokens(texts)]

    def compress(self, texts: Sequence[str], slots: int | None = None, *, ahead: int | None = None) -> Compressed:
        """Return texts compressed, one row each in their order; a row does not depend on the others.

        A text longer than the contexts of training is cut into segments of about equal length, which hang together as
        `compress.join` says; side by side where training had one segment.

        Args:
            texts: Of any length but 0.
            slots: Compressed tokens of a segment, no more than were trained; fewer are the first of them. None: all.
            ahead: Where positions are drawn (`positions.sample`): tokens that may be written after the texts, for which
                positions are drawn too. None: as many as in training.

        Raises:
            UsageError: The run compresses nothing, or not to so many tokens; `ahead` where positions are counted.
            DataError: A text is empty, has symbols that an alphabet lacks, or is longer than positions reach.
        """
        count, ahead = self._slots(slots), self._ahead(ahead)
        contexts = self._tokens(texts)
        for number, context in enumerate(contexts):
            self._contexts.check(len(context), count, ahead, f"text {number + 1}")
        return self._contexts.compress(contexts, count, [ahead] * len(contexts))

    def read(self, texts: Sequence[str], *, ahead: int | None = None) -> Compressed:
        """Return texts uncompressed, keys and values of all their tokens: what compression is measured against.

        Arguments and errors as of `compress`.
        """
        count, ahead = self._slots(None), self._ahead(ahead)
        contexts = self._tokens(texts)
        for number, context in enumerate(contexts):
            self._contexts.check(len(context), count, ahead, f"text {number + 1}")
        return self._contexts.read(contexts, count, [ahead] * len(contexts))

    def generate(
        self,
        compressed: Compressed | None = None,
        *,
        prompt: str | Sequence[str] | None = None,
        most: int,
        temperature: float = 0.0,
        top_k: int | None = None,
        top_p: float | None = None,
        seed: int = 0,
    ) -> list[str]:
        """Return what follows each context, or each prompt, without the prompt itself.

        Where the run was trained to tell contexts again and nothing else, that is what follows.

        Args:
            compressed: Of `compress`, `read` or `load_compressed`. None: only prompts are read.
            prompt: What each text begins with; of several texts one for all, or one each.
            most: Tokens at most; a text that ends by itself may have fewer.
            temperature: Chances are sharpened below 1, flattened above; 0 takes the likeliest token.
            top_k: Only the likeliest so many tokens.
            top_p: Only the fewest likeliest tokens whose chances reach this sum.
            seed: Of chance: the same gives the same texts.

        Raises:
            UsageError: Neither contexts nor prompts, as many prompts as there are not contexts; positions do not reach.
            DataError: A prompt is empty, or has symbols that an alphabet lacks.
        """
        sampling = Sampling(temperature, top_k, top_p)
        return [each.text for each in self.write(compressed, prompt=prompt, most=most, sampling=sampling, seed=seed)]

    def write(
        self,
        compressed: Compressed | None = None,
        *,
        prompt: str | Sequence[str] | None = None,
        most: int,
        sampling: Sampling | None = None,
        seed: int = 0,
    ) -> list[Written]:
        """Return the same as `generate`, with each text's tokens and whether it ended by itself."""
        if compressed is None and prompt is None:
            raise UsageError("there is nothing to go on from: give contexts, or a prompt")
        prompts = None
        if prompt is not None:
            texts = [prompt] if isinstance(prompt, str) else list(prompt)
            if compressed is not None and len(texts) == 1:
                texts *= len(compressed)
            prompts = [self.vocabulary.tokens(text, f"prompt {number + 1}") for number, text in enumerate(texts)]
        name = self._branch(compressed)
        return self._writer.write(name, compressed, prompts, most, sampling or Sampling(), seed)

    def retell(self, texts: Sequence[str], slots: int | None = None) -> list[Retold]:
        """Return texts told again from their compressed tokens, each of their parts by itself, as in training.

        Arguments and errors as of `compress`; UsageError also where the run has not learnt it.
        """
        if "reconstruction" not in branches(self.config):
            raise UsageError("the run was not trained to tell contexts again (objective.reconstruction)")
        count, size = self._slots(slots), self.trained_context
        contexts = self._tokens(texts)
        parts = [list(context.split(size)) for context in contexts]
        every = [part for some in parts for part in some]
        sizes = [len(part) for part in every]
        self._contexts.check(max(sizes), count, max(sizes), "a part of the text")
        told = iter(self._writer.retell(self._contexts.compress(every, count, sizes), sizes))
        found: list[Retold] = []
        for some, context in zip(parts, contexts, strict=True):
            tokens = torch.cat([next(told) for _ in some])
            found.append(Retold(self.vocabulary.text(tokens.tolist()), int((tokens == context).sum()), len(context)))
        return found

    def save(self, path: str | os.PathLike[str], compressed: Compressed) -> None:
        """Write compressed contexts to a safetensors file that only this model reads; RunError where it cannot be."""
        saved.save_compressed(Path(path), compressed, self.fingerprint)

    def load_compressed(self, path: str | os.PathLike[str]) -> Compressed:
        """Return the contexts that `save` wrote.

        Raises:
            DataError: The file is missing, damaged, or holds something else.
            RunError: Another model made it; both fingerprints are named.
        """
        return saved.load_compressed(Path(path), self.fingerprint, self.runtime.device)

    def _tokens(self, texts: Sequence[str]) -> list[Tensor]:
        if isinstance(texts, str):
            texts = [texts]
        if not texts:
            raise UsageError("there are no texts to read")
        lead = self.vocabulary.before_contexts
        found = (self.vocabulary.tokens(text, f"text {number + 1}") for number, text in enumerate(texts))
        return [torch.cat([lead, tokens]) for tokens in found]

    def _slots(self, asked: int | None) -> int:
        if not compresses(self.config):
            raise UsageError(
                "the run compresses nothing (data.context_length is unset): it is a plain language model, which goes "
                "on with a prompt"
            )
        most = max(slots(self.config))
        if asked is not None and not 1 <= asked <= most:
            raise UsageError(f"the run was trained with 1 to {most} compressed tokens for a segment, asked for {asked}")
        return most if asked is None else asked

    def _ahead(self, asked: int | None) -> int:
        if asked is None:
            return self._contexts.ahead + len(self.vocabulary.before_texts)
        if not self._contexts.drawn:
            raise UsageError("ahead is for runs that draw positions; this one counts them, and any number may follow")
        if asked < 1:
            raise UsageError(f"ahead is at least 1 token, found {asked}")
        return asked + len(self.vocabulary.before_texts)

    def _branch(self, compressed: Compressed | None) -> str:
        """Return the kind of text that is written: one that was trained, if any."""
        trained = branches(self.config)
        if compressed is not None:
            return "reconstruction" if trained == ("reconstruction",) else "forward"
        plain = not compresses(self.config) or "plain" in trained or self.config.model.path is not None
        return "plain" if plain and "without" not in trained else "without"
