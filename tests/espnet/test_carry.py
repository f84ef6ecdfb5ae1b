"""Systems `carry` and `prev_audio`: what is fed and taught in training, and decoding over sessions."""

import copy

import numpy as np
import pytest
import soundfile
import torch
import yaml

from espnet_ctx.files import UserError, read_table, write_table
from tests.espnet.conftest import CONTEXT_DIM, write_contexts

INJECTION = {"num_heads": 2, "student": {"pooling": "conv_max", "stop_gradient": True}}


def carry(memory=None, **settings):
    return {"injection_conf": {**INJECTION, "memory": memory or {"kind": "mean"}, **settings}}


@pytest.fixture
def in_session(batch):
    """The batch as rows 2, 0 and 1 of a session of four; the first of the batch is followed by one without context."""
    torch.manual_seed(7)
    next_context = torch.randn(3, 1, CONTEXT_DIM)
    next_context[0] = 0
    return {
        **batch,
        "next_context": next_context,
        "next_context_lengths": torch.ones(3, dtype=torch.long),
        "place": torch.tensor([[2, 0, 4], [0, 0, 4], [1, 0, 4]]),
        "place_lengths": torch.full((3,), 3),
    }


def fed_to(model, batch):
    """Context that the cross-attention got."""
    seen, attention = {}, model.encoder.injection.attentions[0]
    hook = attention.register_forward_pre_hook(lambda _, args: seen.update(context=args[1], mask=args[2]))
    loss, stats, _ = model(**copy.deepcopy(batch))
    hook.remove()
    return seen["context"], seen["mask"], stats, loss


def test_the_student_learns_the_next_context(build, in_session):
    model = build("carry", encoder_conf=carry(teacher_feeding=1.0))[0].eval()
    context, mask, stats, loss = fed_to(model, in_session)
    assert torch.equal(context[:, :2], in_session["context"])
    # the second has no context and gets what is heard in it
    assert mask.tolist() == [[True, True, False], [False, False, True], [True, False, False]]
    heard = torch.nn.functional.normalize(model.encoder.predicted[1, 0], dim=-1)
    assert torch.allclose(context[1, 2], heard, atol=1e-6)
    similarity = torch.cosine_similarity(model.encoder.predicted[1:, 0], in_session["next_context"][1:, 0])
    assert stats["context_cosine"].item() == pytest.approx(similarity.mean().item(), abs=1e-5)
    assert loss.item() == pytest.approx((0.5 * stats["loss_ctc"] + 0.5 * (1 - similarity.mean())).item(), rel=1e-5)
    del in_session["next_context"]
    with pytest.raises(ValueError, match="give the data 'next_context'"):
        model(**in_session)


def test_the_teacher_is_fed_until_the_past_is_known_and_then_the_memory(build, in_session):
    model = build("carry", encoder_conf=carry(teacher_feeding=0.0, current=False))[0].train()
    _, mask, *_ = fed_to(model, in_session)
    # columns: two rows of the teacher's, one of the memory's; row 0 of a session has an empty memory
    assert mask.tolist() == [[True, True, False], [False, False, False], [True, False, False]]
    said = model.encoder.predicted.detach()
    context, mask, *_ = fed_to(model, in_session)
    assert mask.tolist() == [[False, False, True], [False, False, False], [False, False, True]]
    unit = torch.nn.functional.normalize(said[:, 0], dim=-1)
    assert torch.allclose(context[2, 2], unit[1], atol=1e-5)
    assert torch.allclose(context[0, 2], (unit[1] + unit[2]) / 2, atol=1e-5)
    model.eval()
    assert torch.equal(fed_to(model, in_session)[0][:, :2], in_session["context"])  # validation is fed by the teacher
    for missing in ("context", "place"):
        with pytest.raises(ValueError, match="needs the data 'context' and 'place'"):
            model.train()(**{k: v for k, v in in_session.items() if not k.startswith(missing)})


