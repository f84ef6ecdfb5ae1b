"""Look after generated contexts: pass generations on, judge them, check archives.

Examples:
    python -m espnet_ctx.bin.context stats --store dump/context/store/local.sqlite
    python -m espnet_ctx.bin.context export --store dump/context/store/local.sqlite --jsonl generations.jsonl
    python -m espnet_ctx.bin.context import --store dump/context/store/local.sqlite --jsonl generations.jsonl
    python -m espnet_ctx.bin.context prune --store dump/context/store/local.sqlite --prompt title
    python -m espnet_ctx.bin.context merge --store dump/context/store/local.sqlite
    python -m espnet_ctx.bin.context check --context dump/context/TAG/train dump/context/TAG/valid
    python -m espnet_ctx.bin.context report --data_dir dump/raw/valid --context dump/context/*/valid --out exp/context_report
"""

import argparse
import json
import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from espnet_ctx.context import generate, quality, store
from espnet_ctx.context.checkpoints import find_checkpoint
from espnet_ctx.context.generations import Generations, merge_parts
from espnet_ctx.context.provenance import read_section
from espnet_ctx.context.sessions import histories
from espnet_ctx.files import UserError, read_table, run_main, whole_file
from espnet_ctx.scoring.tables import markdown_table

# what differs between the sets of one corpus
OF_THE_SET = {"histories", "texts", "mode"}


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True, metavar="command")

    def command(name: str, run, what: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=what, description=what)
        sub.set_defaults(run=run)
        return sub

    for name, run, what in (
        ("export", _export, "write all generations of a store as lines of JSON"),
        ("import", _import, "take generations into a store; --llm_backend store then needs no LLM"),
        ("stats", _stats, "what a store holds"),
        ("prune", _prune, "delete the generations to which all options apply"),
        ("merge", _merge, "merge what jobs (generate_context --shard) have left beside a store into it"),
    ):
        sub = command(name, run, what)
        sub.add_argument("--store", type=Path, required=True, help="database of answers")
        if name in ("export", "import"):
            sub.add_argument("--jsonl", type=Path, required=True, help="file of generations, one a line")
        if name == "prune":
            sub.add_argument("--prompt", help="name of the prompt")
            sub.add_argument("--model", help="hub id, or hash of a folder, as stats shows it")
            sub.add_argument("--before", help="those made before this day, YYYY-MM-DD")
    check = command("check", _check, "refuse archives that were not made in the same way")
    check.add_argument("--context", type=Path, nargs="+", required=True, help="folders with context.scp and context.json")
    report = command("report", _report, "judge contexts: table (report.md, report.json) and figure (report.png)")
    report.add_argument("--context", type=Path, nargs="+", required=True, help="folders with context_text, of one set")
    report.add_argument("--data_dir", type=Path, required=True, help="the set's Kaldi directory")
    report.add_argument("--out", type=Path, required=True, help="folder for the report")
    report.add_argument("--text_encoder", default="minilm", help="measures similarity (default: minilm)")
    report.add_argument("--train_text", type=Path, help="texts in which rare words are counted (default: the set's own)")
    report.add_argument("--rare", type=int, default=10, help="words said at most so often are rare (default: 10)")
    report.add_argument("--utterances", type=int, help="size of the corpus to estimate time and cost for (default: the set's)")
    report.add_argument("--price_in", type=float, default=0.0, help="price of a million tokens read (default: 0)")
    report.add_argument("--price_out", type=float, default=0.0, help="price of a million tokens written (default: 0)")
    return parser


def main(cmd=None) -> None:
    args = get_parser().parse_args(cmd)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    args.run(args)


def _export(args: argparse.Namespace) -> None:
    with Generations(args.store, read_only=True) as opened:
        print(f"{args.jsonl}: {opened.export(args.jsonl)} generations")


def _import(args: argparse.Namespace) -> None:
    with Generations(args.store) as opened:
        print(f"{args.store}: {opened.read_lines(args.jsonl)} new generations")


def _merge(args: argparse.Namespace) -> None:
    print(f"{args.store}: {merge_parts(args.store)} new generations")


def _prune(args: argparse.Namespace) -> None:
    if not (args.prompt or args.model or args.before):
        raise UserError("prune needs --prompt, --model or --before: without them it would delete everything")
    if args.before and not re.fullmatch(r"\d{4}-\d\d-\d\d", args.before):
        raise UserError(f"--before is '{args.before}': must be a day, YYYY-MM-DD")
    if not args.store.is_file():
        raise UserError(f"no such store: {args.store}")
    with Generations(args.store) as opened:
        print(f"{args.store}: {opened.prune(args.prompt, args.model, args.before)} generations deleted")


