"""Merge YAML configurations: later files win, nested keys merge one by one.

A mapping marked `!replace` in a later file (`model_conf: !replace {alpha: 0.5}`) takes the place of the earlier one.
"""

import argparse
from pathlib import Path

import yaml

from espnet_ctx.files import UserError, run_main, whole_file


class Replace(dict):
    """A mapping that is not merged with what it is laid over."""


class Loader(yaml.SafeLoader):
    """YAML with `!replace`."""


Loader.add_constructor("!replace", lambda loader, node: Replace(loader.construct_mapping(node, deep=True)))


def merge(base: dict, overlay: dict) -> dict:
    """A new mapping: `overlay`'s values replace `base`'s, except that two mappings are merged in the same way."""
    result = dict(base)
    for key, value in overlay.items():
        below = result.get(key) if not isinstance(value, Replace) else None
        result[key] = merge(below if isinstance(below, dict) else {}, value) if isinstance(value, dict) else value
    return result


def read_config(path: Path) -> dict:
    try:
        config = yaml.load(path.read_text(encoding="utf-8"), Loader)  # no less safe than safe_load
    except FileNotFoundError:
        raise UserError(f"no such configuration: {path}") from None
    except yaml.YAMLError as e:
        raise UserError(f"{path} is not valid YAML: {e}") from None
    if not isinstance(config or {}, dict):
        raise UserError(f"{path}: expected 'key: value' lines at the top, got a {type(config).__name__}")
    return config or {}


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="example: python -m espnet_ctx.bin.merge_config conf/train_asr.yaml conf/context/aware.yaml "
        "--out exp/asr_aware/train.yaml",
    )
    parser.add_argument("config", type=Path, nargs="+", help="YAML files, the most general first")
    parser.add_argument("--out", type=Path, required=True)
    return parser


def main(cmd=None) -> None:
    args = get_parser().parse_args(cmd)
    merged: dict = {}
    for path in args.config:
        merged = merge(merged, read_config(path))
    with whole_file(args.out) as f:
        yaml.safe_dump(merged, f, sort_keys=False)


if __name__ == "__main__":
    run_main(main)
