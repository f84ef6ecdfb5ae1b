"""Word, character and token error rates by sclite, called and laid out as ESPnet's asr.sh does."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Iterable, Mapping, NamedTuple

from espnet_ctx.files import UserError, whole_file

SPACE = "<space>"
UNITS = {"wer": "word", "cer": "char", "ter": "bpe"}
# sclite takes the speaker from the id, `(<speaker>-<utterance>)`
_TRN_LINE = re.compile(r"(?P<words>.*)\((?P<id>[^()]+)\)\s*$")
_SUM = re.compile(r"^\s*\|\s*Sum/Avg\s*\|(?P<cells>.*)\|\s*$", re.MULTILINE)
_PATH = re.compile(r'<PATH id="\((?P<id>.*?)\)" word_cnt="(?P<count>\d+)".*>\n(?P<steps>.*\n)?</PATH>')
_STEP = re.compile(r'(?P<op>[CSDI]),(?:"(?P<ref>.*?)")?,(?:"(?P<hyp>.*?)")?(?::(?=[CSDI],)|$)')


class Summary(NamedTuple):
    """The `Sum/Avg` line of a sclite report; rates in percent of the reference words."""

    sentences: int
    words: int
    correct: float
    substitutions: float
    deletions: float
    insertions: float
    errors: float
    sentence_errors: float


class Step(NamedTuple):
    """One step of an alignment: `op` is C(orrect), S(ubstitution), D(eletion) or I(nsertion).

    sclite compares without regard to case and gives the words in lower case;
    `ref` is None for an insertion, `hyp` for a deletion.
    """

    op: str
    ref: str | None
    hyp: str | None


def sctk_command(program: str) -> list[str]:
    """Find a program of SCTK: by its own name, or behind Debian's wrapper `sctk`.

    Raises:
        UserError: neither is on the PATH.
    """
    if shutil.which(program):
        return [program]
    if shutil.which("sctk"):
        return ["sctk", program]
    raise UserError(
        f"'{program}' is not on the PATH: install the package sctk (Debian, Ubuntu: apt-get install sctk), "
        "or add tools/sctk/bin of an ESPnet checkout to the PATH"
    )


def run_sctk(program: str, *args: str, stdin: str | None = None, cwd=None) -> str:
    """Run a program of SCTK and return what it printed.

    Raises:
        UserError: it is not installed or it failed (its last lines are in the message).
    """
    command = [*sctk_command(program), *args]
    done = subprocess.run(
        command, input=stdin, capture_output=True, encoding="utf-8", errors="surrogateescape", cwd=cwd
    )
    if done.returncode != 0:
        tail = " / ".join((done.stderr or done.stdout).strip().splitlines()[-3:])
        raise UserError(f"'{' '.join(command)}' failed with status {done.returncode}: {tail}")
    return done.stdout


def tokenize(text: str, unit: str, bpemodel=None) -> list[str]:
    """Split a text into the units that are counted: "word", "char" (spaces as `<space>`) or "bpe"."""
    words = text.split()
    if unit == "word":
        return words
    if unit == "char":
        return [SPACE if c == " " else c for c in " ".join(words)]
    return bpemodel.encode(" ".join(words), out_type=str)


def write_trn(path, tokens: Mapping[str, Iterable[str]], utt2spk: Mapping[str, str]) -> None:
    """Write sclite's trn format, `<tokens> TAB (<speaker>-<utterance>)`, whole or not at all."""
    with whole_file(path) as f:
        for utt, spk in utt2spk.items():
            f.write(f"{' '.join(tokens[utt])}\t({spk}-{utt})\n")


def read_trn(path) -> dict[str, str]:
    """Read a trn file into `{id: text}`.

    Raises:
        UserError: missing file, a line without `(id)` at its end, or an id that occurs twice.
    """
    table: dict[str, str] = {}
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise UserError(f"no such file: {path}; score first (stage 12)") from None
    for number, line in enumerate(lines, 1):
        match = _TRN_LINE.match(line)
        if match is None:
            raise UserError(f"{path}, line {number}: expected '<words> (<speaker>-<id>)', got '{line}'")
        if match["id"] in table:
            raise UserError(f"{path}, line {number}: id '{match['id']}' occurs twice")
        table[match["id"]] = match["words"].strip()
    return table


