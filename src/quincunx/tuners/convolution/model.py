"""Where convolution adapters go: the residual blocks of a ResNet, known by their parts rather than by its class.

Either a block holds `conv1`, `bn1`, `conv2`, `bn2` and so on (torchvision, CLIP, timm), or a sequence `layer` of pairs
`convolution` and `normalization` (transformers).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from torch import nn

from quincunx.errors import UsageError
from quincunx.tuners.adapter import Placement
from quincunx.tuners.convolution.config import BACK, BASIC, BOTTLENECK, FRONT, MIDDLE, TRANSITION, ConvolutionConfig
from quincunx.tuners.convolution.layer import AfterBlock, BesideConvolution, Pointwise
from quincunx.tuners.residual import Source, Tap
from quincunx.tuners.sites import bare, plain, width_of


@dataclass(frozen=True)
class Pair:
    """A convolution and the batch norm behind it, by their paths."""

    convolution: str
    norm: str


@dataclass(frozen=True)
class Block:
    """A residual block."""

    path: str
    pairs: tuple[Pair, ...]
    rectified: bool
    """Whether it ends with a ReLU."""


def residual_blocks(model: nn.Module) -> list[Block]:
    """Return the residual blocks of a model, in its order; those that have adapters already count as what they were."""
    found: dict[str, Block] = {}
    for name, wrapped in model.named_modules():
        if any(word.startswith("quincunx_") for word in name.split(".")):
            continue
        path, module = plain(name), bare(wrapped)
        pairs = _pairs(module, f"{path}." if path else "")
        if 2 <= len(pairs) <= 3:
            found[path] = Block(path, pairs, any(isinstance(child, nn.ReLU) for child in module.children()))
    # a whole network may begin with convolutions of the same names: a block has no blocks in it
    return [
        block
        for path, block in found.items()
        if not any(other.startswith(f"{path}." if path else "") for other in found if other != path)
    ]


def place(model: nn.Module, config: ConvolutionConfig) -> Placement:
    """Return the adapters of the blocks."""
    blocks = _chosen(model, config)
    placement = Placement(notes=(f"{len(blocks)} residual blocks, {', '.join(config.positions)} in each",))
    for block in blocks:
        pairs = {FRONT: block.pairs[0], BACK: block.pairs[-1]}
        if len(block.pairs) == 3:
            pairs[MIDDLE] = block.pairs[1]
        for position in config.positions:
            if position == TRANSITION:
                channels = width_of(model.get_submodule(block.pairs[-1].convolution))
                path = _pointwise(block.path, channels, channels, (1, 1), config)
                placement.adapters[block.path] = AfterBlock(path, block.rectified)
            elif position in pairs:
                _put_beside(model, pairs[position], config, placement)
            else:
                raise UsageError(
                    f"the block {block.path} has two convolutions, none of them in the middle: take front, back or "
                    f"transition for adapter_type, such as front-{config.kind}"
                )
    return placement


def _put_beside(model: nn.Module, pair: Pair, config: ConvolutionConfig, placement: Placement) -> None:
    convolution = bare(model.get_submodule(pair.convolution))
    assert isinstance(convolution, nn.Conv2d)
    _check_size(convolution, pair.convolution)
    path = _pointwise(
        pair.convolution, convolution.in_channels, convolution.out_channels, convolution.stride, config
    )  # fmt: skip
    if config.remove_batch_norm:
        merges = config.kind == BASIC and convolution.groups == 1
        kernel = convolution.kernel_size if merges else None
        placement.adapters[pair.convolution] = BesideConvolution(path, None, kernel)
        return
    source = Source()
    placement.adapters[pair.convolution] = Tap(source)
    placement.adapters[pair.norm] = BesideConvolution(path, source)


def _pointwise(
    where: str, channels: int, out_channels: int, stride: tuple[int, ...], config: ConvolutionConfig
) -> Pointwise:
    bottleneck = None
    if config.kind == BOTTLENECK:
        bottleneck = int(channels / config.reduction_factor)
        if bottleneck < 1:
            raise UsageError(
                f"{where} gets {channels} channels: a reduction factor of {config.reduction_factor:g} leaves none"
            )
    return Pointwise(channels, out_channels, bottleneck, stride=stride, batch_norm=not config.remove_batch_norm)


def _check_size(convolution: nn.Conv2d, path: str) -> None:
    """Refuse a convolution whose output has another size than that of a 1x1 convolution with the same stride."""
    if isinstance(convolution.padding, str):
        fits = convolution.padding == "same"
    else:
        sizes = zip(convolution.kernel_size, convolution.padding, convolution.dilation, strict=True)
        fits = all(size % 2 == 1 and padding == dilation * (size // 2) for size, padding, dilation in sizes)
    if not fits:
        raise UsageError(
            f"{path} has a kernel of {convolution.kernel_size} with a padding of {convolution.padding}: nothing can "
            "stand beside a convolution that is not centred; leave its block out by leave_out"
        )


def _chosen(model: nn.Module, config: ConvolutionConfig) -> Sequence[Block]:
    blocks = residual_blocks(model)
    if not blocks:
        raise UsageError(
            f"{type(model).__name__} has no residual blocks of convolutions (conv1, bn1, conv2, bn2 in one module, or "
            "pairs of convolution and normalization in its layer): convolution adapters are for ResNets"
        )
    chosen = blocks
    if config.target_modules is not None:
        for pattern in config.target_modules:
            if not any(fnmatchcase(block.path, pattern) for block in blocks):
                raise UsageError(
                    f"{type(model).__name__} has no residual block {pattern}: target_modules names blocks by their "
                    f"full paths, such as {blocks[0].path}, * for anything"
                )
        chosen = [block for block in blocks if any(fnmatchcase(block.path, name) for name in config.target_modules)]
    for what in config.leave_out:
        kept = [block for block in chosen if not _is_left_out(blocks, block, what)]
        if len(kept) == len(chosen):
            raise UsageError(f"leave_out names {what!r}, and there is no such block among those to adapt")
        chosen = kept
    if not chosen:
        raise UsageError("leave_out leaves no block to adapt")
    return chosen


def _is_left_out(blocks: Sequence[Block], block: Block, what: int | str) -> bool:
    if isinstance(what, str):
        return fnmatchcase(block.path, what)
    return blocks.index(block) == (what if what >= 0 else len(blocks) + what)


def _pairs(block: nn.Module, within: str) -> tuple[Pair, ...]:
    """Return a block's convolutions with their batch norms; `within` is what the paths of its children begin with."""
    sequence = block._modules.get("layer")
    if isinstance(sequence, nn.Sequential):
        return tuple(
            Pair(f"{within}layer.{name}.convolution", f"{within}layer.{name}.normalization")
            for name, part in sequence.named_children()
            if _is_convolution(part._modules.get("convolution")) and part._modules.get("normalization") is not None
        )
    found: list[Pair] = []
    while True:
        number = len(found) + 1
        if not _is_convolution(block._modules.get(f"conv{number}")) or block._modules.get(f"bn{number}") is None:
            return tuple(found)
        found.append(Pair(f"{within}conv{number}", f"{within}bn{number}"))


def _is_convolution(module: nn.Module | None) -> bool:
    return module is not None and isinstance(bare(module), nn.Conv2d)
