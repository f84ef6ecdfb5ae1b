"""egs2/librilight/asr1's own run.sh, from its data to its scores, on a tree of Libri-light's layout with real speech."""

import subprocess

import pytest
import yaml

from espnet_ctx.bin.merge_config import merge, read_config
from espnet_ctx.files import read_table, write_table
from tests.recipes.tiny import ROOT, SMALL, use_python

CORPUS = ROOT.parent / "shared/data/librispeech-dev-clean-mp3/LibriSpeech/dev-clean"
pytestmark = [pytest.mark.recipe, pytest.mark.timeout(1800)]


def put(chapter, numbers, folder):
    """Link some utterances of a chapter into `<folder>/<speaker>/<chapter>`, with their lines of the transcripts."""
    speaker = chapter.parent.name
    transcripts = f"{speaker}-{chapter.name}.trans.txt"
    out = folder / speaker / chapter.name
    out.mkdir(parents=True)
    utts = [f"{speaker}-{chapter.name}-{number:04d}" for number in numbers]
    for utt in utts:
        (out / f"{utt}.mp3").symlink_to(chapter / f"{utt}.mp3")
    texts = read_table(chapter / transcripts)
    write_table(out / transcripts, {utt: texts[utt] for utt in utts})


@pytest.fixture
def recipe(tmp_path, warm):
    """The recipe's folder in a repository of links, and the corpora."""
    if not CORPUS.exists():
        pytest.skip("../shared/data/librispeech-dev-clean-mp3 is not there")
    for name in (*(f"1h/{i}" for i in range(6)), "9h"):
        for kind in ("clean", "other"):
            (tmp_path / "light" / name / kind).mkdir(parents=True)
    chapters = [next(iter(sorted(CORPUS.joinpath(speaker).iterdir()))) for speaker in ("1272", "1462", "1673")]
    for chapter in chapters[:2]:
        put(chapter, range(1, 8, 2), tmp_path / "light/1h/0/clean")
        put(chapter, range(0, 8, 2), tmp_path / "light/9h/clean")
    put(chapters[2], range(4), tmp_path / "LibriSpeech/dev-clean")

    folder = tmp_path / "egs2/librilight/asr1"
    folder.mkdir(parents=True)
    (tmp_path / "egs2/TEMPLATE").symlink_to(ROOT / "egs2/TEMPLATE")
    (tmp_path / "egs2/mini_talks").symlink_to(ROOT / "egs2/mini_talks")
    (folder / "run.sh").write_bytes((ROOT / "egs2/librilight/asr1/run.sh").read_bytes())
    (folder / "local").symlink_to(ROOT / "egs2/librilight/asr1/local")
    for name in ("path.sh", "cmd.sh", "utils"):
        (folder / name).symlink_to(ROOT / name)
    use_python(folder, warm)
    (folder / "conf").mkdir()
    (folder / "conf/context").symlink_to(ROOT / "conf/context")
    train_conf = merge(read_config(ROOT / "conf/train_asr.yaml"), SMALL)
    (folder / "conf/train_asr.yaml").write_text(yaml.safe_dump(train_conf))
    return folder


def test_ten_minutes_end_to_end(recipe, tmp_path):
    copies = f"--librilight_dir {tmp_path}/light --librispeech_dir {tmp_path}/LibriSpeech --parts dev-clean"
    sets = ["--valid_set", "dev_clean", "--test_sets", "dev_clean", "--token_type", "char", "--nj", "1"]
    done = subprocess.run(
        ["bash", "run.sh", "--subset", "10min", "--stop_stage", "12", "--local_data_opts", copies, *sets],
        cwd=recipe,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    dump = recipe / "dump/raw/train_10min"
    assert len(read_table(dump / "text")) == len(read_table(dump / "utt2num_samples")) == 8
    assert len(read_table(dump / "prev_text")) == 8  # what 9h holds between them
    assert all(previous != "-" for utt, previous in read_table(dump / "utt2prev").items() if utt[-1] != "0")
    assert len(read_table(recipe / "data/train_10h/text")) == 16
    results = (recipe / "exp/10min/asr_train_asr_none/RESULTS.md").read_text()
    assert "/dev_clean|4|" in results