def test_the_bank_is_in_no_checkpoint(build, in_session):
    model = build("carry", encoder_conf=carry(teacher_feeding=0.5))[0].train()
    before = set(model.state_dict())
    model(**in_session)
    assert model.bank.filled.sum() == 3 and set(model.state_dict()) == before


def test_students_are_pulled_to_what_they_made_of_the_neighbours(build, in_session):
    model = build("prev_audio")[0].train()
    audio = {k: v for k, v in in_session.items() if "context" not in k}
    loss, stats, _ = model(**copy.deepcopy(audio))
    said = model.encoder.predicted[:, 0].detach()
    # rows 2, 0, 1: row 2 has heard row 1 only, row 1 both
    taught = torch.stack([said[2], said[2], (said[0] + said[1]) / 2])
    expected = (1 - torch.cosine_similarity(said, taught)).mean()
    assert stats["loss_context"].item() == pytest.approx(expected.item(), abs=1e-5)
    assert loss.item() == pytest.approx((0.5 * stats["loss_ctc"] + 0.5 * expected).item(), rel=1e-5)
    loss, stats, _ = model.eval()(**copy.deepcopy(audio))
    assert "loss_context" not in stats and loss.item() == stats["loss_ctc"].item()
    del audio["place"]
    with pytest.raises(ValueError, match="give the data 'place'"):
        model.train()(**audio)


def test_the_student_alone_learns_from_what_is_not_transcribed(build, in_session):
    model = build("carry", encoder_conf=carry(teacher_feeding=1.0))[0].eval()

    def losses(transcribed=None, rows=slice(None)):
        batch = {name: tensor[rows] for name, tensor in copy.deepcopy(in_session).items()}
        if transcribed is not None:
            batch.update(transcribed=torch.tensor(transcribed).unsqueeze(1), transcribed_lengths=torch.ones(len(transcribed)))
        loss, stats, _ = model(**batch)
        return loss, stats["loss_ctc"].item(), stats["loss_context"].item()

    _, all_ctc, all_context = losses()
    _, ctc, context = losses([1, 0, 1])
    known = sum(losses(rows=slice(row, row + 1))[1] for row in (0, 2))
    assert ctc == pytest.approx(known / 3, rel=1e-4) and context == all_context
    assert losses([1, 1, 1])[1] == all_ctc
    loss, ctc, context = losses([0, 0, 0])
    assert ctc == 0 and loss.item() == pytest.approx(0.5 * context, rel=1e-6)
    loss.backward()
    assert model.ctc.ctc_lo.weight.grad.abs().sum() == 0 and model.encoder.injection.student.fc.weight.grad.abs().sum() > 0
    model.ctc_weight = 0.5
    with pytest.raises(ValueError, match="by CTC alone: model_conf.ctc_weight 1.0"):
        losses([1, 1, 1])


def test_an_unknown_teacher(build):
    with pytest.raises(ValueError, match="one of context, next_context, neighbours; got 'crowd'"):
        build("carry", model_conf={"teacher": "crowd"})


@pytest.fixture
def archive(tmp_path):
    return write_contexts(tmp_path)


def test_a_memory_makes_its_codebook_of_the_training_contexts(build, archive, in_session, tmp_path):
    from espnet2.tasks.asr import ASRTask

    scp, rows = archive
    conf = carry({"kind": "codebook", "size": 5}, teacher_feeding=1.0)
    options = ["--train_data_path_and_name_and_type", f"{scp},context,kaldi_ark"]
    loss = {"distillation_conf": {"loss": "codebook"}}
    model, args = build("carry", encoder_conf=conf, model_conf=loss, options=options)
    entries = sorted(row.mean(0).tolist() for row in rows.values())
    assert sorted(model.encoder.memory.codebook.tolist()) == [pytest.approx(entry) for entry in entries]
    stats = model.eval()(**copy.deepcopy(in_session))[1]
    posteriors = model.encoder.memory.scores(model.encoder.predicted).log_softmax(-1)[1:, 0]
    nearest = model.encoder.memory.scores(in_session["next_context"])[1:, 0].argmax(-1)
    expected = -posteriors[[0, 1], nearest].mean()
    assert stats["loss_context"].item() == pytest.approx(expected.item(), rel=1e-5)

    scp.unlink()  # a trained model is built from its configuration and weights alone
    config = {k: v for k, v in vars(args).items() if k not in ("config", "required")}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    torch.save(model.state_dict(), tmp_path / "model.pth")
    again, _ = ASRTask.build_model_from_file(tmp_path / "config.yaml", tmp_path / "model.pth")
    assert torch.equal(again.encoder.memory.codebook, model.encoder.memory.codebook)
    with pytest.raises(UserError, match="has no 'context'"):
        build("carry", encoder_conf=conf, model_conf=loss)


