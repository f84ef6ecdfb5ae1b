"""The context engine against loops of one text at a time: throughput ratios and memory, in one run.

    python bench/context.py --llm exp/llm [--text_encoder minilm] [--utterances 10000] [--loop 150] [--rounds 3]

A text of that many utterances is made, 30 % of which repeat an earlier history. Each round takes a part of it: the
engine answers all of it (loading of the model and store on the disk included), the loop calls `generate` for some of its
utterances, one by one, with nothing that looks for stop texts, which would cost it half as much again; their texts must
be equal. Ratios are medians of the rounds' ratios of the time per utterance. Memory is the peak of processes of their own
that go through 10,000 and 100,000 utterances with a model that answers at once.
"""

import argparse
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path

from espnet_ctx.context.checkpoints import find_checkpoint
from espnet_ctx.context.llm import LLM, Answer, Decoding, until_stop
from espnet_ctx.context.prompts import load_prompt
from espnet_ctx.files import write_table

REPEATED = 0.3
WORDS = """
the of and to in is was he for it with as his on be at by i this had not are but from or have an they which one you were
her all she there would their we him been has when who will more no if out so said what up its about into than them can
only other new some could time these two may then do first any my now such like our over man me even most made after also
did many before must through back years where much your way well down should because each just those people how too little
state good very make world still own see men work long get here between both life being under never day same another know
while last might us great old year off come since against go came right used take three flour harbour sail orchestra garden
engine doctor court planet river market school kitchen forest winter letter music bridge captain village
""".split()
MEMORY_SIZES = (10_000, 100_000)


def make_data(folder: Path, utterances: int, seed: int) -> Path:
    """A data directory of sessions of 20; REPEATED of the utterances say what was said before."""
    rng = random.Random(seed)
    said: list[str] = []
    for _ in range(utterances):
        repeat = said and rng.random() < REPEATED
        said.append(rng.choice(said) if repeat else " ".join(rng.choices(WORDS, k=rng.randint(4, 14))))
    utts = [f"session{i // 20:06d}-{i % 20:03d}" for i in range(utterances)]
    write_table(folder / "text", dict(zip(utts, said, strict=True)))
    write_table(folder / "utt2prev", {utt: utts[i - 1] if i % 20 else "-" for i, utt in enumerate(utts)})
    return folder


def generate(data: Path, out: Path, llm: str) -> None:
    """What stage 6 does."""
    from espnet_ctx.bin import generate_context

    options = ["--data_dir", str(data), "--out", str(out), "--llm", llm, "--num_shots", "0", "--prompt", "topic"]
    generate_context.main(options)


def timed(call) -> tuple[float, object]:
    start = time.perf_counter()
    result = call()
    return time.perf_counter() - start, result


