"""Recognise recordings of any length, each as a session whose utterances know what was said before them.

A recording is cut into utterances where nobody speaks (or in pieces of a fixed length) and gets text, subtitles (SRT,
WebVTT) and word times (CTM). The name - reads the standard input, a WAV file or raw samples, and prints each utterance
as soon as it is over. With --data_dir the sessions of a data directory (utt2prev) are decoded side by side.
"""

import argparse
import logging
import sys
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import yaml
from tqdm import tqdm

from espnet_ctx.context.generate import STORE_ONLY
from espnet_ctx.context.llm import BACKENDS
from espnet_ctx.files import UserError, read_table, run_main, whole_file
from espnet_ctx.inference.options import add_recognizer_options, recognizer_arguments

EXAMPLE = """examples:
  python -m espnet_ctx.bin.session_inference --pack exp/asr_aware/asr_aware_valid.loss.ave.zip --output_dir out lecture.flac
  arecord -q -f S16_LE -r 16000 -c 1 -t raw | \\
      python -m espnet_ctx.bin.session_inference --pack asr_aware.zip --save_state monday.safetensors -
  python -m espnet_ctx.bin.session_inference --config exp/asr_prev_text/config.yaml \\
      --model exp/asr_prev_text/valid.loss.ave.pth --data_dir dump/raw/test --output_dir out \\
      --context_json dump/context/prev_text_n1_minilm_mean/train/context.json"""
PIPE = "-"


