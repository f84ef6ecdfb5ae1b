import gzip
import json
import re
import zipfile

import pytest
import soundfile

from espnet_ctx.bin.check_data import check_data_dir
from espnet_ctx.context.sessions import histories
from espnet_ctx.corpora.slue import HfCopy, OfficialRelease
from espnet_ctx.files import UserError, read_table
from espnet_ctx.scoring.slue_text import tag_text
from tests.recipes_data.recipe import SHARED, assert_context_stays_in_its_set, load_prepare, run_data_sh

RELEASE = SHARED / "slue-voxpopuli-sub"
SPLITS = ("train", "valid", "test")
HEADER = "id\traw_text\tnormalized_text\tspeaker_id\tsplit"
# Two agenda items, one of them in both fine-tune and dev; sorted as text, turn ..._10 comes before ..._9
ITEM, SHARED_ITEM = (
    "20100101-0900-PLENARY-1-en_20100101-10:00:00",
    "20100101-0900-PLENARY-en_20100101-11:00:00",
)
FINE_TUNE = [
    (f"{ITEM}_10", 'Tenth; "so".', "tenth;  so.", "None"),
    (f"{ITEM}_9", "Ninth?", "ninth?", "None"),
    (f"{ITEM}_8", "", "", "None"),
    (f"{ITEM}_7", "Member's.", "member's.", "None"),
    (f"{ITEM}_3", "Three", "Three", "28116"),
    (f"{SHARED_ITEM}_4", "Four.", "four.", "None"),
]
DEV = [(f"{SHARED_ITEM}_5", "Five.", "five.", "2811"), (f"{SHARED_ITEM}_6", "Six!", "six!", "2811")]
TEST = [(f"{ITEM}_1", "One.", "one.", "None"), (f"{ITEM}_2", "Two.", "two.", "None")]


@pytest.fixture(scope="module")
def slue():
    return load_prepare("slue_voxpopuli")


def official(folder):
    return OfficialRelease("voxpopuli", folder)


@pytest.fixture
def release(tmp_path):
    """A made-up release in the official layout."""
    folder = tmp_path / "slue-voxpopuli"
    for name, audio, rows in (
        ("fine-tune", "fine-tune", FINE_TUNE),
        ("dev", "dev", DEV),
        ("test_blind", "test", TEST),
    ):
        (folder / audio).mkdir(parents=True)
        blind = name == "test_blind"
        lines = [HEADER + ("" if blind else "\traw_ner\tnormalized_ner")]
        for row in rows:
            (folder / audio / f"{row[0]}.ogg").touch()
            cell = "[['DATE', 0, 4]]" if row[2] else "[]"
            lines.append("\t".join([*row, audio, *([] if blind else ["None", cell])]))
        (folder / f"slue-voxpopuli_{name}.tsv").write_text("\n".join(lines) + "\n")
    return folder


def name_of(utt):
    """The release's name in an id, which begins with the speaker; in prev_text it is the id."""
    return re.search(r"\d{8}-.+", utt)[0]


def turn_of(name):
    return name.rpartition("_")[0]


def tables(data):
    return {name: read_table(data / name) for name in ("wav.scp", "text", "utt2spk", "utt2prev", "prev_text")}


def test_made_up_release(slue, release, tmp_path, capsys):
    slue.prepare(official(release), tmp_path / "data")
    train = tables(tmp_path / "data/train")
    item, shared_item = "20100101_0900_PLENARY_1", "20100101_0900_PLENARY"
    assert train["text"] == {
        f"28116-{ITEM}_3": "three",
        f"{shared_item}-{SHARED_ITEM}_4": "four",
        f"{item}-{ITEM}_10": "tenth so",
        f"{item}-{ITEM}_7": "member's",
        f"{item}-{ITEM}_9": "ninth",
    }
    assert train["utt2prev"] == {
        f"28116-{ITEM}_3": "-",  # number 2 of the turn is in the test set
        f"{shared_item}-{SHARED_ITEM}_4": "-",
        f"{item}-{ITEM}_10": f"{item}-{ITEM}_9",
        f"{item}-{ITEM}_7": "-",
        f"{item}-{ITEM}_9": f"{ITEM}_8",  # without a text: in no set, the history passes through it
        f"{ITEM}_8": f"{item}-{ITEM}_7",
    }
    assert train["prev_text"] == {f"{ITEM}_8": ""}
    assert histories(tmp_path / "data/train", 2)[f"{item}-{ITEM}_10"] == ["ninth"]
    assert histories(tmp_path / "data/train", 3)[f"{item}-{ITEM}_10"] == ["member's", "ninth"]
    valid = tables(tmp_path / "data/valid")
    assert valid["utt2prev"] == {
        f"2811-{SHARED_ITEM}_5": "-",
        f"2811-{SHARED_ITEM}_6": f"2811-{SHARED_ITEM}_5",
    }
    assert "data/train: 5 utterances, 2 with their predecessor" in capsys.readouterr().out
    assert_context_stays_in_its_set(tmp_path / "data", SPLITS, turn_of, name_of)


