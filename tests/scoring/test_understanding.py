"""Tables and reports of tagged entities and sentiment, from decoded sets as stage 12 leaves them."""

import json

import pytest

from espnet_ctx.bin import score_ner, score_sentiment
from espnet_ctx.files import UserError, write_table
from espnet_ctx.scoring.report import find_runs, write_report
from espnet_ctx.scoring.tables import results_markdown
from espnet_ctx.scoring.understanding import compare_folders, read_rates

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
