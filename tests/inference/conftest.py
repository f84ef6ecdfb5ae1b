"""Tiny models as files, as training leaves them."""

import numpy as np
import pytest
import torch
import yaml

from tests.espnet.conftest import CONTEXT_DIM, build, write_contexts  # noqa: F401

INJECTIONS = {  # of systems that have more than one
    "carry_codebook": {
        "num_heads": 2,
        "student": {"pooling": "multi_query", "num_tokens": 2},
        "memory": {"kind": "codebook", "size": 5, "decay": 0.8},
    }
}


@pytest.fixture(scope="session")
def trained(build, tmp_path_factory):  # noqa: F811
    """`trained(system, task, **changes)`: config.yaml and weights of a random model whose frames say many things."""
    made = {}

    def get(system: str = "none", task: str = "asr", **changes):
        key = system, task, str(changes)
        if key not in made:
            folder = tmp_path_factory.mktemp(f"{task}_{system}")
            if system in INJECTIONS:
                scp, _ = write_contexts(folder)
                encoder = {"context_dim": CONTEXT_DIM, "injection_conf": INJECTIONS[system]}
                data = ["--train_data_path_and_name_and_type", f"{scp},context,kaldi_ark"]
                changes = {"encoder_conf": encoder, "options": data, **changes}
            model, args = build(system.partition("_codebook")[0], task, **changes)
            args.token_type = "char"
            if task != "cls":
                with torch.no_grad():
                    model.ctc.ctc_lo.weight.mul_(40)
            torch.save(model.state_dict(), folder / "valid.loss.ave.pth")
            (folder / "config.yaml").write_text(yaml.safe_dump(vars(args)))
            made[key] = str(folder / "config.yaml"), str(folder / "valid.loss.ave.pth")
        return made[key]

    return get


@pytest.fixture(scope="session")
def speech():
    """Three utterances of unequal lengths."""
    rng = np.random.default_rng(0)
    return [rng.normal(0, 0.1, n).astype(np.float32) for n in (16000, 9731, 4801)]
