import shutil

import numpy as np
import pytest
import soundfile

from espnet_ctx.bin import format_wav_scp
from espnet_ctx.bin.check_data import check_data_dir
from espnet_ctx.context.sessions import histories
from espnet_ctx.corpora.slue import HfCopy, OfficialRelease
from espnet_ctx.files import UserError, read_table
from tests.recipes_data import voiced_voxceleb
from tests.recipes_data.recipe import SHARED, assert_context_stays_in_its_set, load_prepare, run_data_sh

TEXTS = SHARED / "slue-voxceleb-text"
SETS = ("train", "valid", "test")
FOLDERS = {"train": "fine-tune", "valid": "dev", "test": "test"}
A, B = "id10001_a_-b_c", "id10001_b"  # a video's name may hold what separates
TRAIN = [  # id, text, speaker, label, start, end; not in order
    (f"{A}_00012", "twelfth", "id10001", "Positive", 0.1, 0.5),
    (f"{A}_00002", "second", "None", "Neutral", 0.0, 0.5),
    (f"{A}_00009", "ninth", "id10001", "<mixed>", 0.0, 0.5),
    (f"{A}_00005", "fifth", "", "Disagreement", 0.0, 0.5),
    (f"{B}_00013", "of another video", "id10001", "Negative", 0.0, 0.5),
]
VALID = [
    (f"{A}_00003", "third, of another set", "id10001", "Neutral", 0.0, 0.5),
    (f"{A}_00004", "fourth", "id10001", "Negative", 0.0, 0.5),
]
TEST = [(f"{A}_00001", None, "id10001", None, 0.0, 0.5), (f"{A}_00006", None, "id10001", None, 0.0, 0.5)]
ROWS = {"train": TRAIN, "valid": VALID, "test": TEST}


@pytest.fixture(scope="module")
def slue():
    return load_prepare("slue_voxceleb")


def official(folder):
    return OfficialRelease("voxceleb", folder)


@pytest.fixture
def release(tmp_path):
    """A made-up release in the official layout, with recordings of 0.6 s."""
    folder = tmp_path / "slue-voxceleb"
    for dataset, rows in ROWS.items():
        split, blind = FOLDERS[dataset], dataset == "test"
        (folder / f"{split}_raw").mkdir(parents=True)
        header = ["id", "normalized_text", "speaker_id", "split", "sentiment", "start_second", "end_second"]
        lines = []
        for name, text, speaker, label, start, end in rows:
            samples = np.arange(9600) / 20000
            soundfile.write(folder / f"{split}_raw/{name}.flac", samples, 16000, subtype="PCM_16")
            lines.append([name, text, speaker, split, label, str(start), str(end)])
        lines = [[cell for cell, column in zip(line, header) if not blind or cell is not None] for line in [header, *lines]]
        if blind:  # its second column is the speaker
            lines[0] = [column for column in header if column not in ("normalized_text", "sentiment")]
        path = folder / f"slue-voxceleb_{split}{'_blind' if blind else ''}.tsv"
        path.write_text("\n".join("\t".join(line) for line in lines) + "\n")
    return folder


def test_made_up_release(slue, release, tmp_path, capsys):
    slue.prepare(official(release), tmp_path / "data")
    data = tmp_path / "data/train"
    assert read_table(data / "utt2sentiment") == {
        f"{A}_00002": "Neutral",
        f"{A}_00012": "Positive",
        f"{B}_00013": "Negative",
    }
    assert read_table(data / "text")[f"{A}_00012"] == "twelfth"
    assert set(read_table(data / "utt2spk").values()) == {"id10001"}
    # what has no class is in no set, and the history passes through it
    assert read_table(data / "utt2prev") == {
        f"{A}_00002": "-",
        f"{A}_00005": f"{A}_00002",
        f"{A}_00009": f"{A}_00005",
        f"{A}_00012": f"{A}_00009",
        f"{B}_00013": "-",
    }
    assert read_table(data / "prev_text") == {f"{A}_00005": "fifth", f"{A}_00009": "ninth"}
    assert histories(data, 3)[f"{A}_00012"] == ["second", "fifth", "ninth"]
    assert read_table(data / "segments")[f"{A}_00012"] == f"{A}_00012 0.1 0.5"
    assert "data/train: 3 utterances of 5, 1 with their predecessor" in capsys.readouterr().out
    assert_context_stays_in_its_set(tmp_path / "data", SETS, lambda utt: utt.rpartition("_")[0])


def test_the_blind_test_has_audio_only(slue, release, tmp_path):
    slue.prepare(official(release), tmp_path / "data")
    data = tmp_path / "data/test"
    assert read_table(data / "text") == {f"{A}_00001": "", f"{A}_00006": ""}
    assert read_table(data / "utt2prev") == {f"{A}_00001": "-", f"{A}_00006": f"{A}_00001"}
    assert not (data / "utt2sentiment").exists()
    check_data_dir(data)


def test_recordings_are_cut(slue, release, tmp_path):
    slue.prepare(official(release), tmp_path / "data")
    format_wav_scp.main(["--data_dir", str(tmp_path / "data/train"), "--out", str(tmp_path / "dump")])
    samples, _ = soundfile.read(read_table(tmp_path / "dump/wav.scp")[f"{A}_00012"])
    assert len(samples) == 6400 and samples[0] == pytest.approx(1600 / 20000, abs=1e-4)
    assert read_table(tmp_path / "dump/utt2sentiment") == read_table(tmp_path / "data/train/utt2sentiment")


