"""How well a student predicts its teacher's context embeddings, beside the best constant prediction."""

import argparse
import json
from pathlib import Path

import kaldiio
import numpy as np
import torch

from espnet_ctx.files import UserError, read_table, run_main, whole_file
from espnet_ctx.inference.audio import speech_batches

EXAMPLE = """example:
  python -m espnet_ctx.bin.student_report --config exp/asr_aware/config.yaml --model exp/asr_aware/valid.loss.ave.pth \\
      --data_dir dump/raw/test --context_scp dump/context/TAG/test/context.scp \\
      --train_context_scp dump/context/TAG/train/context.scp --labels data/test/utt2topic --train_labels data/train/utt2topic \\
      --out exp/asr_aware/student_test.json"""


def get_parser() -> argparse.ArgumentParser:
    """The command's options."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", required=True, help="config.yaml of the training")
    parser.add_argument("--model", required=True, help="weights of a model with a student")
    parser.add_argument("--data_dir", required=True, help="speech to test on")
    parser.add_argument("--context_scp", required=True, help="the teacher's embeddings of the same utterances")
    parser.add_argument("--train_context_scp", required=True, help="the teacher's embeddings of the training set")
    parser.add_argument("--labels", required=True, help="<utterance> <topic> of the same utterances")
    parser.add_argument("--train_labels", required=True, help="<utterance> <topic> of the training set")
    parser.add_argument("--out", required=True, help="gets the figures (JSON)")
    parser.add_argument("--batch_seconds", type=float, default=20, help="padded seconds in a batch (default: 20)")
    parser.add_argument("--num_threads", type=int, default=1, help="CPU threads (default: 1)")
    return parser


def unit(x: np.ndarray) -> np.ndarray:
    """Vectors at length 1, zeros stay: (..., C) -> (..., C)."""
    return x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-12)


def load_teacher(scp: str) -> dict[str, np.ndarray]:
    """Mean embedding (C,) of each utterance that has a context."""
    means = {utt: np.asarray(rows).mean(0) for utt, rows in kaldiio.load_scp(scp).items()}
    return {utt: mean for utt, mean in means.items() if mean.any()}


def figures(
    student: dict[str, np.ndarray],
    teacher: dict[str, np.ndarray],
    train_teacher: dict[str, np.ndarray],
    labels: dict[str, str],
    train_labels: dict[str, str],
) -> dict[str, float]:
    """Cosine to the teacher and topic retrieval, of the student and of the mean training embedding.

    A topic is retrieved when the mean training embedding of the utterance's topic is the nearest of all topics'.

    Raises:
        UserError: no utterance has both a student's and a teacher's embedding.
    """
    utts = [utt for utt in student if utt in teacher]
    if not utts:
        raise UserError("no utterance has a context in --context_scp")
    topics = sorted({train_labels[utt] for utt in train_teacher})
    by_topic = {t: [v for u, v in train_teacher.items() if train_labels[u] == t] for t in topics}
    centres = unit(np.stack([np.mean(by_topic[t], 0) for t in topics]))
    constant = unit(np.mean(list(train_teacher.values()), 0))
    predicted = unit(np.stack([student[utt] for utt in utts]))
    target = unit(np.stack([teacher[utt] for utt in utts]))
    truth = np.array([topics.index(labels[utt]) if labels[utt] in topics else -1 for utt in utts])

    def retrieved(vectors: np.ndarray) -> float:
        return float(((vectors @ centres.T).argmax(-1) == truth).mean())

    return {
        "utterances": len(utts),
        "student_cosine": float((predicted * target).sum(-1).mean()),
        "mean_embedding_cosine": float((target @ constant).mean()),
        "student_topic_accuracy": retrieved(predicted),
        "mean_embedding_topic_accuracy": retrieved(np.broadcast_to(constant, predicted.shape)),
        "teacher_topic_accuracy": retrieved(target),
    }


def main(cmd: list[str] | None = None) -> None:
    """Report as the options say."""
    args = get_parser().parse_args(cmd)
    torch.set_num_threads(args.num_threads)
    teacher, train_teacher = load_teacher(args.context_scp), load_teacher(args.train_context_scp)
    labels, train_labels = read_table(args.labels), read_table(args.train_labels)

    from espnet_ctx.inference.recognizer import CTCRecognizer  # imports ESPnet: after the cheap checks

    recognizer = CTCRecognizer(args.config, args.model)
    student: dict[str, np.ndarray] = {}
    for batch, speech in speech_batches(Path(args.data_dir), args.batch_seconds):
        student.update(zip(batch, recognizer.predicted_context(speech).mean(1)))
    result = figures(student, teacher, train_teacher, labels, train_labels)
    with whole_file(args.out) as f:
        json.dump(result, f, indent=1)
    for name, value in result.items():
        print(f"{name}: {value if isinstance(value, int) else format(value, '.3f')}")


if __name__ == "__main__":
    run_main(main)
