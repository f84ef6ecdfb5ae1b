import os
import re

import pytest

from espnet_ctx.files import UserError
from espnet_ctx.scoring.tables import markdown_table, results_markdown


def test_results_have_the_form_of_espnets_script(scored, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    scored("exp/asr_none/decode_ctc/test", ["a b", "c d"], ["a b", "c x"])
    scored("exp/asr_none/decode_ctc/valid", ["a b"], ["a"])
    text = results_markdown("exp/asr_none")
    head, _, tables = text.partition("## exp/asr_none\n")
    assert head.startswith("# RESULTS\n## Environments\n- date: `")
    for name in ("python", "espnet", "espnet_ctx", "pytorch"):
        assert re.search(rf"^- {name} version: `.+`$", head, re.MULTILINE)
    assert "\n- Git hash: `" in head and "\n  - Commit date: `" in head
    header = "|dataset|Snt|Wrd|Corr|Sub|Del|Ins|Err|S.Err|\n|---|---|---|---|---|---|---|---|---|\n"
    assert tables == (
        f"### WER\n\n{header}"
        "|decode_ctc/test|2|4|75.0|25.0|0.0|0.0|25.0|50.0|\n"
        "|decode_ctc/valid|1|2|50.0|0.0|50.0|0.0|50.0|100.0|\n\n"
        f"### CER\n\n{header}"
        "|decode_ctc/test|2|6|83.3|16.7|0.0|0.0|16.7|50.0|\n"
        "|decode_ctc/valid|1|3|33.3|0.0|66.7|0.0|66.7|100.0|\n\n"
        f"### TER\n\n{header}\n"
    )


def test_same_results_give_the_same_text(scored, tmp_path):
    result = scored("exp/asr_none/decode/test", ["a b"], ["a b"]) / "score_wer/result.txt"
    scored("exp/seed2/asr_none/decode/test", ["a b"], ["a b"])
    first = results_markdown(tmp_path / "exp")
    assert results_markdown(tmp_path / "exp") == first
    assert first.count("\n## ") == 3  # environments and two systems
    os.utime(result, (2e9, 2e9))
    assert "2033" in results_markdown(tmp_path / "exp").split("\n- python")[0]


def test_nothing_scored_names_the_stages(tmp_path):
    with pytest.raises(UserError, match="stages 11 and 12"):
        results_markdown(tmp_path)


def test_markdown_table():
    assert markdown_table(["a", "b"], [[1, 2.5]]) == "|a|b|\n|---|---|\n|1|2.5|\n"
