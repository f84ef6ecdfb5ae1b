"""Write the context of each utterance: what an LLM says about the previous texts (stage 6).

Utterances without previous text get an empty context. Answers are kept in a store, equal histories are answered
once, and a run that was stopped goes on where it was. With --llm_backend store no LLM is asked: the store must
hold the answers (python -m espnet_ctx.bin.context import).

Large corpora: run jobs with --shard 1/8 ... --shard 8/8, each asks its share; then the same command without
--shard merges what they answered and writes context_text.

Example:
    python -m espnet_ctx.bin.generate_context --data_dir dump/raw/test --out dump/context/topic_n4/test \\
        --prompt topic --num_prev 4 --llm Qwen/Qwen3-0.6B --store dump/context/store/Qwen3-0.6B.sqlite
"""

import argparse
import logging
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import yaml

from espnet_ctx.context import generate
from espnet_ctx.context.generate import PREVIOUS, STORE_ONLY
from espnet_ctx.context.generations import Generations, Setting, merge_parts, part_path
from espnet_ctx.context.llm import BACKENDS, Decoding, identify, load_llm
from espnet_ctx.context.prompts import load_prompt, prompt_names
from espnet_ctx.context.provenance import versions
from espnet_ctx.context.sessions import Histories, histories
from espnet_ctx.files import UserError, run_main

MODES = ("gold", "hypothesis", "shuffled", "none")


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
    parser.add_argument("--max_prev_tokens", type=int, default=1024, help="longer histories lose their beginning (default: 1024)")
    parser.add_argument(
        "--mode",
        default="gold",
        choices=MODES,
        help="which previous texts: the true ones (default), --hypothesis, those of another session, or none",
    )
    parser.add_argument("--hypothesis", type=Path, help="table of recognised texts, for --mode hypothesis")
    parser.add_argument("--llm", help="hub id or folder of a causal language model, or its name on a server")
    parser.add_argument("--llm_revision", help="branch, tag or commit of the hub id (default: the newest)")
    parser.add_argument("--llm_backend", default="transformers", choices=[*BACKENDS, STORE_ONLY])
    parser.add_argument("--llm_conf", action="append", default=[], metavar="KEY=VALUE", help="backend option; repeatable")
    parser.add_argument("--store", type=Path, help="database of answers (default: generations.sqlite in --out)")
    parser.add_argument("--shard", metavar="J/N", help="ask the J-th of N shares and write no context_text")
    parser.add_argument("--batch_size", type=int, help="requests at a time (default: the backend's)")
    parser.add_argument("--num_shots", type=int, help="examples shown to base models (default: all that the prompt has)")
    parser.add_argument("--max_new_tokens", type=int, help="limit of an answer (default: the prompt's)")
    parser.add_argument("--temperature", type=float, default=0.0, help="0 is greedy search (default), above: sampling")
    parser.add_argument("--top_p", type=float, default=1.0, help="nucleus to sample from (default: 1.0)")
    parser.add_argument("--seed", type=int, default=0, help="seed of sampling and of --mode shuffled (default: 0)")
    return parser


def main(cmd=None) -> None:
    args = get_parser().parse_args(cmd)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    if args.batch_size is not None and args.batch_size < 1:
        raise UserError(f"--batch_size is {args.batch_size}: must be at least 1")
    said_before = _histories(args)
    if args.prompt == PREVIOUS:
        _join(args, said_before)
    else:
        _ask(args, said_before)


def _histories(args: argparse.Namespace) -> Histories:
    if (args.mode == "hypothesis") != (args.hypothesis is not None):
        raise UserError("--mode hypothesis and --hypothesis go together")
    said_before = histories(args.data_dir, args.num_prev, args.max_prev_tokens, args.hypothesis)
    if args.mode == "shuffled":
        return said_before.shuffled(args.seed)
    return said_before.nothing() if args.mode == "none" else said_before


