"""Tables and reports of tagged entities and sentiment, from decoded sets as stage 12 leaves them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from espnet_ctx.bin import score_ner, score_sentiment
from espnet_ctx.files import UserError, write_table
from espnet_ctx.scoring.report import find_runs, write_report
from espnet_ctx.scoring.tables import classes_markdown, results_markdown
from espnet_ctx.scoring.understanding import compare_folders, read_rates

ROOT = Path(__file__).resolve().parents[2]
UTTS = [f"utt{n:02d}" for n in range(40)]
NER = {utt: f"we saw }} anna ] in % city{n} ]" for n, utt in enumerate(UTTS)}
WITHOUT_PLACES = {utt: text.replace("%", "the") for utt, text in NER.items()}
MOODS = {utt: ("Negative", "Neutral", "Positive")[n % 3] for n, utt in enumerate(UTTS)}
NEUTRAL = dict.fromkeys(UTTS, "Neutral")


@pytest.fixture
def decoded(tmp_path):
    """`decoded(system, task, hypotheses)`: a scored set."""

    def make(system, task, hypotheses, refs):
        folder = tmp_path / f"exp/{system}/decode_ctc/test"
        score = folder / ("score_ner" if task == "slu" else "score_sentiment")
        write_table(folder / "text", hypotheses)
        write_table(score / "ref", refs)
        files = ["--ref", str(score / "ref"), "--hyp", str(folder / "text"), "--json", str(score / "result.json")]
        score_ner.main([*files, "--tags", "raw", "--kaldi"]) if task == "slu" else score_sentiment.main(files)
        return folder

    return make


def test_results_of_entities(decoded, tmp_path):
    folder = decoded("slu_aware", "slu", WITHOUT_PLACES, NER)
    rates = read_rates(folder)
    assert list(rates) == ["micro F1", "label F1", "macro F1", "WER"]
    assert rates["micro F1"] == pytest.approx(200 / 3) and rates["macro F1"] == pytest.approx(50)
    text = results_markdown(tmp_path / "exp")
    assert "### NER\n\n|dataset|Snt|micro F1|label F1|macro F1|WER|95% interval of micro F1|\n" in text
    assert "|decode_ctc/test|40|66.7|66.7|50.0|" in text and "### WER" not in text


def test_report_tests_the_headline_between_systems(decoded, tmp_path):
    decoded("slu_none", "slu", WITHOUT_PLACES, NER)
    decoded("slu_aware", "slu", NER, NER)
    decoded("cls_none", "cls", MOODS, MOODS)
    decoded("cls_aware", "cls", NEUTRAL, MOODS)
    slu = write_report(tmp_path / "exp", tmp_path / "slu", task="slu").read_text()
    assert "paired permutation test of micro F1" in slu and "![F1](f1_decode_ctc_test.png)" in slu
    assert "|aware|decode_ctc/test|1|100.0|100.0|100.0|0.0|better, p <0.001|" in slu and "cls" not in slu
    cls = write_report(tmp_path / "exp", tmp_path / "cls", task="cls").read_text()
    assert "|system|dataset|seeds|macro F1|macro recall|macro precision|against none|" in cls
    assert "|worse, p <0.001|" in cls
    assert (tmp_path / "cls/f1_decode_ctc_test.png").read_bytes().startswith(b"\x89PNG")


def test_each_tag_and_class(decoded, tmp_path):
    decoded("slu_aware", "slu", {utt: text.replace("%", "*") for utt, text in NER.items()}, NER)
    decoded("cls_aware", "cls", NEUTRAL, MOODS)
    header = "|dataset|class|precision|recall|F1|\n|---|---|---|---|---|\n"
    rows = ["PERSON|100.0|100.0|100.0", "PLACE|100.0|100.0|100.0", "macro|100.0|100.0|100.0", "micro|100.0|100.0|100.0"]
    assert classes_markdown(tmp_path / "exp/slu_aware") == header + "".join(f"|decode_ctc/test|{row}|\n" for row in rows)
    raw = classes_markdown(tmp_path / "exp/slu_aware", "raw", "label").splitlines()[2:]
    assert raw[:3] == [f"|decode_ctc/test|{row}|" for row in ("GPE|0.0|0.0|0.0", "LOC|0.0|0.0|0.0", "PERSON|100.0|100.0|100.0")]
    assert raw[3:] == [f"|decode_ctc/test|{row}|" for row in ("macro|33.3|33.3|33.3", "micro|50.0|50.0|50.0")]
    # 13 of 40 are Neutral, and all are called so
    assert classes_markdown(tmp_path / "exp/cls_aware").splitlines()[2:] == [
        "|decode_ctc/test|Negative|0.0|0.0|0.0|",
        "|decode_ctc/test|Neutral|32.5|100.0|49.1|",
        "|decode_ctc/test|Positive|0.0|0.0|0.0|",
        "|decode_ctc/test|macro|10.8|33.3|16.4|",
    ]


def test_classes_that_are_not_there_are_named(decoded, tmp_path):
    folder = decoded("slu_none", "slu", NER, NER)
    result = folder / "score_ner/result.json"
    scores = json.loads(result.read_text())
    del scores["raw"]  # as of texts with combined tags
    result.write_text(json.dumps(scores))
    with pytest.raises(UserError, match="the texts have combined tags, and no raw ones .--tag_set"):
        classes_markdown(tmp_path / "exp/slu_none", "raw")
    with pytest.raises(UserError, match="no score_{ner,sentiment}/result.json below .*aware: decode and score first"):
        classes_markdown(tmp_path / "exp/slu_aware")


@pytest.mark.parametrize("script", ["local", "egs2/slue_voxpopuli/slu1/local", "egs2/slue_voxceleb/cls1/local"])
def test_score_sh_writes_the_classes(decoded, tmp_path, script):
    decoded("slu_none", "slu", NER, NER)
    (tmp_path / "utils").symlink_to(ROOT / "utils")
    (tmp_path / "local").symlink_to(ROOT / script)
    env = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "PYTHONPATH": str(ROOT)}
    command = ["local/score.sh", "--tag_set", "raw", "--criterion", "label", "exp/slu_none"]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == (tmp_path / "exp/slu_none/RESULTS_classes.md").read_text()
    assert done.stdout == classes_markdown(tmp_path / "exp/slu_none", "raw", "label")


def test_other_references_are_refused(decoded):
    base, system = decoded("cls_none", "cls", MOODS, MOODS), decoded("cls_aware", "cls", MOODS, NEUTRAL)
    with pytest.raises(UserError, match="different references"):
        compare_folders(base, system)


def test_a_set_that_is_not_scored_is_named(decoded, tmp_path):
    base = decoded("slu_none", "slu", NER, NER)
    (tmp_path / "other").mkdir()
    with pytest.raises(UserError, match="other is not scored"):
        compare_folders(base, tmp_path / "other")
    with pytest.raises(UserError, match="no cls_\\*/<decoding>/<set>/score_sentiment/result.json"):
        find_runs(tmp_path / "exp", "cls")
    assert json.loads((base / "score_ner/result.json").read_text())["utterances"] == 40
