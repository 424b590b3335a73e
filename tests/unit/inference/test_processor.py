"""The image processors of Hugging Face folders: which are understood, and that inputs are equal."""

import json
import shutil

import numpy as np
import pytest
from image_categorizer_server.errors import OperatorError
from image_categorizer_server.inference.images.decode import Pixels
from image_categorizer_server.inference.images.preprocess import InputSpec, crop_of, reduce
from image_categorizer_server.inference.packaging.processor import (
    picture,
    prepared,
    read_card,
    read_input_spec,
)

from tests.support.tiny_model import CARD
from tests.unit.conftest import CATEGORIES

SIZES_PX = [(75, 50), (50, 75), (41, 41), (20, 31)]
CROP = {"do_center_crop": True, "crop_size": {"height": 24, "width": 24}}
BIT = {"image_processor_type": "BitImageProcessor", "size": {"shortest_edge": 32}}
CLIP = {"image_processor_type": "CLIPFeatureExtractor", "size": 32, "crop_size": 24}
OLD_DEIT = {"image_processor_type": None, "feature_extractor_type": "DeiTFeatureExtractor"}
CONVNEXT = {"image_processor_type": "ConvNextImageProcessor", "crop_pct": 0.875}


def write(folder, config, **card):
    """Writes a card without its empty fields; returns the folder."""
    folder.mkdir()
    kept = {key: value for key, value in (CARD | card).items() if value is not None}
    (folder / "preprocessor_config.json").write_text(json.dumps(kept))
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture
def config(tiny):
    return json.loads((tiny / "config.json").read_text())


def differences(card, sizes_px):
    """Returns the largest difference between both inputs of each picture, in steps of 8 bits."""
    for width_px, height_px in sizes_px:
        shown = picture(width_px, height_px)
        theirs = prepared(card.processor, card.spec, shown).transpose(1, 2, 0)
        theirs = theirs[..., ::-1] if card.spec.colour == "bgr" else theirs
        ours = reduce(Pixels.of(shown), card.spec) * np.array(card.spec.scale) + card.spec.bias
        yield float((np.abs(theirs - ours) / np.array(card.spec.scale)).max())


@pytest.mark.parametrize(
    ("change", "resize", "resize_px", "size_px"),
    [
        ({"resample": "bicubic"}, "exact", 0, 32),
        ({"resample": "PIL.Image.LANCZOS"}, "exact", 0, 32),
        ({"resample": "3"}, "exact", 0, 32),
        ({"size": 32}, "exact", 0, 32),
        ({"image_processor_type": "ViTFeatureExtractor"}, "exact", 0, 32),
        ({"image_processor_type": "ViTImageProcessorFast"}, "exact", 0, 32),
        (OLD_DEIT | CROP, "exact", 32, 24),
        ({"image_processor_type": None}, "exact", 0, 32),
        ({"image_processor_type": "DeiTImageProcessor"} | CROP, "exact", 32, 24),
        (CLIP, "shortest_edge", 32, 24),
        (BIT | CROP, "shortest_edge", 32, 24),
        (CONVNEXT | {"size": {"shortest_edge": 28}}, "shortest_edge", 32, 28),
        (CONVNEXT | {"size": {"shortest_edge": 384}}, "exact", 0, 384),
        ({"do_normalize": False}, "exact", 0, 32),
        ({"do_rescale": False}, "exact", 0, 32),
    ],
)
def test_inputs_are_those_of_the_processor(tmp_path, config, change, resize, resize_px, size_px):
    card = read_card(write(tmp_path / "source", config, **change), config)
    spec = card.spec
    assert (spec.resize, spec.resize_px, spec.width_px) == (resize, resize_px, size_px)
    assert max(differences(card, SIZES_PX)) < 0.01


def test_a_network_that_sees_grey_gets_grey(tmp_path, config):
    config["num_channels"] = 1
    folder = write(tmp_path / "source", config, image_mean=[0.4], image_std=[0.3])
    card = read_card(folder, config)
    assert card.spec.colour == "grey"
    assert max(differences(card, SIZES_PX)) < 0.01
    array = reduce(Pixels.of(picture(75, 50)), card.spec)
    assert array.shape == (32, 32, 3)
    assert (array == array[..., :1]).all()


def test_channels_in_reverse_order_are_reversed_in_the_network(tmp_path, config):
    kind = {"image_processor_type": "MobileViTImageProcessor", "do_normalize": None}
    size = {"size": {"shortest_edge": 32}, "do_flip_channel_order": True} | CROP
    card = read_card(write(tmp_path / "source", config, **kind, **size), config)
    assert card.spec.colour == "bgr"
    assert max(differences(card, SIZES_PX)) < 0.01


