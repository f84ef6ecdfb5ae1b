"""Prompts: the files, their rendering, the cleaning of answers."""

import pytest
import yaml

from espnet_ctx.context.prompts import FOLDER, load_prompt, prompt_names
from espnet_ctx.files import UserError

NAMES = ["next_sentence", "question", "title", "topic"]


def test_the_four_prompts_are_there():
    assert prompt_names() == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_both_forms_hold_the_history(name):
    prompt = load_prompt(name)
    assert prompt.name == name
    for form in (prompt.base, prompt.instruct):
        rendered = form.render("first {sentence}\nsecond {previous}")
        assert "first {sentence}\nsecond {previous}" in rendered
        assert rendered == rendered.strip(), "a model must not be made to continue after white space"
    assert prompt.base.stop == ("\n",)


def test_hashes_differ_and_follow_the_content(tmp_path):
    assert len({load_prompt(name).sha256 for name in NAMES}) == 4
    copy = tmp_path / "mine.yaml"
    copy.write_text((FOLDER / "topic.yaml").read_text())
    assert load_prompt(str(copy)).sha256 == load_prompt("topic").sha256
    assert load_prompt(str(copy)).name == "mine"
    copy.write_text(copy.read_text().replace("Topic:", "Subject:"))
    assert load_prompt(str(copy)).sha256 != load_prompt("topic").sha256


@pytest.mark.parametrize(
    ("answer", "cleaned"),
    [
        (" baking bread", "baking bread"),
        ('"The Harbor at Night"', "The Harbor at Night"),
        ("Sure, here is a topic:\n\nbaking bread\nand more", "baking bread"),
        ("Certainly! Topic: **baking bread**", "baking bread"),
        ("Here's the topic: baking bread", "baking bread"),
        ("**Topic:** baking bread", "baking bread"),
        ("The topic is: “baking bread”", "baking bread"),
        ("topic is a word", "topic is a word"),
        ("Sure footing in the alps", "Sure footing in the alps"),
        ("baking\u2028bread\tnow", "baking bread now"),
        (
            "one two three four five six seven eight nine ten eleven twelve thirteen",
            "one two three four five six seven eight nine ten eleven twelve",
        ),
        ("", ""),
        (' \n"" ', ""),
    ],
)
def test_clean(answer, cleaned):
    assert load_prompt("topic").clean(answer) == cleaned


def test_unknown_name_lists_the_known_ones():
    with pytest.raises(UserError, match="'tropic'.*next_sentence, question, title, topic"):
        load_prompt("tropic")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"max_tokens": 3}, "must have exactly the keys"),
        ({"base": {"template": "{previous}"}}, "base must have exactly the keys template, stop"),
        ({"base": {"template": "no slot", "stop": []}}, "must contain {previous} once"),
        ({"base": {"template": "{previous}", "stop": [""]}}, "stop of 'base'"),
        ({"max_new_tokens": "many"}, "max_new_tokens is 'many': must be of type int"),
        ({"max_new_tokens": 0}, "max_new_tokens is 0: must be at least 1"),
        ({"post": {"labels": [], "max_words": -1}}, "max_words is -1"),
    ],
)
def test_errors_in_ones_own_file(tmp_path, change, message):
    tree = yaml.safe_load((FOLDER / "topic.yaml").read_text())
    path = tmp_path / "own.yaml"
    path.write_text(yaml.safe_dump({**tree, **change}))
    with pytest.raises(UserError, match=message):
        load_prompt(str(path))


def test_file_that_is_no_yaml(tmp_path):
    path = tmp_path / "own.yaml"
    path.write_text("base: [")
    with pytest.raises(UserError, match="is not YAML"):
        load_prompt(str(path))
