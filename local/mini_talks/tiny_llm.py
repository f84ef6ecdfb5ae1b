"""A tiny causal LLM and its training, on questions with answers."""

import math
import random
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from tqdm import tqdm
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

END = "<|endoftext|>"
HEAD_WIDTH = 32
BATCH_SIZE = 16
LEARNING_RATE = 2e-3
WARMUP = 0.05  # of all updates

Exercise = list[tuple[str, str]]  # the prompts about one history: question, answer
Sample = tuple[list[int], int]  # token ids, where the answer begins


def train_tokenizer(exercises: Sequence[Exercise], vocab_size: int) -> PreTrainedTokenizerFast:
    """Byte-level BPE: it can write every text, and common words are one token."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([text for pairs in exercises for pair in pairs for text in pair], trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END, model_max_length=256)


def tokenize(exercises: Sequence[Exercise], tokenizer: PreTrainedTokenizerFast) -> list[list[Sample]]:
    """Token ids of question, answer and end; an answer starts with a space."""
    tokenized = []
    for pairs in exercises:
        questions = tokenizer([question for question, _ in pairs])["input_ids"]
        answers = tokenizer([f" {answer}" * bool(answer) + END for _, answer in pairs])["input_ids"]
        tokenized.append([(q + a, len(q)) for q, a in zip(questions, answers, strict=True)])
    return tokenized


def loss_of(model: GPT2LMHeadModel, batch: Sequence[Sample]) -> torch.Tensor:
    """Mean cross-entropy of the answers' tokens. (Learning the histories too made the answers worse.)"""
    longest = max(len(ids) for ids, _ in batch)
    ids = torch.tensor([row + [0] * (longest - len(row)) for row, _ in batch])
    position = torch.arange(1, longest)
    answered = position >= torch.tensor([[start] for _, start in batch])
    answered &= position < torch.tensor([[len(row)] for row, _ in batch])
    # causal: the padding on the right reaches nothing before it
    states = model.transformer(input_ids=ids).last_hidden_state[:, :-1]
    return torch.nn.functional.cross_entropy(model.lm_head(states[answered]), ids[:, 1:][answered])


def train(
    samples: Mapping[int, list[list[Sample]]],
    shares: Mapping[int, int],
    tokenizer: PreTrainedTokenizerFast,
    size: tuple[int, int],
    updates: int,
    seed: int,
) -> GPT2LMHeadModel:
    """Train a GPT-2; the learning rate rises, then falls as a cosine.

    Args:
        samples: history length -> the prompts about each history of that length.
        shares: history length -> share of the updates.
        tokenizer: what made the samples.
        size: number of layers, and their width, a multiple of `HEAD_WIDTH`.
        updates: number of updates, each on `BATCH_SIZE` prompts about histories of one length.
        seed: of weights and order.
    """
    torch.manual_seed(seed)
    rng = random.Random(seed)
    num_layers, width = size
    config = GPT2Config(
        vocab_size=len(tokenizer),
        n_positions=tokenizer.model_max_length,
        n_embd=width,
        n_layer=num_layers,
        n_head=width // HEAD_WIDTH,
        activation_function="gelu_pytorch_tanh",
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=tokenizer.eos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    model = GPT2LMHeadModel(config).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=0.05)
    scheduler = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda u: min((u + 1) / (WARMUP * updates + 1), (1 + math.cos(math.pi * u / updates)) / 2)
    )
    for _ in (progress := tqdm(range(updates), desc="train the LLM", unit="update")):
        [length] = rng.choices(list(shares), list(shares.values()))
        batch = [rng.choice(prompts) for prompts in rng.choices(samples[length], k=BATCH_SIZE)]
        loss = loss_of(model, batch)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        scheduler.step()
        progress.set_postfix(loss=f"{loss.item():.2f}", refresh=False)
    return model.eval()


def train_and_save(
    exercises: Mapping[int, list[Exercise]],
    shares: Mapping[int, int],
    vocab_size: int,
    size: tuple[int, int],
    updates: int,
    seed: int,
    folder: Path,
) -> None:
    """Train tokenizer and model on the exercises of each history length; save both into `folder`."""
    tokenizer = train_tokenizer([pairs for same in exercises.values() for pairs in same], vocab_size)
    samples = {length: tokenize(same, tokenizer) for length, same in exercises.items()}
    model = train(samples, shares, tokenizer, size, updates, seed)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    print(f"the LLM has {model.num_parameters()} parameters and {len(tokenizer)} tokens")
