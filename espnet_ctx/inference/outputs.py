"""What decoding leaves on the disk."""

from pathlib import Path
from typing import Mapping

from espnet_ctx.files import whole_file, write_table
from espnet_ctx.inference.ctc import Hypothesis
from espnet_ctx.inference.recognizer import CTCRecognizer
from espnet_ctx.inference.subtitles import ctm

TABLES = ("score", "token_int", "token", "token_time", "token_confidence", "text")  # text last: whoever finds it finds all


def write_hypotheses(recognizer: CTCRecognizer, hypotheses: Mapping[str, Hypothesis], folder: Path) -> None:
    """Write ESPnet's tables, and beside them when each token begins (seconds), its confidence, and the words as CTM.

    Args:
        recognizer: what made them.
        hypotheses: by utterance.
        folder: of the decoded set.
    """
    tables: dict[str, dict[str, str]] = {name: {} for name in TABLES}
    for utt, hypothesis in hypotheses.items():
        tokens, text = recognizer.text(hypothesis)
        tables["text"][utt] = text
        tables["token"][utt] = " ".join(tokens)
        tables["token_int"][utt] = " ".join(map(str, hypothesis.token_ids))
        tables["score"][utt] = f"{hypothesis.score:.4f}"
        tables["token_time"][utt] = " ".join(f"{token.start:.2f}" for token in recognizer.timed_tokens(hypothesis))
        tables["token_confidence"][utt] = " ".join(f"{confidence:.3f}" for confidence in hypothesis.confidences)
    write_ctm(recognizer, hypotheses, folder / "ctm")
    for name in TABLES:
        write_table(folder / name, tables[name])


def write_ctm(recognizer: CTCRecognizer, hypotheses: Mapping[str, Hypothesis], path: Path) -> None:
    """Write the words of all utterances with their times, sorted by utterance."""
    with whole_file(path) as f:
        for utt in sorted(hypotheses, key=str.encode):
            f.write(ctm(utt, recognizer.timed_words(hypotheses[utt])))
