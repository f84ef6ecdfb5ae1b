"""Decoding in one run: batched greedy CTC against ESPnet's asr_inference, beam and n-gram, precisions, sessions, silence, ONNX.

    python bench/decoding.py --config exp/asr_none/config.yaml --model exp/asr_none/valid.loss.ave.pth --data_dir dump/raw/test \\
        [--session_config exp/asr_carry/config.yaml --session_model exp/asr_carry/valid.loss.ave.pth] \\
        [--ngram_file data/token_list/bpe_unigram450/4gram.arpa] [--onnx exp/asr_none/onnx] [--utts 100] [--parts greedy beam ...]

Each part runs in a process of its own, so that its peak memory is its own. Words are compared by edit distance, as sclite does.
ESPnet decodes with its default beam; `--espnet_utts` bounds how many utterances it gets, evenly chosen. `silence` says whether
quiet noise is recognised as words, in a new session and after each utterance of one that goes on.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

PARTS = ("greedy", "one_by_one", "espnet", "bfloat16", "int8", "compile", "beam", "session", "silence", "onnx")
QUIET = 1e-3  # of full scale, -60 dB
SIDE_BY_SIDE = 8  # sessions


def get_parser() -> argparse.ArgumentParser:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", required=True, help="config.yaml of a system that is fed nothing")
    parser.add_argument("--model", required=True, help="its weights")
    parser.add_argument("--session_config", help="config.yaml of a system that keeps a state")
    parser.add_argument("--session_model", help="its weights")
    parser.add_argument("--data_dir", type=Path, required=True, help="formatted data with text")
    parser.add_argument("--ngram_file", help="n-gram of the tokens")
    parser.add_argument("--onnx", help="what export_onnx wrote")
    parser.add_argument("--utts", type=int, default=0, help="utterances, evenly chosen (default: all)")
    parser.add_argument("--espnet_utts", type=int, default=50, help="for parts that take one at a time (default: 50)")
    parser.add_argument("--batch_seconds", type=float, default=20, help="padded seconds in a batch (default: 20)")
    parser.add_argument("--num_threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5, help="of the timing of sessions (default: 5)")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=[p for p in PARTS if p != "compile"])
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)  # run this one here and print it as JSON
    return parser


def chosen(utts: list[str], number: int) -> list[str]:
    """So many utterances, evenly chosen."""
    return utts if not 0 < number < len(utts) else [utts[i * len(utts) // number] for i in range(number)]


def read(args: argparse.Namespace, number: int) -> dict:
    """Utterance -> samples."""
    from espnet_ctx.files import read_table
    from espnet_ctx.inference.audio import read_utterance

    wavs = read_table(args.data_dir / "wav.scp")
    return {utt: read_utterance(utt, wavs[utt]) for utt in chosen(chosen(list(wavs), args.utts), number)}


def seconds(speech: dict) -> float:
    """How much speech that is."""
    return sum(map(len, speech.values())) / 16000


def batched(args: argparse.Namespace, **options) -> dict:
    """Our recogniser in batches of like length; samples are in memory, as for the others."""
    import torch

    from espnet_ctx.inference.ctc import length_batches
    from espnet_ctx.inference.recognizer import CTCRecognizer

    compiled = options.pop("compiled", False)
    recognizer = CTCRecognizer(args.config, args.model, **options)
    if compiled:
        recognizer.model.encoder = torch.compile(recognizer.model.encoder, dynamic=True)
    speech = read(args, 0)
    utts = list(speech)
    recognizer(list(speech.values())[:2])
    found = {}
    begin = time.perf_counter()
    for batch in length_batches([len(speech[utt]) for utt in utts], int(args.batch_seconds * 16000)):
        names = [utts[i] for i in batch]
        found.update(zip(names, recognizer([speech[utt] for utt in names])))
    taken = time.perf_counter() - begin
    return {"took": taken, "seconds": seconds(speech), "texts": {u: recognizer.text(h)[1].strip() for u, h in found.items()}}


def one_by_one(args: argparse.Namespace) -> dict:
    """Greedy CTC, an utterance at a time, by ESPnet's own modules: its encoder's call and its CTC's argmax."""
    import torch
    from espnet2.text.build_tokenizer import build_tokenizer

    from espnet_ctx.inference.model import TrainedModel

    model = TrainedModel(args.config, args.model)
    tokenizer = build_tokenizer(model.args.token_type, model.args.bpemodel)
    speech, texts = read(args, 0), {}
    begin = time.perf_counter()
    with torch.inference_mode():
        for utt, samples in speech.items():
            frames, _ = model.model.encode(torch.from_numpy(samples).unsqueeze(0), torch.tensor([len(samples)]))
            ids = torch.unique_consecutive(model.model.ctc.argmax(frames)[0]).tolist()
            texts[utt] = tokenizer.tokens2text([model.args.token_list[i] for i in ids if i != 0]).strip()
    return {"took": time.perf_counter() - begin, "seconds": seconds(speech), "texts": texts}


