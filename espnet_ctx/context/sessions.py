"""Sessions: what was said before each utterance, from `utt2prev`, `text` and `prev_text`."""

import logging
import random
import re
from collections import ChainMap, defaultdict
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from espnet_ctx.context.provenance import sha256_of_table
from espnet_ctx.files import UserError, read_table

FIRST = "-"
TOKEN = re.compile(r"\w{1,6}|[^\w\s]")


class Histories(Mapping[str, list[str]]):
    """Utterance -> texts of the utterances before it, oldest first; looked up when asked for.

    Only what comes before an utterance on its chain of `utt2prev` is ever looked at, never its own text.
    """

    def __init__(
        self, utts: Collection[str], texts: Mapping[str, str], prev_of: Mapping[str, str | None], num_prev: int,
        max_tokens: int | None = None, instead: Mapping[str, str] = {},
    ):  # fmt: skip
        self._utts, self._texts, self._prev_of = utts, texts, prev_of
        self._num_prev, self._max_tokens, self._instead = num_prev, max_tokens, instead

    def __getitem__(self, utt: str) -> list[str]:
        if utt not in self._utts:
            raise KeyError(utt)
        history: list[str] = []
        before = self._prev_of.get(self._instead.get(utt, utt))
        for _ in range(self._num_prev):
            if before is None:
                break
            history.append(self._texts.get(before, ""))
            before = self._prev_of.get(before)
        return [t for t in reversed(history) if t]

    def __iter__(self) -> Iterator[str]:
        return iter(self._utts)

    def __len__(self) -> int:
        return len(self._utts)

    def joined(self, utt: str, between: str = "\n") -> str:
        """The previous texts as one, cut from the left to the budget."""
        text = between.join(self[utt])
        return text if self._max_tokens is None else last_tokens(text, self._max_tokens)

    def sha256(self) -> str:
        """Hash of every utterance and its history."""
        return sha256_of_table((utt, self.joined(utt)) for utt in self)

    def shuffled(self, seed: int) -> "Histories":
        """Each utterance with a history gets that of an utterance of another session, every history used once.

        Raises:
            UserError: one session has more than half of the utterances, so that there is no such order.
        """
        rng = random.Random(seed)
        sessions = {first: [utt for utt in utts if self[utt]] for first, utts in self.sessions().items()}
        blocks = [sessions[first] for first in sorted(sessions) if sessions[first]]
        rng.shuffle(blocks)
        for block in blocks:
            rng.shuffle(block)
        order = [utt for block in blocks for utt in block]
        shift = max(map(len, blocks), default=0)
        if 2 * shift > len(order):
            raise UserError(f"histories cannot be shuffled: one session has {shift} of {len(order)} utterances with a history")
        instead = dict(zip(order, order[shift:] + order[:shift], strict=True))
        return Histories(self._utts, self._texts, self._prev_of, self._num_prev, self._max_tokens, instead)

    def sessions(self) -> dict[str, list[str]]:
        """The utterances of each session, under the name of the one that its chain begins with."""
        found: defaultdict[str, list[str]] = defaultdict(list)
        first_of: dict[str, str] = {}
        for utt in self:
            found[self._first(utt, first_of)].append(utt)
        return dict(found)

    def nothing(self) -> "Histories":
        """The same utterances, each without a history."""
        return Histories(self._utts, {}, {}, 0)

    def _first(self, utt: str, known: dict[str, str]) -> str:
        """The first utterance of the session."""
        walk = []
        while utt not in known and self._prev_of.get(utt) is not None:
            walk.append(utt)
            utt = self._prev_of[utt]
        first = known.setdefault(utt, utt)
        known.update(dict.fromkeys(walk, first))
        return first


