"""Tiny ESPnet models, built as `asr_train` builds them."""

import numpy as np
import pytest
import torch

TOKENS = ["<blank>", "<unk>", "<space>", *"abcdefgh", "<sos/eos>"]
CONTEXT_DIM = 12
CLASSES = ["Negative", "Neutral", "Positive", "<unk>"]


def write_contexts(folder):
    """A training archive of seven utterances and three different contexts, one of them absent: its scp and the contexts."""
    from espnet_ctx.context.store import write_archive

    rng = np.random.default_rng(0)
    texts = dict(zip("abcdefg", ["sea", "bread", "", "sea", "", "bread", "sea"]))
    rows = {text: rng.normal(size=(2, CONTEXT_DIM)).astype(np.float32) for text in ("bread", "sea")}
    write_archive(folder / "archive", texts, rows.items(), CONTEXT_DIM, "float32", {}, {})
    return folder / "archive/context.scp", rows


@pytest.fixture(scope="session")
def build(upstream_dir):
    """`build(system, task, **changes)`: a tiny `context_{asr,slu,cls}` model and the arguments it was built from."""
    from espnet2.tasks.asr import ASRTask
    from espnet2.tasks.cls import CLSTask
    from espnet2.tasks.slu import SLUTask

    import espnet_ctx  # noqa: F401

    tasks = {"asr": ASRTask, "slu": SLUTask, "cls": CLSTask}

    def get(system: str = "none", task: str = "asr", *, encoder_conf=None, model_conf=None, options=(), seed=5):
        dropouts = ("hidden_dropout", "attention_dropout", "activation_dropout", "feat_proj_dropout")
        encoder = {"upstream": str(upstream_dir()), "upstream_conf": {"config": dict.fromkeys(dropouts, 0.0)}}
        model = {} if task == "cls" else {"ctc_weight": 1.0, "report_wer": False}
        if system != "none":
            encoder.update(context_dim=CONTEXT_DIM, injection_conf={"num_heads": 2})
        if system in ("aware", "carry", "prev_audio"):
            encoder["injection_conf"]["student"] = {"pooling": "attentive"}
            model["alpha"] = 0.5
        if system == "carry":
            encoder["injection_conf"]["memory"] = {"kind": "mean"}
        if system != "aware":
            model["teacher"] = {"carry": "next_context", "prev_audio": "neighbours"}.get(system, "context")
        encoder.update(encoder_conf or {})
        model.update(model_conf or {})
        args = tasks[task].get_parser().parse_args(
            ["--output_dir", "unused", "--encoder", "context_ssl", "--model", f"context_{task}", "--input_size", "1",
             "--normalize", "none", *options]
        )
        args.token_list = CLASSES if task == "cls" else TOKENS
        args.encoder_conf, args.model_conf = encoder, model
        torch.manual_seed(seed)
        return tasks[task].build_model(args), args

    return get


@pytest.fixture
def batch():
    """Three utterances of unequal lengths; the second has no context."""
    torch.manual_seed(6)
    lengths = torch.tensor([16000, 9731, 4801])
    speech = torch.zeros(3, 16000)
    for i, n in enumerate(lengths):
        speech[i, :n] = torch.randn(n) * 0.1
    context = torch.randn(3, 2, CONTEXT_DIM)
    context[1] = 0
    context[2, 1] = 0
    return {
        "speech": speech,
        "speech_lengths": lengths,
        "text": torch.tensor([[3, 4, 5, 2, 6], [4, 4, 5, -1, -1], [7, 8, -1, -1, -1]]),
        "text_lengths": torch.tensor([5, 3, 2]),
        "context": context,
        "context_lengths": torch.tensor([2, 1, 1]),
    }
