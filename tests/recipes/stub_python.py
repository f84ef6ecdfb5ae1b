"""Stands for the steps of ctx.sh that load models: leaves what they leave, in no time.

What is recognised is "heard", and the first word of the context's text where there is one.
"""

import argparse
import os
import sys
from pathlib import Path

from espnet_ctx.files import read_table, write_table


def train(args) -> None:
    out = Path(args.output_dir)
    if args.collect_stats:
        for name in ("train", "valid"):
            for table in ("speech_shape", "text_shape"):
                write_table(out / name / table, {"utt": "1"})
        return
    out.mkdir(parents=True, exist_ok=True)
    for name in ("valid.loss.ave.pth", "config.yaml"):
        (out / name).write_text("model")


def embed(args) -> None:
    write_table(Path(args.out) / "context.scp", read_table(args.context_text))
    (Path(args.out) / "context_dim").write_text("384\n")


def ask(args) -> None:
    write_table(Path(args.out) / "context_text", {utt: "asked" for utt in read_table(Path(args.data_dir) / "text")})


def decode(args) -> None:
    out = Path(args.output_dir)
    heard = {utt: f"heard {context}".split()[:2] for utt, context in read_table(args.context_scp).items()}
    for name in ("text", "token", "token_int", "score"):
        write_table(out / name, {utt: " ".join(words) for utt, words in heard.items()})


def main() -> None:
    arguments = sys.argv[1:]
    parser = argparse.ArgumentParser(allow_abbrev=False)
    for name in ("output_dir", "out", "data_dir", "context_text", "context_scp", "collect_stats", "llm"):
        parser.add_argument(f"--{name}")
    args, _ = parser.parse_known_args(arguments)
    modules = [arguments[i + 1] for i, word in enumerate(arguments[:-1]) if word == "-m"]
    steps = {"espnet2.bin.asr_train": train, "espnet_ctx.bin.embed_context": embed, "espnet_ctx.bin.ctc_inference": decode}
    if args.llm:
        steps["espnet_ctx.bin.generate_context"] = ask
    module = modules[-1] if modules else ""
    if module in steps:
        steps[module](args)
    elif (module, "check" in arguments) != ("espnet_ctx.bin.context", True):
        os.execv(sys.executable, [sys.executable, *arguments])


if __name__ == "__main__":
    main()