def espnet(args: argparse.Namespace) -> dict:
    """What ESPnet's asr_inference runs for each utterance, with its defaults."""
    from espnet2.bin.asr_inference import Speech2Text, get_parser

    import espnet_ctx  # noqa: F401  registers with ESPnet

    default = get_parser().get_default
    names = ("beam_size", "penalty", "nbest", "maxlenratio", "minlenratio")
    # a model without a decoder has its CTC alone: with another weight ESPnet chooses tokens by scores that it lacks
    recognize = Speech2Text(args.config, args.model, ctc_weight=1.0, **{name: default(name) for name in names})
    speech, texts = read(args, args.espnet_utts), {}
    recognize(next(iter(speech.values())))
    begin = time.perf_counter()
    for utt, samples in speech.items():
        texts[utt] = recognize(samples)[0][0].strip()
    return {"took": time.perf_counter() - begin, "seconds": seconds(speech), "texts": texts, "beam": default("beam_size")}


def session(args: argparse.Namespace) -> dict:
    """Time of an utterance of a system that keeps a state over that of one that keeps none, the two in turn."""
    from espnet_ctx.inference.session import SessionRecognizer

    pairs = ((args.config, args.model), (args.session_config, args.session_model))
    none, kept = (SessionRecognizer.from_files(*pair) for pair in pairs)
    speech = sorted(read(args, args.espnet_utts).values(), key=len)
    result = {}
    for number_of_sessions in (1, SIDE_BY_SIDE):
        starts = range(0, len(speech), number_of_sessions)
        batches = [{str(i): samples for i, samples in enumerate(speech[at : at + number_of_sessions])} for at in starts]
        ratios = []
        for _ in range(args.rounds + 1):
            took = dict.fromkeys((none, kept), 0.0)
            for number, batch in enumerate(batches):  # in turn: what else the machine does hits both, a cold cache either
                for recognizer in (none, kept, kept, none) if number % 2 else (kept, none, none, kept):
                    begin = time.perf_counter()
                    recognizer.recognize_batch(batch)
                    took[recognizer] += time.perf_counter() - begin
            ratios.append(took[kept] / took[none])
        ratio, ms = statistics.median(ratios[1:]), 500 * took[kept] / len(speech)
        result[number_of_sessions] = {"ratio": ratio, "least": min(ratios[1:]), "most": max(ratios[1:]), "ms": ms}
    return result


def silence(args: argparse.Namespace) -> dict:
    """What is recognised in quiet noise in a new session, and in the same noise after what was said before."""
    import numpy as np

    from espnet_ctx.inference.session import SessionRecognizer

    recognizer = SessionRecognizer.from_files(args.session_config, args.session_model)
    rng, texts = np.random.default_rng(0), []
    for number, samples in enumerate(read(args, args.espnet_utts).values()):
        noise = (QUIET * rng.normal(size=16000 * (1 + number % 5))).astype(np.float32)
        recognizer.recognize(samples, "talk")
        texts.append((recognizer.recognize(noise, f"new {number}").text, recognizer.recognize(noise, "talk").text))
    new, going_on = zip(*texts)
    changed = sum(a != b for a, b in texts)
    return {"new": sum(map(bool, new)), "going_on": sum(map(bool, going_on)), "changed": changed, "utts": len(texts)}


def onnx(args: argparse.Namespace) -> dict:
    """Real-time factors of graph and model, an utterance at a time."""
    import torch

    from espnet_ctx.inference.ctc import greedy
    from espnet_ctx.inference.onnx import OnnxRecognizer
    from espnet_ctx.inference.recognizer import CTCRecognizer

    graph, recognizer = OnnxRecognizer(args.onnx, args.num_threads), CTCRecognizer(args.config, args.model)
    speech = read(args, args.espnet_utts)
    took, said = {"onnx": 0.0, "torch": 0.0}, {"onnx": {}, "torch": {}}
    graph(speech[next(iter(speech))], graph.initial())
    recognizer([speech[next(iter(speech))]])
    for utt, samples in speech.items():
        begin = time.perf_counter()
        log_probs, _ = graph(samples, graph.initial())
        between = time.perf_counter()
        [said["torch"][utt]] = (h.token_ids for h in recognizer([samples]))
        took["onnx"] += between - begin
        took["torch"] += time.perf_counter() - between
        [said["onnx"][utt]] = (h.token_ids for h in greedy(torch.from_numpy(log_probs)[None], torch.tensor([len(log_probs)])))
    same = sum(said["onnx"][utt] == said["torch"][utt] for utt in speech)
    return {"rtf": {name: value / seconds(speech) for name, value in took.items()}, "same": same, "utts": len(speech)}