def test_many_contexts_become_clusters(tmp_path):
    from espnet_ctx.context.store import write_archive
    from espnet_ctx.espnet.codebook import make_codebook

    rng = np.random.default_rng(0)
    centres = np.eye(3, 4, dtype=np.float32) * 10
    rows = [(f"t{i}", centres[i % 3] + rng.normal(size=(1, 4)).astype(np.float32) * 0.1) for i in range(60)]
    write_archive(tmp_path, {f"u{text}": text for text, _ in rows}, rows, 4, "float32", {}, {})
    made = make_codebook(tmp_path / "context.scp", 3)
    assert made.dtype == np.float32 and np.allclose(made[made.argmax(1).argsort()], centres, atol=0.2)
    write_archive(tmp_path / "none", {"u": ""}, [], 4, "float32", {}, {})
    with pytest.raises(UserError, match="no utterance has a context"):
        make_codebook(tmp_path / "none/context.scp", 3)


# decoding

SESSIONS = [[9000, 16000, 5000, 12000], [7000], [11000, 6000]]


@pytest.fixture(scope="module")
def trained(build, tmp_path_factory):
    """Configuration and weights of a `carry` whose context changes what is recognised, and three sessions to decode."""
    from espnet_ctx.inference.recognizer import CTCRecognizer

    folder = tmp_path_factory.mktemp("carry")
    model, args = build("carry", encoder_conf=carry({"kind": "mean", "decay": 0.8}, gate_init=30.0))
    config = {k: v for k, v in vars(args).items() if k not in ("config", "required")}
    (folder / "config.yaml").write_text(yaml.safe_dump({**config, "token_type": "char", "bpemodel": None}))
    torch.save(model.state_dict(), folder / "model.pth")
    rng = np.random.default_rng(1)
    wavs, prev_of = {}, {}
    for number, lengths in enumerate(SESSIONS):
        for place, samples in enumerate(lengths):
            utt = f"s{number}-{place}"
            wavs[utt] = str(folder / f"{utt}.wav")
            soundfile.write(wavs[utt], rng.normal(0, 0.1, samples).astype(np.float32), 16000, subtype="FLOAT")
            prev_of[utt] = f"s{number}-{place - 1}" if place else "-"
    write_table(folder / "data/wav.scp", wavs)
    write_table(folder / "data/utt2prev", prev_of)
    return folder, CTCRecognizer(str(folder / "config.yaml"), str(folder / "model.pth"))


def decode(folder, out, *options):
    from espnet_ctx.bin import ctc_inference

    ctc_inference.main(
        ["--config", str(folder / "config.yaml"), "--model", str(folder / "model.pth"), "--data_dir", str(folder / "data"),
         "--output_dir", str(out), *options]
    )
    return {utt: float(score) for utt, score in read_table(out / "score").items()}, read_table(out / "token_int")


def alone(recognizer, folder, forget=False):
    """Every session by itself, an utterance at a time."""
    scores, tokens = {}, {}
    for number, lengths in enumerate(SESSIONS):
        state = recognizer.memory.initial(1)
        for place in range(len(lengths)):
            utt = f"s{number}-{place}"
            speech = soundfile.read(folder / f"{utt}.wav", dtype="float32")[0]
            [hypothesis] = recognizer([speech], states=None if forget else state)
            state = recognizer.states
            scores[utt], tokens[utt] = hypothesis.score, " ".join(map(str, hypothesis.token_ids))
    return scores, tokens


