"""The exported graph against the model it was made of."""

import numpy as np
import pytest
import soundfile
import torch

from espnet_ctx.bin import export_onnx
from espnet_ctx.files import UserError, write_table
from espnet_ctx.inference.onnx import OnnxRecognizer, export
from espnet_ctx.inference.recognizer import CTCRecognizer

pytest.importorskip("onnxruntime")


@pytest.mark.parametrize("system", ["aware", "carry", "carry_codebook"])
def test_a_graph_says_what_the_model_says(trained, speech, tmp_path, system):
    recognizer = CTCRecognizer(*trained(system))
    difference = export(recognizer, tmp_path)
    assert difference.probability < 1e-4 and difference.state < 1e-4
    assert {path.name for path in tmp_path.iterdir()} == {"model.onnx", "model.json"}

    graph, encoder = OnnxRecognizer(tmp_path), recognizer.model.encoder
    theirs = graph.initial()
    assert len(theirs) == (0 if system == "aware" else 2)
    state = None if system == "aware" else encoder.memory.initial(1)
    for samples in speech:  # one after the other in a session
        with encoder.given(None, state), torch.no_grad():
            expected, _ = recognizer.log_probs([samples])
        state = encoder.state
        found, theirs = graph(samples, theirs)
        assert found.shape == tuple(expected.shape[1:])
        assert np.abs(np.exp(found) - expected[0].exp().detach().numpy()).max() < 1e-4
        for ours, exported in zip(state or (), theirs, strict=True):
            assert np.abs(ours.detach().numpy() - exported).max() < 1e-4


def test_the_command_compares_every_text_of_a_set_over_its_sessions(trained, speech, tmp_path, capsys, monkeypatch):
    config, model = trained("carry")
    prev_of = {"a-1": "-", "a-2": "a-1", "b-1": "-"}
    for utt, samples in zip(prev_of, speech):
        soundfile.write(tmp_path / f"{utt}.wav", samples, 16000, subtype="FLOAT")
    write_table(tmp_path / "data/wav.scp", {utt: str(tmp_path / f"{utt}.wav") for utt in prev_of})
    write_table(tmp_path / "data/utt2prev", prev_of)
    command = ["--config", config, "--model", model, "--out", str(tmp_path / "onnx"), "--data_dir", str(tmp_path / "data")]
    export_onnx.main(command)
    assert "data: the same text in every utterance" in capsys.readouterr().out
    monkeypatch.setattr(export_onnx, "compare_texts", lambda *_: ["a-2"])
    with pytest.raises(UserError, match="something else than the model in 1 utterances, e.g. a-2"):
        export_onnx.main(command)
    monkeypatch.undo()

    class Backwards(OnnxRecognizer):
        def __call__(self, speech, state=()):
            return super().__call__(speech, state)[0][::-1].copy(), state

    different = export_onnx.compare_texts(CTCRecognizer(config, model), Backwards(tmp_path / "onnx"), tmp_path / "data")
    assert different == ["a-1", "a-2", "b-1"]


def test_what_cannot_be_exported_is_refused(trained, tmp_path):
    config, model = trained("prev_text")
    with pytest.raises(UserError, match="fed no text can be exported: none, aware, carry"):
        export_onnx.main(["--config", config, "--model", model, "--out", str(tmp_path)])
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(UserError, match="no model.json in"):
        OnnxRecognizer(tmp_path)
