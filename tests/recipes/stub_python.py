"""Stands for the steps of ctx.sh that load models: leaves what they leave, in no time.

Training keeps its arguments as config.yaml, and takes a minute where there is a file `slow`. What is recognised is
"heard", and the first word of the context's text where there is one.
"""

import argparse
import json
import os
import sys
import time
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
    if Path("slow").exists():
        time.sleep(60)
    (out / "config.yaml").write_text(" ".join(sys.argv))
    (out / "valid.loss.ave.pth").write_text("model")


def embed(args) -> None:
    write_table(Path(args.out) / "context.scp", read_table(args.context_text))
    (Path(args.out) / "context_dim").write_text("384\n")
    (Path(args.out) / "embedded_by").write_text(" ".join(sys.argv))


def ask(args) -> None:
    write_table(Path(args.out) / "context_text", {utt: "asked" for utt in read_table(Path(args.data_dir) / "text")})


def judge(args) -> None:
    rows = [{"context": Path(args.context).parent.name, "auc": 0.75}]
    Path(args.out).mkdir(parents=True, exist_ok=True)
    (Path(args.out) / "report.json").write_text(json.dumps(rows))


def decode(args) -> None:
    out = Path(args.output_dir)
    contexts = read_table(args.context_scp) if args.context_scp else dict.fromkeys(read_table(Path(args.data_dir) / "text"), "")
    heard = {utt: f"heard {context}".split()[:2] for utt, context in contexts.items()}
    for name in ("text", "token", "token_int", "score"):
        write_table(out / name, {utt: " ".join(words) for utt, words in heard.items()})


def main() -> None:
    arguments = sys.argv[1:]
    parser = argparse.ArgumentParser(allow_abbrev=False)
    for name in ("output_dir", "out", "data_dir", "context_text", "context_scp", "collect_stats", "llm", "context"):
        parser.add_argument(f"--{name}")
    args, _ = parser.parse_known_args(arguments)
    if arguments[0] != "-m":  # the runner of jobs, among others
        os.execv(sys.executable, [sys.executable, *arguments])
    module = arguments[len(arguments) - arguments[::-1].index("-m")]
    steps = {"espnet2.bin.asr_train": train, "espnet_ctx.bin.embed_context": embed, "espnet_ctx.bin.ctc_inference": decode}
    if args.llm:
        steps["espnet_ctx.bin.generate_context"] = ask
    if "report" in arguments:
        steps["espnet_ctx.bin.context"] = judge
    if module in steps:
        steps[module](args)
    elif "check" not in arguments:
        os.execv(sys.executable, [sys.executable, *arguments])


def put_in(recipe) -> None:
    """Make the stages of a tiny recipe use this."""
    from tests.recipes.tiny import use_python  # here: what stands in for a step loads no libraries

    shim = recipe.folder / "bin/python3"
    shim.parent.mkdir()
    shim.write_text(f'#!/usr/bin/env bash\nexec {sys.executable} {Path(__file__).resolve()} "$@"\n')
    shim.chmod(0o755)
    use_python(recipe.folder, shim.parent)


if __name__ == "__main__":
    main()