@pytest.mark.parametrize("zipped", [False, True])
def test_full_transcripts_fill_holes_but_never_across_splits(slue, release, tmp_path, zipped):
    turn, shared_turn = (name.split("PLENARY-")[1] for name in (ITEM, f"{SHARED_ITEM}"))
    rows = ["session_id|id_|original_text|normed_text|speaker_id|vad"]
    for name, text in (
        (f"{turn}_6", "Six of the turn."),
        (f"{turn}_5", "five of the turn"),
        (f"{turn}_2", "a test text"),
        (f"{shared_turn}_3", "three of the other turn"),
        (f"{shared_turn}_4", "a training text"),
        ("no name of the usual form", "nothing"),
    ):
        rows.append(f"20100101-0900-PLENARY|{name}|x|{text}|1|{[(0.0, 1.0)] * 20000}")
    path = tmp_path / ("asr_en.tsv.gz" if zipped else "asr_en.tsv")
    with (gzip.open if zipped else open)(path, "wt") as f:
        f.write("\n".join(rows) + "\n")
    slue.prepare(official(release), tmp_path / "data", path)
    train, valid = tables(tmp_path / "data/train"), tables(tmp_path / "data/valid")
    item, shared_item = "20100101_0900_PLENARY_1", "20100101_0900_PLENARY"
    assert train["prev_text"] == {
        f"{ITEM}_8": "",
        f"{ITEM}_6": "six of the turn",
        f"{ITEM}_5": "five of the turn",
        f"{SHARED_ITEM}_3": "three of the other turn",
    }
    assert train["utt2prev"][f"{item}-{ITEM}_7"] == f"{ITEM}_6"
    assert train["utt2prev"][f"{ITEM}_6"] == f"{ITEM}_5" and train["utt2prev"][f"{ITEM}_5"] == "-"
    assert train["utt2prev"][f"28116-{ITEM}_3"] == "-"
    assert train["utt2prev"][f"{shared_item}-{SHARED_ITEM}_4"] == f"{SHARED_ITEM}_3"
    assert valid["utt2prev"][f"2811-{SHARED_ITEM}_5"] == "-" and not valid["prev_text"]
    assert histories(tmp_path / "data/train", 9)[f"{item}-{ITEM}_10"] == [
        "five of the turn",
        "six of the turn",
        "member's",
        "ninth",
    ]
    assert_context_stays_in_its_set(tmp_path / "data", SPLITS, turn_of, name_of)


def test_entities_come_with_the_texts_as_released(slue, release, tmp_path):
    edit(release / "slue-voxpopuli_fine-tune.tsv", "member's.\tNone\tfine-tune\tNone\t[['DATE', 0, 4]]",
         "member's.\tNone\tfine-tune\tNone\t[['ORG', 7, 2], ['PERSON', 0, 6]]")  # fmt: skip
    edit(release / "slue-voxpopuli_fine-tune.tsv", "Three\t28116\tfine-tune\tNone\t[['DATE', 0, 4]]",
         "  Three\t28116\tfine-tune\tNone\tnan")  # fmt: skip
    slue.prepare(official(release), tmp_path / "data", task="slu")
    text, utt2ner = (read_table(tmp_path / "data/train" / name) for name in ("text", "utt2ner"))
    item = "20100101_0900_PLENARY_1"
    assert text[f"{item}-{ITEM}_10"] == "tenth;  so."
    assert text[f"28116-{ITEM}_3"] == "Three" and utt2ner[f"28116-{ITEM}_3"] == "[]"
    assert json.loads(utt2ner[f"{item}-{ITEM}_7"]) == [["PERSON", 0, 6], ["ORG", 7, 2]]
    assert utt2ner.keys() == text.keys()
    # only the entities are blind: the texts of the test set are there
    assert (tmp_path / "data/test/text").exists() and not (tmp_path / "data/test/utt2ner").exists()
    check_data_dir(tmp_path / "data/train")


