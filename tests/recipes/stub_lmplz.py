"""Stands for KenLM's lmplz where that is not installed: an n-gram of relative frequencies, without smoothing."""

import argparse
import math
from collections import Counter
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("-o", dest="order", type=int)
    parser.add_argument("--text", type=Path)
    args, _ = parser.parse_known_args()
    lines = [["<s>", *line.split(), "</s>"] for line in args.text.read_text(encoding="utf-8").splitlines()]
    tables = [Counter() for _ in range(args.order + 1)]
    for line in lines:
        for order, table in enumerate(tables):
            table.update(tuple(line[i : i + order]) for i in range(len(line) - order + 1))
    tables[0] = Counter({(): sum(tables[1].values())})  # what a single token is divided by
    tables[1][("<unk>",)] = 1
    print("\\data\\", *(f"ngram {order}={len(table)}" for order, table in enumerate(tables) if order), sep="\n")
    for order, table in enumerate(tables):
        if order:
            print(f"\n\\{order}-grams:")
            for gram, count in table.items():
                backoff = "\t0" if order < args.order and gram[-1] != "</s>" else ""
                print(f"{math.log10(count / tables[order - 1][gram[:-1]]):.4f}\t{' '.join(gram)}{backoff}")
    print("\n\\end\\")


if __name__ == "__main__":
    main()