def get_parser() -> argparse.ArgumentParser:
    """The command's options."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("audio", nargs="*", help=f"recordings, each a session of its file's name; {PIPE}: the standard input")
    parser.add_argument("--pack", type=Path, help="packed model (stage 13)")
    parser.add_argument("--config", help="or: config.yaml of the training, with --model")
    parser.add_argument("--model", help="weights, e.g. valid.loss.ave.pth")
    parser.add_argument("--data_dir", type=Path, help="in place of recordings: needs wav.scp and utt2prev")
    parser.add_argument(
        "--output_dir",
        type=Path,
        help="gets <recording>.txt, .srt, .vtt and .ctm, or what ctc_inference writes; may be left out with - alone",
    )
    parser.add_argument("--segmentation", choices=("vad", "fixed"), default="vad", help="how recordings are cut (default: vad)")
    parser.add_argument("--max_segment", type=float, default=20.0, help="seconds of an utterance at most (default: 20)")
    parser.add_argument("--fs", type=int, default=16000, help=f"rate of raw samples from {PIPE}, Hz (default: 16000)")
    parser.add_argument("--session", help="name of the one session (default: the recording's)")
    parser.add_argument("--load_state", type=Path, help="sessions to go on with; --session must be one of them")
    parser.add_argument("--save_state", type=Path, help="gets the sessions as they are at the end")
    parser.add_argument(
        "--min_confidence", type=float, default=0.0, help="what was recognised with less is not remembered (default: 0)"
    )
    parser.add_argument("--batch_seconds", type=float, help="padded seconds in a batch (default: 20; on a GPU 400)")
    parser.add_argument("--ngpu", type=int, default=0, choices=(0, 1), help="1: decode on the GPU (default: 0)")
    parser.add_argument("--num_threads", type=int, default=1, help="CPU threads (default: 1)")
    add_recognizer_options(parser)
    text = parser.add_argument_group("for models that are fed text (systems prev_text and generated)")
    text.add_argument("--context_json", type=Path, help="how context was made in training (default: the pack's)")
    text.add_argument("--llm", help="folder, hub id or server's name of the LLM (default: as in training)")
    text.add_argument("--llm_backend", default="transformers", choices=[*BACKENDS, STORE_ONLY])
    text.add_argument("--llm_conf", action="append", default=[], metavar="KEY=VALUE", help="backend option; repeatable")
    text.add_argument("--store", type=Path, help="database of the LLM's answers (default: as in training)")
    return parser


def main(cmd: list[str] | None = None) -> None:
    """Recognise as the options say."""
    args = get_parser().parse_args(cmd)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    _check(args)
    further = recognizer_arguments(args)
    if args.data_dir is None:
        recordings = _recordings(args)
    else:
        from espnet_ctx.context.sessions import sessions

        recordings = {}
        chains = sessions(args.data_dir)
    recognizer = _load(args, further)
    if args.load_state:
        recognizer.load(args.load_state)
        for name in recordings if args.session else ():
            recognizer.require(name)
    if args.data_dir is None:
        for name, source in recordings.items():
            _recognize(recognizer, name, source, args)
    else:
        _recognize_side_by_side(recognizer, chains, args)
    if args.save_state:
        recognizer.save(args.save_state)


def _check(args: argparse.Namespace) -> None:
    """Refuse options that do not go together."""
    if (args.pack is None) == (args.config is None) or (args.config is None) != (args.model is None):
        raise UserError("name the model by --pack, or by --config and --model")
    if bool(args.audio) == (args.data_dir is not None):
        raise UserError(f"name recordings (or {PIPE}), or a --data_dir")
    if args.output_dir is None and args.audio != [PIPE]:
        raise UserError(f"--output_dir is missing; it may be left out with {PIPE} alone")
    if args.session and len(args.audio) != 1:
        raise UserError(f"--session names one session, and there are {len(args.audio)} recordings")


def _recordings(args: argparse.Namespace) -> dict[str, Path | None]:
    """Name -> file, None for the pipe; all of them can be read."""
    from espnet_ctx.inference.stream import read_file

    recordings: dict[str, Path | None] = {}
    for audio in args.audio:
        name = args.session or ("pipe" if audio == PIPE else Path(audio).stem)
        if name in recordings:
            raise UserError(f"two recordings are called {name}; their sessions and outputs need different names")
        if audio != PIPE:
            read_file(Path(audio))
        recordings[name] = None if audio == PIPE else Path(audio)
    return recordings


def _load(args: argparse.Namespace, further: dict[str, Any]):
    import torch

    torch.set_num_threads(args.num_threads)
    from espnet_ctx.inference.session import SessionRecognizer

    context: dict[str, Any] = {"llm": args.llm, "llm_backend": args.llm_backend, "kept": args.store}
    context["llm_conf"] = {key: yaml.safe_load(value) for key, _, value in (pair.partition("=") for pair in args.llm_conf)}
    if args.context_json:
        context["context_json"] = args.context_json
    further["device"] = "cuda" if args.ngpu else "cpu"
    build = {"context": context, "min_confidence": args.min_confidence, "batch_seconds": args.batch_seconds, **further}
    if args.pack:
        return SessionRecognizer.from_pretrained(args.pack, **build)
    return SessionRecognizer.from_files(args.config, args.model, **build)


def _recognize(recognizer, name: str, source: Path | None, args: argparse.Namespace) -> None:
    """One recording."""
    from espnet_ctx.inference.segmentation import SEGMENTATIONS
    from espnet_ctx.inference.speech import check_speech
    from espnet_ctx.inference.stream import read_file, read_pipe
    from espnet_ctx.inference.subtitles import clock, ctm, cues, srt, vtt

    seconds, blocks = (None, read_pipe(sys.stdin.buffer, args.fs)) if source is None else read_file(source)
    segments = SEGMENTATIONS[args.segmentation](blocks, args.max_segment)
    words, lines = [], []
    with tqdm(total=seconds and round(seconds), unit="s", desc=name, disable=source is None) as bar:
        # what nobody waits for is decoded in batches
        for portion in _portions(segments, 0 if source is None else recognizer.batch_samples / 16000):
            speech = [check_speech(segment.samples, f"{name} at {segment.start:.1f} s") for segment in portion]
            results = recognizer.recognize_all(speech, name)
            for segment, result in zip(portion, results):
                end = segment.start + len(segment.samples) / 16000
                bar.update(round(end) - bar.n)
                words.append(recognizer.recognizer.timed_words(result.hypothesis, segment.start))
                if result.text:
                    lines.append(f"{clock(segment.start, '.')} {clock(end, '.')} {result.text}\n")
                    if source is None:
                        print(lines[-1], end="", flush=True)
        bar.update(bar.total - bar.n if bar.total else 0)
    if args.output_dir is None:
        return
    subtitles = cues(words)
    contents = {"srt": srt(subtitles), "vtt": vtt(subtitles), "ctm": ctm(name, chain(*words)), "txt": "".join(lines)}
    for end, content in contents.items():
        with whole_file(args.output_dir / f"{name}.{end}") as f:
            f.write(content)


def _portions(segments: Iterable, seconds: float) -> Iterator[list]:
    """Segments in portions of so many seconds together, at least one in each."""
    portion: list = []
    for segment in segments:
        portion.append(segment)
        if sum(len(s.samples) for s in portion) >= seconds * 16000:
            yield portion
            portion = []
    if portion:
        yield portion


def _recognize_side_by_side(recognizer, chains: list[list[str]], args: argparse.Namespace) -> None:
    """The sessions of a data directory: the first utterances of all, then the second ones, ..."""
    from espnet_ctx.inference.audio import read_utterance
    from espnet_ctx.inference.outputs import write_hypotheses

    wavs = read_table(args.data_dir / "wav.scp")
    hypotheses = {}
    with tqdm(total=len(wavs), unit="utt", desc=args.data_dir.name) as bar:
        for number in range(max(map(len, chains), default=0)):
            turn = {utts[0]: utts[number] for utts in chains if number < len(utts)}
            results = recognizer.recognize_batch({name: read_utterance(utt, wavs[utt]) for name, utt in turn.items()})
            hypotheses.update({turn[name]: result.hypothesis for name, result in results.items()})
            bar.update(len(turn))
    write_hypotheses(recognizer.recognizer, hypotheses, args.output_dir)


if __name__ == "__main__":
    run_main(main)
