"""histories: order, depth, what is missing, what is wrong."""

import time

import pytest

from espnet_ctx.context.sessions import histories, last_tokens
from espnet_ctx.context.sessions import sessions as sessions_of
from espnet_ctx.files import UserError, read_table, write_table


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


def sessions(tmp_path, number=6, length=5):
    names = [[f"s{i}-{j}" for j in range(length)] for i in range(number)]
    text = {utt: f"text of {utt}" for session in names for utt in session}
    prev = {utt: session[j - 1] if j else "-" for session in names for j, utt in enumerate(session)}
    return make_data(tmp_path, text, prev)


@pytest.mark.parametrize("num_prev", [1, 3, 100])
def test_nothing_that_is_said_now_or_later_is_looked_at(tmp_path, num_prev):
    data = sessions(tmp_path)
    text = read_table(data / "text")
    before = dict(histories(data, num_prev))
    for utt in ("s0-0", "s2-3", "s5-4"):
        session, number = utt.split("-")
        later = {f"{session}-{j}": f"secret {j}" for j in range(int(number), 5)}
        write_table(data / "text", {**text, **later})
        changed = histories(data, num_prev)
        assert changed[utt] == before[utt]
        assert "secret" not in changed.joined(utt)
        other = [u for u in text if not u.startswith(session)]
        assert all(changed[u] == before[u] for u in other)
    assert before["s2-3"][-1] == "text of s2-2"


def test_shuffled_histories_come_from_other_sessions_each_once(tmp_path):
    data = sessions(tmp_path)
    true = histories(data, 2)
    shuffled = true.shuffled(seed=3)
    assert list(shuffled) == list(true)
    for utt in true:
        assert bool(shuffled[utt]) == bool(true[utt])
        assert not any(text.startswith(f"text of {utt.split('-')[0]}-") for text in shuffled[utt])
    assert sorted(map(str, shuffled.values())) == sorted(map(str, true.values()))
    assert dict(true.shuffled(3)) == dict(shuffled) != dict(true.shuffled(4))
    assert set(map(str, true.nothing().values())) == {"[]"}


def test_one_session_cannot_be_shuffled(tmp_path):
    with pytest.raises(UserError, match="one session has 4 of 4 utterances"):
        histories(sessions(tmp_path, number=1), 1).shuffled(0)


def test_recognised_texts_replace_the_true_ones(tmp_path, caplog):
    data = make_data(tmp_path, {"b": "two", "c": "three"}, {"c": "b", "b": "a"}, {"a": "one"})
    write_table(tmp_path / "hyp", {"b": "too", "c": "tree"})
    assert histories(data, 2, recognised=tmp_path / "hyp") == {"b": [], "c": ["too"]}
    assert "no line for 1 previous utterances, the first is 'a'" in caplog.text


@pytest.mark.parametrize(
    ("text", "limit", "kept"),
    [
        ("one two three", 3, "one two three"),
        ("one two three", 2, "two three"),
        ("one, two", 2, "two"),
        ("extraordinary end", 2, "end"),
        ("extraordinary end", 4, "extraordinary end"),
        ("x" * 50_000, 3, "x" * 14),
        ("word " * 10_000, 2, "word word "),
        ("", 1, ""),
    ],
)
def test_last_tokens(text, limit, kept):
    assert last_tokens(text, limit) == kept


def test_budget_cuts_the_oldest_words(tmp_path):
    data = make_data(tmp_path, {"a": "one two", "b": "three four", "c": "five"}, {"a": "-", "b": "a", "c": "b"})
    assert histories(data, 2, max_tokens=3).joined("c") == "two\nthree four"
    with pytest.raises(UserError, match="--max_prev_tokens is 0"):
        histories(data, 2, max_tokens=0)


def test_sessions_in_the_order_of_speech(tmp_path, caplog):
    write_table(tmp_path / "wav.scp", dict.fromkeys("abcdxyz", "file"))
    # n, without audio, stands between b and c; both x and y follow d; z has no line
    write_table(tmp_path / "utt2prev", {"d": "-", "x": "d", "y": "d", "c": "n", "n": "b", "b": "a", "a": "gone"})
    assert sessions_of(tmp_path) == [["a", "b", "c"], ["d", "x"], ["y"], ["z"]]
    assert "no line for 1 utterances, the first is 'z'" in caplog.text
    assert "1 utterances follow one that another follows too, the first is 'y'" in caplog.text
    (tmp_path / "utt2prev").unlink()
    with pytest.raises(UserError, match="utt2prev is missing: .* without it there are no sessions"):
        sessions_of(tmp_path)
