import kaldiio
import numpy as np
import pytest

from espnet_ctx.bin import link_sessions
from espnet_ctx.context.store import write_archive
from espnet_ctx.files import UserError, read_table, write_table


def test_places_and_the_next_utterances_context(tmp_path):
    write_table(tmp_path / "wav.scp", dict.fromkeys("abcx", "file"))
    write_table(tmp_path / "utt2prev", {"x": "-", "c": "-", "a": "c", "b": "a"})
    texts = {"a": "one", "b": "", "c": "", "x": "two"}
    embeddings = [(text, np.full((2, 3), value, np.float32)) for text, value in (("one", 1), ("two", 2))]
    write_archive(tmp_path, texts, embeddings, 3, "float16", {}, {})
    command = ["--data_dir", str(tmp_path), "--out", str(tmp_path / "out"), "--context_scp", str(tmp_path / "context.scp")]
    link_sessions.main(command)
    assert read_table(tmp_path / "out/place") == {"c": "0 0 3", "a": "1 0 3", "b": "2 0 3", "x": "3 3 4"}
    following = kaldiio.load_scp(str(tmp_path / "out/next_context.scp"))
    assert {utt: following[utt].tolist() for utt in following} == {
        "c": [[1, 1, 1], [1, 1, 1]],  # what a has
        "a": [[0, 0, 0]],
        "b": [[0, 0, 0]],
        "x": [[0, 0, 0]],
    }
    write_table(tmp_path / "wav.scp", dict.fromkeys("abcxy", "file"))
    with pytest.raises(UserError, match="context.scp lacks 1 of 5 utterances, e.g. y"):
        link_sessions.main(command)
