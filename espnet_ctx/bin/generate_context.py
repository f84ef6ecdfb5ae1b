"""Write the context of each utterance: what an LLM says about the previous texts (stage 6).

Utterances without previous text get an empty context. Equal histories are answered once; a run that was
stopped goes on where it was; files that are whole and were made with the same options are kept.

Example:
    python -m espnet_ctx.bin.generate_context --data_dir dump/raw/test --out dump/context/topic_n4/test \\
        --prompt topic --num_prev 4 --llm exp/llm
"""

import argparse
import logging
from pathlib import Path

from espnet_ctx.context import generate
from espnet_ctx.context.checkpoints import find_checkpoint
from espnet_ctx.context.llm import BACKENDS, Decoding, load_llm
from espnet_ctx.context.prompts import load_prompt, prompt_names
from espnet_ctx.context.provenance import sha256_of, versions
from espnet_ctx.context.sessions import histories
from espnet_ctx.files import UserError, run_main

PREVIOUS = "previous"


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_dir", type=Path, required=True, help="Kaldi directory with text, utt2prev (and prev_text)")
    parser.add_argument("--out", type=Path, required=True, help="folder for context_text and context.json")
    known = ", ".join(prompt_names())
    parser.add_argument(
        "--prompt",
        required=True,
        help=f"{known}, one's own YAML file, or {PREVIOUS}: the previous texts, no LLM",
    )
    parser.add_argument("--num_prev", type=int, default=1, help="previous utterances to look at (default: 1)")
    parser.add_argument("--llm", help="hub id or folder of a causal language model")
    parser.add_argument("--llm_revision", help="branch, tag or commit of the hub id (default: the newest)")
    parser.add_argument("--llm_backend", default="transformers", choices=list(BACKENDS))
    parser.add_argument("--batch_size", type=int, default=16, help="histories per batch (default: 16)")
    parser.add_argument("--max_new_tokens", type=int, help="limit of an answer (default: the prompt's)")
    parser.add_argument("--temperature", type=float, default=0.0, help="0 is greedy search (default), above: sampling")
    parser.add_argument("--top_p", type=float, default=1.0, help="nucleus to sample from (default: 1.0)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the sampling (default: 0)")
    return parser


def main(cmd=None) -> None:
    args = get_parser().parse_args(cmd)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    if args.batch_size < 1:
        raise UserError(f"--batch_size is {args.batch_size}: must be at least 1")
    said_before = histories(args.data_dir, args.num_prev)
    if args.prompt == PREVIOUS:
        _join(args, said_before)
    else:
        _ask(args, said_before)


def _join(args: argparse.Namespace, said_before: dict[str, list[str]]) -> None:
    options = {"prompt": PREVIOUS, "num_prev": args.num_prev, "histories": sha256_of(said_before)}
    if generate.is_made(args.out, options):
        logging.info(f"{args.out}/context_text is whole: kept")
        return
    joined = {utt: " ".join(texts) for utt, texts in said_before.items()}
    generate.write_context_text(args.out, joined, options, versions("espnet_ctx"))


def _ask(args: argparse.Namespace, said_before: dict[str, list[str]]) -> None:
    prompt = load_prompt(args.prompt)
    if args.llm is None:
        raise UserError(f"--prompt {args.prompt} needs --llm: a hub id or a folder of a causal language model")
    max_new_tokens = prompt.max_new_tokens if args.max_new_tokens is None else args.max_new_tokens
    decoding = Decoding(max_new_tokens, args.temperature, args.top_p, args.seed)
    folder, version = find_checkpoint(args.llm, args.llm_revision)
    settings = {
        "prompt": prompt.name,
        "prompt_sha256": prompt.sha256,
        "num_prev": args.num_prev,
        "llm_version": version,
        "llm_backend": args.llm_backend,
        "decoding": decoding.as_dict(),
    }
    options = {**settings, "histories": sha256_of(said_before)}
    if generate.is_made(args.out, options):
        logging.info(f"{args.out}/context_text is whole: kept")
        return
    part = generate.PartFile(args.out / "context_text.part", settings)
    answered, made_with = generate.answers(
        said_before, prompt, lambda: load_llm(args.llm_backend, folder), decoding, args.batch_size, part
    )
    made_with = {"llm": args.llm, "llm_revision": args.llm_revision, **made_with}
    generate.write_context_text(args.out, answered, options, made_with)
    part.remove()
    empty = sum(not text for text in answered.values())
    logging.info(f"{args.out}/context_text: {len(answered)} utterances, {empty} of them without context")


if __name__ == "__main__":
    run_main(main)
