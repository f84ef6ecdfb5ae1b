"""Decode a data directory by CTC, in batches; writes what ESPnet's inference writes, with times and confidences."""

from pathlib import Path

from espnet_ctx.files import run_main
from espnet_ctx.inference import command
from espnet_ctx.inference.options import add_recognizer_options, recognizer_arguments

EXAMPLE = """example:
  python -m espnet_ctx.bin.ctc_inference --config exp/asr_aware/config.yaml --model exp/asr_aware/valid.loss.ave.pth \\
      --data_dir dump/raw/test --output_dir exp/asr_aware/decode_ctc/test --beam_size 20 --ngram_file exp/ngram/3gram.arpa"""
OUTPUTS = "text, token, token_int, score, token_time (seconds), token_confidence and ctm (words)"


def get_parser():
    """The command's options."""
    parser = command.get_parser(__doc__, EXAMPLE, OUTPUTS)
    add_recognizer_options(parser)
    return parser


def main(cmd: list[str] | None = None) -> None:
    """Decode as the options say."""
    args = get_parser().parse_args(cmd)
    further = recognizer_arguments(args)

    def load(*model):
        from espnet_ctx.inference.recognizer import CTCRecognizer  # imports ESPnet

        return CTCRecognizer(*model, **further)

    recognizer, hypotheses = command.decode(args, load)
    from espnet_ctx.inference.outputs import write_hypotheses

    write_hypotheses(recognizer, hypotheses, Path(args.output_dir))


if __name__ == "__main__":
    run_main(main)
