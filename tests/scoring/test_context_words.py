import json

import pytest

from espnet_ctx.bin import score_context
from espnet_ctx.files import UserError, write_table
from espnet_ctx.scoring.context_words import ContextCounts, count_context_words
from espnet_ctx.scoring.sclite import Step, read_summary
from espnet_ctx.scoring.tables import results_markdown


def steps(*rows):
    return [Step(op, ref or None, hyp or None) for op, ref, hyp in (row.split(",") for row in rows)]


def test_counts_by_hand():
    alignments = {
        # flour is right, mill is lost, rose is taken for bread: both in the context
        "a": steps("C,flour,flour", "D,mill,", "S,rose,bread"),
        # sun is outside; bread is put in from the context; the second the is said twice, and so not copied
        "b": steps("S,sun,son", "I,,bread", "C,the,the", "I,,the"),
        "c": steps("C,sun,sun", "I,,sun"),
    }
    contexts = {"a": "Flour mill bread", "b": "the bread", "c": ""}
    counts = count_context_words(alignments, contexts)
    assert counts == ContextCounts(
        inside=3, inside_errors=1, outside=3, outside_errors=2, insertions=3, copied=2
    )
    assert (counts.inside_wer, counts.outside_wer, counts.false_insertion_rate) == pytest.approx((100 / 3, 200 / 3, 100 / 3))


def test_nothing_to_count_is_zero_and_a_missing_context_is_named():
    empty = count_context_words({}, {})
    assert (empty.inside_wer, empty.outside_wer, empty.false_insertion_rate) == (0, 0, 0)
    with pytest.raises(UserError, match="the context texts lack 1 of 1 utterances, e.g. a"):
        count_context_words({"a": []}, {})


def test_the_command_agrees_with_sclite_and_results_show_it(scored, tmp_path, capsys):
    refs, hyps = ["the flour is here", "a flower a day", "no"], ["the flour was here", "a mill flower day", "no"]
    folder = scored("asr_x/decode/test", refs, hyps)
    utts = [f"spk{i % 2}-utt{i:04d}" for i in range(3)]
    write_table(tmp_path / "context_text", dict(zip(utts, ["flour mill", "the mill", ""])))
    write_table(tmp_path / "utt2spk", {utt: utt.partition("-")[0] for utt in utts})
    score_context.main(
        ["--ref", str(folder / "score_wer/ref.trn"), "--hyp", str(folder / "score_wer/hyp.trn"),
         "--context_text", str(tmp_path / "context_text"), "--utt2spk", str(tmp_path / "utt2spk"),
         "--out", str(folder / "score_context/result.json")]
    )  # fmt: skip
    counts = ContextCounts(**json.loads((folder / "score_context/result.json").read_text()))
    summary = read_summary(folder / "score_wer/result.txt")
    assert counts.inside + counts.outside == summary.words == 9
    wrong = counts.inside_errors + counts.outside_errors + counts.insertions
    assert 100 * wrong / 9 == pytest.approx(summary.errors, abs=0.05)
    assert (counts.inside, counts.inside_errors, counts.copied) == (1, 0, 1)
    assert capsys.readouterr().out.endswith("|11.1|\n")
    table = results_markdown(tmp_path / "asr_x").split("### Words of the context")[1]
    assert "|decode/test|1|0.0|8|" in table
