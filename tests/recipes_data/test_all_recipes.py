"""What must hold for every recipe: no sample of any set has context from another set."""

import importlib.util

from espnet_ctx.data_dir import select
from tests.recipes_data.recipe import ROOT, assert_context_stays_in_its_set

SETS = ("train", "valid", "test")


def test_every_recipe_has_a_test_of_its_sets():
    """Each corpus is prepared by a test of its own that ends with the assertion below."""
    corpora = {path.parents[2].name for path in ROOT.glob("egs2/*/*/local/data.sh")}
    assert corpora >= {"slue_voxpopuli", "slue_voxceleb", "librispeech_chapters", "librilight"}
    for corpus in corpora:
        test = ROOT / f"tests/recipes_data/test_{corpus}.py"
        assert test.exists() and "assert_context_stays_in_its_set(" in test.read_text(), corpus


def test_context_of_mini_talks_stays_in_its_set(tmp_path):
    spec = importlib.util.spec_from_file_location("generate", ROOT / "local/mini_talks/generate.py")
    generate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generate)
    for name in SETS:
        generate.write_datadir(generate.write_talks(name, 4), tmp_path / name, tmp_path / "wav")
    assert_context_stays_in_its_set(tmp_path, SETS, lambda utt: utt.rpartition("-")[0])


def test_removing_utterances_takes_no_context_from_elsewhere():
    """Stage 4: a removed utterance that a history passes through is kept as text, and only in its own set."""
    names = ("wav.scp", "text", "utt2spk", "utt2prev")
    tables = {name: {utt: utt for utt in "abcd"} for name in names}
    tables["utt2prev"] = {"a": "-", "b": "a", "c": "b", "d": "-"}
    kept = select(tables, {"c", "d"})
    assert kept["prev_text"] == {"a": "a", "b": "b"} and kept["utt2prev"] == {"a": "-", "b": "a", "c": "b", "d": "-"}
