"""The study's YAML file and its points."""

from pathlib import Path

import pytest
import yaml

from espnet_ctx.files import UserError
from espnet_ctx.study.grid import Point, read_study

ROOT = Path(__file__).resolve().parents[2]
SMALL = {
    "run": "./run.sh --nbpe 300",
    "train_set": "train",
    "valid_set": "valid",
    "test_sets": "test",
    "llms": {"tiny": {"make": "local/llm.sh"}, "Qwen3-0.6B": {"llm": "Qwen/Qwen3-0.6B"}},
    "grid": {"system": ["generated", "aware", "prev_text", "none"], "llm": ["tiny", "Qwen3-0.6B"], "alpha": [0.5, 1]},
}


def read(tmp_path, **changes):
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump({**SMALL, **changes}, sort_keys=False))
    return read_study(path)


def test_a_point_has_only_the_axes_that_make_a_difference_to_it(tmp_path):
    study = read(tmp_path)
    assert [point.name for point in study.points] == [
        "none",
        "generated_topic_n1_tiny_mean",
        "generated_topic_n1_Qwen3-0.6B_mean",
        "aware_topic_n1_tiny_mean_a0.5",
        "aware_topic_n1_tiny_mean_a1",
        "aware_topic_n1_Qwen3-0.6B_mean_a0.5",
        "aware_topic_n1_Qwen3-0.6B_mean_a1",
        "prev_text_n1_mean",
    ]
    assert study.points[0] == Point("none", None, None, None, None, None, 1.0, 1)


def test_names_of_folders(tmp_path):
    study = read(tmp_path, grid={**SMALL["grid"], "system": ["generated", "prev_text"], "data": [0.125, 1], "seed": [7]})
    assert list(dict.fromkeys(point.folder for point in study.points)) == ["seed7_data12.5", "seed7"]
    small, generated = study.points[0], study.points[2]
    assert (study.subset(small), study.subset(study.points[-1])) == ("train_data12.5", "train")
    assert study.context_tag(generated) == "topic_n1_Qwen3-0.6B_minilm_mean"
    assert study.context_tag(study.points[-1]) == "prev_text_n1_minilm_mean"
    assert (study.llm_folder("tiny"), study.llm_folder("Qwen3-0.6B")) == ("exp/study/llm/tiny", "Qwen/Qwen3-0.6B")


def test_the_default_study():
    """Four prompts, two sizes of the LLM, two systems and three seeds, and `none` of each seed."""
    study = read_study(ROOT / "conf/study.yaml")
    assert len(study.points) == 4 * 2 * 2 * 3 + 3
    assert len({(point.folder, point.name) for point in study.points}) == len(study.points)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"grids": {}}, "the file has the unknown key 'grids'; allowed: run, train_set"),
        ({"run": ["a"]}, r"run is \['a'\]: must be of type str"),
        ({"minutes": {"bases": 3}}, "minutes has the unknown key 'bases'; allowed: data, llm, subset"),
        ({"llms": {"tiny": {"llm": "a", "make": "b"}}}, "llms: tiny: a name without '/', with either llm or make"),
        ({"bases": {2: "exp/asr_base"}}, "bases has the unknown key '2'; allowed: 1$"),
        ({"grid": {"system": ["telepathy"]}}, "grid: system has 'telepathy': must be one of none, prev_text, generated, aware"),
        ({"grid": {"llm": ["huge"]}}, "grid: llm has 'huge': must be one of tiny, Qwen3-0.6B"),
        ({"grid": {"seed": ["one"]}}, "grid: seed has 'one': must be of type int"),
        ({"grid": {"system": ["none"], "seed": [1, 1]}}, r"grid: seed is \[1, 1\]: a value occurs twice"),
        ({"grid": {"system": ["none"], "data": [0]}}, "grid: data is .*: must be shares of the training set"),
        ({"grid": {"system": ["generated"]}}, "grid: llm has no value"),
        ({"grid": {"system": ["none"], "seed": []}}, "grid: seed has no value"),
    ],
)
def test_errors(tmp_path, changes, message):
    with pytest.raises(UserError, match=message):
        read(tmp_path, **changes)


def test_missing_keys_and_files(tmp_path):
    (tmp_path / "empty.yaml").write_text("{}")
    with pytest.raises(UserError, match="run is None: must be of type str"):
        read_study(tmp_path / "empty.yaml")
    with pytest.raises(UserError, match="no such file"):
        read_study(tmp_path / "gone.yaml")
    (tmp_path / "list.yaml").write_text("[1]")
    with pytest.raises(UserError, match="must be a mapping"):
        read_study(tmp_path / "list.yaml")
