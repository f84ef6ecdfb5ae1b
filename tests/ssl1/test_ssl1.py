"""Pre-training of the tiny HuBERT: alignment, targets, masked prediction, resuming, export; on synthetic tones."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import HubertModel, Wav2Vec2FeatureExtractor

ROOT = Path(__file__).resolve().parents[2]
RECIPE = ROOT / "egs2" / "mini_talks" / "ssl1"
sys.path.insert(0, str(RECIPE / "local"))

import make_targets  # noqa: E402
import pretrain  # noqa: E402
from audio_store import REAL, SYNTHETIC, AudioStore, cropped, write_store  # noqa: E402
from hubert import NO_DROPOUT, RATE, MaskedPrediction, draw_mask, export, normalise, num_frames  # noqa: E402

from espnet_ctx.files import UserError  # noqa: E402

TINY = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "conv_dim": [8, 8, 8, 8, 16, 16, 16],
    "num_conv_pos_embeddings": 8,
    "num_conv_pos_embedding_groups": 4,
}


def settings(**changes):
    common = json.loads((RECIPE / "conf" / "pretrain.json").read_text())["common"]
    return common | {"hubert": TINY, "clusters": 8, "updates": 6, "lr": 3e-3, "warmup": 0.2, "batch_seconds": 4} | changes


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Pieces of 1 to 2.5 s, each a row of tones; every tone is one frame cluster."""
    folder = tmp_path_factory.mktemp("audio")
    rng = np.random.default_rng(0)
    pieces = []
    for _ in range(24):
        tones = rng.integers(300, 3000, rng.integers(5, 12)).repeat(3200)
        pieces.append((8000 * np.sin(2 * np.pi * np.cumsum(tones) / RATE)).astype(np.int16)[: rng.integers(-300, -1)])
    write_store(folder, pieces, [SYNTHETIC] * 16 + [REAL] * 8, rng.standard_normal((2, 5 * RATE)))
    return AudioStore(folder)


@pytest.fixture(scope="module")
def labels(store):
    return make_targets.cluster(store, make_targets.mfcc, 8, seed=0)[0]


@pytest.fixture(scope="module")
def hubert():
    torch.manual_seed(0)
    from transformers import HubertConfig

    return HubertModel(HubertConfig(**TINY, **NO_DROPOUT)).eval()


@pytest.mark.parametrize("samples", [400, 719, 720, 721, 4000, 16000, 16079, 16080, 47999])
def test_frames_equal_hubert_and_mfcc(hubert, samples):
    speech = torch.randn(samples, generator=torch.Generator().manual_seed(samples))
    frames = hubert(speech[None]).last_hidden_state.shape[1]
    assert frames == num_frames(samples) == int(hubert._get_feat_extract_output_lengths(samples))
    assert len(make_targets.mfcc(speech)) == frames


def test_layer_features_of_a_padded_shape_have_the_frames_of_the_piece(hubert):
    features = make_targets.layer_features(hubert, 1)
    for samples in (9000, 16000, 20111):
        assert features(torch.randn(samples)).shape == (num_frames(samples), TINY["hidden_size"])


def test_normalisation_is_the_feature_extractors(store):
    extractor = Wav2Vec2FeatureExtractor(do_normalize=True)
    piece = store.piece(0)
    expected = extractor(piece, sampling_rate=RATE, return_tensors="pt").input_values
    torch.testing.assert_close(normalise(torch.from_numpy(piece)[None]), expected, atol=1e-4, rtol=1e-4)


def test_masked_spans():
    mask = draw_mask(np.random.default_rng(0), 50, 200, prob=0.7, span=10)
    assert mask.shape == (50, 200) and 0.4 < mask.float().mean() < 0.6
    runs = [len(run) for row in mask.numpy() for run in "".join("x" if m else " " for m in row).split()]
    assert min(runs) == 10


def test_store_gives_back_what_was_written_and_labels_follow_crops(store, labels):
    assert len(store) == 24 and labels.shape == (store.frames.sum(),)
    batch = store.epoch(0, 0, 4, 0.3, 1)[0][0]
    codes = np.arange(store.frames.sum())
    speech, targets = store.load(np.random.default_rng(1), batch, codes, (60.0, 60.0))
    assert speech.shape == (len(batch), cropped(store.lengths[batch].min()))
    for row, index, target in zip(speech, batch, targets):
        first = int(target[0]) - store.frame_starts[index]
        clean = torch.from_numpy(store.piece(index)[first * 320 :][: speech.shape[1]])
        torch.testing.assert_close(row, normalise(clean[None])[0], atol=0.05, rtol=0)
        assert targets.shape[1] == num_frames(speech.shape[1])


