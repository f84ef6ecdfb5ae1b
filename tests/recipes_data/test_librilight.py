import hashlib
import subprocess
import tarfile

import pytest

from espnet_ctx.bin.check_data import check_data_dir
from espnet_ctx.context.sessions import histories
from espnet_ctx.files import UserError, read_table, write_table
from tests.recipes_data.recipe import ROOT, SHARED, assert_context_stays_in_its_set, load_prepare, run_data_sh

CORPUS = SHARED / "librispeech-dev-clean-mp3" / "LibriSpeech"
TRAINS = ("train_10min", "train_1h", "train_10h")


@pytest.fixture(scope="module")
def light():
    return load_prepare("librilight")


def put(folder, utt, text, source=None):
    """Add an utterance to `<folder>/<speaker>/<chapter>`, its recording linked or empty."""
    speaker, chapter, _ = utt.split("-")
    chapter_dir = folder / speaker / chapter
    chapter_dir.mkdir(parents=True, exist_ok=True)
    recording = chapter_dir / f"{utt}{source.suffix if source else '.flac'}"
    recording.symlink_to(source) if source else recording.touch()
    transcripts = chapter_dir / f"{speaker}-{chapter}.trans.txt"
    table = read_table(transcripts) if transcripts.exists() else {}
    write_table(transcripts, {**table, utt: text})


def make_folders(root):
    for name in (*(f"1h/{i}" for i in range(6)), "9h"):
        for kind in ("clean", "other"):
            (root / name / kind).mkdir(parents=True)


@pytest.fixture
def corpora(tmp_path):
    """Libri-light made up of one chapter over 1h and 9h, a chapter of its own in each fold, and a part to test on."""
    root = tmp_path / "librispeech_finetuning"
    make_folders(root)
    for number, folder in ((0, "9h"), (1, "1h/0"), (2, "1h/5"), (3, "9h"), (4, "1h/0"), (6, "1h/0")):
        put(root / folder / "clean", f"19-198-{number:04d}", f"NUMBER {number}")
    for i in range(6):
        put(root / f"1h/{i}/other", f"{30 + i}-300-0000", f"FOLD {i}")
    put(tmp_path / "LibriSpeech/dev-clean", "84-121-0000", "TEST A")
    put(tmp_path / "LibriSpeech/dev-clean", "84-121-0001", "TEST B")
    return root, tmp_path / "LibriSpeech"


def test_made_up_corpus(light, corpora, tmp_path, capsys):
    light.prepare(*corpora, ["dev-clean"], tmp_path / "data")
    data = tmp_path / "data"
    folds = {f"{30 + i}-300-0000" for i in range(6)}
    one = {"19-198-0001", "19-198-0004", "19-198-0006"}
    assert read_table(data / "train_10min/wav.scp").keys() == one | {"30-300-0000"}
    assert read_table(data / "train_1h/wav.scp").keys() == one | folds | {"19-198-0002"}
    assert read_table(data / "train_10h/wav.scp").keys() == one | folds | {f"19-198-000{n}" for n in (0, 2, 3)}
    # 9h has holes that 1h fills: the order is that of the merged chapter
    prev = read_table(data / "train_10h/utt2prev")
    assert [prev[f"19-198-000{n}"] for n in (0, 1, 2, 3, 4, 6)] == ["-", *(f"19-198-000{n}" for n in (0, 1, 2, 3)), "-"]
    assert histories(data / "train_10h", 9)["19-198-0004"] == ["number 0", "number 1", "number 2", "number 3"]
    # a subset's history passes through what is in other folders
    assert histories(data / "train_10min", 9)["19-198-0004"] == ["number 0", "number 1", "number 2", "number 3"]
    assert read_table(data / "train_10min/prev_text").keys() == {f"19-198-000{n}" for n in (0, 2, 3)}
    assert "data/train_10min: 4 utterances, 2 with their predecessor" in capsys.readouterr().out
    assert read_table(data / "dev_clean/utt2prev") == {"84-121-0000": "-", "84-121-0001": "84-121-0000"}
    for train in TRAINS:
        assert_context_stays_in_its_set(data, (train, "dev_clean"), lambda utt: utt.rpartition("-")[0])


def test_full_transcripts_fill_the_holes_that_are_left(light, corpora, tmp_path):
    put(corpora[1] / "train-clean-100", "19-198-0005", "NUMBER 5")
    put(corpora[1] / "train-clean-100", "19-199-0000", "ANOTHER CHAPTER")
    light.prepare(*corpora, ["dev-clean"], tmp_path / "data")
    assert histories(tmp_path / "data/train_1h", 2)["19-198-0006"] == ["number 4", "number 5"]
    assert "19-199-0000" not in read_table(tmp_path / "data/train_10h/prev_text")


def test_a_transcript_without_a_recording_is_context_only(light, corpora, tmp_path):
    (corpora[0] / "9h/clean/19/198/19-198-0003.flac").unlink()
    light.prepare(*corpora, ["dev-clean"], tmp_path / "data")
    assert "19-198-0003" not in read_table(tmp_path / "data/train_10h/text")
    assert histories(tmp_path / "data/train_10h", 2)["19-198-0004"] == ["number 2", "number 3"]
    check_data_dir(tmp_path / "data/train_10h")


