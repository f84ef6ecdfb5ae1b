import pytest

from espnet_ctx.files import UserError
from espnet_ctx.scoring import sclite
from espnet_ctx.scoring.sclite import Step, align, parse_sgml, read_summary, read_trn, score_texts, tokenize

REF = {"a-1": "the flour is white", "b-2:3": "a b c", "b-4": "he said so"}
HYP = {"a-1": "the flower is", "b-2:3": "", "b-4": "he he said so"}
UTT2SPK = {"a-1": "a", "b-2:3": "b", "b-4": "b"}


def test_score_texts_counts_what_a_hand_counts(tmp_path):
    summaries = score_texts(REF, HYP, UTT2SPK, tmp_path)
    # 10 words: flour -> flower, white lost; a, b, c lost; one "he" too many
    assert summaries["wer"] == (3, 10, 50.0, 10.0, 40.0, 10.0, 60.0, 100.0)
    # characters with spaces: 18 + 5 + 10; "flour" -> "flower": w put in, u -> e; " white" and "a b c" lost
    assert summaries["cer"].words == 33
    assert summaries["cer"].sentences == 3
    assert summaries.keys() == {"wer", "cer"}
    assert read_summary(tmp_path / "score_wer" / "result.txt") == summaries["wer"]


def test_trn_files_have_espnets_form(tmp_path):
    score_texts(REF, HYP, UTT2SPK, tmp_path)
    assert (tmp_path / "score_wer/ref.trn").read_text() == (
        "the flour is white\t(a-a-1)\na b c\t(b-b-2:3)\nhe said so\t(b-b-4)\n"
    )
    assert (tmp_path / "score_cer/hyp.trn").read_text().splitlines()[1] == "\t(b-b-2:3)"
    assert (tmp_path / "score_cer/ref.trn").read_text().splitlines()[1] == "a <space> b <space> c\t(b-b-2:3)"
    assert read_trn(tmp_path / "score_wer/ref.trn") == {
        "a-a-1": REF["a-1"],
        "b-b-2:3": "a b c",
        "b-b-4": "he said so",
    }


def test_alignment_tells_what_became_of_every_word(tmp_path):
    score_texts(REF, HYP, UTT2SPK, tmp_path)
    steps = align(tmp_path / "score_wer/ref.trn", tmp_path / "score_wer/hyp.trn")
    assert steps["a-a-1"] == [
        Step("C", "the", "the"),
        Step("S", "flour", "flower"),
        Step("C", "is", "is"),
        Step("D", "white", None),
    ]
    assert [step.op for step in steps["b-b-2:3"]] == ["D", "D", "D"]
    assert sum(step.op == "I" for step in steps["b-b-4"]) == 1


def test_words_with_quotes_and_colons_are_read(tmp_path):
    score_texts({"s-1": 'a "b, c:d'}, {"s-1": 'a "b, c:e'}, {"s-1": "s"}, tmp_path)
    steps = align(tmp_path / "score_wer/ref.trn", tmp_path / "score_wer/hyp.trn")
    assert steps["s-s-1"] == [Step("C", "a", "a"), Step("C", '"b,', '"b,'), Step("S", "c:d", "c:e")]


def test_utterance_without_a_word_on_either_side(tmp_path):
    ref, hyp = {"s-1": "", "s-2": "yes"}, {"s-1": "", "s-2": "yes"}
    summaries = score_texts(ref, hyp, {"s-1": "s", "s-2": "s"}, tmp_path)
    assert summaries["wer"] == (2, 1, 100.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    assert align(tmp_path / "score_wer/ref.trn", tmp_path / "score_wer/hyp.trn")["s-s-1"] == []


def test_token_errors_with_a_sentencepiece_model(tmp_path):
    import sentencepiece

    (tmp_path / "text").write_text("the cat sat on the mat\nthe dog sat on the cat\n" * 20)
    sentencepiece.SentencePieceTrainer.train(
        input=str(tmp_path / "text"), model_prefix=str(tmp_path / "bpe"), vocab_size=16, minloglevel=2
    )
    texts = {"s-1": "the cat sat"}
    summaries = score_texts(texts, texts, {"s-1": "s"}, tmp_path, tmp_path / "bpe.model")
    assert summaries["ter"].errors == 0.0
    pieces = read_trn(tmp_path / "score_ter/ref.trn")["s-s-1"].split()
    assert "".join(pieces).replace("\u2581", " ").strip() == "the cat sat"
    assert summaries["ter"].words == len(pieces)


def test_tokenize_drops_double_spaces():
    assert tokenize(" a  bc ", "char") == ["a", "<space>", "b", "c"]
    assert tokenize(" a  bc ", "word") == ["a", "bc"]


@pytest.mark.parametrize("name", ["hyp", "utt2spk"])
def test_other_utterances_are_an_error(tmp_path, name):
    tables = {"hyp": dict(HYP), "utt2spk": dict(UTT2SPK)}
    del tables[name]["b-4"]
    with pytest.raises(UserError, match="3 and 2, 'b-4'"):
        score_texts(REF, tables["hyp"], tables["utt2spk"], tmp_path)
    assert not list(tmp_path.iterdir())


def test_trn_files_of_other_utterances_are_an_error(tmp_path):
    (tmp_path / "ref.trn").write_text("a\t(s-1)\nb\t(s-2)\n")
    (tmp_path / "hyp.trn").write_text("a\t(s-1)\n")
    with pytest.raises(UserError, match="'s-2' is in one only"):
        align(tmp_path / "ref.trn", tmp_path / "hyp.trn")
    (tmp_path / "hyp.trn").write_text("a\n")
    with pytest.raises(UserError, match="line 1: expected"):
        align(tmp_path / "ref.trn", tmp_path / "hyp.trn")


def test_missing_sclite_names_the_package(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="install the package sctk"):
        score_texts(REF, HYP, UTT2SPK, tmp_path)


def test_either_sclite_or_debians_wrapper(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "sctk").write_text("#!/bin/sh\n")
    (tmp_path / "sctk").chmod(0o755)
    assert sclite.sctk_command("sclite") == ["sctk", "sclite"]
    (tmp_path / "sclite").write_text("#!/bin/sh\n")
    (tmp_path / "sclite").chmod(0o755)
    assert sclite.sctk_command("sclite") == ["sclite"]


def test_alignment_that_cannot_be_read_is_an_error():
    with pytest.raises(UserError, match="cannot read sclite's alignment of 's-1'"):
        parse_sgml('<PATH id="(s-1)" word_cnt="2" sequence="0">\nC,"a","a"\n</PATH>\n')


def test_report_without_figures_is_an_error():
    with pytest.raises(UserError, match="no Sum/Avg line"):
        sclite.parse_summary("nothing")