def test_a_labelled_test_goes_before_the_blind_one(slue, release, tmp_path):
    blind = (release / "slue-voxpopuli_test_blind.tsv").read_text().splitlines()
    lines = [f"{blind[0]}\traw_ner\tnormalized_ner", *(f"{line}\tNone\t[['CARDINAL', 0, 3]]" for line in blind[1:])]
    (release / "slue-voxpopuli_test.tsv").write_text("\n".join(lines) + "\n")
    slue.prepare(official(release), tmp_path / "data", task="slu")
    assert set(read_table(tmp_path / "data/test/utt2ner").values()) == {'[["CARDINAL", 0, 3]]'}


@pytest.mark.parametrize("cell", ["[['DATE', 0, 4], ['ORG', 2, 2]]", "[['DATE', 2, 40]]", "[['DAY', 0, 2]]"])
def test_bad_entities_name_their_row(slue, release, tmp_path, cell):
    edit(release / "slue-voxpopuli_dev.tsv", "[['DATE', 0, 4]]", cell)
    with pytest.raises(UserError, match="slue-voxpopuli_dev.tsv, line 2: "):
        slue.prepare(official(release), tmp_path / "data", task="slu")
    assert not (tmp_path / "data").exists()


def test_training_sets_without_entities_are_an_error(slue, release, tmp_path):
    edit(release / "slue-voxpopuli_dev.tsv", "[['DATE', 0, 4]]", "None")
    slue.prepare(official(release), tmp_path / "asr")
    with pytest.raises(UserError, match="slue-voxpopuli_dev.tsv has no entities"):
        slue.prepare(official(release), tmp_path / "data", task="slu")


def test_the_hugging_face_copy_gives_the_same_data(slue, release, tmp_path):
    datasets = pytest.importorskip("datasets", reason="the package datasets is not installed")
    for split, rows in (("train", FINE_TUNE), ("validation", DEV), ("test", TEST)):
        examples = []
        for name, raw, text, speaker in rows:
            spans = [("DATE", 0, 4)] if text and split != "test" else []
            examples.append(
                {
                    "id": name,
                    "audio": {"bytes": name.encode(), "path": f"{name}.ogg"},
                    "speaker_id": speaker,
                    "normalized_text": text,
                    "raw_text": raw,
                    "normalized_ner": dict(zip(("type", "start", "length"), ([s[i] for s in spans] for i in range(3)))),
                }
            )
        lists = {"type": "string", "start": "int32", "length": "int32"}
        features = datasets.Features(
            {
                **{name: datasets.Value("string") for name in ("id", "speaker_id", "normalized_text", "raw_text")},
                "audio": {"bytes": datasets.Value("binary"), "path": datasets.Value("string")},
                "normalized_ner": {name: datasets.List(datasets.Value(kind)) for name, kind in lists.items()},
            }
        )
        copy = datasets.Dataset.from_list(examples, features=features)
        copy = copy.cast_column("audio", datasets.Audio(sampling_rate=16000))
        copy.to_parquet(tmp_path / f"copy/voxpopuli/{split}-00000-of-00001.parquet")
    files = [f"  - split: {split}\n    path: voxpopuli/{split}-*" for split in ("train", "validation", "test")]
    card = "\n".join(["---", "configs:", "- config_name: voxpopuli", "  data_files:", *files, "---", ""])
    (tmp_path / "copy/README.md").write_text(card)  # as on the hub
    copy = HfCopy("voxpopuli", str(tmp_path / "copy"), tmp_path / "audio")
    slue.prepare(copy, tmp_path / "hf", task="slu")
    slue.prepare(official(release), tmp_path / "official", task="slu")
    for split in SPLITS:
        names = {path.name for path in (tmp_path / "official" / split).iterdir()}
        assert names == {path.name for path in (tmp_path / "hf" / split).iterdir()}
        for name in names - {"wav.scp"}:
            assert (tmp_path / "hf" / split / name).read_text() == (tmp_path / "official" / split / name).read_text()
    recordings = read_table(tmp_path / "hf/train/wav.scp")
    assert all((tmp_path / path).read_bytes().decode() in path for path in recordings.values())
    with pytest.raises(UserError, match="could not read .*/none .voxpopuli, train.: .*--hf_copy <folder>"):
        slue.prepare(HfCopy("voxpopuli", str(tmp_path / "none"), tmp_path), tmp_path / "x")


