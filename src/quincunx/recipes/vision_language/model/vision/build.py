"""Image encoders by word or by path: the guide's four, and any vision model of the transformers library."""

from __future__ import annotations

from pathlib import Path

from quincunx.config.suggest import closest
from quincunx.errors import UsageError
from quincunx.nn.pretrained.load import only_shapes
from quincunx.recipes.vision_language.data.pixels import Size
from quincunx.recipes.vision_language.kinds import GRIDS, RAW
from quincunx.recipes.vision_language.model.vision import clip_weights
from quincunx.recipes.vision_language.model.vision.clip_resnet import SIZES, ClipResNet
from quincunx.recipes.vision_language.model.vision.encoder import ImageEncoder, Origin
from quincunx.recipes.vision_language.model.vision.library import clip_vit, load_library


def build_encoder(
    kind: str,
    image_size: Size,
    *,
    weights: str | Path | None = None,
    pooled: bool = False,
    grid: int | None = None,
    fresh: bool = False,
) -> ImageEncoder:
    """Return an image encoder, frozen: nothing of it is trained, until somebody asks for it.

    On the meta device (`with torch.device("meta")`) it has shapes alone, and no weights are read.

    Args:
        kind: RN50, RN101, RN50x4, ViT (also with `raw_` before it), or the folder or hub name of a vision model.
        image_size: Height and width of pictures; multiples of 32 for ResNets, of a patch's side for others.
        weights: File (ResNets of CLIP) or folder (ViT) of the weights; None: random ones, from torch's generator.
        pooled: One pooled row in place of the grid.
        grid: Cells of the grid's side, by the maximum over neighbours; None: as many as there are.
        fresh: Of a folder take the form alone, with random weights.

    Raises:
        UsageError: An unknown word, weights of another encoder, a size that does not fit.
        MissingExtra: The transformers library is needed and not installed.
    """
    word = kind.removeprefix("raw_")
    if word in SIZES:
        if weights is None:
            notes = (f"The weights of {word} are random: no file of them was named.",)
            encoder: ImageEncoder = ClipResNet(
                Origin(word, notes=notes), SIZES[word], image_size, pooled=pooled, grid=grid
            )
        else:
            found = ClipResNet(Origin(word, str(weights)), SIZES[word], image_size, pooled=pooled, grid=grid)
            if not only_shapes():
                clip_weights.load(found, weights)
            encoder = found
    elif word == "ViT":
        encoder = (
            clip_vit(image_size, pooled=pooled, grid=grid)
            if weights is None
            else load_library(weights, image_size, pooled=pooled, grid=grid)
        )
    elif weights is not None:
        raise UsageError(f"{kind} is no word for an image encoder, and a folder has its own weights: leave weights out")
    elif "/" not in kind and "\\" not in kind and not Path(kind).is_dir():
        near = closest(kind, [*GRIDS, *RAW], 2)
        hint = f"did you mean {' or '.join(near)}?" if near else f"the words are {', '.join(GRIDS)}"
        raise UsageError(f"there is no image encoder {kind!r}; {hint} (or name a folder of a vision model)")
    else:
        encoder = load_library(kind, image_size, pooled=pooled, grid=grid, fresh=fresh)
    encoder.freeze()
    return encoder
