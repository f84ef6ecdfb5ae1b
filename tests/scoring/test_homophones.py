import pytest

from espnet_ctx.files import UserError
from espnet_ctx.scoring.homophones import HomophoneCounts, count_homophones, read_homophones
from espnet_ctx.scoring.sclite import align, read_summary


def test_counts_of_a_hand_worked_set(scored, tmp_path):
    (tmp_path / "pairs").write_text("flour flower\nsun son\n")
    folder = scored(
        "set",
        ["the flour is here", "my son and the sun", "a flower a day"],
        # flour -> flower: wrong twin; son right, sun -> sum: an error, not a twin; flower lost; "day" put in
        ["the flower is here", "my son and the sum", "a a day day"],
    )
    counts = count_homophones(
        align(folder / "score_wer/ref.trn", folder / "score_wer/hyp.trn").values(),
        read_homophones(tmp_path / "pairs"),
    )
    assert (counts.homophones, counts.wrong_twins, counts.others) == (4, 1, 9)
    assert counts.homophone_errors == 3
    summary = read_summary(folder / "score_wer/result.txt")
    assert counts.homophones + counts.others == summary.words == 13
    assert counts.wer == pytest.approx(summary.errors, abs=0.05)
    assert counts.homophone_wer == 75.0
    assert counts.wrong_twin_rate == 25.0


def test_insertions_count_among_the_other_words(scored, tmp_path):
    (tmp_path / "pairs").write_text("flour flower\n")
    folder = scored("set", ["the end"], ["the flour end"])
    alignments = align(folder / "score_wer/ref.trn", folder / "score_wer/hyp.trn").values()
    assert count_homophones(alignments, read_homophones(tmp_path / "pairs")) == HomophoneCounts(0, 0, 0, 2, 1)


def test_rates_without_words_are_zero():
    counts = HomophoneCounts(0, 0, 0, 0, 0)
    assert (counts.wer, counts.homophone_wer, counts.wrong_twin_rate, counts.other_wer) == (0, 0, 0, 0)


def test_three_words_of_one_sound(tmp_path):
    (tmp_path / "pairs").write_text("Rose rows roes\nson sun\n")
    twins = read_homophones(tmp_path / "pairs")
    assert twins["rose"] == {"rows", "roes"}
    assert twins["sun"] == {"son"}


@pytest.mark.parametrize(
    "text, message",
    [
        ("flour\n", "line 1: expected two"),
        ("a b\nb c\n", "line 2: 'b' occurs twice"),
        ("a a\n", "'a' occurs twice"),
    ],
)
def test_bad_lists_are_errors(tmp_path, text, message):
    (tmp_path / "pairs").write_text(text)
    with pytest.raises(UserError, match=message):
        read_homophones(tmp_path / "pairs")


def test_missing_list_names_the_option(tmp_path):
    with pytest.raises(UserError, match="--pairs"):
        read_homophones(tmp_path / "none")
