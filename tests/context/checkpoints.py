"""Tiny random language models and text encoders in the Hugging Face layout."""

from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import BertConfig, BertModel, GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

TEXTS = [
    "the baker kneaded the dough with flour and yeast",
    "the captain steered the sail past the quay",
    "Topic: Title: Question: Next sentence:",
]
CHAT = "{% for m in messages %}<user>{{ m['content'] }}</user>{% endfor %}<bot>"


def make_llm(folder: Path, window: int = 96, eos: str | None = "<end>", chat_template: str | None = None) -> Path:
    """A GPT-2 whose weights are wide enough that its answers differ from prompt to prompt."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=320, special_tokens=[eos or "<unused>"], initial_alphabet=alphabet)
    tokenizer.train_from_iterator(TEXTS, trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=eos, chat_template=chat_template)
    fast.save_pretrained(folder)
    torch.manual_seed(0)
    sizes = {"n_positions": window, "n_embd": 16, "n_layer": 2, "n_head": 2, "initializer_range": 0.5}
    end = fast.eos_token_id
    config = GPT2Config(vocab_size=len(fast), bos_token_id=end, eos_token_id=end, **sizes)
    GPT2LMHeadModel(config).save_pretrained(folder)
    return folder


def make_text_encoder(folder: Path, width: int = 16, positions: int = 64) -> Path:
    """A BERT with word tokens and [CLS] ... [SEP]."""
    tokenizer = Tokenizer(models.WordLevel(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    tokenizer.train_from_iterator(TEXTS, trainers.WordLevelTrainer(special_tokens=special))
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names).save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=width,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        initializer_range=0.3,
        max_position_embeddings=positions,
    )
    BertModel(config).save_pretrained(folder)
    return folder
