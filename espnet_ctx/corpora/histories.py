"""What was said before the utterances of a set: `utt2prev` and `prev_text`."""

from collections.abc import Callable, Mapping

from espnet_ctx.data_dir import PREV_TEXT, UTT2PREV, Tables


def link(ids: Mapping[str, str], outside: Mapping[str, str], previous: Callable[[str], str]) -> Tables:
    """Link each utterance of a set to the one before it.

    A history goes on through utterances that are in no set, as far as their texts are known.

    Args:
        ids: utterance id of each name in the set.
        outside: text of each name that may be in a history though it is in no set; its name is its id.
        previous: the name of what was said directly before a name, whether it is known or not.

    Returns:
        the tables `utt2prev` and `prev_text`, the latter with what the histories need.
    """
    utt2prev: dict[str, str] = {}
    prev_text: dict[str, str] = {}

    def known(name: str) -> str:
        return ids.get(name) or (name if name in outside else "-")

    for name, utt in ids.items():
        before = previous(name)
        utt2prev[utt] = known(before)
        while before not in ids and before in outside and before not in prev_text:
            prev_text[before] = outside[before]
            utt2prev[before] = known(previous(before))
            before = previous(before)
    return {UTT2PREV: utt2prev, PREV_TEXT: prev_text}