def _stats(args: argparse.Namespace) -> None:
    with Generations(args.store, read_only=True) as opened:
        rows = [
            [
                f"{row['llm']['model'][:40]} {row['llm']['revision'][:12]}".strip(),
                row["prompt"]["name"],
                " ".join(f"{key}={value}" for key, value in row["decoding"].items()),
                *(str(row[key]) for key in ("answers", "truncated", "tokens_in", "tokens_out")),
                _rate(row["tokens_out"], row["seconds"]),
            ]
            for row in opened.stats()
        ]
    header = ["model", "prompt", "decoding", "answers", "truncated", "tokens read", "tokens written", "tokens/s"]
    print(markdown_table(header, rows), end="")


def _check(args: argparse.Namespace) -> None:
    first, *rest = [_made_by(folder) for folder in args.context]
    for folder, other in zip(args.context[1:], rest, strict=True):
        different = sorted(key for key in first.keys() | other.keys() if first.get(key) != other.get(key))
        if different:
            key = different[0]
            raise UserError(
                f"{folder} and {args.context[0]} were not made in the same way: {key} is {other.get(key)!r} and "
                f"{first.get(key)!r}; run stages 6 and 7 again with one set of options"
            )


def _made_by(folder: Path) -> dict[str, Any]:
    made = {}
    for section in (generate.SECTION, store.SECTION):
        options = read_section(folder, section).get("options")
        if options is None:
            raise UserError(f"{folder}/context.json has no section '{section}': run stages 6 and 7")
        options = options if isinstance(options, list) else [options]  # one for each text of several
        for number, single in enumerate(options):
            made.update({f"{section}.{number}.{k}": v for k, v in single.items() if k not in OF_THE_SET})
    made["context_dim"] = read_section(folder, store.SECTION).get("context_dim")
    return made


def _report(args: argparse.Namespace) -> None:
    texts = read_table(args.data_dir / "text")
    counts = quality.word_counts((read_table(args.train_text) if args.train_text else texts).values())
    before = histories(args.data_dir, 1)
    # imported here: it takes seconds, which a report on wrong files need not wait for
    from espnet_ctx.context.text_encoder import TextEncoder

    tables = {folder: read_table(folder / "context_text") for folder in args.context}
    for folder, contexts in tables.items():
        if contexts.keys() != texts.keys():
            raise UserError(f"{folder}/context_text and {args.data_dir}/text must have the same utterances")
    encoder = TextEncoder(find_checkpoint(args.text_encoder)[0], "mean", 64)
    different = sorted({text for table in (texts, *tables.values()) for text in table.values() if text})
    embedded = {text: matrix[0] for text, matrix in encoder.encode(different, 64)}
    rows = []
    for folder, contexts in tables.items():
        judged = _judge(args, folder, contexts, texts, counts, before, embedded)
        rows.append({"context": folder.parent.name or str(folder), **judged})
    with whole_file(args.out / "report.json") as f:
        json.dump(rows, f, indent=2)
    table = markdown_table(list(COLUMNS), [[show(row.get(key)) for key, show in COLUMNS.values()] for row in rows])
    with whole_file(args.out / "report.md") as f:
        f.write(f"# Contexts of {args.data_dir.name}: {len(texts)} utterances\n\n{table}\n{LEGEND}\n")
    _plot(rows, args.out / "report.png")
    print(table, end="")


