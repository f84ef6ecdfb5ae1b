"""ctx.sh for named entities (slu) and sentiment (cls), from end to end on a tiny recipe."""

import json

import pytest
import yaml

from espnet_ctx.files import read_table
from espnet_ctx.scoring.slue_text import parse_entities
from tests.recipes.tiny import CLASSES, SETS, Recipe, make_llm, use_python

pytestmark = [pytest.mark.recipe, pytest.mark.timeout(1800)]


@pytest.fixture
def recipe(tmp_path, upstream_dir, warm):
    recipe = Recipe(tmp_path, upstream_dir())
    use_python(recipe.folder, warm)
    return recipe


def run(recipe, *options):
    done = recipe.run(*options)
    assert done.returncode == 0, done.stdout
    return done.stdout


def config(exp):
    return yaml.safe_load((exp / "config.yaml").read_text())


def test_named_entities(recipe, tmp_path):
    """`aware`, sentencepiece; decoded by us and by ESPnet; a blind test set is decoded and not scored."""
    (recipe.source / "data/test/utt2ner").unlink()
    options = ["--task", "slu", "--context", "aware", "--llm", str(make_llm(tmp_path / "llm")), "--slu_tag", "aware"]
    options += ["--token_type", "bpe", "--nbpe", "36", "--test_sets", "valid test", "--tags", "combined"]
    said = run(recipe, *options)
    exp = recipe.folder / "exp/slu_aware"
    assert config(exp)["model"] == "context_slu" and config(exp)["model_conf"]["alpha"] == 0.5
    tagged = read_table(recipe.folder / "dump/raw/train/text.ner_combined")
    spans = read_table(recipe.folder / "dump/raw/train/utt2ner")
    assert {utt: len(parse_entities(text, "combined")) for utt, text in tagged.items()} == {
        utt: len(json.loads(cell)) for utt, cell in spans.items()
    }
    tokens = (recipe.folder / "data/token_list/ner_combined_bpe_unigram36/tokens.txt").read_text().split()
    assert {"▁$", "▁]"} <= set(tokens) and "$" not in tokens  # one piece for a tag

    decoded = exp / "decode_ctc_slu_model_valid.loss.ave"
    for dset in ("valid", "test"):
        assert read_table(decoded / dset / "text").keys() == read_table(recipe.folder / f"data/{dset}/text").keys()
    assert json.loads((decoded / "valid/score_ner/result.json").read_text())["utterances"] == SETS["valid"]
    assert not (decoded / "test/score_ner").exists() and "Not scored: dump/raw/test/text.ner_combined" in said
    assert "|dataset|Snt|micro F1|label F1|macro F1|WER|" in (exp / "RESULTS.md").read_text()
    assert "|aware|decode_ctc_slu_model_valid.loss.ave/valid|1|" in (recipe.folder / "exp/report_slu/report.md").read_text()
    assert (exp / "slu_aware_valid.loss.ave.zip").exists()  # which check_pack has decoded with
    assert "Speech2Understand: " in said

    run(recipe, *options, "--decoder", "espnet", "--stage", "11", "--stop_stage", "12", "--test_sets", "valid")
    assert len(read_table(exp / "decode_espnet_slu_model_valid.loss.ave/valid/text")) == SETS["valid"]


def test_sentiment(recipe, tmp_path):
    """`generated`, which needs context at decoding, and `none`, which ESPnet decodes alone to the same classes."""
    options = ["--task", "cls", "--context", "generated", "--llm", str(make_llm(tmp_path / "llm")), "--cls_tag", "generated"]
    said = run(recipe, *options)
    exp = recipe.folder / "exp/cls_generated"
    assert (recipe.folder / "data/token_list/sentiment/tokens.txt").read_text().split() == [*CLASSES, "<unk>"]
    labels = list(read_table(recipe.folder / "dump/raw/train/utt2sentiment").values())
    weights = [len(labels) / (3 * labels.count(name)) for name in CLASSES]
    assert config(exp)["model_conf"]["class_weights"] == pytest.approx(weights)
    decoded = exp / "decode_ctc_cls_model_valid.loss.ave/test"
    assert set(read_table(decoded / "text").values()) <= set(CLASSES)
    for row in read_table(decoded / "score").values():
        assert sum(map(float, row.split())) == pytest.approx(1, abs=1e-4)
    assert json.loads((decoded / "score_sentiment/result.json").read_text())["utterances"] == SETS["test"]
    assert "|dataset|Snt|macro F1|macro recall|macro precision|" in (exp / "RESULTS.md").read_text()
    assert "Classification: " in said and (exp / "cls_generated_valid.loss.ave.zip").exists()

    none = ["--task", "cls", "--cls_tag", "none", "--stage", "9", "--stop_stage", "12"]
    run(recipe, *none)
    run(recipe, *none[:4], "--stage", "11", "--stop_stage", "12", "--decoder", "espnet", "--inference_nj", "1")
    exp = recipe.folder / "exp/cls_none"
    ours, espnets = (exp / f"decode_{decoder}_cls_model_valid.loss.ave/test" for decoder in ("ctc", "espnet"))
    assert read_table(ours / "text") == read_table(espnets / "text")
    for utt, row in read_table(ours / "score").items():
        theirs = read_table(espnets / "score")[utt].split()
        assert [float(p) for p in row.split()] == pytest.approx([float(p) for p in theirs], abs=1e-4)
