"""Pack an SLU model as `espnet2.bin.pack` packs others: ESPnet's slu.sh calls `pack slu`, which ESPnet lacks."""

import argparse

from espnet_ctx.files import run_main


def get_parser() -> argparse.ArgumentParser:
    """The options that `espnet2.bin.pack` has for its tasks."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="example: python -m espnet_ctx.bin.pack_slu --slu_train_config exp/slu_aware/config.yaml "
        "--slu_model_file exp/slu_aware/valid.loss.ave.pth --outpath exp/slu_aware/slu_aware.zip",
    )
    parser.add_argument("--slu_train_config", required=True, help="config.yaml of the training")
    parser.add_argument("--slu_model_file", required=True, help="weights")
    parser.add_argument("--option", action="append", default=[], help="a further file to pack")
    parser.add_argument("--outpath", required=True, help="the archive to write")
    return parser


def main(cmd=None) -> None:
    """Pack; the names are those of the arguments of ESPnet's Speech2Understand."""
    from espnet2.main_funcs.pack_funcs import pack

    args = get_parser().parse_args(cmd)
    pack(
        yaml_files={"slu_train_config": args.slu_train_config},
        files={"slu_model_file": args.slu_model_file},
        option=args.option,
        outpath=args.outpath,
    )


if __name__ == "__main__":
    run_main(main)