def test_a_recording_that_was_cut_already_is_taken_whole(slue, release, tmp_path):
    soundfile.write(release / f"fine-tune_raw/{A}_00012.flac", np.zeros(6400), 16000)  # 0.4 s, of 0.1 to 0.5 s
    slue.prepare(official(release), tmp_path / "data")
    assert read_table(tmp_path / "data/train/segments")[f"{A}_00012"] == f"{A}_00012 0.0 0.4"
    soundfile.write(release / f"fine-tune_raw/{A}_00012.flac", np.zeros(3200), 16000)
    with pytest.raises(UserError, match="_00012.flac lasts 0.20 s, and 0.1 to 0.5 s are wanted of it"):
        slue.prepare(official(release), tmp_path / "data")


@pytest.mark.parametrize(
    "old, new, message",
    [
        (f"{A}_00012", "nonsense", "line 2: id 'nonsense' is not '<speaker>_<video>_<number>'"),
        (f"{A}_00012", f"{A}_00002", "line 3: id .* occurs twice"),
        ("0.1\t0.5", "0.5\t0.1", "line 2: start_second must be below end_second, got 0.5 and 0.1"),
        ("0.1\t0.5", "\t0.5", "line 2: start_second and end_second must be seconds, got ''"),
        ("sentiment", "feeling", "has no column sentiment; it has: id, normalized_text"),
    ],
)
def test_malformed_rows_are_errors(slue, release, tmp_path, old, new, message):
    path = release / "slue-voxceleb_fine-tune.tsv"
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(UserError, match=message):
        slue.prepare(official(release), tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_what_is_not_whole_is_an_error(slue, release, tmp_path):
    path = release / "slue-voxceleb_dev.tsv"
    path.write_text(path.read_text().replace("Neutral", "<mixed>").replace("Negative", "Disagreement"))
    with pytest.raises(UserError, match="slue-voxceleb_dev.tsv has no labels"):
        slue.prepare(official(release), tmp_path / "data")
    (release / f"fine-tune_raw/{A}_00002.flac").unlink()
    with pytest.raises(UserError, match="_00002.flac is missing or no recording: .*--slue_dir is not whole"):
        slue.prepare(official(release), tmp_path / "data")
    path.unlink()
    with pytest.raises(UserError, match="no .*slue-voxceleb_dev.tsv: is --slue_dir"):
        slue.prepare(official(release), tmp_path / "data")


def test_the_hugging_face_copy_gives_the_same_data(slue, release, tmp_path):
    datasets = pytest.importorskip("datasets", reason="the package datasets is not installed")
    splits = {}
    for split, dataset in (("train", "train"), ("validation", "valid"), ("test", "test")):
        examples = [
            {
                "index": index,
                "id": name,
                "audio": {"bytes": (release / f"{FOLDERS[dataset]}_raw/{name}.flac").read_bytes(), "path": f"{name}.flac"},
                "speaker_id": speaker,
                "normalized_text": text,
                "sentiment": label,
                "start_second": start,
                "end_second": end,
            }
            for index, (name, text, speaker, label, start, end) in enumerate(ROWS[dataset])
        ]
        kinds = {"index": "int32", "start_second": "float64", "end_second": "float64"}
        features = {name: datasets.Value(kinds.get(name, "string")) for name in examples[0]}
        features["audio"] = {"bytes": datasets.Value("binary"), "path": datasets.Value("string")}
        copy = datasets.Dataset.from_list(examples, features=datasets.Features(features))
        splits[split] = copy.cast_column("audio", datasets.Audio(sampling_rate=16000))
    datasets.DatasetDict(splits).save_to_disk(tmp_path / "copy")
    slue.prepare(HfCopy("voxceleb", str(tmp_path / "copy"), tmp_path / "audio"), tmp_path / "hf")
    slue.prepare(official(release), tmp_path / "official")
    for dataset in SETS:
        names = {path.name for path in (tmp_path / "official" / dataset).iterdir()}
        assert names == {path.name for path in (tmp_path / "hf" / dataset).iterdir()}
        for name in names - {"wav.scp"}:
            assert read_table(tmp_path / "hf" / dataset / name) == read_table(tmp_path / "official" / dataset / name)
    assert soundfile.info(read_table(tmp_path / "hf/train/wav.scp")[f"{A}_00012"]).frames == 9600


def test_both_recipes_prepare_the_same(release, tmp_path):
    for task in ("asr1", "cls1"):
        recipe = tmp_path / task
        recipe.mkdir()
        done = run_data_sh("slue_voxceleb", recipe, "--slue_dir", str(release), task=task)
        assert done.returncode == 0, done.stderr
        assert len(read_table(recipe / "data/train/utt2sentiment")) == 3
    done = run_data_sh("slue_voxceleb", tmp_path / "cls1", "--url", "http://127.0.0.1:9/slue.zip", task="cls1")
    assert done.returncode == 1 and "--local_data_opts '--slue_dir <folder>'" in done.stderr


def test_real_transcripts_voiced(slue, tmp_path):
    if not TEXTS.exists():
        pytest.skip("../shared/data/slue-voxceleb-text is not there")
    if not shutil.which("espeak-ng"):
        pytest.skip("espeak-ng is not installed")
    voiced_voxceleb.main(["--text_dir", str(TEXTS), "--out", str(tmp_path / "release"), "--num", "6"])
    slue.prepare(official(tmp_path / "release"), tmp_path / "data")
    labels = (TEXTS / "fine-tune.sent").read_text().splitlines()[:6]
    assert list(read_table(tmp_path / "data/train/utt2sentiment").values()) == labels
    assert sum(previous != "-" for previous in read_table(tmp_path / "data/train/utt2prev").values()) == 5
    assert_context_stays_in_its_set(tmp_path / "data", SETS, lambda utt: utt.rpartition("_")[0])
