import hashlib
import tarfile

import pytest
import soundfile

from espnet_ctx.bin.check_data import check_data_dir
from espnet_ctx.files import UserError, read_table
from tests.recipes_data.recipe import SHARED, assert_context_stays_in_its_set, load_prepare, run_data_sh

CORPUS = SHARED / "librispeech-dev-clean-mp3" / "LibriSpeech"
SPLITS = ("train", "valid", "test")


@pytest.fixture(scope="module")
def libri():
    return load_prepare("librispeech_chapters")


@pytest.fixture
def corpus(tmp_path):
    """Ten made-up speakers with two chapters of three utterances; number 0001 of one chapter is missing."""
    for speaker in (84, 9, 101, 842, 7, 8, 55, 56, 57, 58):
        for chapter, suffix in (("3", "flac"), ("21", "mp3")):
            folder = tmp_path / f"LibriSpeech/dev-clean/{speaker}/{chapter}"
            folder.mkdir(parents=True)
            numbers = (0, 2) if (speaker, chapter) == (84, "3") else (0, 1, 2)
            names = [f"{speaker}-{chapter}-{number:04d}" for number in numbers]
            for name in names:
                (folder / f"{name}.{suffix}").touch()
            lines = [f"{name} IT'S NUMBER {name[-1]}" for name in names]
            (folder / f"{speaker}-{chapter}.trans.txt").write_text("\n".join(lines) + "\n")
    return tmp_path / "LibriSpeech"


def test_made_up_corpus(libri, corpus, tmp_path, capsys):
    libri.prepare(corpus, "dev-clean", tmp_path / "data")
    speakers = {split: set(read_table(tmp_path / f"data/{split}/utt2spk").values()) for split in SPLITS}
    assert speakers == {
        "train": {"101", "55", "56", "57", "58", "7", "8"},
        "valid": {"84"},
        "test": {"842", "9"},
    }
    assert read_table(tmp_path / "data/valid/utt2prev") == {
        "84-21-0000": "-",
        "84-21-0001": "84-21-0000",
        "84-21-0002": "84-21-0001",
        "84-3-0000": "-",
        "84-3-0002": "-",
    }
    assert read_table(tmp_path / "data/valid/text")["84-3-0002"] == "it's number 2"
    assert (
        read_table(tmp_path / "data/valid/wav.scp")["84-3-0000"] == f"{corpus}/dev-clean/84/3/84-3-0000.flac"
    )
    assert read_table(tmp_path / "data/valid/wav.scp")["84-21-0000"].endswith(".mp3")
    assert "data/valid: 1 speakers, 5 utterances, 2 with their predecessor" in capsys.readouterr().out
    for split in SPLITS:
        check_data_dir(tmp_path / "data" / split)


def test_speakers_are_split_by_name():
    libri = load_prepare("librispeech_chapters")
    split = libri.split_speakers([str(n) for n in range(20)])
    assert [len(split[name]) for name in SPLITS] == [14, 2, 4]
    assert split["train"] + split["valid"] + split["test"] == sorted(str(n) for n in range(20))
    assert [len(libri.split_speakers(["1", "2", "3"])[name]) for name in SPLITS] == [1, 1, 1]
    with pytest.raises(UserError, match="three speakers or more .* got: 1 2"):
        libri.split_speakers(["1", "2"])


def test_what_is_not_whole_is_an_error(libri, corpus, tmp_path):
    with pytest.raises(UserError, match="no such folder: .*/dev-other"):
        libri.prepare(corpus, "dev-other", tmp_path / "data")
    chapter = corpus / "dev-clean/101/3"
    transcripts = chapter / "101-3.trans.txt"
    whole = transcripts.read_text()
    transcripts.write_text(whole + "101-4-0003 OF ANOTHER CHAPTER\n")
    with pytest.raises(UserError, match="'101-4-0003' is not '101-3-<four digits>'"):
        libri.prepare(corpus, "dev-clean", tmp_path / "data")
    transcripts.write_text(whole)
    (chapter / "101-3-0001.flac").unlink()
    with pytest.raises(UserError, match="no recording of '101-3-0001'"):
        libri.prepare(corpus, "dev-clean", tmp_path / "data")
    transcripts.unlink()
    with pytest.raises(UserError, match="no such file: .*101-3.trans.txt"):
        libri.prepare(corpus, "dev-clean", tmp_path / "data")