def compare_generation(llm: str, utterances: int, loop: int, rounds: int) -> None:
    """Engine against one `generate` a time."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from espnet_ctx.context.sessions import histories
    from espnet_ctx.files import read_table

    tokenizer = AutoTokenizer.from_pretrained(llm)
    model = AutoModelForCausalLM.from_pretrained(llm).eval()
    prompt = load_prompt("topic")

    @torch.inference_mode()
    def one(text: str) -> str:
        ids = tokenizer(prompt.base.render(text), return_tensors="pt")
        output = model.generate(**ids, max_new_tokens=prompt.max_new_tokens, do_sample=False)
        said = tokenizer.decode(output[0, ids["input_ids"].shape[1] :], skip_special_tokens=True)
        return prompt.clean(until_stop(said, ["\n"]))

    ratios, seconds = [], []
    for number in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            data = make_data(Path(folder) / "data", utterances // rounds, seed=number)
            said_before = histories(data, 1)
            some = [utt for utt in said_before if said_before[utt]][:: max(1, utterances // max(1, loop))][: loop // rounds]
            of_loop, expected = timed(lambda: {utt: one(said_before.joined(utt)) for utt in some})  # noqa: B023
            of_engine, _ = timed(lambda: generate(data, Path(folder) / "out", llm))  # noqa: B023
            texts = read_table(Path(folder) / "out" / "context_text")
            different = sum(texts[utt] != text for utt, text in expected.items())
            if different:
                sys.exit(f"{different} of {len(expected)} texts differ between loop and engine")
            ratios.append((of_loop / len(some)) / (of_engine / len(said_before)))
            seconds.append(of_engine / len(said_before))
    print(f"generation: engine {1 / statistics.median(seconds):.0f} utterances/s, {statistics.median(ratios):.1f} times the loop")


def compare_embedding(text_encoder: str, utterances: int, loop: int, rounds: int) -> None:
    """Engine against one forward pass a text."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    from espnet_ctx.bin import embed_context
    from espnet_ctx.files import read_table

    folder = find_checkpoint(text_encoder)[0]
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()

    @torch.inference_mode()
    def one(text: str):
        return model(**tokenizer(text, return_tensors="pt", truncation=True, max_length=64)).last_hidden_state.mean(1).numpy()

    ratios, seconds = [], []
    for number in range(rounds):
        with tempfile.TemporaryDirectory() as name:
            data = make_data(Path(name), utterances // rounds, seed=number)
            texts = list(read_table(data / "text").values())
            some = texts[: loop // rounds]
            of_loop, _ = timed(lambda: [one(text) for text in some])  # noqa: B023
            options = ["--context_text", str(data / "text"), "--out", name, "--text_encoder", text_encoder, "--pooling", "mean"]
            of_engine, _ = timed(lambda: embed_context.main(options))  # noqa: B023
            ratios.append((of_loop / len(some)) / (of_engine / len(texts)))
            seconds.append(of_engine / len(texts))
    print(f"embedding: engine {1 / statistics.median(seconds):.0f} texts/s, {statistics.median(ratios):.1f} times the loop")


class AnswersAtOnce(LLM):
    """Takes no memory of its own."""

    def answer(self, prompt, previous, decoding: Decoding):
        requests = iter(previous)
        while group := list(islice(requests, 500)):
            yield [(text, Answer(text[: decoding.max_new_tokens], False, 1, 1)) for text in group]

    def made_with(self):
        return {"device": "none"}


def go_through(utterances: int) -> None:
    """Generation and embedding with models that answer at once; prints the peak of memory in MB."""
    import numpy as np

    from espnet_ctx.bin import embed_context, generate_context
    from espnet_ctx.context.text_encoder import TextEncoder

    # models in name only: what is measured is the rest
    generate_context.load_llm = lambda *_: AnswersAtOnce()
    generate_context.identify = lambda *_: ("none", {"model": "none", "revision": ""})
    TextEncoder._embed = lambda self, ids: [np.zeros((1, self.dim), np.float32)] * len(ids)
    with tempfile.TemporaryDirectory() as name:
        data = make_data(Path(name) / "data", utterances, seed=0)
        generate(data, Path(name) / "out", "none")
        options = ["--context_text", str(data / "text"), "--out", name, "--text_encoder", "minilm", "--pooling", "mean"]
        embed_context.main(options)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def main() -> None:
    """Print one line a figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--llm", help="folder of a small base model, such as what local/llm.sh makes")
    parser.add_argument("--text_encoder", default="minilm")
    parser.add_argument("--utterances", type=int, default=10_000)
    parser.add_argument("--loop", type=int, default=150, help="utterances of the loop (default: 150)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--memory_of", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.memory_of:
        return go_through(args.memory_of)
    if not args.llm:
        parser.error("--llm is required")
    compare_generation(args.llm, args.utterances, args.loop, args.rounds)
    compare_embedding(args.text_encoder, args.utterances, args.loop, args.rounds)
    peaks = []
    for size in MEMORY_SIZES:
        command = [sys.executable, __file__, "--memory_of", str(size)]
        output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        peaks.append(float(output.split()[-1]))
    few, many = MEMORY_SIZES
    print(f"memory: {peaks[0]:.0f} MB for {few} utterances, {peaks[1]:.0f} MB for {many}: {peaks[1] - peaks[0]:+.0f} MB")


if __name__ == "__main__":
    main()