def run_part(args: argparse.Namespace) -> dict:
    """One part, in this process."""
    import torch

    torch.set_num_threads(args.num_threads)
    calls = {
        "greedy": lambda: batched(args),
        "one_by_one": lambda: one_by_one(args),
        "espnet": lambda: espnet(args),
        "bfloat16": lambda: batched(args, dtype="bfloat16"),
        "int8": lambda: batched(args, quantize=True),
        "compile": lambda: batched(args, compiled=True),
        "beam": lambda: batched(args, search={"beam_size": 20, "ngram_file": args.ngram_file}),
        "session": lambda: session(args),
        "silence": lambda: silence(args),
        "onnx": lambda: onnx(args),
    }
    result = calls[args.part]()
    result["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return result


def word_errors(ref: list[str], hyp: list[str]) -> int:
    """Edit distance in words."""
    row = list(range(len(hyp) + 1))
    for i, word in enumerate(ref, 1):
        above, row[0] = row[0], i
        for j, other in enumerate(hyp, 1):
            above, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, above + (word != other))
    return row[-1]


def wer(texts: dict, refs: dict) -> float:
    """Percent."""
    words = sum(len(refs[utt].split()) for utt in texts)
    return 100 * sum(word_errors(refs[utt].split(), text.split()) for utt, text in texts.items()) / words


def main() -> None:
    """Print one line a part."""
    args = get_parser().parse_args()
    if args.part:
        result = run_part(args)
        print("\n" + json.dumps(result))
        return
    from espnet_ctx.files import read_table

    refs = read_table(args.data_dir / "text")
    needs = {"session": args.session_config, "silence": args.session_config, "onnx": args.onnx}
    results: dict[str, dict] = {}
    for part in args.parts:
        if part in needs and not needs[part]:
            continue
        done = subprocess.run([sys.executable, __file__, *sys.argv[1:], "--part", part], stdout=subprocess.PIPE, text=True)
        if done.returncode:
            sys.exit(f"part {part} failed")
        result = results[part] = json.loads(done.stdout.strip().splitlines()[-1])
        memory = f"peak {result['peak_mb']:.0f} MB"
        if part == "session":
            for number in ("1", str(SIDE_BY_SIDE)):
                found = result[number]
                line = f"session: {number} at a time, {found['ratio']:.3f} x the time of none ({found['least']:.3f} to "
                line += f"{found['most']:.3f} in {args.rounds} rounds), {found['ms']:.1f} ms an utterance"
                print(f"{line}, {memory}", flush=True)
            continue
        if part == "silence":
            line = f"silence: words in {result['new']} of {result['utts']} pieces of quiet noise in a new session, "
            line += f"in {result['going_on']} in one that goes on, another text in {result['changed']}"
            print(f"{line}, {memory}", flush=True)
            continue
        if part == "onnx":
            rtf = ", ".join(f"{name} {value:.4f}" for name, value in result["rtf"].items())
            print(f"onnx: real-time factor {rtf}; same text in {result['same']} of {result['utts']}, {memory}", flush=True)
            continue
        speed = result["seconds"] / result["took"]
        line = f"{part}: {speed:.1f} s of speech a second, WER {wer(result['texts'], refs):.2f}, {memory}"
        if part != "greedy" and "greedy" in results:
            greedy = results["greedy"]
            common = {utt: greedy["texts"][utt] for utt in result["texts"]}
            other = [utt for utt, text in result["texts"].items() if common[utt] != text]
            line += f"; greedy in batches on the same {len(common)}: WER {wer(common, refs):.2f}, "
            line += f"another text in {len(other)}{f' (e.g. {other[0]})' if other else ''}, "
            line += f"{greedy['seconds'] / greedy['took'] / speed:.2f} x its throughput"
        print(line, flush=True)


if __name__ == "__main__":
    main()