def test_epochs_hold_all_synthetic_pieces_and_a_share_of_real_ones(store):
    one, again, other = (np.concatenate([b for (b,) in store.epoch(0, e, 4, 0.2, 1)]) for e in (0, 0, 1))
    np.testing.assert_array_equal(one, again)
    assert not np.array_equal(one, other)
    chosen = one
    assert sorted(chosen[store.sources[chosen] == SYNTHETIC]) == list(range(16))
    real = store.lengths[chosen[store.sources[chosen] == REAL]].sum()
    assert 0 < real <= 0.25 * store.lengths[:16].sum()


def test_the_processes_of_an_update_get_batches_of_like_length(store):
    alone = {b.tobytes() for (b,) in store.epoch(0, 0, 4, 0.2, 1)}
    updates = store.epoch(0, 0, 4, 0.2, 2)
    assert {b.tobytes() for update in updates for b in update} <= alone and len(updates) == len(alone) // 2
    lengths = np.array([[store.lengths[b].mean() for b in update] for update in updates])
    assert (abs(lengths[:, 0] - lengths[:, 1]) < 0.3 * lengths.mean(1)).all()


def test_clusters_tell_tones_apart(store):
    labels, explained = make_targets.cluster(store, make_targets.mfcc, 8, seed=0)
    again, _ = make_targets.cluster(store, make_targets.mfcc, 8, seed=0)
    np.testing.assert_array_equal(labels, again)
    assert labels.dtype == np.uint8 and set(labels) == set(range(8)) and explained > 0.3


def test_loss_is_the_sum_over_masked_and_unmasked_frames(hubert):
    torch.manual_seed(0)
    models = [MaskedPrediction(hubert.config, 8, unmasked_weight=w).eval() for w in (0.0, 1.0, 2.0)]
    for model in models[1:]:
        model.load_state_dict(models[0].state_dict())
    speech, labels = torch.randn(2, 8000), torch.randint(8, (2, 24))
    mask = draw_mask(np.random.default_rng(0), 2, 24, 0.7, 10)
    none, one, two = (model(speech, labels, mask)[0].item() for model in models)
    assert two - one == pytest.approx(one - none, rel=1e-4) and one > none


@pytest.fixture(scope="module")
def alone():
    pretrain.join_processes()
    yield
    torch.distributed.destroy_process_group()


def test_training_learns_and_resumes_to_the_same_weights(store, labels, tmp_path, alone):
    whole = pretrain.Trainer(settings(updates=30), store, labels)
    losses = [whole.step()["loss"] for _ in range(30)]
    assert np.mean(losses[-5:]) < np.mean(losses[:5]) - 0.1

    first = pretrain.Trainer(settings(updates=30), store, labels)
    for _ in range(11):
        first.step()
    first.save(tmp_path / "checkpoint.pt")
    second = pretrain.Trainer(settings(updates=30), store, labels)
    second.load(tmp_path / "checkpoint.pt")
    assert [second.step()["loss"] for _ in range(19)] == losses[11:]
    for a, b in zip(whole.model.state_dict().values(), second.model.state_dict().values()):
        assert torch.equal(a, b)


def test_command_runs_logs_exports_and_keeps_what_is_whole(store, labels, tmp_path, alone):
    np.save(tmp_path / "labels.npy", labels)
    common = settings()
    config = {"common": common, "iteration1": {}, "iteration2": {"clusters": 8}}
    (tmp_path / "conf.json").write_text(json.dumps(config))
    out = tmp_path / "iter1"
    cmd = ["--config", str(tmp_path / "conf.json"), "--iteration", "1", "--audio", str(store.folder)]
    cmd += ["--labels", str(tmp_path / "labels.npy"), "--out", str(out)]
    pretrain.main(cmd)
    (line,) = (json.loads(line) for line in (out / "log.jsonl").read_text().splitlines())
    assert line["update"] == 6 and line["loss"] > 0 and 0 <= line["masked_accuracy"] <= 1
    assert line["audio_seconds_per_second"] > 0 and line["minutes_left"] == 0
    written = (out / "model" / "model.safetensors").stat().st_mtime_ns
    pretrain.main(cmd)
    assert (out / "model" / "model.safetensors").stat().st_mtime_ns == written
    pretrain.main([*cmd[:3], "2", *cmd[4:-1], str(tmp_path / "iter2"), "--init", str(out / "model")])
    assert (tmp_path / "iter2" / "model" / "config.json").exists()


