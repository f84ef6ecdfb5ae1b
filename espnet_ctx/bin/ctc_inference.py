"""Decode a data directory greedily by CTC, in batches; writes what ESPnet's inference writes."""

import argparse
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import kaldiio
import soundfile
import torch
from tqdm import tqdm

from espnet_ctx.files import UserError, read_table, run_main, write_table
from espnet_ctx.inference.ctc import length_batches

EXAMPLE = """example:
  python -m espnet_ctx.bin.ctc_inference --config exp/asr_aware/config.yaml --model exp/asr_aware/valid.loss.ave.pth \\
      --data_dir dump/raw/test --output_dir exp/asr_aware/decode_ctc/test"""


def get_parser() -> argparse.ArgumentParser:
    """The command's options."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", required=True, help="config.yaml of the training")
    parser.add_argument("--model", required=True, help="weights, e.g. valid.loss.ave.pth")
    parser.add_argument("--data_dir", required=True, help="needs wav.scp; utt2num_samples saves a look at each file")
    parser.add_argument("--context_scp", help="context archive, for systems that are fed context at inference")
    parser.add_argument("--output_dir", required=True, help="gets text, token, token_int and score")
    parser.add_argument("--batch_seconds", type=float, default=200, help="padded seconds in a batch (default: 200)")
    parser.add_argument("--ngpu", type=int, default=0, choices=(0, 1), help="1: decode on the GPU (default: 0)")
    parser.add_argument("--num_threads", type=int, default=1, help="CPU threads (default: 1)")
    return parser


def main(cmd: list[str] | None = None) -> None:
    """Decode as the options say."""
    args = get_parser().parse_args(cmd)
    torch.set_num_threads(args.num_threads)
    data = Path(args.data_dir)
    wavs = read_table(data / "wav.scp")
    if not wavs:
        raise UserError(f"{data}/wav.scp has no utterance (--data_dir)")
    utts = list(wavs)
    context = kaldiio.load_scp(args.context_scp) if args.context_scp else None
    if context is not None:
        missing = [utt for utt in utts if utt not in context]
        if missing:
            raise UserError(
                f"{args.context_scp} lacks {len(missing)} of {len(utts)} utterances, e.g. {missing[0]}; run stages 6 and 7"
            )

    from espnet_ctx.inference.recognizer import CTCRecognizer  # imports ESPnet: after the cheap checks

    recognizer = CTCRecognizer(args.config, args.model, "cuda" if args.ngpu else "cpu")
    if recognizer.needs_context and context is None:
        raise UserError("this model is fed context at inference: give --context_scp")

    if (data / "utt2num_samples").exists():
        known = read_table(data / "utt2num_samples")
        num_samples = [int(known[utt]) for utt in utts]
    else:
        num_samples = [_info(utt, wavs[utt]).frames for utt in utts]
    batches = [[utts[i] for i in batch] for batch in length_batches(num_samples, int(args.batch_seconds * 16000))]

    hypotheses = {}
    with ThreadPoolExecutor(1) as reader, tqdm(total=len(utts), unit="utt", desc=f"decode {data.name}") as bar:
        # files of the next batch are read while this one is decoded
        waves = reader.submit(_read_batch, batches[0], wavs)
        for number, batch in enumerate(batches):
            speech = waves.result()
            if number + 1 < len(batches):
                waves = reader.submit(_read_batch, batches[number + 1], wavs)
            rows = None if context is None else [context[utt] for utt in batch]
            hypotheses.update(zip(batch, recognizer(speech, rows)))
            bar.update(len(batch))

    tables: dict[str, dict[str, str]] = {"text": {}, "token": {}, "token_int": {}, "score": {}}
    for utt, hypothesis in hypotheses.items():
        tokens, text = recognizer.text(hypothesis)
        tables["text"][utt] = text
        tables["token"][utt] = " ".join(tokens)
        tables["token_int"][utt] = " ".join(map(str, hypothesis.token_ids))
        tables["score"][utt] = f"{hypothesis.score:.4f}"
    # text last: whoever finds it finds all
    for name in ("score", "token_int", "token", "text"):
        write_table(Path(args.output_dir) / name, tables[name])


def _info(utt: str, path: str):
    try:
        info = soundfile.info(path)
    except (RuntimeError, OSError) as e:
        raise UserError(f"cannot read the audio of {utt}, {path}: {e}") from e
    if info.samplerate != 16000 or info.channels != 1:
        raise UserError(
            f"{utt}, {path}: {info.samplerate} Hz and {info.channels} channel(s); "
            "16000 Hz mono is needed: run stage 3 (format wav.scp)"
        )
    return info


def _read_batch(batch: list[str], wavs: dict[str, str]) -> list:
    return [soundfile.read(wavs[utt], dtype="float32")[0] for utt in batch if _info(utt, wavs[utt])]


if __name__ == "__main__":
    run_main(main)
