"""The scoring commands and local/score.sh, over a decoded set of two systems."""

import json
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from espnet_ctx.bin import compare_systems, report, score_homophones, score_wer, show_results
from espnet_ctx.files import UserError, write_table

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.skipif(
    not (shutil.which("sclite") or shutil.which("sctk")), reason="sclite is not installed (package sctk)"
)


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    """A recipe's folder with the decoded set `test` of two systems, not scored yet."""
    draw = random.Random(0)
    ref = {
        f"s{i % 4}-u{i:03d}": " ".join(draw.choices(["flour", "sun", "day", "go"], k=8)) for i in range(80)
    }
    write_table(tmp_path / "dump/raw/test/text", ref)
    write_table(tmp_path / "dump/raw/test/utt2spk", {utt: utt.partition("-")[0] for utt in ref})
    for system, rate in (("none", 0.5), ("aware", 0.1)):
        hyp = {
            utt: " ".join(
                "flower" if word == "flour" and draw.random() < rate else word for word in text.split()
            )
            for utt, text in ref.items()
        }
        write_table(tmp_path / f"exp/asr_{system}/decode_ctc/test/text", hyp)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def score(system):
    out = f"exp/asr_{system}/decode_ctc/test"
    score_wer.main(
        [
            "--ref",
            "dump/raw/test/text",
            "--hyp",
            f"{out}/text",
            "--utt2spk",
            "dump/raw/test/utt2spk",
            "--out",
            out,
        ]
    )
    return Path(out)


def expected_errors(system):
    ref, hyp = (
        Path("dump/raw/test/text").read_text(),
        Path(f"exp/asr_{system}/decode_ctc/test/text").read_text(),
    )
    return hyp.count("flower"), ref.count("flour")


def test_score_wer_prints_and_keeps_its_figures(recipe, capsys):
    folder = score("none")
    wrong, _ = expected_errors("none")
    assert (
        f"WER {100 * wrong / 640:.1f}% (Sub {100 * wrong / 640:.1f}, Del 0.0, Ins 0.0) of 640"
        in capsys.readouterr().out
    )
    assert {path.name for path in folder.iterdir()} == {"text", "score_wer", "score_cer"}
    assert {path.name for path in (folder / "score_wer").iterdir()} == {"ref.trn", "hyp.trn", "result.txt"}


def test_score_wer_of_an_empty_set_is_an_error(recipe):
    Path("empty").touch()
    with pytest.raises(UserError, match="empty is empty"):
        score_wer.main(["--ref", "empty", "--hyp", "empty", "--utt2spk", "empty", "--out", "out"])


def test_score_homophones_counts_twins(recipe, capsys):
    folder = score("none")
    Path("pairs").write_text("flour flower\n")
    capsys.readouterr()
    cmd = ["--ref", f"{folder}/score_wer/ref.trn", "--hyp", f"{folder}/score_wer/hyp.trn"]
    score_homophones.main([*cmd, "--pairs", "pairs", "--out", "out/counts.json"])
    wrong, homophones = expected_errors("none")
    assert json.loads(Path("out/counts.json").read_text()) == {
        "homophones": homophones,
        "homophone_errors": wrong,
        "wrong_twins": wrong,
        "others": 640 - homophones,
        "other_errors": 0,
    }
    rate = f"{100 * wrong / homophones:.1f}"
    assert capsys.readouterr().out == f"|640|{100 * wrong / 640:.1f}|{homophones}|{rate}|{rate}|0.0|\n"


def test_compare_systems_names_the_better(recipe, capsys):
    score("none"), score("aware")
    capsys.readouterr()
    compare_systems.main(["none", "aware"])
    header, _, row = capsys.readouterr().out.splitlines()
    assert header == "|system|WER of none|WER|relative (%)|segments|p|better (p < 0.05)|"
    none, aware = (expected_errors(system)[0] / 6.4 for system in ("none", "aware"))
    cells = row.strip("|").split("|")
    assert cells[:4] == ["aware", f"{none:.2f}", f"{aware:.2f}", f"{100 * (aware / none - 1):+.1f}"]
    assert cells[5:] == ["<0.001", "aware"]


def test_compare_systems_lists_what_there_is(recipe):
    score("none"), score("aware")
    with pytest.raises(UserError, match="systems in exp: aware, none"):
        compare_systems.main(["none", "generated"])
    shutil.copytree("exp/asr_none/decode_ctc", "exp/asr_none/decode_beam")
    with pytest.raises(UserError, match="choose with --inference_tag"):
        compare_systems.main(["none", "aware"])
    compare_systems.main(["--inference_tag", "decode_ctc", "none", "aware"])


def test_show_results_and_report(recipe, capsys):
    score("none"), score("aware")
    capsys.readouterr()
    show_results.main(["exp/asr_aware"])
    assert (
        f"|decode_ctc/test|80|640|{100 - expected_errors('aware')[0] / 6.4:.1f}|" in capsys.readouterr().out
    )
    report.main([])
    printed = capsys.readouterr().out
    assert printed == Path("exp/report/report.md").read_text()
    assert "|aware|decode_ctc/test|1|" in printed and "better, p <0.001|" in printed


def run_score_sh(recipe, *args):
    for name in ("utils", "local"):
        if not (recipe / name).exists():
            (recipe / name).symlink_to(ROOT / name)
    env = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "PYTHONPATH": str(ROOT)}
    return subprocess.run(["local/score.sh", *args], cwd=recipe, env=env, capture_output=True, text=True)


def test_score_sh_writes_the_table_again_and_again(recipe):
    score("none")
    first = run_score_sh(recipe, "exp/asr_none")
    assert first.returncode == 0, first.stderr
    table = (recipe / "exp/asr_none/RESULTS_homophones.md").read_text()
    wrong, homophones = expected_errors("none")
    assert table.splitlines()[2].startswith(f"|decode_ctc/test|640|{100 * wrong / 640:.1f}|")
    assert first.stdout == table
    assert (recipe / "exp/asr_none/decode_ctc/test/score_homophones/result.json").exists()
    run_score_sh(recipe, "exp/asr_none")
    assert (recipe / "exp/asr_none/RESULTS_homophones.md").read_text() == table
    assert not list(recipe.glob("exp/asr_none/*.part"))


def test_score_sh_takes_another_list(recipe):
    score("none")
    (recipe / "pairs").write_text("sun son\n")
    done = run_score_sh(recipe, "--pairs", "pairs", "exp/asr_none")
    suns = Path("dump/raw/test/text").read_text().count("sun")
    assert f"|{suns}|0.0|0.0|" in done.stdout


@pytest.mark.parametrize(
    "args, message",
    [([], "Usage"), (["exp/none"], "Usage"), (["exp/asr_none"], "run sclite first (stage 12)")],
)
def test_score_sh_says_what_is_missing(recipe, args, message):
    done = run_score_sh(recipe, *args)
    assert done.returncode != 0 and message in done.stderr
    assert not list(recipe.glob("exp/asr_none/RESULTS*"))


def test_commands_import_neither_torch_nor_espnet():
    names = (
        "compare_slu, compare_systems, fetch_archive, report, score_homophones, score_ner, score_sentiment, score_wer, "
        "show_results, slue_to_tagged"
    )
    heavy = "{'torch', 'espnet2', 'espnet'}"
    code = f"import sys; from espnet_ctx.bin import {names}; print({heavy} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "set()", done.stderr
