"""--test_context through the stages of ctx.sh: every mode has contexts, a decoding and a row of its own.

What loads a model is a stand-in here: the stages are what is tested.
"""

import pytest

from espnet_ctx.files import read_table
from tests.recipes import stub_python
from tests.recipes.tiny import SETS, Recipe

pytestmark = [pytest.mark.recipe, pytest.mark.timeout(900)]

DECODING = "decode_ctc_asr_model_valid.loss.ave"


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    """The system `prev_text` to stage 12, fed what it was trained with."""
    recipe = Recipe(tmp_path_factory.mktemp("modes"), "none")
    recipe.options = ["--context", "prev_text", "--num_prev", "2", "--asr_tag", "fed", "--upstream", "", "--llm", "asked"]
    stub_python.put_in(recipe)
    run(recipe, "--stop_stage", "12")
    return recipe


def run(recipe, *options):
    done = recipe.run(*recipe.options, *options)
    assert done.returncode == 0, done.stdout
    return done.stdout


def previous(recipe, mode):
    return read_table(recipe.folder / f"dump/context/prev_text_n2_minilm_mean/test{mode}/context_text")


def test_modes_stand_side_by_side(recipe):
    exp = recipe.folder / "exp/asr_fed"
    modes = ["hypothesis", "shuffled", "none", "generated"]
    said = {mode: run(recipe, "--test_context", mode, "--stage", "6", "--stop_stage", "12") for mode in modes}
    run(recipe, "--stage", "15", "--stop_stage", "15")

    true = previous(recipe, "")
    assert sum(bool(text) for text in true.values()) == SETS["test"] - 2, "all but the first of each session"
    assert not any(previous(recipe, "_none").values())
    assert set(previous(recipe, "_generated").values()) == {"asked"}
    shuffled = previous(recipe, "_shuffled")
    assert sorted(shuffled.values()) == sorted(true.values()) and shuffled != true

    # the first pass is the mode `none`, which is kept when it is asked for
    assert "First pass" in said["hypothesis"] and "Decoding test started" not in said["none"]
    prev_of = read_table(recipe.folder / "dump/raw/test/utt2prev")
    expected = {utt: " ".join(["heard"] * ((prev != "-") + (prev_of.get(prev, "-") != "-"))) for utt, prev in prev_of.items()}
    assert previous(recipe, "_hypothesis") == expected and "heard heard" in expected.values()

    results = (exp / "RESULTS.md").read_text()
    report = (recipe.folder / "exp/report/report.md").read_text()
    for mode in ("", *(f"_{mode}" for mode in modes)):
        heard = read_table(exp / f"{DECODING}{mode}/test/text")
        assert heard == {utt: " ".join(f"heard {text}".split()[:2]) for utt, text in previous(recipe, mode).items()}
        assert f"|{DECODING}{mode}/test|" in results
        assert f"|fed|{mode.lstrip('_') or '-'}|{DECODING}/test|1|" in report


def test_the_way_it_was_trained_is_no_mode_of_its_own(recipe):
    said = run(recipe, "--test_context", "gold", "--stage", "6", "--stop_stage", "12")
    assert "started..." not in said
    assert not (recipe.folder / f"exp/asr_fed/{DECODING}_gold").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--test_context", "generated", "--llm", ""], "--test_context generated needs --llm"),
        (["--test_context", "loud"], "--test_context is 'loud'; it must be one of: gold hypothesis generated shuffled none"),
        (["--test_context", "gold", "--context", "none"], "is for systems that take context at decoding, not for --context none"),
        (["--test_context", "gold", "--context", "aware"], "not for --context aware"),
        (["--context_dtype", "half"], "--context_dtype is 'half'; it must be one of: float32 float16 int8"),
        (["--test_context", "hypothesis", "--task", "cls"], "--test_context hypothesis with --task cls needs --hypothesis"),
    ],
)
def test_what_makes_no_sense_is_refused(recipe, options, message):
    done = recipe.run(*recipe.options, *options)
    assert done.returncode != 0 and message in done.stdout


def test_precision_of_the_archive(recipe):
    run(recipe, "--context_dtype", "int8", "--stage", "7", "--stop_stage", "7")
    made = recipe.folder / "dump/context/prev_text_n2_minilm_mean/train/embedded_by"
    assert made.read_text().endswith("--pooling mean --dtype int8")
    run(recipe, "--stage", "7", "--stop_stage", "7")
    assert made.read_text().endswith("--pooling mean")
