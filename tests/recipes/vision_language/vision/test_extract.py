"""Features of a collection: what the encoder gives of each picture or region, once, whatever stops the extraction."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from conftest import Said
from quincunx.errors import DataError, UsageError
from quincunx.recipes.vision_language.data.features import Features, writing
from quincunx.recipes.vision_language.data.folder import Collection, write_collection
from quincunx.recipes.vision_language.data.pixels import Look, as_numbers, crop_of, read_picture, show
from quincunx.recipes.vision_language.data.record import Picture, Region
from quincunx.recipes.vision_language.model.vision.clip_resnet import ClipResNet, Sizes
from quincunx.recipes.vision_language.model.vision.encoder import ImageEncoder, Origin
from quincunx.recipes.vision_language.model.vision.extract import Extracted, extract, model_key

Cli = Callable[..., Said]
SMALL = Sizes((1, 1, 1, 1), 4, 8, 64)
BOXES = [(0, 0, 20, 30), (5.5, 3, 40, 29.5), (10, 10, 11, 11)]


def collection(folder: Path, count: int = 7) -> Collection:
    """Pictures of several sizes with 0 to 3 regions each."""
    generator = np.random.default_rng(0)
    pictures: list[Picture] = []
    (folder / "images").mkdir(parents=True)
    for number in range(count):
        width, height = 48 + 5 * (number % 3), 40 + 7 * (number % 2)
        pixels = generator.integers(0, 256, (height, width, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"images/{number}.png")
        regions = tuple(Region(box) for box in BOXES[: number % 4])
        pictures.append(Picture(f"p{number}", width, height, f"images/{number}.png", regions))
    write_collection(folder, pictures, {})
    return Collection(folder)


def encoder(seed: int = 0, **options: Any) -> ImageEncoder:
    torch.manual_seed(seed)
    made = ClipResNet(Origin("small"), SMALL, (64, 32), **options)
    for module in made.modules():
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(module.weight)
    made.freeze()
    return made


@torch.no_grad()
def expected_of(network: ImageEncoder, found: Collection, name: str, fit: str = "crop") -> Tensor:
    """The rows of one picture, by itself."""
    picture = found.pictures[name]
    look = Look(network.image_size, fit)
    image = read_picture(found.file_of(picture))
    return network(torch.from_numpy(as_numbers(show(image, [], look).image, look))[None])[0]


def assert_close(stored: Any, expected: Tensor) -> None:
    torch.testing.assert_close(torch.from_numpy(stored.astype("f4")), expected, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("options", [{}, {"pooled": True}, {"grid": 1}])
@pytest.mark.parametrize("fit", ["crop", "squash"])
def test_each_picture_has_what_the_encoder_gives_of_it(tmp_path: Path, options: dict[str, Any], fit: str) -> None:
    found, network, told = collection(tmp_path / "c"), encoder(**options), list[tuple[int, int]]()
    made = extract(
        found, network, tmp_path / "a.arrow", fit=fit, batch_size=3, device="cpu",
        on_progress=lambda done, total: told.append((done, total)),
    )  # fmt: skip
    assert made.computed == 7 and made.features.ids == tuple(f"p{n}" for n in range(7))
    assert made.features.width == network.width and made.features.longest == network.rows
    for name in made.features:
        assert_close(made.features[name], expected_of(network, found, name, fit))
    assert made.features.model == model_key(network, fit=fit)
    assert made.features.header.about["fit"] == fit
    assert told[-1] == (7, 7) and told == sorted(told)


@pytest.mark.parametrize("pooled", [True, False])
def test_each_region_has_its_row(tmp_path: Path, pooled: bool) -> None:
    found, network = collection(tmp_path / "c"), encoder(pooled=pooled)
    made = extract(found, network, tmp_path / "a.arrow", regions=True, batch_size=4, device="cpu").features
    look = Look(network.image_size, "squash")
    assert made.longest == 3 and made.width == network.width
    for name, picture in found.pictures.items():
        assert made.rows_of(name) == len(picture.regions)
        for row, region in zip(made[name], picture.regions, strict=True):
            crop = crop_of(read_picture(found.file_of(picture)), region.box)
            with torch.no_grad():
                rows = network(torch.from_numpy(as_numbers(show(crop, [], look).image, look))[None])[0]
            assert_close(row, rows.mean(0))


def test_batches_and_stops_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "BATCH_BYTES", 1)
    found, network = collection(tmp_path / "c"), encoder()
    whole = extract(found, network, tmp_path / "a.arrow", batch_size=1, device="cpu").features

    def stop(done: int, total: int) -> None:
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        extract(found, network, tmp_path / "b.arrow", batch_size=2, device="cpu", on_progress=stop)
    again = extract(found, network, tmp_path / "b.arrow", batch_size=2, device="cpu")
    assert again.computed == 3
    for name in whole:
        np.testing.assert_allclose(again.features[name].astype("f4"), whole[name].astype("f4"), atol=2e-3)
    before = (tmp_path / "b.arrow").stat().st_mtime_ns
    assert extract(found, network, tmp_path / "b.arrow", device="cpu").computed == 0
    assert (tmp_path / "b.arrow").stat().st_mtime_ns == before


def test_pictures_that_came_since_are_added(tmp_path: Path) -> None:
    network = encoder()
    extract(collection(tmp_path / "c", 3), network, tmp_path / "a.arrow", device="cpu")
    made: Extracted = extract(collection(tmp_path / "d", 7), network, tmp_path / "a.arrow", device="cpu")
    assert made.computed == 4 and len(made.features) == 7


def test_a_bad_picture_is_named_and_what_was_computed_is_kept(tmp_path: Path) -> None:
    found, network = collection(tmp_path / "c"), encoder()
    bad = tmp_path / "c/images/5.png"
    content = bad.read_bytes()
    bad.write_bytes(content[:60])
    with pytest.raises(DataError, match=r"5\.png is no picture that can be read"):
        extract(found, network, tmp_path / "a.arrow", batch_size=2, device="cpu")
    bad.write_bytes(content)
    made = extract(found, network, tmp_path / "a.arrow", batch_size=2, device="cpu")
    assert made.computed == 3 and len(made.features) == 7
    bad.unlink()
    with pytest.raises(DataError, match=r"the file of picture p5.*does not exist"):
        extract(found, network, tmp_path / "b.arrow", device="cpu")


def test_misuse_is_refused(tmp_path: Path) -> None:
    found, network = collection(tmp_path / "c", 1), encoder()
    made = extract(found, network, tmp_path / "a.arrow", device="cpu").features
    for other in (encoder(1), encoder(grid=1)):
        with pytest.raises(UsageError, match="name another file"):
            extract(found, other, tmp_path / "a.arrow", device="cpu")
    with pytest.raises(UsageError, match="name another file"):
        extract(found, network, tmp_path / "a.arrow", fit="squash", device="cpu")
    assert Features(tmp_path / "a.arrow", model=made.model).ids == ("p0",)
    for options, why in (
        ({"regions": True}, "no picture of .* has regions"),
        ({"batch_size": 0}, "batch size"),
        ({"dtype": "int8"}, "float16 or float32"),
        ({"fit": "no"}, "crop or squash"),
    ):
        with pytest.raises(UsageError, match=why):
            extract(found, network, tmp_path / "b.arrow", **{"device": "cpu", **options})
    with pytest.raises(UsageError, match="leave the grid out"):
        extract(found, encoder(grid=1), tmp_path / "b.arrow", regions=True, device="cpu")
    assert not (tmp_path / "b.arrow").exists()


@pytest.fixture
def vit(work: Path) -> str:
    """The folder of a small vision model of the library."""
    import transformers

    sizes: dict[str, Any] = {
        "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24, "image_size": 32,
        "patch_size": 8,
    }  # fmt: skip
    torch.manual_seed(0)
    transformers.CLIPVisionModel(transformers.CLIPVisionConfig(**sizes)).save_pretrained(work / "models/eye")
    return "models/eye"


def test_the_verb_stores_goes_on_and_says_what(cli: Cli, work: Path, vit: str) -> None:
    found = collection(work / "c")
    said = cli("features", "c", "--encoder", vit, "--size", "32", "--device", "cpu", "--batch-size", "3")
    assert said.code == 0, said.err
    stored = Features(work / "c/features/eye.arrow")
    assert found.features == ("eye",) and stored.longest == 16 and stored.width == 16
    line = said.out.splitlines()[-1]
    assert line.startswith("c/features/eye.arrow: 7 pictures, at most 16 rows each of 16 numbers as float16, 0.0 MiB; ")
    assert stored.model in line and "7 computed in" in line
    assert "7 of 7 pictures" in said.err
    assert "all of them were there already" in cli("features", "c", "--encoder", vit, "--size", "32").out
    said = cli(
        "features", "c", "--encoder", vit, "--size", "(48,32)", "--regions", "--dtype", "float32", "--out", "r.arrow"
    )
    assert said.code == 0 and Features(work / "r.arrow").longest == 3
    assert Features(work / "r.arrow").header.about["rows"] == "regions, mean of the grid"
    said = cli("features", "c", "--encoder", vit, "--size", "32", "--grid", "2", "--out", "g.arrow")
    assert said.code == 0 and Features(work / "g.arrow").longest == 4


def test_the_verb_makes_random_weights_only_when_asked(cli: Cli, work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    collection(work / "c", 2)
    monkeypatch.setattr("quincunx.recipes.vision_language.model.vision.build.SIZES", {"RN50": SMALL})
    for options in (["--encoder", "RN50"], ["--encoder", "RN50", "--weights", "x.pt", "--fresh"]):
        said = cli("features", "c", *options)
        assert said.code == 2 and "either --weights, where its weights are, or --fresh" in said.err
    said = cli("features", "c", "--encoder", "RN50", "--fresh", "--size", "64", "--out", "few.arrow", "--device", "cpu")
    assert said.code == 0 and Features(work / "few.arrow").longest == 4
    models: list[str] = []
    for number, seed in enumerate((0, 0, 1)):
        said = cli(
            "features",
            "c",
            "--encoder",
            "RN50",
            "--fresh",
            "--seed",
            seed,
            "--out",
            f"{number}.arrow",
            "--device",
            "cpu",
        )
        assert said.code == 0 and "weights of RN50 are random" in said.out
        models.append(Features(work / f"{number}.arrow").model)
        assert Features(work / f"{number}.arrow").longest == 36
    assert models[0] == models[1] != models[2]
    said = cli("features", "c", "--encoder", "RN50", "--fresh", "--pooled", "--device", "cpu")
    assert said.code == 0 and Features(work / "c/features/RN50-pooled.arrow").width == 8


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (["--encoder", "butd"], "--regions with another encoder"),
        (["--encoder", "raw_RN50"], "store features by --encoder RN50"),
        (["--encoder", "RN5O", "--fresh"], "did you mean RN50"),
        (["--encoder", "./none"], "no folder of a pretrained"),
        (["--encoder", "./c", "--weights", "x.pt"], "leave --weights out"),
        (["--encoder", "RN50", "--fresh", "--size", "big"], "height and width in pixels"),
        (["--encoder", "RN50", "--fresh", "--size", "100"], "multiples of 32"),
        (["--encoder", "RN50", "--fresh", "--regions", "--grid", "6"], "leave --grid and --fit out"),
        (["--encoder", "RN50", "--fresh", "--grid", "-1"], "0 or more cells"),
        (["--encoder", "RN50", "--fresh", "--size", "64", "--grid", "6"], "gives 2 by 2 cells"),
        (["--encoder", "RN50", "--fresh", "--fit", "stretch"], "--fit is crop or squash"),
        (["--encoder", "RN50", "--fresh", "--dtype", "int8"], "--dtype is float16 or float32"),
        (["--encoder", "RN50", "--weights", "none.pt"], "no file of weights none.pt"),
        (["--encoder", "RN50", "--fresh", "--pooled", "--grid", "2"], "pooled row has no grid"),
    ],
)
def test_the_verb_refuses_misuse(cli: Cli, work: Path, options: list[str], why: str) -> None:
    collection(work / "c", 1)
    said = cli("features", "c", *options)
    assert said.code == 2 and why in said.err and not said.out
    assert not (work / "c/features").exists()


def test_the_verb_needs_a_collection(cli: Cli, work: Path) -> None:
    said = cli("features", "none", "--encoder", "RN50", "--fresh")
    assert said.code == 1 and "pictures.jsonl" in said.err