def _join(args: argparse.Namespace, said_before: Histories) -> None:
    options = {"prompt": PREVIOUS, "num_prev": args.num_prev, "mode": args.mode, "histories": said_before.sha256()}
    if generate.is_made(args.out, options):
        logging.info(f"{args.out}/context_text is whole: kept")
        return
    joined = {utt: said_before.joined(utt, " ") for utt in said_before}
    generate.write_context_text(args.out, joined, options, versions("espnet_ctx"))


def _ask(args: argparse.Namespace, said_before: Histories) -> None:
    prompt = load_prompt(args.prompt).with_examples(args.num_shots)
    if args.llm is None:
        raise UserError(f"--prompt {args.prompt} needs --llm: a hub id or a folder of a causal language model")
    max_new_tokens = prompt.max_new_tokens if args.max_new_tokens is None else args.max_new_tokens
    decoding = Decoding(max_new_tokens, args.temperature, args.top_p, args.seed)
    conf = _conf(args)
    shard = _shard(args.shard)
    store = args.store or args.out / "generations.sqlite"
    if args.llm_backend == STORE_ONLY:
        model, llm = _stored_model(args, store)
    else:
        model, llm = identify(args.llm_backend, args.llm, args.llm_revision, conf)
    setting = Setting.of(llm, prompt, decoding)
    options = {
        "prompt": prompt.name,
        "prompt_sha256": prompt.sha256,
        "num_prev": args.num_prev,
        "mode": args.mode,
        "llm": llm,
        "decoding": decoding.as_dict(),
        "histories": said_before.sha256(),
    }
    if shard is None and generate.is_made(args.out, options):
        logging.info(f"{args.out}/context_text is whole: kept")
        return

    def load():
        if args.llm_backend == STORE_ONLY:
            raise UserError(
                f"{store} has not all the answers and --llm_backend {STORE_ONLY} asks no LLM: import more, "
                f"or choose one of {', '.join(BACKENDS)}"
            )
        return load_llm(args.llm_backend, model, conf)

    if shard is not None:
        part = part_path(store, *shard)
        with Generations(part) as own, ExitStack() as stack:
            known = stack.enter_context(Generations(store, read_only=True)) if store.exists() else None
            asked = generate.ask(said_before, prompt, decoding, setting, own, load, args.llm, shard, known)
        logging.info(f"share {args.shard}: {asked} histories were asked about, answers in {part}")
        return
    merge_parts(store)
    with Generations(store) as opened:
        asked = generate.ask(said_before, prompt, decoding, setting, opened, load, args.llm)
        answers = generate.CleanAnswers(said_before, prompt, setting, opened)
        made_with = {"llm": args.llm, "llm_revision": args.llm_revision, "store": str(store)}
        for maker in opened.makers(setting):
            made_with.update({key: value for key, value in maker.items() if key != "llm"})
        generate.write_context_text(args.out, answers, options, made_with, lambda: answers.counts)
    counts = answers.counts
    logging.info(
        f"{args.out}/context_text: {len(answers)} utterances, {counts['first'] + counts['empty']} of them without context; "
        f"the LLM was asked {asked} times"
    )


def _conf(args: argparse.Namespace) -> dict[str, Any]:
    conf: dict[str, Any] = {}
    for pair in args.llm_conf:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise UserError(f"--llm_conf is '{pair}': must be KEY=VALUE")
        conf[key] = yaml.safe_load(value)
    if args.batch_size is not None:
        conf["batch_size"] = args.batch_size
    return conf


def _shard(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    number, _, count = text.partition("/")
    if not (number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
        raise UserError(f"--shard is '{text}': must be J/N with 1 <= J <= N")
    return int(number), int(count)


def _stored_model(args: argparse.Namespace, store: Path) -> tuple[str, dict[str, Any]]:
    """The one model of the store that --llm and --llm_revision mean."""
    with Generations(store, read_only=True) as opened:
        found = opened.models(args.llm, args.llm_revision)
    if len(found) != 1:
        known = "; ".join(map(str, found)) or "none"
        wanted = f"--llm {args.llm} --llm_revision {args.llm_revision or '(any)'}"
        raise UserError(f"{store}: {wanted} must mean one model there, found: {known}")
    return args.llm, found[0]


if __name__ == "__main__":
    run_main(main)