def test_what_is_not_whole_is_an_error(light, corpora, tmp_path):
    with pytest.raises(UserError, match="no such folder: .*/dev-other .--librispeech_dir, --parts"):
        light.prepare(*corpora, ["dev-other"], tmp_path / "data")
    put(corpora[0] / "9h/other", "19-198-0001", "TWICE")
    with pytest.raises(UserError, match="9h: '19-198-0001' is in 1h/0 too"):
        light.prepare(*corpora, ["dev-clean"], tmp_path / "data")
    (corpora[0] / "1h/3/other/33/300/33-300.trans.txt").write_text("")
    (corpora[0] / "9h/other/19/198/19-198-0001.flac").unlink()
    with pytest.raises(UserError, match="33-300-0000.flac has no transcript in its folder"):
        light.prepare(*corpora, ["dev-clean"], tmp_path / "data")
    (corpora[0] / "1h/4/clean").rmdir()
    with pytest.raises(UserError, match="no such folder: .*1h/4/clean: is --librilight_dir the folder of 1h and 9h, and whole"):
        light.prepare(*corpora, ["dev-clean"], tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_archives_are_downloaded_and_checked(corpora, tmp_path):
    server = tmp_path / "server"
    server.mkdir()
    for name, folder in (("librispeech_finetuning.tgz", corpora[0]), ("dev-clean.tar.gz", corpora[1])):
        with tarfile.open(server / name, "w:gz") as archive:
            archive.add(folder, folder.name)
    part, light = ((server / name).read_bytes() for name in ("dev-clean.tar.gz", "librispeech_finetuning.tgz"))
    (server / "md5sum.txt").write_text(f"{hashlib.md5(part).hexdigest()}  dev-clean.tar.gz\n")
    recipe = tmp_path / "recipe"
    recipe.mkdir()
    urls = ["--url", f"{server.as_uri()}/librispeech_finetuning.tgz", "--librispeech_url", server.as_uri()]
    options = [*urls, "--parts", "dev-clean"]
    done = run_data_sh("librilight", recipe, *options)
    assert done.returncode == 1 and "not sha256:5d1efdc777b5" in done.stderr  # that of the real archive
    options += ["--checksum", f"sha256:{hashlib.sha256(light).hexdigest()}"]
    done = run_data_sh("librilight", recipe, *options)
    assert done.returncode == 0, done.stderr
    assert len(read_table(recipe / "data/train_10min/text")) == 4


@pytest.mark.parametrize("subset", ["2h", ""])
def test_an_unknown_subset_is_an_error(subset):
    done = subprocess.run(
        [ROOT / "egs2/librilight/asr1/run.sh", "--subset", subset], capture_output=True, text=True
    )
    assert done.returncode == 2 and f"--subset is '{subset}'; it must be one of: 10min 1h 10h" in done.stderr


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """A tree of Libri-light's layout from real chapters: those of 14 speakers over 1h and 9h; 6 speakers to test on."""
    if not CORPUS.exists():
        pytest.skip("../shared/data/librispeech-dev-clean-mp3 is not there")
    root = tmp_path_factory.mktemp("librilight")
    make_folders(root / "light")
    speakers = sorted(path.name for path in (CORPUS / "dev-clean").iterdir())
    (root / "LibriSpeech/dev-clean").mkdir(parents=True)
    for name in speakers[14:]:
        (root / "LibriSpeech/dev-clean" / name).symlink_to(CORPUS / "dev-clean" / name)
    expected = {}
    for i, name in enumerate(speakers[:14]):
        for chapter in sorted((CORPUS / "dev-clean" / name).iterdir()):
            texts = read_table(chapter / f"{name}-{chapter.name}.trans.txt")
            of_folder = {}
            for number, utt in enumerate(texts):
                folder = f"1h/{i % 6}" if number % 4 == 1 else "9h"
                expected[utt] = folder
                of_folder.setdefault(folder, []).append(utt)
            for folder, utts in of_folder.items():
                chapter_dir = root / "light" / folder / ("clean" if i % 2 else "other") / name / chapter.name
                chapter_dir.mkdir(parents=True)
                for utt in utts:
                    (chapter_dir / f"{utt}.mp3").symlink_to(chapter / f"{utt}.mp3")
                write_table(chapter_dir / f"{name}-{chapter.name}.trans.txt", {utt: texts[utt] for utt in utts})
    return root, expected


def test_memberships_and_order_of_real_chapters(light, real, tmp_path):
    root, expected = real
    light.prepare(root / "light", root / "LibriSpeech", ["dev-clean"], tmp_path)
    hour = {utt for utt, folder in expected.items() if folder != "9h"}
    assert read_table(tmp_path / "train_10min/text").keys() == {u for u, folder in expected.items() if folder == "1h/0"}
    assert read_table(tmp_path / "train_1h/text").keys() == hour
    assert read_table(tmp_path / "train_10h/text").keys() == expected.keys() and len(expected) > 800
    prev = read_table(tmp_path / "train_10h/utt2prev")
    assert not (tmp_path / "train_10h/prev_text").read_text()
    for utt, before in prev.items():  # whole chapters: only the first has no predecessor
        stem, _, number = utt.rpartition("-")
        assert before == (f"{stem}-{int(number) - 1:04d}" if int(number) else "-")
    # every utterance of 1h has number 1, 5, 9, ... of its chapter: what it follows is in 9h, and is known all the same
    small = read_table(tmp_path / "train_1h/utt2prev")
    assert all(small[utt] != "-" and expected[small[utt]] == "9h" for utt in hour)
    whole = histories(tmp_path / "train_10h", 3)
    assert all(texts == whole[utt] for utt, texts in histories(tmp_path / "train_1h", 3).items())
    for train in TRAINS:
        assert_context_stays_in_its_set(tmp_path, (train, "dev_clean"), lambda utt: utt.rpartition("-")[0])
