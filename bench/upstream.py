"""Upstream and systems at wav2vec2-base size: time of a training step and of inference, side by side in one run.

    python bench/upstream.py [--parts upstream training inference] [--batch 4] [--seconds 6] [--rounds 7]

Random weights (time does not depend on them). All are timed in turn, round after round, so that whatever else the
machine does hits them alike; ratios are medians of the rounds' ratios. Needs neither checkpoint nor corpus.
"""

import argparse
import statistics
import time
from pathlib import Path

import torch
import yaml
from transformers import AutoModel, Wav2Vec2Config

import espnet_ctx  # noqa: F401  registers with ESPnet
from espnet_ctx.nn import Upstream

PARTS = ("upstream", "training", "inference")
TOKENS = ["<blank>", "<unk>", "<space>", *"abcdefghijklmnopqrstuvwxyz'", "<sos/eos>"]
CONTEXT_DIM = 768
SYSTEMS = ("none", "aware", "carry")  # conf/context/<system>.yaml
CONF = Path(__file__).resolve().parents[1] / "conf/context"


def asr_model(system: str, architecture: dict) -> torch.nn.Module:
    """An ESPnet model of wav2vec2-base size for one system."""
    from espnet2.tasks.asr import ASRTask

    options = "--output_dir unused --encoder context_ssl --model context_asr --input_size 1 --normalize none"
    args = ASRTask.get_parser().parse_args(options.split())
    args.token_list = TOKENS
    args.encoder_conf = {"upstream_architecture": architecture}
    args.model_conf = {"ctc_weight": 1.0, "report_cer": False, "report_wer": False}
    if system != "none":
        conf = yaml.safe_load((CONF / f"{system}.yaml").read_text(encoding="utf-8"))
        args.encoder_conf.update(context_dim=CONTEXT_DIM, **conf["encoder_conf"])
        args.model_conf.update(conf["model_conf"])
    return ASRTask.build_model(args)


def timed(call) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def compare(calls: dict, rounds: int) -> dict[str, float]:
    """Median over the rounds of each call's time relative to the first one's."""
    for call in calls.values():
        call()
    first, *rest = calls
    ratios: dict[str, list[float]] = {name: [] for name in rest}
    for number in range(rounds):
        names = list(calls) if number % 2 == 0 else list(calls)[::-1]
        times = {name: timed(calls[name]) for name in names}
        for name in rest:
            ratios[name].append(times[name] / times[first])
    return {name: statistics.median(values) for name, values in ratios.items()}


def compare_upstream(config, upstream: Upstream, speech: torch.Tensor, unequal: torch.Tensor, rounds: int) -> None:
    """Print a training step of our upstream over one of the transformers model, with equal lengths and with others."""
    bare = AutoModel.from_config(config).train()
    bare.feature_extractor._freeze_parameters()
    equal = torch.full_like(unequal, speech.size(1))
    mask = (torch.arange(speech.size(1)) < unequal.unsqueeze(1)).long()

    def backward(output):
        output.square().mean().backward()

    for name, lengths, bare_mask in (("equal", equal, None), ("unequal", unequal, mask)):
        calls = {
            "bare": lambda m=bare_mask: backward(bare(speech, attention_mask=m).last_hidden_state),
            "ours": lambda n=lengths: backward(upstream(speech, n)[0]),
        }
        ratio = compare(calls, rounds)["ours"]
        print(f"upstream forward+backward / bare transformers model, {name} lengths: {ratio:.3f}", flush=True)


def main() -> None:
    """Print one line a ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), help="what to time (default: all)")
    parser.add_argument("--batch", type=int, default=4, help="utterances (default: 4)")
    parser.add_argument("--seconds", type=float, default=6.0, help="of the longest utterance (default: 6)")
    parser.add_argument("--rounds", type=int, default=7, help="timed rounds (default: 7)")
    args = parser.parse_args()
    torch.manual_seed(0)
    config = Wav2Vec2Config(layerdrop=0.0, apply_spec_augment=False)
    upstream = Upstream(architecture={"model": config.to_dict(), "preprocessor": {"do_normalize": True}}).train()
    speech = torch.randn(args.batch, int(args.seconds * 16000))
    unequal = torch.linspace(speech.size(1), speech.size(1) // 2, args.batch).long()
    if "upstream" in args.parts:
        compare_upstream(config, upstream, speech, unequal, args.rounds)
    if args.parts == ["upstream"]:
        return
    models = {name: asr_model(name, upstream.architecture) for name in SYSTEMS}
    size = {name: sum(p.numel() for p in model.parameters()) for name, model in models.items()}
    for name in SYSTEMS[1:]:
        print(f"parameters, {name} / none: {size[name]} / {size['none']} = {size[name] / size['none']:.3f}", flush=True)
    text = torch.randint(3, len(TOKENS) - 1, (args.batch, 40))
    batch = {
        "speech": speech,
        "speech_lengths": unequal,
        "text": text,
        "text_lengths": torch.full((args.batch,), 40),
        "context": torch.randn(args.batch, 1, CONTEXT_DIM),
        "context_lengths": torch.ones(args.batch, dtype=torch.long),
    }
    optimizers = {name: torch.optim.AdamW(model.parameters(), 1e-5) for name, model in models.items()}

    def step(name: str) -> None:
        optimizers[name].zero_grad()
        models[name].train()(**batch)[0].sum().backward()
        optimizers[name].step()

    @torch.inference_mode()
    def infer(name: str) -> None:
        encoder = models[name].encoder
        state = None if encoder.memory is None else encoder.memory.initial(args.batch)
        with encoder.given(None, state):
            models[name].encode(speech, unequal)

    for part, call, names in (("training", step, ("none", "aware")), ("inference", infer, models)):
        if part not in args.parts:
            continue
        if part == "inference":
            for model in models.values():
                model.eval().encoder.fold()
        for name, ratio in compare({name: lambda n=name, c=call: c(n) for name in names}, args.rounds).items():
            print(f"{part}, {name} / none: {ratio:.3f}", flush=True)


if __name__ == "__main__":
    main()
