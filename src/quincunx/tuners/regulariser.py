"""The z-regulariser: how large the numbers are that adapters hold in their bottlenecks, as figures and as a loss.

VL-Adapter (Sung et al., CVPR 2022, its options track_z and lambda_z) adds lambda times the mean over adapters of the
mean of z squared. Here every pass through an adapter counts, a layer's second use in one forward pass too.
N adapters, B rows, P positions of all passes, R width of a bottleneck.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn

from quincunx.errors import UsageError

Watcher = Callable[[Tensor], None]
"""Is handed the mean squares over the width of each pass, `[B]` or `[B, ..., positions]`."""


class Kept:
    """What an adapter's bottleneck held since it was last cleared: an attribute `z` of every adapter that has one.

    It is no state: a copy of a model, and a pickle of one, begin with none of it.
    """

    def __init__(self, on: bool = False) -> None:
        self.on = on
        """Whether passes are kept."""
        self.passes: list[Tensor] = []
        """Of each pass the mean square over the width `[B, positions]`: so a bottleneck's numbers need not be kept."""
        self.watcher: Watcher | None = None
        """Is told of passes in training mode; nothing is kept for it here."""

    def keep(self, z: Tensor, training: bool = False) -> None:
        """Note what a bottleneck holds `[B, ..., R]`, if passes are kept, or watched; `training` is its mode."""
        watched = training and self.watcher is not None
        if not (self.on or watched):
            return
        square = z.to(torch.promote_types(z.dtype, torch.float32)).square().mean(-1)
        if self.on:
            self.passes.append(square.reshape(len(z), -1))
        if watched and self.watcher is not None:
            self.watcher(square)

    def __reduce__(self) -> tuple[type[Kept], tuple[bool]]:
        return Kept, (self.on,)


def track(model: nn.Module, on: bool = True) -> None:
    """Let every adapter of a model keep what its bottleneck holds, or let none; what was kept is cleared.

    Where layers are computed twice (gradient checkpointing) it stays on until the backward pass is done.

    Raises:
        UsageError: It is to be turned on, and the model has no adapter with a bottleneck.
    """
    found = some_holders(model) if on else dict(holders(model))
    for kept in found.values():
        kept.on = on
        kept.passes.clear()


def clear(model: nn.Module) -> None:
    """Forget what was kept; to be called before each forward pass (or generation) that is to be looked at."""
    for _, kept in holders(model):
        kept.passes.clear()


def z_means(model: nn.Module) -> dict[str, Tensor]:
    """Return each adapter's mean of z squared since `clear`, by its path: scalars without gradients.

    Adapters that were not passed are left out.

    Raises:
        UsageError: Nothing was kept.
    """
    return {path: rows.mean().detach() for path, rows in _row_means(model, None).items()}


def penalty(model: nn.Module, weight: float, masks: Mapping[str, Tensor] | None = None) -> Tensor:
    """Return weight x the mean over adapters of the mean of z squared: a scalar to add to a mean loss.

    Args:
        model: After its forward pass, tracked.
        weight: The factor lambda.
        masks: As for `z_sums`; with masks, each row's mean counts alike, however long the row is.

    Raises:
        UsageError: Nothing was kept, or no gradient could come back to the adapters.
    """
    means = [rows.mean() for rows in _row_means(model, masks).values()]
    return weight * _with_gradient(torch.stack(means).mean())


def z_sums(model: nn.Module, masks: Mapping[str, Tensor] | None = None) -> Tensor:
    """Return the sum over rows of each row's mean of z squared, averaged over adapters: a scalar.

    Summed over the chunks of a batch and divided by its rows it is what the whole batch would give, however it was
    cut, for chunks of one length; where texts are padded, and to other lengths in other chunks, masks are needed.

    Args:
        model: After its forward pass, tracked.
        masks: Which positions count `[B, positions]`, by a pattern of the adapters' paths (`*` for anything; the first
            that fits), as `{"*encoder.layers*": attention_mask}`. Adapters that no pattern fits count every position.

    Raises:
        UsageError: Nothing was kept, a mask is not of an adapter's rows and positions, or no gradient could come back.
    """
    sums = [rows.sum() for rows in _row_means(model, masks).values()]
    return _with_gradient(torch.stack(sums).mean())


def _with_gradient(total: Tensor) -> Tensor:
    if torch.is_grad_enabled() and not total.requires_grad:
        raise UsageError(
            "what the adapters kept has no gradient, so nothing would be regularised: the forward pass ran without "
            "gradients (then ask under torch.no_grad()), or layers are checkpointed with use_reentrant=True: take False"
        )
    return total


def some_holders(model: nn.Module) -> dict[str, Kept]:
    """Return where adapters with a bottleneck keep what it holds, by their paths; UsageError where there are none."""
    found = dict(holders(model))
    if not found:
        raise UsageError(
            f"{type(model).__name__} has no adapter with a bottleneck, so there is no z to track: it takes bottleneck, "
            "low_rank, compacter, hyperformer or head"
        )
    return found


def holders(model: nn.Module) -> Iterator[tuple[str, Kept]]:
    """Yield the path of each adapter with a bottleneck, and where it keeps what that holds."""
    for path, module in model.named_modules():
        if isinstance(kept := module.__dict__.get("z"), Kept):
            yield path.replace(".quincunx_tuned", "").removeprefix("base_model.model."), kept


def _row_means(model: nn.Module, masks: Mapping[str, Tensor] | None) -> dict[str, Tensor]:
    """Return path -> the mean of z squared of each row `[B]`."""
    every = list(holders(model))
    found = {path: _row_mean(path, kept, masks or {}) for path, kept in every if kept.passes}
    if not found:
        how = "call the model first" if any(kept.on for _, kept in every) else "call track(model) before the model"
        raise UsageError(f"no adapter of {type(model).__name__} kept what its bottleneck held: {how}")
    for pattern in masks or ():
        if not any(fnmatchcase(path, pattern) for path in found):
            raise UsageError(
                f"masks names {pattern}, and no adapter that was passed has such a path: {next(iter(found))}"
            )
    return found


def _row_mean(path: str, kept: Kept, masks: Mapping[str, Tensor]) -> Tensor:
    rows = {len(squares) for squares in kept.passes}
    if len(rows) > 1:
        raise UsageError(
            f"the adapter {path} was passed with {' and then '.join(str(len(squares)) for squares in kept.passes)} "
            "rows: call clear(model) before each chunk"
        )
    mask = next((mask for pattern, mask in masks.items() if fnmatchcase(path, pattern)), None)
    squares = torch.cat(kept.passes, 1)
    if mask is None:
        return squares.mean(1)
    if any(each.shape != mask.shape for each in kept.passes):
        shapes = " and ".join(str(list(shape)) for shape in {each.shape for each in kept.passes})
        raise UsageError(
            f"a mask of {list(mask.shape)} was given for the adapter {path}, which was passed with {shapes}"
        )
    weights = mask.to(squares).repeat(1, len(kept.passes))
    return (squares * weights).sum(1) / weights.sum(1).clamp(min=1)