def histories(data_dir, num_prev: int, max_tokens: int | None = None, recognised=None) -> Histories:
    """Texts of up to `num_prev` utterances before each utterance of a data directory.

    `utt2prev` (`<utt> <previous utt>`, or `<utt> -` for the first of a session) links the utterances; their
    texts stand in `text` or, for utterances that are in no set, in `prev_text`. Takes time linear in the
    number of utterances. An utterance without a line in `utt2prev`, and one whose predecessor's text is
    nowhere, counts as the first of its session (with a warning). Utterances that were silent (an empty text)
    are passed over.

    Args:
        data_dir: Kaldi data directory.
        num_prev: how far to look back, in utterances, >= 1.
        max_tokens: longer histories lose their beginning when joined (see `last_tokens`); None: no limit.
        recognised: table `<utt> <text>` of what was recognised, to be looked at instead of the true texts. An
            utterance that is not in it counts as silent (with a warning).

    Returns:
        For each utterance of `text`, in its order, the previous texts, oldest first; an empty list when there
        are none.

    Raises:
        UserError: `num_prev` < 1, `max_tokens` < 1, a missing or malformed file, or a cycle in `utt2prev`.
    """
    if num_prev < 1:
        raise UserError(f"num_prev is {num_prev}: must be at least 1 (option --num_prev)")
    if max_tokens is not None and max_tokens < 1:
        raise UserError(f"--max_prev_tokens is {max_tokens}: must be at least 1")
    data_dir = Path(data_dir)
    text = read_table(data_dir / "text")
    text_before = data_dir / "prev_text"
    texts: Mapping[str, str] = ChainMap(text, read_table(text_before) if text_before.exists() else {})
    prev_of = _read_utt2prev(data_dir / "utt2prev", text, texts)
    if recognised is not None:
        texts = read_table(recognised)
        unheard = {prev for prev in prev_of.values() if prev is not None and prev not in texts}
        if unheard:
            logging.warning(
                f"{recognised}: no line for {len(unheard)} previous utterances, the first is '{min(unheard)}': "
                "each counts as silent"
            )
    return Histories(text, texts, prev_of, num_prev, max_tokens)


def sessions(data_dir) -> list[list[str]]:
    """The utterances that have audio, session by session, each session in the order of speech.

    `utt2prev` links them; utterances without audio on the way are passed over. One without a line begins a session,
    and so does one whose predecessor has another successor already (with a warning).

    Args:
        data_dir: Kaldi data directory with `wav.scp` and `utt2prev`.

    Raises:
        UserError: a missing or malformed file, or a cycle in `utt2prev`.
    """
    data_dir = Path(data_dir)
    utts = read_table(data_dir / "wav.scp")
    path = data_dir / "utt2prev"
    if not path.exists():
        raise UserError(
            f"{path} is missing: it says what was said before an utterance ('<utterance> <previous utterance>' or "
            f"'<utterance> {FIRST}'); without it there are no sessions"
        )
    prev_of = _read_links(path, utts)
    next_of: dict[str, str] = {}
    firsts, split = [], []
    for utt in utts:
        before = prev_of.get(utt)
        while before is not None and before not in utts:
            before = prev_of.get(before)
        if before in next_of:
            split.append(utt)
        if before is None or before in next_of:
            firsts.append(utt)
        else:
            next_of[before] = utt
    if split:
        logging.warning(
            f"{path}: {len(split)} utterances follow one that another follows too, the first is '{split[0]}': "
            "each is taken as the first of its session"
        )
    chains = []
    for utt in firsts:
        chain = [utt]
        while chain[-1] in next_of:
            chain.append(next_of[chain[-1]])
        chains.append(chain)
    return chains


def last_tokens(text: str, limit: int) -> str:
    """The end of a text, by whole words, in at most `limit` tokens.

    A token is a piece of up to six letters or digits of a word, or one other character: about what tokenizers
    make of it, and the same for every LLM. Of a last word that is too long its end is kept.
    """
    if len(text) <= limit:
        return text
    starts = [match.start() for match in TOKEN.finditer(text)]
    if len(starts) <= limit:
        return text
    cut = starts[-limit]
    if not text[cut - 1].isspace():
        word = re.compile(r"(?<=\s)\S").search(text, cut)
        cut = word.start() if word else cut
    return text[cut:]


def _read_utt2prev(path: Path, in_set: Mapping[str, str], texts: Mapping[str, str]) -> dict[str, str | None]:
    """The predecessor of each utterance, None for the first of a session; every predecessor has a text."""
    prev_of = _read_links(path, in_set)
    textless = [utt for utt, prev in prev_of.items() if prev is not None and prev not in texts]
    if textless:
        logging.warning(
            f"{path}: {len(textless)} utterances follow one whose text is neither in text nor in prev_text, "
            f"the first is '{textless[0]} {prev_of[textless[0]]}': each is taken as the first of its session"
        )
        prev_of.update(dict.fromkeys(textless))
    return prev_of


def _read_links(path: Path, in_set: Collection[str]) -> dict[str, str | None]:
    """The predecessor of each utterance, None for the first of a session."""
    prev_of: dict[str, str | None] = read_table(path)
    name_of = {utt: utt for utt in prev_of}  # one string per name: corpora are long
    for utt, prev in prev_of.items():
        if not prev or " " in prev:
            raise UserError(f"{path}: '{utt} {prev}': expected '<utterance> <previous utterance, or {FIRST}>'")
        prev_of[utt] = None if prev == FIRST else name_of.get(prev, prev)
    _refuse_cycles(path, prev_of)
    unlisted = [utt for utt in in_set if utt not in prev_of]
    if unlisted:
        logging.warning(
            f"{path}: no line for {len(unlisted)} utterances, the first is '{unlisted[0]}': "
            "each is taken as the first of its session"
        )
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
