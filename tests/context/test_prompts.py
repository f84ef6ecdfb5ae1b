"""Prompts: the files, their rendering, the cleaning of answers."""

from dataclasses import replace

import pytest
import yaml

from espnet_ctx.context.prompts import FOLDER, load_prompt, prompt_names
from espnet_ctx.files import UserError

NAMES = ["candidates", "keywords", "next_sentence", "question", "summary", "title", "topic"]


def test_the_prompts_are_there():
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
    assert len({load_prompt(name).sha256 for name in NAMES}) == len(NAMES)
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
        ("1. baking bread\n2. the sea", "baking bread"),
        ("- baking bread", "baking bread"),
        ("2024 was a year", "2024 was a year"),
        ("<think>The user wants a topic.\nHm.</think>\n\nbaking bread", "baking bread"),
        ("<think>and no end", ""),
        ("I'm sorry, but I can't help with that.", ""),
        ("I cannot determine the topic from this.", ""),
        ("As an AI language model, I have no topics", ""),
        ("I am sorry I can't come to the market", "I am sorry I can't come to the market"),
        ("baking ||| bread", "baking bread"),
        ("", ""),
        (' \n"" ', ""),
    ],
)
def test_clean(answer, cleaned):
    assert load_prompt("topic").clean(answer) == cleaned


@pytest.mark.parametrize(
    "answer",
    [
        "1. we bake\n2. they sail\n\n3. it rains\n4. too many",
        "- we bake\n- they sail\n- it rains",
        " we bake / they sail / it rains",
        'Here are three candidates:\n"we bake"\n"they sail"\n"it rains"',
    ],
)
def test_clean_a_list(answer):
    assert load_prompt("candidates").clean(answer) == "we bake ||| they sail ||| it rains"


@pytest.mark.parametrize(
    ("language", "answer", "cleaned"),
    [
        ("en", "烤面包和面粉", ""),
        ("en", "Москва и погода, weather", ""),
        ("en", "the word 面粉 means flour", "the word 面粉 means flour"),
        ("en", "1984", "1984"),
        ("en", "Hier ist ein Titel: Brot backen", "Hier ist ein Titel: Brot backen"),
        ("de", "Gerne! Hier ist ein Titel: Brot backen", "Brot backen"),
        ("de", "Hier wird Brot gebacken", "Hier wird Brot gebacken"),
        ("de", "Es tut mir leid, aber ich kann das nicht bestimmen.", ""),
        ("de", "Als KI habe ich kein Thema", ""),
        ("fr", "Bien sûr ! Voici un titre : « Le pain »", "Le pain"),
        ("fr", "Désolé, je ne peux pas vous aider.", ""),
        ("fr", "Je ne peux pas venir au marché", "Je ne peux pas venir au marché"),
        ("es", "¡Claro! Aquí tienes un título: El pan", "El pan"),
        ("es", "Lo siento, pero no puedo ayudarte con eso.", ""),
        ("es", "No puedo ir al mercado", "No puedo ir al mercado"),
    ],
)
def test_languages(language, answer, cleaned):
    assert replace(load_prompt("topic"), language=language).clean(answer) == cleaned


def test_an_item_in_another_script_is_left_out():
    assert load_prompt("candidates").clean("we bake\n我们航行\nit rains") == "we bake ||| it rains"


@pytest.mark.parametrize("name", NAMES)
def test_examples_are_what_the_prompt_asks_for(name):
    prompt = load_prompt(name)
    assert len(prompt.examples) == 2
    for example in prompt.examples:
        cleaned = prompt.clean(example.answer)
        assert cleaned.split(" ||| ") == example.answer.split(" / ")
    shown = prompt.base.render("NOW", prompt.examples)
    assert shown.endswith(prompt.base.render("NOW"))
    assert [shown.count(e.previous) for e in prompt.examples] == [1, 1]
    assert prompt.with_examples(0).base.render("NOW", ()) == prompt.base.render("NOW")
    with pytest.raises(UserError, match="--num_shots is 3.*0 to 2"):
        prompt.with_examples(3)


def test_only_what_is_asked_decides_the_key_of_an_answer(tmp_path):
    tree = yaml.safe_load((FOLDER / "topic.yaml").read_text())
    path = tmp_path / "own.yaml"

    def changed(**change):
        path.write_text(yaml.safe_dump({**tree, **change}))
        return load_prompt(str(path))

    same = changed()
    cleaned_otherwise = changed(post={"labels": [], "max_words": 3})
    assert cleaned_otherwise.sha256 != same.sha256
    assert cleaned_otherwise.asked_sha256 == same.asked_sha256
    in_french = changed(post={**tree["post"], "language": "fr"})
    assert in_french.sha256 != same.sha256 and in_french.asked_sha256 == same.asked_sha256
    assert changed(examples=[]).asked_sha256 != same.asked_sha256
    assert same.with_examples(1).asked_sha256 not in (same.asked_sha256, same.with_examples(0).asked_sha256)


def test_unknown_name_lists_the_known_ones():
    with pytest.raises(UserError, match="'tropic'.*next_sentence, question, summary, title, topic"):
        load_prompt("tropic")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"max_tokens": 3}, "must have exactly the keys"),
        ({"base": {"template": "{previous}"}}, "base must have exactly the keys template, stop"),
        ({"base": {"template": "no slot", "stop": []}}, "must contain {previous} once"),
        ({"base": {"template": "{previous}", "stop": [""]}}, "stop of 'base'"),
        ({"examples": [{"previous": "a"}]}, "an example must have exactly the keys previous, answer"),
        ({"max_new_tokens": "many"}, "max_new_tokens is 'many': must be of type int"),
        ({"max_new_tokens": 0}, "max_new_tokens is 0: must be at least 1"),
        ({"post": {"labels": [], "max_words": -1}}, "max_words is -1"),
        ({"post": {"labels": [], "max_words": 9, "language": "xx"}}, "language is 'xx': must be one of en, de, fr, es"),
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