def test_sessions_are_decoded_side_by_side_as_each_alone(trained, tmp_path):
    folder, recognizer = trained
    assert not recognizer.needs_context
    scores, tokens = decode(folder, tmp_path / "out")
    expected, expected_tokens = alone(recognizer, folder)
    assert scores == pytest.approx(expected, abs=2e-3) and tokens == expected_tokens
    forgetful, _ = alone(recognizer, folder, forget=True)
    changed = {utt for utt in expected if abs(expected[utt] - forgetful[utt]) > 1e-2}
    assert changed == {"s0-1", "s0-2", "s0-3", "s2-1"}  # all but the first of each


def test_silence_is_not_remembered(trained, tmp_path):
    folder, _ = trained
    kept = {name: read_table(folder / "data" / name) for name in ("wav.scp", "utt2prev")}
    try:
        soundfile.write(tmp_path / "silence.wav", np.zeros(9000, np.float32), 16000)
        write_table(folder / "data/wav.scp", {**kept["wav.scp"], "s0-1": str(tmp_path / "silence.wav")})
        silent, _ = decode(folder, tmp_path / "silent")
        write_table(folder / "data/wav.scp", {utt: wav for utt, wav in kept["wav.scp"].items() if utt != "s0-1"})
        prev_of = {utt: prev for utt, prev in kept["utt2prev"].items() if utt != "s0-1"}
        write_table(folder / "data/utt2prev", {**prev_of, "s0-2": "s0-0"})
        without, _ = decode(folder, tmp_path / "without")
    finally:
        for name, table in kept.items():
            write_table(folder / "data" / name, table)
    assert silent.pop("s0-1") == 0 and silent == pytest.approx(without, abs=2e-3)


def test_a_memory_that_is_reset_needs_no_sessions(trained, tmp_path):
    folder, recognizer = trained
    (folder / "data/utt2prev").rename(folder / "data/kept")
    try:
        scores, tokens = decode(folder, tmp_path / "out", "--reset_memory")
        with pytest.raises(UserError, match="utt2prev is missing"):
            decode(folder, tmp_path / "out")
    finally:
        (folder / "data/kept").rename(folder / "data/utt2prev")
    expected, expected_tokens = alone(recognizer, folder, forget=True)
    assert scores == pytest.approx(expected, abs=2e-3) and tokens == expected_tokens


def test_a_context_that_is_given_stands_in_place_of_the_memory(trained, tmp_path, archive):
    folder, recognizer = trained
    rows = read_table(archive[0])  # `a` has a context, `c` none
    wavs = read_table(folder / "data/wav.scp")
    write_table(tmp_path / "context.scp", {utt: rows["a" if utt == "s0-1" else "c"] for utt in wavs})
    scores, _ = decode(folder, tmp_path / "out", "--context_scp", str(tmp_path / "context.scp"))
    expected, _ = alone(recognizer, folder, forget=True)
    [fed] = recognizer([soundfile.read(folder / "s0-1.wav", dtype="float32")[0]], [archive[1]["sea"]])
    assert abs(fed.score - expected["s0-1"]) > 1e-2
    assert scores == pytest.approx({**expected, "s0-1": fed.score}, abs=2e-3)


def test_espnet_decodes_an_utterance_with_an_empty_memory(trained, tmp_path):
    from espnet2.bin.asr_inference import Speech2Text

    folder, recognizer = trained
    speech = soundfile.read(folder / "s0-0.wav", dtype="float32")[0]
    speech2text = Speech2Text(str(folder / "config.yaml"), str(folder / "model.pth"), ctc_weight=1.0, beam_size=1)
    frames, lengths = speech2text.asr_model.encode(torch.from_numpy(speech)[None], torch.tensor([len(speech)]))
    state = recognizer.memory.initial(1)
    ours, _ = recognizer.encode([speech], states=state)
    assert torch.equal(frames, ours) and recognizer.states.weight.item() == 1
    assert isinstance(speech2text(speech)[0][0], str)
