import copy

import pytest
import torch

CONTEXT = ("context", "context_lengths")
INPUTS = ("speech", "speech_lengths", *CONTEXT)


def without_context(batch):
    return {k: v for k, v in batch.items() if k not in CONTEXT}


def gradients(model, batch):
    model.zero_grad()
    loss, stats, _ = model(**copy.deepcopy(batch))
    loss.sum().backward()
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}, stats


def test_absent_context_equals_no_context_bit_for_bit(build, batch):
    model = build("generated")[0].eval()
    batch["context"] = torch.zeros_like(batch["context"])
    absent = model.encode(**{k: batch[k] for k in INPUTS})[0]
    assert torch.equal(absent, model.encode(batch["speech"], batch["speech_lengths"])[0])


def test_context_changes_the_output_of_those_who_have_it_and_of_no_other(build, batch):
    model = build("generated")[0].eval()
    given = model.encode(**{k: batch[k] for k in INPUTS})[0]
    plain = model.encode(batch["speech"], batch["speech_lengths"])[0]
    assert torch.equal(given[1], plain[1])
    assert (given[0] - plain[0]).abs().max() > 1e-4


@pytest.mark.parametrize("system", ["none", "generated", "aware"])
def test_a_padded_batch_equals_one_by_one(build, batch, system):
    model = build(system)[0].eval()
    together, lengths = model.encode(**{k: batch[k] for k in INPUTS})
    assert lengths.tolist() == [49, 30, 14]
    for i in range(3):
        samples, rows = batch["speech_lengths"][i], batch["context_lengths"][i]
        speech, context = batch["speech"][i : i + 1, :samples], batch["context"][i : i + 1, :rows]
        alone, length = model.encode(speech, samples[None], context=context, context_lengths=rows[None])
        assert length.item() == lengths[i]
        assert (together[i, : lengths[i]] - alone[0]).abs().max() < 1e-5


def test_loss_is_the_weighted_sum_and_its_parts_are_reported(build, batch):
    model = build("aware", model_conf={"alpha": 0.3})[0].eval()
    loss, stats, weight = model(**batch)
    expected = 0.7 * stats["loss_ctc"] + 0.3 * stats["loss_context"]
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5) and stats["loss"].item() == pytest.approx(loss.item())
    assert stats["context_gate"].item() == pytest.approx(0.1) and 0 < stats["context_residual"].item() < 1
    assert stats["loss_context"].item() == pytest.approx(1 - stats["context_cosine"].item(), abs=1e-5)
    assert weight.item() == 3


def test_none_is_plain_espnet(build, batch):
    from espnet2.asr.espnet_model import ESPnetASRModel

    model = build("none")[0].eval()
    plain = ESPnetASRModel.forward(model, **copy.deepcopy(without_context(batch)))
    ours = model(**batch)  # context that nobody asked for is ignored
    assert torch.equal(plain[0], ours[0]) and set(plain[1]) == set(ours[1])


def test_alpha_zero_trains_exactly_as_cross_attention_fed_by_the_student(build, batch):
    model = build("aware", model_conf={"alpha": 0.0})[0].train()
    with_teacher, stats = gradients(model, batch)
    without_teacher, _ = gradients(model, without_context(batch))
    assert stats["loss_context"] > 0
    assert all(torch.equal(g, without_teacher.get(n, torch.zeros_like(g))) for n, g in with_teacher.items())
    assert with_teacher["encoder.injection.student.fc.weight"].abs().sum() > 0


def test_the_distillation_loss_reaches_student_and_encoder_and_not_the_teacher(build, batch):
    model = build("aware", model_conf={"alpha": 1.0})[0].train()
    batch["context"].requires_grad_()
    loss, *_ = model(**batch)
    loss.sum().backward()
    reached = {n for n, p in model.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    assert "encoder.injection.student.fc.weight" in reached
    assert any("upstream.model.encoder.layers.1" in n for n in reached)
    assert not any("attentions" in n or n.startswith("ctc") for n in reached)
    assert batch["context"].grad is None


def test_stopped_gradient_leaves_the_encoder_alone(build, batch):
    conf = {"injection_conf": {"num_heads": 2, "student": {"stop_gradient": True}}}
    model = build("aware", encoder_conf=conf, model_conf={"alpha": 1.0})[0].train()
    reached = {n for n, g in gradients(model, batch)[0].items() if g.abs().sum() > 0}
    assert reached and all(n.startswith("encoder.injection.student") for n in reached)


@pytest.mark.parametrize("system", ["prev_text", "aware"])
def test_insertion_inside_the_upstream(build, batch, system):
    conf = {"num_heads": 2, "after_layers": [1, 2]} | ({"student": {}} if system == "aware" else {})
    model = build(system, encoder_conf={"injection_conf": conf})[0].train()
    reached = {n for n, g in gradients(model, batch)[0].items() if g.abs().sum() > 0}
    assert {"encoder.injection.attentions.0.gate", "encoder.injection.attentions.1.gate"} <= reached


def test_attention_decoder_and_hybrid_keep_working(build, batch):
    options = ["--decoder", "transformer", "--decoder_conf", "num_blocks=1", "--decoder_conf", "linear_units=8"]
    options += ["--decoder_conf", "attention_heads=2"]
    model = build("aware", model_conf={"ctc_weight": 0.3}, options=options)[0].train()
    _, stats = gradients(model, batch)
    task = 0.3 * stats["loss_ctc"] + 0.7 * stats["loss_att"]
    assert stats["loss"].item() == pytest.approx((0.5 * task + 0.5 * stats["loss_context"]).item(), rel=1e-5)


def test_a_context_of_another_width_names_both_widths(build, batch):
    batch["context"] = batch["context"][..., :5]
    with pytest.raises(ValueError, match="width 5, the model was built for 12"):
        build("generated")[0](**batch)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"model_conf": {"alpha": 1.5}}, "weight in \\[0, 1\\], got 1.5"),
        ({"model_conf": {"alpha": 0.5}}, "needs a student"),
        ({"encoder_conf": {"context_dim": None}}, "context_dim is missing"),
        ({"encoder_conf": {"injection_conf": {"after_layers": [3]}}}, "no layer 3; the upstream has layers 1 to 2"),
        ({"options": ["--input_size", "80"]}, "input_size 80"),
    ],
)
def test_settings_that_cannot_be(build, change, message):
    with pytest.raises(ValueError, match=message):
        build("generated", **change)


def test_unknown_settings_fail(build):
    for part in ("encoder_conf", "model_conf"):
        with pytest.raises(TypeError, match="no_such_setting"):
            build("aware", **{part: {"no_such_setting": 1}})
    with pytest.raises(ValueError, match="no setting no_such_dropout"):
        build("none", encoder_conf={"upstream_conf": {"config": {"no_such_dropout": 0.1}}})
