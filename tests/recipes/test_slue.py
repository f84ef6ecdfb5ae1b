"""egs2/slue_voxpopuli/slu1 and egs2/slue_voxceleb/cls1 from end to end: their run.sh, with a tiny upstream and two updates."""

import json
import subprocess

import pytest
import yaml

from espnet_ctx.files import read_table
from tests.recipes.tiny import use_python
from tests.recipes_data.recipe import ROOT, SHARED
from tests.recipes_data.voiced_voxceleb import make_split

pytestmark = [pytest.mark.recipe, pytest.mark.timeout(1800)]

SMALL = {
    "batch_bins": 1600000,
    "num_iters_per_epoch": 2,
    "num_workers": 0,
    "max_epoch": 1,
    "keep_nbest_models": 1,
    "log_interval": 1,
}


def run(tmp_path, warm, corpus, task, *options):
    """Run a recipe in a copy of its folder that shares everything with the repository but what it makes."""
    recipe = tmp_path / "egs2" / corpus / task
    recipe.mkdir(parents=True)
    (tmp_path / "egs2/TEMPLATE").symlink_to(ROOT / "egs2/TEMPLATE")
    for name in ("run.sh", "local", "conf", "utils", "cmd.sh", "path.sh"):
        (recipe / name).symlink_to(ROOT / "egs2" / corpus / task / name)
    use_python(recipe, warm)
    (recipe / "small.yaml").write_text(yaml.safe_dump(SMALL))
    done = subprocess.run(
        ["./run.sh", "--nj", "1", *options], cwd=recipe, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=1700
    )
    assert done.returncode == 0, done.stdout
    return recipe, done.stdout


def test_named_entities_of_voxpopuli(tmp_path, upstream_dir, warm):
    release = SHARED / "slue-voxpopuli-sub"
    if not release.exists():
        pytest.skip("../shared/data/slue-voxpopuli-sub is not there")
    recipe, said = run(
        tmp_path, warm, "slue_voxpopuli", "slu1", "--local_data_opts", f"--slue_dir {release}", "--slu_overlay", "small.yaml",
        "--context", "prev_text", "--slu_tag", "prev_text", "--upstream", str(upstream_dir())
    )  # fmt: skip
    decoded = recipe / "exp/slu_prev_text/decode_ctc_slu_model_valid.loss.ave"
    assert len(read_table(decoded / "valid/text")) == 252 and len(read_table(decoded / "test/text")) == 191
    scores = json.loads((decoded / "valid/score_ner/result.json").read_text())
    assert scores["utterances"] == 252 and {"combined", "raw"} <= set(scores)
    assert not (decoded / "test/score_ner").exists() and "a blind test set" in said
    assert "/valid|macro|" in (recipe / "exp/slu_prev_text/RESULTS_classes.md").read_text()
    assert (recipe / "exp/slu_prev_text/slu_prev_text_valid.loss.ave.zip").exists()


def choose(source, folder, split, utterances):
    """Of a split's transcripts, the shortest of each label and those right before them, in the corpus' order."""
    header, *names = (source / f"{split}.tsv").read_text().splitlines()
    texts, labels = ((source / f"{split}.{kind}").read_text().splitlines() for kind in ("wrd", "sent"))
    kept = set()
    for label in ("Negative", "Neutral", "Positive"):
        of_label = sorted((len(text), i) for i, text in enumerate(texts) if labels[i] == label and len(text.split()) > 2)
        kept |= {j for _, i in of_label[: utterances // 3] for j in (i - 1, i) if j >= 0}
    for kind, lines in (("tsv", names), ("wrd", texts), ("sent", labels)):
        chosen = [lines[i] for i in sorted(kept)]
        (folder / f"{split}.{kind}").write_text("\n".join([header, *chosen] if kind == "tsv" else chosen) + "\n")
    return len(kept)


def test_sentiment_of_voxceleb(tmp_path, upstream_dir, warm):
    source = SHARED / "slue-voxceleb-text"
    if not source.exists():
        pytest.skip("../shared/data/slue-voxceleb-text is not there")
    texts, release = tmp_path / "texts", tmp_path / "slue-voxceleb"
    texts.mkdir()
    sizes = {split: choose(source, texts, split, 12) for split in ("fine-tune", "dev")}
    (texts / "test.tsv").write_text((source / "test.tsv").read_text())
    for split, num in {**sizes, "test": 6}.items():
        make_split(texts, release, split, num)
    recipe, said = run(
        tmp_path, warm, "slue_voxceleb", "cls1", "--local_data_opts", f"--slue_dir {release}", "--cls_overlay", "small.yaml",
        "--context", "prev_text", "--cls_tag", "prev_text", "--upstream", str(upstream_dir())
    )  # fmt: skip
    assert any(previous != "-" for previous in read_table(recipe / "data/train/utt2prev").values())
    decoded = recipe / "exp/cls_prev_text/decode_ctc_cls_model_valid.loss.ave"
    assert json.loads((decoded / "valid/score_sentiment/result.json").read_text())["utterances"] == sizes["dev"]
    assert len(read_table(decoded / "test/text")) == 6 and "a blind test set" in said
    assert "/valid|Negative|" in (recipe / "exp/cls_prev_text/RESULTS_classes.md").read_text()
    assert (recipe / "exp/cls_prev_text/cls_prev_text_valid.loss.ave.zip").exists()
