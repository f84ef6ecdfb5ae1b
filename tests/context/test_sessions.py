"""histories: order, depth, what is missing, what is wrong."""

import time

import pytest

from espnet_ctx.context.sessions import histories
from espnet_ctx.files import UserError, write_table


def make_data(folder, text, utt2prev, prev_text=None):
    write_table(folder / "text", text)
    write_table(folder / "utt2prev", utt2prev)
    if prev_text:
        write_table(folder / "prev_text", prev_text)
    return folder


def test_oldest_first_and_at_most_num_prev(tmp_path):
    data = make_data(
        tmp_path,
        {"a": "one", "b": "two", "c": "three", "x": "alone"},
        {"a": "-", "b": "a", "c": "b", "x": "-"},
    )
    assert histories(data, 1) == {"a": [], "b": ["one"], "c": ["two"], "x": []}
    assert histories(data, 4) == {"a": [], "b": ["one"], "c": ["one", "two"], "x": []}


def test_predecessors_outside_the_set(tmp_path):
    data = make_data(tmp_path, {"c": "three"}, {"c": "b", "b": "a"}, {"b": "two", "a": "one"})
    assert histories(data, 1) == {"c": ["two"]}
    assert histories(data, 2) == {"c": ["one", "two"]}


def test_silent_predecessor_is_passed_over(tmp_path):
    data = make_data(tmp_path, {"a": "one", "b": "", "c": "three"}, {"a": "-", "b": "a", "c": "b"})
    assert histories(data, 1)["c"] == []
    assert histories(data, 2)["c"] == ["one"]


def test_missing_line_and_missing_text_begin_a_session_with_a_warning(tmp_path, caplog):
    data = make_data(tmp_path, {"a": "one", "b": "two", "c": "three"}, {"a": "-", "c": "lost"})
    assert histories(data, 2) == {"a": [], "b": [], "c": []}
    assert "no line for 1 utterances, the first is 'b'" in caplog.text
    assert "the first is 'c lost'" in caplog.text


@pytest.mark.parametrize("utt2prev", [{"a": "b", "b": "a"}, {"a": "a", "b": "a"}, {"a": "x", "x": "y", "y": "x", "b": "-"}])
def test_cycle_is_an_error(tmp_path, utt2prev):
    data = make_data(tmp_path, {"a": "one", "b": "two"}, utt2prev)
    with pytest.raises(UserError, match=r"utt2prev: cycle: utterance '\w' comes before itself"):
        histories(data, 1)


@pytest.mark.parametrize("value", ["", "a b"])
def test_malformed_line(tmp_path, value):
    data = make_data(tmp_path, {"a": "one", "b": "two"}, {"a": "-", "b": value})
    with pytest.raises(UserError, match="utt2prev: 'b"):
        histories(data, 1)


def test_num_prev_must_be_positive(tmp_path):
    with pytest.raises(UserError, match="num_prev is 0"):
        histories(tmp_path, 0)


def test_missing_file(tmp_path):
    write_table(tmp_path / "text", {"a": "one"})
    with pytest.raises(UserError, match="utt2prev"):
        histories(tmp_path, 1)


def test_long_session_takes_linear_time(tmp_path):
    names = [f"u{i:06d}" for i in range(30_000)]
    # stored last first: the worst order for following the links
    prev = dict(zip(names, ["-", *names], strict=False))
    data = make_data(tmp_path, dict.fromkeys(names, "word"), prev)
    begin = time.process_time()
    result = histories(data, 2)
    assert time.process_time() - begin < 2
    assert len(result[names[-1]]) == 2
