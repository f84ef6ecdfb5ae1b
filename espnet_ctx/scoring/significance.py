"""Is one system better than another? The matched-pairs test of NIST's SCTK.

MAPSSWE (matched pairs, sentence segment word error): L. Gillick and S. Cox, "Some statistical issues in
the comparison of speech recognition algorithms", ICASSP 1989, section 3.
"""

import math
import re
import tempfile
from pathlib import Path
from typing import NamedTuple

from espnet_ctx.files import UserError
from espnet_ctx.scoring.sclite import parse_sgml, read_trn, run_sclite, run_sctk

_RESULT = re.compile(r"MTCH_PR_RESULTS .*\(# segs: (?P<segments>\d+)\).*\(Z Stat: (?P<z>\S+)\)")


class Comparison(NamedTuple):
    """MAPSSWE of a system against a base.

    Attributes:
        base_wer: sclite's word error rate, percent, unrounded.
        system_wer: likewise.
        segments: number of segments compared.
        z: standard normal statistic, positive where the system has fewer errors than the base;
            sc_stats gives 0 where all segments differ by the same number of errors.
        p: two-sided probability of so large a |z| if both were equally good.
        better: "system", "base" or "same" (p >= 0.05).
    """

    base_wer: float
    system_wer: float
    segments: int
    z: float
    p: float
    better: str


def mapsswe(base, system) -> Comparison:
    """Compare two scored folders.

    Args:
        base: folder with `ref.trn` and `hyp.trn`, e.g. `exp/asr_none/.../test/score_wer`.
        system: the other folder; the same references.

    Raises:
        UserError: a file is missing, the references differ, or sc_stats gives no result.
    """
    base, system = Path(base), Path(system)
    if read_trn(base / "ref.trn") != read_trn(system / "ref.trn"):
        raise UserError(f"{base} and {system} were scored against different references: score both anew")
    sgml = {
        title: run_sclite(folder / "ref.trn", folder / "hyp.trn", "sgml", title)
        for title, folder in (("base", base), ("system", system))
    }
    with tempfile.TemporaryDirectory() as folder:  # sc_stats leaves files where it runs
        report = run_sctk(
            "sc_stats", "-p", "-t", "mapsswe", "-v", "-n", "-", stdin="".join(sgml.values()), cwd=folder
        )
    match = _RESULT.search(report)
    if match is None:
        raise UserError(f"sc_stats gave no MAPSSWE result for {base} and {system}")
    z = float(match["z"])
    p = math.erfc(abs(z) / math.sqrt(2))
    better = "same" if p >= 0.05 else "system" if z > 0 else "base"
    return Comparison(_wer(sgml["base"]), _wer(sgml["system"]), int(match["segments"]), z, p, better)


def _wer(sgml: str) -> float:
    ops = [step.op for steps in parse_sgml(sgml).values() for step in steps]
    words = sum(op != "I" for op in ops)
    return 100 * sum(op != "C" for op in ops) / words if words else 0.0


def format_p(p: float) -> str:
    """Print a probability with two significant digits; what is below 0.001 as such."""
    return "<0.001" if p < 0.001 else f"{p:.2g}"
