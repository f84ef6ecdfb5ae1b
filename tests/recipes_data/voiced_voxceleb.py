"""Voice SLUE-VoxCeleb's transcripts with espeak-ng: a release in the official layout, for trying the recipes.

The real audio is not in ../shared/data: this one has the real words, labels and order, and says nothing about the voices.

Example:
    python tests/recipes_data/voiced_voxceleb.py --text_dir ../shared/data/slue-voxceleb-text --out /tmp/slue-voxceleb --num 60
    cd egs2/slue_voxceleb/cls1 && ./run.sh --local_data_opts "--slue_dir /tmp/slue-voxceleb"
"""

import argparse
import io
import subprocess
import zlib
from pathlib import Path

import soundfile
import soxr

VOICES = ("en-us", "en-gb", "en-gb-scotland", "en-029")
SILENCE = "and so on"  # what the utterances of the blind test say: their texts are withheld


def voice(text: str, speaker: str, path: Path) -> float:
    """Write a recording at 16 kHz in the speaker's voice; returns its seconds."""
    draw = zlib.crc32(speaker.encode())
    options = ["-v", VOICES[draw % len(VOICES)], "-p", str(20 + draw % 60), "-s", str(150 + draw % 50)]
    done = subprocess.run(["espeak-ng", *options, "--stdout", text or SILENCE], capture_output=True, check=True)
    samples, rate = soundfile.read(io.BytesIO(done.stdout))
    samples = soxr.resample(samples, rate, 16000)
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, 16000)
    return len(samples) / 16000


def make_split(text_dir: Path, out: Path, split: str, num: int) -> None:
    """Voice the first `num` utterances of a split; of the blind test there are only ids."""
    ids = [line.split(".flac")[0] for line in (text_dir / f"{split}.tsv").read_text().splitlines()[1:]][:num]
    blind = split == "test"
    header = ["id", *([] if blind else ["normalized_text"]), "speaker_id", "split", *([] if blind else ["sentiment"])]
    lines = ["\t".join([*header, "start_second", "end_second"])]
    texts, labels = ([""] * num,) * 2 if blind else (
        (text_dir / f"{split}.{kind}").read_text().splitlines() for kind in ("wrd", "sent")
    )  # fmt: skip
    for name, text, label in zip(ids, texts, labels):
        speaker = name.partition("_")[0]
        seconds = voice(text, speaker, out / f"{split}_raw" / f"{name}.flac")
        cells = [name, *([] if blind else [text]), speaker, split, *([] if blind else [label])]
        lines.append("\t".join([*cells, "0.0", f"{seconds:.3f}"]))
    (out / f"slue-voxceleb_{split}{'_blind' if blind else ''}.tsv").write_text("\n".join(lines) + "\n")


def main(cmd=None) -> None:
    """Make a release."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text_dir", type=Path, required=True, help="folder of fine-tune.tsv, fine-tune.wrd, fine-tune.sent")
    parser.add_argument("--out", type=Path, required=True, help="where to make the release")
    parser.add_argument("--num", type=int, default=60, help="utterances of a split (default: 60)")
    args = parser.parse_args(cmd)
    for split in ("fine-tune", "dev", "test"):
        make_split(args.text_dir, args.out, split, args.num)


if __name__ == "__main__":
    main()