@pytest.fixture
def server(corpus, tmp_path):
    """A made-up OpenSLR; the recipe is run in `recipe` beside it."""
    folder = tmp_path / "server"
    folder.mkdir()
    with tarfile.open(folder / "dev-clean.tar.gz", "w:gz") as archive:
        archive.add(corpus, "LibriSpeech")
    md5 = hashlib.md5((folder / "dev-clean.tar.gz").read_bytes()).hexdigest()
    (folder / "md5sum.txt").write_text(f"{'0' * 32}  dev-other.tar.gz\n{md5}  dev-clean.tar.gz\n")
    (tmp_path / "recipe").mkdir()
    return folder


def test_part_is_downloaded_checked_and_unpacked(server, tmp_path):
    recipe = tmp_path / "recipe"
    done = run_data_sh("librispeech_chapters", recipe, "--url", server.as_uri())
    assert done.returncode == 0, done.stderr
    assert len(read_table(recipe / "data/train/text")) == 7 * 6
    (server / "dev-clean.tar.gz").unlink()
    assert run_data_sh("librispeech_chapters", recipe, "--url", server.as_uri()).returncode == 0


def test_damaged_part_is_deleted(server, tmp_path):
    recipe = tmp_path / "recipe"
    (server / "dev-clean.tar.gz").write_bytes(b"damaged")
    done = run_data_sh("librispeech_chapters", recipe, "--url", server.as_uri())
    assert done.returncode == 1 and "was damaged (its checksum is md5:" in done.stderr
    assert not list((recipe / "downloads").rglob("*.gz*")) and not (recipe / "data").exists()


def test_unknown_part_lists_the_parts(server, tmp_path):
    done = run_data_sh(
        "librispeech_chapters", tmp_path / "recipe", "--url", server.as_uri(), "--part", "dev-dirty"
    )
    assert done.returncode == 1
    assert "md5sum.txt has no dev-dirty.tar.gz; it has: dev-other.tar.gz dev-clean.tar.gz" in done.stderr


def test_without_a_network_the_option_is_named(tmp_path):
    done = run_data_sh("librispeech_chapters", tmp_path, "--url", "http://127.0.0.1:9")
    assert done.returncode == 1
    assert "--local_data_opts '--librispeech_dir <folder>'" in done.stderr


@pytest.fixture(scope="module")
def real(libri, tmp_path_factory):
    if not CORPUS.exists():
        pytest.skip("../shared/data/librispeech-dev-clean-mp3 is not there")
    data = tmp_path_factory.mktemp("data")
    libri.prepare(CORPUS, "dev-clean", data)
    return data


def test_counts_of_the_real_corpus(real):
    speakers = [set(read_table(real / split / "utt2spk").values()) for split in SPLITS]
    assert [len(names) for names in speakers] == [14, 2, 4]
    assert not speakers[0] & speakers[1] and not speakers[0] & speakers[2] and not speakers[1] & speakers[2]
    utt2prev = {}
    for split in SPLITS:
        table = read_table(real / split / "utt2prev")
        assert set(table.values()) - {"-"} <= table.keys()
        utt2prev.update(table)
    assert len(utt2prev) == 1313
    assert_context_stays_in_its_set(real, SPLITS, lambda utt: utt.rpartition("-")[0])
    # 48 whole chapters: only the first utterance of each has no predecessor
    firsts = [utt for utt, previous in utt2prev.items() if previous == "-"]
    assert len(firsts) == 48 and all(utt.endswith("-0000") for utt in firsts)


def test_real_texts_and_recordings(real):
    for split in SPLITS:
        assert set("".join(read_table(real / split / "text").values())) <= set("abcdefghijklmnopqrstuvwxyz' ")
        path = next(iter(read_table(real / split / "wav.scp").values()))
        samples, rate = soundfile.read(path)
        assert rate == 16000 and samples.ndim == 1 and len(samples) > 16000
