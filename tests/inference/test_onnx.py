"""The exported graph against the model it was made of."""

import numpy as np
import pytest
import torch

from espnet_ctx.bin import export_onnx
from espnet_ctx.files import UserError
from espnet_ctx.inference.onnx import OnnxRecognizer, export
from espnet_ctx.inference.recognizer import CTCRecognizer

pytest.importorskip("onnxruntime")


@pytest.mark.parametrize("system", ["aware", "carry"])
def test_a_graph_says_what_the_model_says(trained, speech, tmp_path, system):
    recognizer = CTCRecognizer(*trained(system))
    difference = export(recognizer, tmp_path)
    assert difference.probability < 1e-4 and difference.state < 1e-4
    assert {path.name for path in tmp_path.iterdir()} == {"model.onnx", "model.json"}

    graph, encoder = OnnxRecognizer(tmp_path), recognizer.model.encoder
    theirs = graph.initial()
    assert len(theirs) == (2 if system == "carry" else 0)
    state = encoder.memory.initial(1) if system == "carry" else None
    for samples in speech:  # one after the other in a session
        with encoder.given(None, state), torch.no_grad():
            expected, _ = recognizer.log_probs([samples])
        if state is not None:
            state = encoder.memory.update(state, encoder.predicted)
        found, theirs = graph(samples, theirs)
        assert found.shape == tuple(expected.shape[1:])
        assert np.abs(np.exp(found) - expected[0].exp().detach().numpy()).max() < 1e-4
        for ours, exported in zip(state or (), theirs, strict=True):
            assert np.abs(ours.detach().numpy() - exported).max() < 1e-4


def test_the_command_checks_texts_and_refuses_what_cannot_be_exported(trained, tmp_path):
    config, model = trained("prev_text")
    with pytest.raises(UserError, match="fed no text can be exported: none, aware, carry"):
        export_onnx.main(["--config", config, "--model", model, "--out", str(tmp_path)])
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(UserError, match="no model.json in"):
        OnnxRecognizer(tmp_path)
