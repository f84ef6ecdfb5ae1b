"""A prompt about previous texts -> token ids, for the backends that run a model's files."""

import re
from pathlib import Path

from jinja2 import TemplateError
from transformers import AutoConfig, AutoTokenizer

from espnet_ctx.context.checkpoints import window
from espnet_ctx.context.prompts import Form, Prompt
from espnet_ctx.files import UserError


class PromptTokenizer:
    """The instruct form in the chat template of the model, or the base form with examples if it has none.

    Control tokens of the model that stand in the previous texts are taken out: what somebody said can end
    neither his turn nor the text.

    Args:
        folder: a model's folder in the Hugging Face layout. Code in it is never run.
    """

    def __init__(self, folder: Path):
        self.tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        self.window = window(AutoConfig.from_pretrained(folder, trust_remote_code=False), self.tokenizer)
        added = [token.content for token in self.tokenizer.added_tokens_decoder.values()]
        control = {*self.tokenizer.all_special_tokens, *(t for t in added if t.strip() and not t.strip().isalnum())}
        longest_first = sorted(control, key=len, reverse=True)
        self._control = re.compile("|".join(map(re.escape, longest_first))) if control else None

    def form(self, prompt: Prompt) -> Form:
        """The form of a prompt that this model takes."""
        return prompt.instruct if self.tokenizer.chat_template else prompt.base

    def encode(self, prompt: Prompt, previous: str, max_new_tokens: int) -> list[int]:
        """Token ids of the prompt with as many of its examples, then of the last previous words, as the window
        holds beside an answer of `max_new_tokens`.

        Raises:
            UserError: the window cannot hold the prompt and the answer even without previous text, or the
                chat template is broken.
        """
        previous = self._control.sub(" ", previous) if self._control else previous
        examples = len(prompt.examples)
        while True:
            ids = self._tokenize(prompt.with_examples(examples), previous)
            if self.window is None or len(ids) + max_new_tokens <= self.window:
                return ids
            if examples == 0 or self.tokenizer.chat_template:
                return self._cut(prompt.with_examples(0), previous, max_new_tokens)
            examples -= 1

    def decode(self, ids) -> str:
        """Text of generated token ids."""
        return self.tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)

    def _cut(self, prompt: Prompt, previous: str, max_new_tokens: int) -> list[int]:
        room = self.window - max_new_tokens
        if len(self._tokenize(prompt, "")) > room:
            raise UserError(
                f"the prompt and an answer of {max_new_tokens} tokens do not fit the model's window of "
                f"{self.window} tokens: lower --max_new_tokens or shorten the prompt"
            )
        starts = [i for i, c in enumerate(previous) if not c.isspace() and (i == 0 or previous[i - 1].isspace())]
        few, many = len(starts), 0  # words to drop: enough, too few
        while few - many > 1:
            middle = (few + many) // 2
            if len(self._tokenize(prompt, previous[starts[middle] :])) <= room:
                few = middle
            else:
                many = middle
        return self._tokenize(prompt, previous[starts[few] :] if few < len(starts) else "")

    def _tokenize(self, prompt: Prompt, previous: str) -> list[int]:
        if not self.tokenizer.chat_template:
            return self.tokenizer(prompt.base.render(previous, prompt.examples))["input_ids"]
        turn = [{"role": "user", "content": prompt.instruct.render(previous)}]
        try:
            # reasoning models take enable_thinking, other templates do not look at it
            text = self.tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True, enable_thinking=False)
        except TemplateError as e:
            raise UserError(f"the chat template of {self.tokenizer.name_or_path} does not work: {e}") from e
        # a chat template writes the special tokens itself
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]