def test_sorting_by_utterance_sorts_by_speaker(slue, release, tmp_path):
    slue.prepare(official(release), tmp_path / "data")
    speakers = [line.split()[1] for line in (tmp_path / "data/train/utt2spk").read_text().splitlines()]
    assert speakers == sorted(speakers, key=str.encode)


def edit(path, old, new):
    path.write_text(path.read_text().replace(old, new))


@pytest.mark.parametrize(
    "old, new, message",
    [
        ("normalized_text", "text", "no column normalized_text; it has: id, raw_text"),
        (f"{ITEM}_9", "nonsense", "line 3: id 'nonsense' is not"),
        (f"{ITEM}_9", f"{ITEM}_10", "line 3: id .* occurs twice"),
        ("\tNinth?\tninth?", "\tninth?", "line 3: expected 7 cells"),
    ],
)
def test_malformed_rows_are_errors(slue, release, tmp_path, old, new, message):
    edit(release / "slue-voxpopuli_fine-tune.tsv", old, new)
    with pytest.raises(UserError, match=message):
        slue.prepare(official(release), tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_missing_files_are_errors(slue, release, tmp_path):
    with pytest.raises(UserError, match="--asr_en_tsv"):
        slue.prepare(official(release), tmp_path / "data", tmp_path / "none")
    (release / f"dev/{SHARED_ITEM}_5.ogg").unlink()
    with pytest.raises(UserError, match="_5.ogg is missing: the release in --slue_dir is not whole"):
        slue.prepare(official(release), tmp_path / "data")
    (release / "slue-voxpopuli_test_blind.tsv").unlink()
    with pytest.raises(UserError, match="no .*_test.tsv or .*_test_blind.tsv: is --slue_dir"):
        slue.prepare(official(release), tmp_path / "data")


def test_split_without_texts_is_an_error(slue, release, tmp_path):
    (release / "slue-voxpopuli_test.tsv").write_text(f"{HEADER}\n{ITEM}_1\tOne.\t \tNone\ttest\n")
    with pytest.raises(UserError, match="slue-voxpopuli_test.tsv has no texts"):
        slue.prepare(official(release), tmp_path / "data")


@pytest.fixture
def url(release, tmp_path):
    """A made-up zip of the release, to be downloaded."""
    (tmp_path / "server").mkdir()
    path = tmp_path / "server/slue.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for file in release.rglob("*"):
            archive.write(file, file.relative_to(release.parent))
    (tmp_path / "recipe").mkdir()
    return path.as_uri()


def test_release_is_downloaded_once_and_unpacked(url, tmp_path):
    recipe = tmp_path / "recipe"
    done = run_data_sh("slue_voxpopuli", recipe, "--url", url)
    assert done.returncode == 0, done.stderr
    assert len(read_table(recipe / "data/train/text")) == 5
    assert {path.name for path in (recipe / "downloads").iterdir()} == {"slue.zip", "slue-voxpopuli"}
    assert not (recipe / "data/train/utt2ner").exists()
    (tmp_path / "server/slue.zip").unlink()
    assert run_data_sh("slue_voxpopuli", recipe, "--url", url).returncode == 0


def test_the_entity_recipe_prepares_entities(release, tmp_path):
    recipe = tmp_path / "recipe"
    recipe.mkdir()
    done = run_data_sh("slue_voxpopuli", recipe, "--slue_dir", str(release), task="slu1")
    assert done.returncode == 0, done.stderr
    assert len(read_table(recipe / "data/train/utt2ner")) == 5 and not (recipe / "data/test/utt2ner").exists()


def test_interrupted_download_goes_on(url, tmp_path):
    recipe = tmp_path / "recipe"
    whole = (tmp_path / "server/slue.zip").read_bytes()
    (recipe / "downloads").mkdir()
    (recipe / "downloads/slue.zip.part").write_bytes(whole[: len(whole) // 2])
    done = run_data_sh("slue_voxpopuli", recipe, "--url", url)
    assert done.returncode == 0, done.stderr
    assert (recipe / "downloads/slue.zip").read_bytes() == whole


def test_damaged_download_is_deleted(url, tmp_path):
    recipe = tmp_path / "recipe"
    server = tmp_path / "server/slue.zip"
    whole = server.read_bytes()
    server.write_bytes(whole[:100] + b"damage" + whole[106:])
    done = run_data_sh("slue_voxpopuli", recipe, "--url", url)
    assert done.returncode == 1 and "slue.zip was damaged (" in done.stderr
    server.write_bytes(whole)
    assert run_data_sh("slue_voxpopuli", recipe, "--url", url).returncode == 0


def test_without_a_network_the_option_is_named(tmp_path):
    done = run_data_sh("slue_voxpopuli", tmp_path, "--url", "http://127.0.0.1:9/slue.zip")
    assert done.returncode == 1
    assert "could not download http://127.0.0.1:9/slue.zip" in done.stderr
    assert "--local_data_opts '--slue_dir <folder>'" in done.stderr
    assert not (tmp_path / "data").exists()


@pytest.fixture(scope="module")
def real(slue, tmp_path_factory):
    if not RELEASE.exists():
        pytest.skip("../shared/data/slue-voxpopuli-sub is not there")
    data = tmp_path_factory.mktemp("data")
    slue.prepare(official(RELEASE), data)
    return {split: tables(data / split) for split in SPLITS}, data


@pytest.mark.parametrize(
    "split, number, followed", [("train", 778, 407), ("valid", 252, 164), ("test", 191, 80)]
)
def test_counts_of_the_real_release(real, split, number, followed):
    table = real[0][split]
    assert len(table["text"]) == len(table["wav.scp"]) == number
    assert sum(previous != "-" for previous in table["utt2prev"].values()) == followed


def test_real_entities_convert(slue, tmp_path):
    if not RELEASE.exists():
        pytest.skip("../shared/data/slue-voxpopuli-sub is not there")
    slue.prepare(official(RELEASE), tmp_path, task="slu")
    tagged = 0
    for split in ("train", "valid"):
        text, utt2ner = (read_table(tmp_path / split / name) for name in ("text", "utt2ner"))
        assert text.keys() == utt2ner.keys()
        tagged += sum("]" in tag_text(text[utt], json.loads(spans), "combined") for utt, spans in utt2ner.items())
    assert tagged > 400 and not (tmp_path / "test/utt2ner").exists()


def test_context_of_the_real_release_stays_in_its_split(real):
    for table in real[0].values():
        assert set(table["utt2prev"].values()) - {"-"} <= table["text"].keys()
    assert_context_stays_in_its_set(real[1], SPLITS, turn_of, name_of)
    names = [{utt.split("-en_")[0].split("-", 1)[1] for utt in table["text"]} for table in real[0].values()]
    assert not names[0] & names[1] and not names[0] & names[2] and not names[1] & names[2]


def test_order_of_the_real_release_is_that_of_speech(real):
    def position(utt):
        turn, number = utt.rsplit("_", 1)
        return turn.split("-en_")[1], int(number)

    for table in real[0].values():
        for utt, previous in table["utt2prev"].items():
            if previous != "-":
                assert position(previous) == (position(utt)[0], position(utt)[1] - 1)


def test_real_texts_and_recordings(real):
    for table in real[0].values():
        assert set("".join(table["text"].values())) <= set("abcdefghijklmnopqrstuvwxyz' ")
        info = soundfile.info(next(iter(table["wav.scp"].values())))
        assert (info.samplerate, info.channels) == (16000, 1)
        speakers = set(table["utt2spk"].values())
        assert "None" not in speakers and any("PLENARY" in speaker for speaker in speakers)
