"""Export encoder and CTC of a trained model as an ONNX graph, and compare it with the model.

The graph takes the waveform of one utterance (and, of system carry, the memory of its session) and gives the
log-probabilities of the tokens (and the memory after it). With --data_dir the texts of a whole set are compared too.
"""

import argparse
from pathlib import Path

import torch
from tqdm import tqdm

from espnet_ctx.files import UserError, read_table, run_main

EXAMPLE = """example:
  python -m espnet_ctx.bin.export_onnx --config exp/asr_aware/config.yaml --model exp/asr_aware/valid.loss.ave.pth \\
      --out exp/asr_aware/onnx --data_dir dump/raw/test"""


def get_parser() -> argparse.ArgumentParser:
    """The command's options."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", required=True, help="config.yaml of the training")
    parser.add_argument("--model", required=True, help="weights, e.g. valid.loss.ave.pth")
    parser.add_argument("--out", type=Path, required=True, help="folder for model.onnx and model.json")
    parser.add_argument("--data_dir", type=Path, help="formatted data to recognise with both (system carry: with utt2prev)")
    parser.add_argument("--num_threads", type=int, default=1, help="CPU threads (default: 1)")
    return parser


def main(cmd: list[str] | None = None) -> None:
    """Export as the options say."""
    args = get_parser().parse_args(cmd)
    torch.set_num_threads(args.num_threads)
    from espnet_ctx.inference.onnx import OnnxRecognizer, export
    from espnet_ctx.inference.recognizer import CTCRecognizer

    recognizer = CTCRecognizer(args.config, args.model)
    difference = export(recognizer, args.out)
    print(f"{args.out}: probabilities differ by at most {difference.probability:.1e}, the memory by {difference.state:.1e}")
    if args.data_dir is None:
        return
    different = compare_texts(recognizer, OnnxRecognizer(args.out, args.num_threads), args.data_dir)
    if different:
        raise UserError(f"{args.out} says something else than the model in {len(different)} utterances, e.g. {different[0]}")
    print(f"{args.data_dir}: the same text in every utterance")


def compare_texts(recognizer, graph, data_dir: Path) -> list[str]:
    """The utterances of a data directory in which model and graph give different tokens."""
    from espnet_ctx.inference.audio import read_utterance
    from espnet_ctx.inference.ctc import greedy
    from espnet_ctx.inference.session import SessionRecognizer

    wavs = read_table(data_dir / "wav.scp")
    chains = [[utt] for utt in wavs]
    if graph.initial():
        from espnet_ctx.context.sessions import sessions

        chains = sessions(data_dir)
    model = SessionRecognizer(recognizer)
    different = []
    with tqdm(total=len(wavs), unit="utt", desc=data_dir.name) as bar:
        for chain in chains:
            state = graph.initial()
            model.reset()
            for utt in chain:
                speech = read_utterance(utt, wavs[utt])
                log_probs, state = graph(speech, state)
                found = torch.from_numpy(log_probs).unsqueeze(0)
                [hypothesis] = greedy(found, torch.tensor([found.size(1)]), recognizer.blank)
                if hypothesis.token_ids != model.recognize(speech).hypothesis.token_ids:
                    different.append(utt)
                bar.update()
    return different


if __name__ == "__main__":
    run_main(main)
