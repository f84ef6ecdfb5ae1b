#!/usr/bin/env python3
"""Splits a Kaldi table into parts of nearly equal numbers of lines, in order: split_scp.py <in> <out>..."""

import sys


def main() -> int:
    if len(sys.argv) < 3 or sys.argv[1].startswith("-"):
        print(__doc__, file=sys.stderr)
        return 2
    source, *parts = sys.argv[1:]
    with open(source, encoding="utf-8") as f:
        lines = f.readlines()
    if len(lines) < len(parts):
        print(f"split_scp.py: error: {source} has {len(lines)} lines, too few for {len(parts)} parts", file=sys.stderr)
        return 1
    for i, part in enumerate(parts):
        with open(part, "w", encoding="utf-8") as f:
            f.writelines(lines[i * len(lines) // len(parts) : (i + 1) * len(lines) // len(parts)])
    return 0


if __name__ == "__main__":
    sys.exit(main())
