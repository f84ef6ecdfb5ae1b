"""References and hypotheses, utterance by utterance."""

from pathlib import Path

from espnet_ctx.files import UserError, read_table


def read_pairs(ref, hyp, kaldi: bool) -> tuple[list[str], list[str]]:
    """Read texts that belong together.

    Args:
        ref: file of the references.
        hyp: file of the hypotheses.
        kaldi: whether the files are Kaldi tables (`<utterance> <text>`), to be paired by utterance, rather than lines,
            to be paired row by row.

    Returns:
        references and hypotheses in the order of the references, stripped.

    Raises:
        UserError: a missing file, nothing to score, other utterances or another number of lines.
    """
    if not kaldi:
        refs, hyps = read_lines(ref), read_lines(hyp)
        if len(refs) != len(hyps):
            raise UserError(f"{ref} has {len(refs)} lines and {hyp} has {len(hyps)}: they must pair row by row")
    else:
        ref_table, hyp_table = read_table(ref), read_table(hyp)
        if odd := sorted(ref_table.keys() ^ hyp_table.keys()):
            raise UserError(f"{ref} and {hyp} do not hold the same utterances ('{odd[0]}' is in one only)")
        refs, hyps = list(ref_table.values()), [hyp_table[utt] for utt in ref_table]
    if not refs:
        raise UserError(f"{ref} is empty: there is nothing to score")
    return refs, hyps


def read_lines(path) -> list[str]:
    """Read the lines of a text file, stripped; only line ends separate lines (and no other characters of Unicode)."""
    try:
        with Path(path).open(encoding="utf-8") as f:
            return [line.strip() for line in f]
    except FileNotFoundError:
        raise UserError(f"no such file: {path}") from None
    except UnicodeDecodeError as e:
        raise UserError(f"{path} is not UTF-8 text: {e}") from None
