"""--test_context on a tiny recipe: every mode has contexts, a decoding and a row of its own."""

import pytest

from espnet_ctx.files import read_table, write_table
from tests.recipes.tiny import SETS, Recipe

pytestmark = [pytest.mark.recipe, pytest.mark.timeout(1800)]

DECODING = "decode_ctc_asr_model_valid.loss.ave"


@pytest.fixture(scope="module")
def recipe(tmp_path_factory, upstream_dir):
    """The system `prev_text` to stage 12, fed what it was trained with."""
    recipe = Recipe(tmp_path_factory.mktemp("modes"), upstream_dir())
    recipe.options = ["--context", "prev_text", "--num_prev", "2", "--asr_tag", "fed", "--skip_stages", "8"]
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
    run(recipe, "--test_context", "shuffled", "--stage", "6", "--stop_stage", "12")
    run(recipe, "--test_context", "none", "--stage", "6", "--stop_stage", "11")
    # one epoch teaches it to say nothing: something that was recognised
    recognised = {utt: f"heard {number}" for number, utt in enumerate(read_table(exp / f"{DECODING}_none/test/text"))}
    write_table(exp / f"{DECODING}_none/test/text", recognised)
    said = run(recipe, "--test_context", "hypothesis", "--stage", "6", "--stop_stage", "12")
    run(recipe, "--test_context", "none", "--stage", "12", "--stop_stage", "15")

    assert not any(previous(recipe, "_none").values())
    true = previous(recipe, "")
    assert sum(bool(text) for text in true.values()) == SETS["test"] - 2, "all but the first of each session"
    shuffled = previous(recipe, "_shuffled")
    assert sorted(shuffled.values()) == sorted(true.values()) and shuffled != true

    assert "First pass" in said
    before = read_table(recipe.folder / "dump/raw/test/utt2prev")
    for utt, text in previous(recipe, "_hypothesis").items():
        chain = [before[utt], before.get(before[utt], "-")]
        assert text.split() == [word for prev in reversed(chain) if prev != "-" for word in recognised[prev].split()]

    results = (exp / "RESULTS.md").read_text()
    report = (recipe.folder / "exp/report/report.md").read_text()
    for mode in ("_hypothesis", "_none", "_shuffled", ""):
        assert len(read_table(exp / f"{DECODING}{mode}/test/text")) == SETS["test"]
        assert f"|{DECODING}{mode}/test|" in results
        assert f"|fed|{mode.lstrip('_') or '-'}|{DECODING}/test|1|" in report
    log = exp / f"{DECODING}_hypothesis/test/logdir/ctc_inference.log"
    assert "prev_text_n2_minilm_mean/test_hypothesis/context.scp" in log.read_text()


def test_the_way_it_was_trained_is_no_mode_of_its_own(recipe):
    run(recipe, "--test_context", "gold", "--stage", "6", "--stop_stage", "11")
    assert not (recipe.folder / f"exp/asr_fed/{DECODING}_gold").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--test_context", "generated"], "--test_context generated needs --llm"),
        (["--test_context", "loud"], "--test_context is 'loud'; it must be one of: gold hypothesis generated shuffled none"),
        (["--test_context", "gold", "--context", "none"], "is for systems that take context at decoding, not for --context none"),
        (["--test_context", "gold", "--context", "aware", "--llm", "x"], "not for --context aware"),
        (["--test_context", "hypothesis", "--task", "cls"], "--test_context hypothesis with --task cls needs --hypothesis"),
    ],
)
def test_what_makes_no_sense_is_refused(recipe, options, message):
    done = recipe.run(*recipe.options, *options)
    assert done.returncode != 0 and message in done.stdout