def test_a_processor_that_does_not_resize_gets_the_size_of_the_network(tmp_path, config):
    folder = write(tmp_path / "source", config, do_resize=False)
    card = read_card(folder, config | {"image_size": 40})
    assert (card.spec.width_px, card.spec.resize) == (40, "exact")
    assert "does not resize: images are resized to 40 x 40" in card.note
    assert max(differences(card, [(40, 40)])) < 0.01


def test_a_processor_that_does_not_crop_sees_the_centre(tmp_path, config):
    kind = {"image_processor_type": "BitImageProcessor", "do_center_crop": False}
    card = read_card(write(tmp_path / "source", config, size={"shortest_edge": 32}, **kind), config)
    assert "does not crop: the centre 32 x 32 is seen" in card.note
    assert max(differences(card, [(40, 40), (75, 75)])) < 0.01


def test_a_card_inside_that_of_a_processor_is_read(tmp_path, config):
    folder = write(tmp_path / "source", config)
    card = json.loads((folder / "preprocessor_config.json").read_text())
    (folder / "preprocessor_config.json").unlink()
    (folder / "processor_config.json").write_text(json.dumps({"image_processor": card}))
    assert read_card(folder, config).spec.width_px == 32


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"resample": "sharp"}, "resample is 'sharp', not one of nearest, lanczos, bilinear"),
        ({"resample": 9}, "is not supported"),
        ({"image_mean": [0.5]}, "is not supported"),
        ({"image_std": [0.5, 0.5, 0.0]}, "must be finite, and not zero"),
        ({"image_processor_type": "NoneSuch"}, "transformers cannot read"),
        ({"image_processor_type": 3}, "image_processor_type is not text"),
        ({"size": {"height": 0, "width": 32}}, "is not supported"),
        ({"size": {"height": -3, "width": 32}}, "is not supported"),
        ({"size": {"height": 32, "width": 48}} | CROP, "is not supported"),
    ],
)
def test_what_cannot_be_equal_is_refused_with_the_users_file(tmp_path, config, change, words):
    folder = write(tmp_path / "source", config, **change)
    with pytest.raises(OperatorError, match=words) as refused:
        read_card(folder, config)
    assert str(folder / "preprocessor_config.json") in str(refused.value)
    assert len(str(refused.value)) < 700


def test_a_network_of_four_channels_is_refused(tmp_path, config):
    folder = write(tmp_path / "source", config)
    with pytest.raises(OperatorError, match="4 channels"):
        read_card(folder, config | {"num_channels": 4})


def test_a_crop_is_rounded_as_its_library_does():
    spec = InputSpec(
        width_px=4,
        height_px=4,
        resize="exact",
        resize_px=11,
        resample="bilinear",
        scale=(1, 1, 1),
        bias=(0, 0, 0),
    )
    assert crop_of((11, 11), spec)[0] == 3
    assert crop_of((11, 11), spec.model_copy(update={"crop": "even"}))[0] == 4
    assert crop_of((9, 9), spec.model_copy(update={"crop": "even"}))[0] == 2


TIMM = {
    "architecture": "resnet18",
    "num_classes": 3,
    "label_names": CATEGORIES,
    "pretrained_cfg": {
        "input_size": [3, 32, 32],
        "interpolation": "bicubic",
        "crop_pct": 0.9,
        "mean": [0.4, 0.5, 0.6],
        "std": [0.2, 0.3, 0.4],
    },
}


def is_missing(name):
    try:
        __import__(name)
    except (ImportError, RuntimeError):  # torchvision of another build than torch
        return True
    return False


@pytest.mark.skipif(is_missing("timm"), reason="the extra `timm` is not installed")
@pytest.mark.parametrize("change", [{}, {"crop_mode": "squash"}, {"crop_pct": 0.84}])
def test_inputs_of_timm_are_equal(tmp_path, change):
    config = TIMM | {"pretrained_cfg": TIMM["pretrained_cfg"] | change}
    folder = tmp_path / "source"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    card = read_card(folder, config)
    assert card.spec.crop == "even"
    assert max(differences(card, SIZES_PX)) < 0.01


@pytest.mark.skipif(not is_missing("timm"), reason="the extra `timm` is installed")
def test_a_network_of_timm_names_the_extra(tmp_path, tiny):
    folder = tmp_path / "source"
    shutil.copytree(tiny, folder)
    (folder / "config.json").write_text(json.dumps(TIMM))
    with pytest.raises(OperatorError, match=r"pip install 'image-categorizer-server\[timm\]'"):
        read_input_spec(folder)