def test_two_processes_train_one_model_and_go_on_together_only(store, labels, tmp_path, alone):
    np.save(tmp_path / "labels.npy", labels)
    (tmp_path / "conf.json").write_text(json.dumps({"common": settings(), "iteration1": {}}))
    cmd = ["--config", tmp_path / "conf.json", "--iteration", "1", "--audio", store.folder]
    cmd += ["--labels", tmp_path / "labels.npy", "--out", tmp_path / "out"]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    subprocess.run([*torchrun, RECIPE / "local" / "pretrain.py", *cmd], check=True, timeout=300)
    (line,) = (json.loads(line) for line in (tmp_path / "out" / "log.jsonl").read_text().splitlines())
    assert line["update"] == 6 and (tmp_path / "out" / "model" / "model.safetensors").exists()
    with pytest.raises(UserError, match="of 2 processes, this run of 1"):
        pretrain.Trainer(settings(), store, labels).load(tmp_path / "out" / "checkpoint.pt")


def test_labels_of_another_store_are_refused(store, labels, alone):
    with pytest.raises(UserError, match="make them anew"):
        pretrain.Trainer(settings(), store, labels[:-1])


def test_export_gives_the_same_outputs_in_transformers(hubert, tmp_path):
    export(hubert, tmp_path)
    loaded = HubertModel.from_pretrained(tmp_path).eval()
    extractor = Wav2Vec2FeatureExtractor.from_pretrained(tmp_path)
    assert extractor.do_normalize and extractor.sampling_rate == RATE
    assert loaded.config.hidden_dropout == 0.1 and loaded.dtype == torch.float32
    speech = torch.randn(2, 7777)
    torch.testing.assert_close(loaded(speech).last_hidden_state, hubert(speech).last_hidden_state, atol=1e-5, rtol=0)


def test_learning_rate_rises_then_falls():
    rates = [pretrain.learning_rate(u, 100, 1.0, 0.1) for u in range(100)]
    assert rates[9] == 1.0 and max(rates) == 1.0 and rates[0] == pytest.approx(0.1)
    assert rates[99] == pytest.approx(0.05, abs=0.02) and all(a > b for a, b in zip(rates[10:], rates[11:]))


def test_held_out_recordings_are_never_heard(tmp_path):
    """SLUE's dev and test sets and the last speakers of LibriSpeech stay out."""
    import prepare_audio

    for name in ("fine-tune/a.ogg", "dev/b.ogg", "test/c.ogg"):
        (tmp_path / "slue" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "slue" / name).touch()
    (tmp_path / "libri").mkdir()
    for speaker in range(100, 120):
        (tmp_path / "libri" / f"{speaker}-7-0000.flac").touch()
    names = [p.name for p in prepare_audio.real_recordings(tmp_path / "slue", tmp_path / "libri")]
    assert names == ["a.ogg"] + [f"{speaker}-7-0000.flac" for speaker in range(100, 114)]
    with pytest.raises(UserError, match="--slue_dir .* no fine-tune"):
        prepare_audio.real_recordings(tmp_path / "libri", None)


def test_long_recordings_are_cut_into_equal_pieces():
    import prepare_audio

    recording = np.arange(20 * RATE, dtype=np.int64)
    pieces = prepare_audio.cut(recording)
    assert len(pieces) == 3 and max(map(len, pieces)) <= 7.5 * RATE
    np.testing.assert_array_equal(np.concatenate(pieces), recording)
    assert prepare_audio.cut(recording[: RATE // 2]) == []


@pytest.mark.skipif(not (RECIPE / "model" / "model.safetensors").exists(), reason="the model is not in this checkout")
def test_the_shipped_model_is_small_and_loads():
    assert (RECIPE / "model" / "model.safetensors").stat().st_size <= 12e6
    model = HubertModel.from_pretrained(RECIPE / "model")
    assert sum(p.numel() for p in model.parameters()) == 2_261_760
    assert torch.isfinite(model(torch.randn(1, 16000)).last_hidden_state).all()