def _check_same_utterances(ref, hyp) -> None:
    """Say it before sclite crashes (segmentation fault) on a hypothesis file that lacks an utterance."""
    ref_ids, hyp_ids = read_trn(ref).keys(), read_trn(hyp).keys()
    if not ref_ids:
        raise UserError(f"{ref} is empty: there is nothing to score")
    if ref_ids != hyp_ids:
        example = sorted(ref_ids ^ hyp_ids)[0]
        raise UserError(f"{ref} and {hyp} do not hold the same utterances ('{example}' is in one only)")


def run_sclite(ref, hyp, output: str, title: str | None = None) -> str:
    """Compare two trn files.

    Args:
        ref: reference trn file.
        hyp: hypothesis trn file with the same utterances.
        output: sclite's `-o`: "all" for the report that asr.sh keeps, "sgml" for the alignments.
        title: name of the system in the output; None (default): the file's name.
    """
    _check_same_utterances(ref, hyp)
    titled = [] if title is None else [title]
    return run_sctk(
        "sclite", "-r", str(ref), "trn", "-h", str(hyp), "trn", *titled, "-i", "rm", "-o", output, "stdout"
    )


def parse_summary(report: str) -> Summary:
    """Take the first `Sum/Avg` line (percentages) of a report made with `-o all`.

    Raises:
        UserError: there is none.
    """
    match = _SUM.search(report)
    cells = match["cells"].replace("|", " ").split() if match else []
    if len(cells) != len(Summary._fields):
        raise UserError("not a report of 'sclite -o all': it has no Sum/Avg line with eight figures")
    return Summary(int(cells[0]), int(cells[1]), *map(float, cells[2:]))


def read_summary(result) -> Summary:
    """Read the summary of a `result.txt`; see `parse_summary`."""
    return parse_summary(Path(result).read_text(encoding="utf-8", errors="surrogateescape"))


def parse_sgml(sgml: str) -> dict[str, list[Step]]:
    """Read the alignments that `sclite -o sgml` prints: `{id: steps}`.

    Raises:
        UserError: an utterance has another number of steps than sclite counted.
    """
    alignments = {}
    for path in _PATH.finditer(sgml):
        steps = [Step(*step.groups()) for step in _STEP.finditer(path["steps"] or "")]
        if len(steps) != int(path["count"]):
            raise UserError(f"cannot read sclite's alignment of '{path['id']}': {path['steps']}")
        alignments[path["id"]] = steps
    return alignments


def align(ref, hyp) -> dict[str, list[Step]]:
    """Align two trn files with sclite; see `parse_sgml`."""
    return parse_sgml(run_sclite(ref, hyp, "sgml"))


def score_texts(
    ref: Mapping[str, str], hyp: Mapping[str, str], utt2spk: Mapping[str, str], out, bpemodel=None
) -> dict[str, Summary]:
    """Score recognised texts into `out/score_{wer,cer,ter}/{ref.trn,hyp.trn,result.txt}`.

    Args:
        ref: `{utterance: reference text}`.
        hyp: `{utterance: recognised text}`, the same utterances.
        utt2spk: `{utterance: speaker}`, the same utterances.
        out: folder of the decoded set.
        bpemodel: sentencepiece model file; None (default): no token error rate.

    Returns:
        The summary of each score, by "wer", "cer" and (with `bpemodel`) "ter".
    """
    for name, table in (("hypothesis", hyp), ("utt2spk", utt2spk)):
        if table.keys() != ref.keys():
            odd = sorted(table.keys() ^ ref.keys())
            raise UserError(
                f"reference and {name} do not hold the same utterances: {len(ref)} and {len(table)}, "
                f"'{odd[0]}' is in one only; decode the set anew (stage 11)"
            )
    if bpemodel is not None:
        from sentencepiece import SentencePieceProcessor  # only when asked for: scoring stays quick

        bpemodel = SentencePieceProcessor(model_file=str(bpemodel))
    summaries = {}
    for score, unit in UNITS.items():
        if unit == "bpe" and bpemodel is None:
            continue
        folder = Path(out) / f"score_{score}"
        for name, table in (("ref", ref), ("hyp", hyp)):
            tokens = {utt: tokenize(text, unit, bpemodel) for utt, text in table.items()}
            write_trn(folder / f"{name}.trn", tokens, utt2spk)
        report = run_sclite(folder / "ref.trn", folder / "hyp.trn", "all")
        summaries[score] = parse_summary(report)
        with whole_file(folder / "result.txt") as f:
            f.write(report)
    return summaries
