"""Manifests: damaged files and malformed text."""

import pytest
from image_categorizer_server.errors import OperatorError
from image_categorizer_server.inference.models.manifest import damage, read_manifest

from tests.unit.conftest import add


def test_any_change_of_a_file_is_damage(repository, tiny):
    folder = add(repository, tiny)
    manifest = read_manifest(folder)
    weights = folder / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert damage(folder, manifest) == "model.safetensors does not match the manifest"
    weights.unlink()
    assert damage(folder, manifest) == "model.safetensors is missing"


@pytest.mark.parametrize("text", [b"{}", b"no json", b'{"name": "../x"}', b"\xff"])
def test_a_malformed_manifest_says_where(tmp_path, text):
    (tmp_path / "manifest.json").write_bytes(text)
    with pytest.raises(OperatorError, match=r"manifest\.json is malformed"):
        read_manifest(tmp_path)
