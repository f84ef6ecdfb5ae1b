"""Sessions: what was said before each utterance, from `utt2prev`, `text` and `prev_text`."""

import logging
from collections.abc import Mapping
from pathlib import Path

from espnet_ctx.files import UserError, read_table

FIRST = "-"


def histories(data_dir, num_prev: int) -> dict[str, list[str]]:
    """Texts of up to `num_prev` utterances before each utterance of a data directory.

    `utt2prev` (`<utt> <previous utt>`, or `<utt> -` for the first of a session) links the utterances; their
    texts stand in `text` or, for utterances that are in no set, in `prev_text`. Takes time linear in the
    number of utterances. An utterance without a line in `utt2prev`, and one whose predecessor's text is
    nowhere, counts as the first of its session (with a warning). Utterances that were silent (an empty text)
    are passed over.

    Args:
        data_dir: Kaldi data directory.
        num_prev: how far to look back, in utterances, >= 1.

    Returns:
        For each utterance of `text`, in its order, the previous texts, oldest first; an empty list when there
        are none.

    Raises:
        UserError: `num_prev` < 1, a missing or malformed file, or a cycle in `utt2prev`.
    """
    if num_prev < 1:
        raise UserError(f"num_prev is {num_prev}: must be at least 1 (option --num_prev)")
    data_dir = Path(data_dir)
    text = read_table(data_dir / "text")
    text_before = data_dir / "prev_text"
    texts = {**(read_table(text_before) if text_before.exists() else {}), **text}
    prev_of = _read_utt2prev(data_dir / "utt2prev", text, texts)
    result = {}
    for utt in text:
        history: list[str] = []
        before = prev_of.get(utt)
        for _ in range(num_prev):
            if before is None:
                break
            history.append(texts[before])
            before = prev_of.get(before)
        result[utt] = [t for t in reversed(history) if t]
    return result


def _read_utt2prev(path: Path, in_set: Mapping[str, str], texts: Mapping[str, str]) -> dict[str, str | None]:
    """The predecessor of each utterance, None for the first of a session; every predecessor has a text."""
    prev_of: dict[str, str | None] = {}
    for utt, prev in read_table(path).items():
        if not prev or " " in prev:
            raise UserError(f"{path}: '{utt} {prev}': expected '<utterance> <previous utterance, or {FIRST}>'")
        prev_of[utt] = None if prev == FIRST else prev
    _refuse_cycles(path, prev_of)
    unlisted = [utt for utt in in_set if utt not in prev_of]
    if unlisted:
        logging.warning(
            f"{path}: no line for {len(unlisted)} utterances, the first is '{unlisted[0]}': "
            "each is taken as the first of its session"
        )
    textless = [utt for utt, prev in prev_of.items() if prev is not None and prev not in texts]
    if textless:
        logging.warning(
            f"{path}: {len(textless)} utterances follow one whose text is neither in text nor in prev_text, "
            f"the first is '{textless[0]} {prev_of[textless[0]]}': each is taken as the first of its session"
        )
        prev_of.update(dict.fromkeys(textless))
    return prev_of


def _refuse_cycles(path: Path, prev_of: Mapping[str, str | None]) -> None:
    """Raise when somebody is said to have spoken before himself."""
    cleared: set[str] = set()
    for start in prev_of:
        walk: dict[str, None] = {}
        utt: str | None = start
        while utt is not None and utt not in cleared:
            if utt in walk:
                cycle = list(walk)[list(walk).index(utt) :]
                shown = " -> ".join([*cycle[:5], *(["..."] if len(cycle) > 5 else []), utt])
                raise UserError(f"{path}: cycle: utterance '{utt}' comes before itself ({shown})")
            walk[utt] = None
            utt = prev_of.get(utt)
        cleared.update(walk)