def _judge(args, folder: Path, contexts, texts, counts, before, embedded) -> dict[str, Any]:
    """The figures of one folder; those that the files do not tell are missing. `embedded`: text -> embedding (d,)."""
    both = [utt for utt in texts if contexts[utt] and texts[utt]]
    rng = np.random.default_rng(0)
    turn = int(rng.integers(1, len(both))) if len(both) > 1 else 0
    shuffled = {utt: contexts[both[(i + turn) % len(both)]] for i, utt in enumerate(both)}
    own = {utt: texts[utt] for utt in both}
    recall, rare_words = quality.rare_word_recall(contexts, own, counts, args.rare)
    chance, _ = quality.rare_word_recall(shuffled, own, counts, args.rare)
    stack = [np.array([embedded[table[utt]] for utt in both]).reshape(len(both), -1) for table in (contexts, texts)]
    section = read_section(folder, generate.SECTION)
    result: dict[str, Any] = {
        "with_context": len(both),
        "auc": quality.similarity_auc(*stack),
        "rare_words": rare_words,
        "rare_recall": recall,
        "rare_recall_shuffled": chance,
        "own_text": np.mean([quality.says_own_text(contexts[u], texts[u], before[u]) for u in both]).item() if both else 0.0,
    }
    made = section.get("counts") or {}
    answered = made.get("answered")
    if answered:
        result.update({key: made[key] / answered for key in ("empty", "refused", "truncated", "repeated")})
        wanted = (args.utterances or len(texts)) / len(texts) * answered
        tokens = {key: made[key] / answered for key in ("tokens_in", "tokens_out")}
        result.update(tokens)
        result["cost"] = wanted * (tokens["tokens_in"] * args.price_in + tokens["tokens_out"] * args.price_out) / 1e6
        speed = _speed(section)
        if speed and speed["seconds"]:
            result["tokens_per_second"] = speed["tokens_out"] / speed["seconds"]
            result["hours"] = wanted * speed["seconds"] / speed["answers"] / 3600
    return result


def _speed(section: dict[str, Any]) -> dict[str, Any] | None:
    """What the store says of the setting that made a context_text; None: the store is not there."""
    path, options = section["made_with"].get("store"), section["options"]
    if not path or not Path(path).is_file():
        return None
    with Generations(path, read_only=True) as opened:
        for row in opened.stats():
            if (row["llm"], row["prompt"]["name"], row["decoding"]) == tuple(options[k] for k in ("llm", "prompt", "decoding")):
                return row
    return None


def _plot(rows: list[dict[str, Any]], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 1.5 + 0.4 * len(rows)), sharey=True)
    names = [row["context"] for row in rows]
    left.barh(names, [row["auc"] for row in rows])
    left.axvline(0.5, color="black", linestyle=":")
    left.set(xlabel="similarity to the true text, AUC", xlim=(0.4, 1.0))
    left.invert_yaxis()
    right.barh(names, [100 * row["rare_recall"] for row in rows], label="own context")
    right.barh(names, [100 * row["rare_recall_shuffled"] for row in rows], height=0.3, label="another one's")
    right.set(xlabel="recall of rare words, %", xlim=(0, max(1.0, right.get_xlim()[1])))
    right.legend()
    figure.tight_layout()
    with whole_file(path, "wb") as f:
        figure.savefig(f, dpi=120, format="png")
    plt.close(figure)


def _rate(count: float, seconds: float) -> str:
    return f"{count / seconds:.0f}" if seconds else "-"


def _short(value: float) -> str:
    """Two digits behind the point, or as many as show something."""
    return f"{value:.2f}" if value >= 0.1 or not value else f"{value:.1g}"


def _shown(form: Callable[[float], str], scale: float = 1.0):
    return lambda value: "-" if value is None or value != value else form(value * scale)


_percent = _shown("{:.1f}".format, 100)
COLUMNS = {
    "context": ("context", str),
    "utterances": ("with_context", str),
    "AUC": ("auc", _shown("{:.3f}".format)),
    "rare words": ("rare_words", str),
    "found %": ("rare_recall", _percent),
    "by chance %": ("rare_recall_shuffled", _percent),
    "own text %": ("own_text", _percent),
    "empty %": ("empty", _percent),
    "refused %": ("refused", _percent),
    "cut off %": ("truncated", _percent),
    "repeated %": ("repeated", _percent),
    "tokens read": ("tokens_in", _shown("{:.0f}".format)),
    "tokens written": ("tokens_out", _shown("{:.1f}".format)),
    "tokens/s": ("tokens_per_second", _shown("{:.0f}".format)),
    "hours": ("hours", _shown(_short)),
    "cost": ("cost", _shown(_short)),
}
LEGEND = """AUC: how often the context is nearer to its own utterance's text than to another's (0.5: chance), among the
utterances with a context. Rare words: how many words that are rare in the training texts the utterances have, and which
share of them their contexts hold; by chance: with another utterance's context. Own text: contexts that repeat an
utterance which had not been said yet. Empty, refused, cut off, repeated: of the answers. Tokens are per answer; hours and
cost are for the whole corpus, each utterance asked once."""


if __name__ == "__main__":
    run_main(main)
