"""The self-test at the end of `models add`."""

import json

import pytest
from image_categorizer_server.errors import OperatorError
from image_categorizer_server.inference.images.decode import Decoder
from image_categorizer_server.inference.packaging.huggingface import Labels, copy_model
from image_categorizer_server.inference.packaging.selftest import run_self_test
from image_categorizer_server.inference.runtimes.network import load_network
from image_categorizer_server.inference.runtimes.torch import TorchRuntime

from tests.support.tiny_model import CARD, write_tiny_model
from tests.unit.conftest import CATEGORIES, LIMITS

EXAMPLE = "examples/cat.jpg"


@pytest.fixture
def version(tiny, tmp_path):
    """A folder with a version of the tiny model, and its manifest."""
    folder = tmp_path / "version"
    folder.mkdir()
    return folder, copy_model(tiny, folder, Labels("tiny", 1))


def runtime(folder, manifest, activation=None):
    network = load_network(folder, manifest.input, activation or manifest.activation)
    return TorchRuntime(network, "cpu")


def test_it_shows_both_answers_for_each_picture(version, tiny, pytestconfig):
    folder, manifest = version
    example = Decoder(LIMITS).decode((pytestconfig.rootpath / EXAMPLE).read_bytes())
    test = run_self_test(tiny, folder, manifest, runtime(folder, manifest), example)
    lines = str(test).splitlines()
    assert lines[0].startswith("Self-test on 7 pictures: 7 have the same first category")
    assert len(lines) == 8
    assert test.difference < 1e-6
    for row, line in zip(test.rows, lines[1:], strict=True):
        name, confidence = row.theirs
        assert line.count(f"{name} {confidence:.4f}") == 2
    assert test.rows[-1].picture == "a photograph"


def test_other_weights_are_found(version, tiny, tmp_path):
    folder, manifest = version
    other = write_tiny_model(tmp_path / "other", CATEGORIES, seed=5)
    with pytest.raises(OperatorError, match=r"The model is not added: .* more than 0\.001"):
        run_self_test(tiny, folder, manifest, runtime(other, manifest), None)


def test_another_activation_is_found(version, tiny):
    folder, manifest = version
    with pytest.raises(OperatorError, match="The model is not added"):
        run_self_test(tiny, folder, manifest, runtime(folder, manifest, "sigmoid"), None)


@pytest.mark.parametrize("channels", [{"resample": "nearest"}, {"bias": (0.0, 0.0, 0.0)}])
def test_another_input_is_found(version, tiny, channels):
    folder, manifest = version
    wrong = manifest.model_copy(update={"input": manifest.input.model_copy(update=channels)})
    with pytest.raises(OperatorError, match="The model is not added"):
        run_self_test(tiny, folder, wrong, runtime(folder, wrong), None)


def test_outputs_that_are_no_confidences_need_an_activation(tiny, tmp_path):
    folder = tmp_path / "version"
    folder.mkdir()
    manifest = copy_model(tiny, folder, Labels("tiny", 1), "none")
    with pytest.raises(OperatorError, match="no confidences: omit --activation none"):
        run_self_test(tiny, folder, manifest, runtime(folder, manifest), None)


BGR = {
    "image_processor_type": "MobileViTImageProcessor",
    "size": {"shortest_edge": 36},
    "crop_size": {"height": 32, "width": 32},
    "do_center_crop": True,
    "do_flip_channel_order": True,
}


@pytest.mark.parametrize(
    ("config", "card"),
    [({}, BGR), ({"num_channels": 1}, CARD | {"image_mean": [0.4], "image_std": [0.3]})],
)
def test_networks_that_see_other_colours_answer_as_with_transformers(tmp_path, config, card):
    source = write_tiny_model(tmp_path / "source", CATEGORIES, **config)
    (source / "preprocessor_config.json").write_text(json.dumps(card))
    folder = tmp_path / "version"
    folder.mkdir()
    manifest = copy_model(source, folder, Labels("tiny", 1))
    test = run_self_test(source, folder, manifest, runtime(folder, manifest), None)
    assert test.difference < 1e-6
