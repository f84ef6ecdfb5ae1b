"""Unpack a packed model in a folder of its own, offline, decode one utterance and compare with the known hypothesis.

Nothing but the pack is used: neither the training's folder nor base weights nor the hub. The utterance is decoded by
ESPnet's own class (Speech2Text, Speech2Understand, Classification) and, where the hypotheses come from our batched
decoding, by that too.
"""

import argparse
import os
import tempfile
from pathlib import Path

from espnet_ctx.context.sessions import sessions
from espnet_ctx.files import UserError, read_table, run_main
from espnet_ctx.inference.options import add_recognizer_options, recognizer_arguments

ESPNET_CLASS = {"asr": "Speech2Text", "slu": "Speech2Understand", "cls": "Classification"}


def decode(
    pack: Path, task: str, wav: str, context: str | None, decoder: str, settings: dict, recognizer_settings: dict
) -> tuple[str, str]:
    """Texts of one utterance by ESPnet's own class and by what made the known hypothesis.

    Args:
        pack: the zip, unpacked below the working directory.
        task: "asr", "slu" or "cls".
        wav: the utterance's file.
        context: its context matrix as `<ark>:<offset>`, for systems that are fed context.
        decoder: "ctc" (our batched decoding) or "espnet", as in `ctx.sh --decoder`.
        settings: arguments of ESPnet's class.
        recognizer_settings: arguments of our batched recogniser.
    """
    import soundfile
    from espnet_model_zoo.downloader import ModelDownloader

    import espnet_ctx  # noqa: F401  registers with ESPnet

    files = ModelDownloader(Path.cwd()).unpack_local_file(str(pack))
    speech, _ = soundfile.read(wav, dtype="float32")
    if task == "asr":
        from espnet2.bin.asr_inference import Speech2Text

        by_espnet = Speech2Text(**files, **settings)(speech)[0][0]
    elif task == "slu":
        from espnet2.bin.slu_inference import Speech2Understand

        by_espnet = Speech2Understand(**files, **settings)(speech)[0][0]
    else:
        from espnet2.bin.cls_inference import Classification

        by_espnet = Classification(**files)(speech)[2]
    if decoder == "espnet":
        return by_espnet, by_espnet.strip()

    import kaldiio

    model = [next(path for name, path in files.items() if name.endswith(end)) for end in ("_train_config", "_model_file")]
    rows = [kaldiio.load_mat(context)] if context else None
    if task == "cls":
        from espnet_ctx.inference.classifier import Classifier

        classifier = Classifier(*model)
        return by_espnet, classifier.classes[classifier([speech], rows)[0].argmax()]

    from espnet_ctx.inference.recognizer import CTCRecognizer

    recognizer = CTCRecognizer(*model, **recognizer_settings)
    return by_espnet, recognizer.text(recognizer([speech], rows)[0])[1].strip()


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="example: python -m espnet_ctx.bin.check_pack --pack exp/asr_aware/asr_aware_valid.loss.ave.zip "
        "--data_dir dump/raw/test --hyp exp/asr_aware/decode_ctc_asr_model_valid.loss.ave/test/text",
    )
    parser.add_argument("--pack", type=Path, required=True, help="what espnet2.bin.pack wrote")
    parser.add_argument("--task", choices=ESPNET_CLASS, default="asr", help="the model's (default: asr)")
    parser.add_argument("--data_dir", type=Path, required=True, help="formatted data directory")
    parser.add_argument("--hyp", type=Path, required=True, help="text that stage 11 recognised in it")
    parser.add_argument("--context_scp", type=Path, help="context archive, for systems that are fed context")
    parser.add_argument("--decoder", choices=["ctc", "espnet"], default="ctc", help="what recognised it")
    parser.add_argument("--inference_config", type=Path, help="YAML for ESPnet's class (default: greedy-like CTC)")
    add_recognizer_options(parser)
    return parser


def main(cmd=None) -> None:
    args = get_parser().parse_args(cmd)
    os.environ["HF_HUB_OFFLINE"] = "1"
    hypotheses = read_table(args.hyp)
    if not hypotheses:
        raise UserError(f"{args.hyp} is empty: run stage 11")
    utts = list(hypotheses)
    if args.context_scp is None and (args.data_dir / "utt2prev").exists():
        utts = [session[0] for session in sessions(args.data_dir)]  # with no past that the hypothesis may owe something
    utt = next((utt for utt in utts if hypotheses[utt]), utts[0])
    wav = str(Path(read_table(args.data_dir / "wav.scp")[utt]).resolve())
    context = None
    if args.context_scp:
        context = str(Path(read_table(args.context_scp)[utt]).resolve())
    settings = {"ctc_weight": 1.0, "beam_size": 2}
    if args.inference_config:
        import yaml

        settings = yaml.safe_load(args.inference_config.read_text(encoding="utf-8"))
    pack = args.pack.resolve()
    if not pack.is_file():
        raise UserError(f"no such pack: {args.pack} (option --pack)")

    for option in ("ngram_file", "hotwords"):
        if path := getattr(args, option):
            setattr(args, option, path.resolve())
    ours = recognizer_arguments(args)

    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        by_espnet, text = decode(pack, args.task, wav, context, args.decoder, settings, ours)
        os.chdir("/")
    print(f"Utterance {utt}\n  hypothesis:  {hypotheses[utt]}\n  packed:      {text}\n  {ESPNET_CLASS[args.task]}: {by_espnet}")
    if text != hypotheses[utt]:
        raise UserError(f"{args.pack} recognises '{text}' in {utt}; before packing it was '{hypotheses[utt]}'")


if __name__ == "__main__":
    run_main(main)
