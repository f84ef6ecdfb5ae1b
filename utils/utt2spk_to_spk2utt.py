#!/usr/bin/env python3
"""Prints the spk2utt that follows from an utt2spk: utt2spk_to_spk2utt.py data/train/utt2spk > data/train/spk2utt"""

import sys


def main() -> int:
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        print(__doc__, file=sys.stderr)
        return 2
    utts: dict[str, list[str]] = {}
    with open(sys.argv[1], encoding="utf-8") as f:
        for line in f:
            utt, spk = line.split()
            utts.setdefault(spk, []).append(utt)
    for spk in sorted(utts, key=str.encode):
        print(spk, *sorted(utts[spk], key=str.encode))
    return 0


if __name__ == "__main__":
    sys.exit(main())
