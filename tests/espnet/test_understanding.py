"""`context_slu` and `context_cls`: what they share with `context_asr`, and what is theirs."""

import copy

import pytest
import torch
import yaml

from espnet_ctx.espnet.tasks import balanced_weights
from espnet_ctx.files import UserError, write_table
from tests.espnet.conftest import CLASSES, CONTEXT_DIM, TOKENS

CONTEXT = ("context", "context_lengths")
OPTIONS = {"slu": [], "cls": ["--decoder", "attentive"]}


@pytest.fixture
def inputs(batch):
    """`inputs(task)`: three utterances of unequal lengths with what the task learns to say."""

    def get(task):
        if task == "slu":
            return copy.deepcopy(batch)
        rest = {k: v for k, v in batch.items() if not k.startswith("text")}
        return copy.deepcopy({**rest, "label": torch.tensor([[0], [2], [1]]), "label_lengths": torch.ones(3, dtype=torch.long)})

    return get


def without_context(batch):
    return {k: v for k, v in batch.items() if k not in CONTEXT}


def outputs(model, task, speech, speech_lengths, **context):
    """(B, T, V) of the CTC or (B, 1, classes)."""
    frames, lengths = model.encode(speech, speech_lengths, **context)
    return model.ctc.log_softmax(frames) if task == "slu" else model.decoder(frames, lengths).unsqueeze(1)


@pytest.mark.parametrize("task", OPTIONS)
@pytest.mark.parametrize("system", ["none", "generated", "aware"])
def test_a_padded_batch_equals_one_by_one(build, inputs, task, system):
    model, batch = build(system, task, options=OPTIONS[task])[0].eval(), inputs(task)
    together = outputs(model, task, *(batch[k] for k in ("speech", "speech_lengths")), **{k: batch[k] for k in CONTEXT})
    for i, (samples, rows) in enumerate(zip(batch["speech_lengths"], batch["context_lengths"])):
        context = {"context": batch["context"][i : i + 1, :rows], "context_lengths": rows[None]}
        alone = outputs(model, task, batch["speech"][i : i + 1, :samples], samples[None], **context)[0]
        assert (together[i, : len(alone)] - alone).abs().max() < 1e-4


@pytest.mark.parametrize("task", OPTIONS)
def test_absent_context_equals_no_context_bit_for_bit(build, inputs, task):
    model, batch = build("generated", task, options=OPTIONS[task])[0].eval(), inputs(task)
    given = model(**batch)[0]
    batch["context"].zero_()
    absent = model(**batch)[0]
    assert torch.equal(absent, model(**without_context(batch))[0])
    assert not torch.equal(absent, given)


@pytest.mark.parametrize("task", OPTIONS)
def test_none_is_plain_espnet(build, inputs, task):
    model, batch = build("none", task, options=OPTIONS[task])[0].eval(), inputs(task)
    espnets = type(model).__mro__[2]
    assert espnets.__module__ == f"espnet2.{task}.espnet_model"
    plain = espnets.forward(model, **without_context(batch))
    ours = model(**batch)
    assert torch.equal(plain[0], ours[0]) and set(plain[1]) == set(ours[1])


@pytest.mark.parametrize("task", OPTIONS)
def test_the_loss_is_the_weighted_sum(build, inputs, task):
    batch = inputs(task)
    plain = build("aware", task, options=OPTIONS[task], model_conf={"alpha": 0.0})[0].eval()
    model = build("aware", task, options=OPTIONS[task], model_conf={"alpha": 0.3})[0].eval()
    loss, stats, weight = model(**batch)
    expected = 0.7 * plain(**batch)[0] + 0.3 * stats["loss_context"]
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5) == pytest.approx(stats["loss"].item())
    assert weight.item() == 3


@pytest.mark.parametrize("task", OPTIONS)
def test_gradients(build, inputs, task):
    """alpha 1: the distillation loss reaches student and encoder and nothing behind them; alpha 0.5: everything."""
    head = "ctc" if task == "slu" else "decoder"

    def reached(alpha):
        model = build("aware", task, options=OPTIONS[task], model_conf={"alpha": alpha})[0].train()
        model(**inputs(task))[0].sum().backward()
        return {n for n, p in model.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}

    only = reached(1.0)
    assert "encoder.injection.student.fc.weight" in only and any("upstream" in n for n in only)
    assert not any("attentions" in n or n.startswith(head) for n in only)
    both = reached(0.5)
    assert any("attentions" in n for n in both) and any(n.startswith(head) for n in both)


@pytest.mark.parametrize("task", OPTIONS)
@pytest.mark.parametrize("system", ["carry", "prev_audio"])
def test_systems_of_sessions_learn_every_task(build, inputs, task, system):
    """A session of three: the student learns what comes next, or what it made of the neighbours, beside the task."""
    model = build(system, task, options=OPTIONS[task])[0].train()
    batch = inputs(task)
    if system == "prev_audio":
        batch = without_context(batch)
    else:
        batch.update(next_context=batch["context"][[1, 2, 0]], next_context_lengths=batch["context_lengths"][[1, 2, 0]])
    place = torch.tensor([[0, 0, 3], [1, 0, 3], [2, 0, 3]])
    loss, stats, _ = model(**batch, place=place, place_lengths=torch.full((3,), 3))
    assert loss.item() > 0.5 * stats["loss_context"].item() > 0
    loss.backward()
    reached = {n for n, p in model.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    assert "encoder.injection.student.fc.weight" in reached and any(n.startswith(("ctc", "decoder")) for n in reached)


@pytest.mark.parametrize("pooling", ["attentive", "linear"])
def test_the_class_of_an_utterance_as_espnet_scores_it(build, batch, pooling):
    model = build("aware", "cls", options=["--decoder", pooling])[0].eval()
    frames, lengths = model.encode(batch["speech"], batch["speech_lengths"])
    ours = model.decoder(frames, lengths).softmax(-1)
    for i, samples in enumerate(batch["speech_lengths"]):
        score = model.score(batch["speech"][i : i + 1, :samples], samples[None])
        assert score.shape == (1, 3) and (score[0] - ours[i]).abs().max() < 1e-4


def test_class_weights(build, inputs):
    weights = [4.0, 1.0, 0.5]
    plain = build("none", "cls")[0].eval()
    weighted = build("none", "cls", model_conf={"class_weights": weights})[0].eval()
    batch = without_context(inputs("cls"))
    losses = [plain(**{k: v[i : i + 1] for k, v in batch.items()})[0].item() for i in range(3)]
    expected = sum(weights[label] * loss for label, loss in zip(batch["label"].flatten(), losses)) / 3
    assert weighted(**batch)[0].item() == pytest.approx(expected, rel=1e-4)


def test_balanced_weights_are_counted_once_and_travel_with_the_configuration(build, batch, tmp_path):
    from espnet2.tasks.cls import CLSTask

    labels = tmp_path / "labels"
    write_table(labels, dict(zip("abcdef", ["Negative", *["Positive"] * 3, *["Neutral"] * 2])))
    options = ["--train_data_path_and_name_and_type", f"{labels},label,text"]
    model, args = build("aware", "cls", options=options, model_conf={"class_weights": "balanced"})
    assert args.model_conf["class_weights"] == [2.0, 1.0, 2 / 3]
    labels.unlink()
    args.encoder_conf["upstream"] = str(tmp_path / "gone")
    torch.save(model.state_dict(), tmp_path / "model.pth")
    config = {k: v for k, v in vars(args).items() if k not in ("config", "required")}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    again, _ = CLSTask.build_model_from_file(tmp_path / "config.yaml", tmp_path / "model.pth")
    assert again.classification_loss.weight.tolist() == pytest.approx([2.0, 1.0, 2 / 3])
    speech = (batch["speech"], batch["speech_lengths"])
    assert torch.equal(model.eval().encode(*speech)[0], again.eval().encode(*speech)[0])


def test_a_slu_model_builds_without_its_upstream(build, batch, tmp_path):
    from espnet2.tasks.slu import SLUTask

    model, args = build("aware", "slu")
    args.encoder_conf["upstream"] = str(tmp_path / "gone")
    torch.save(model.state_dict(), tmp_path / "model.pth")
    config = {k: v for k, v in vars(args).items() if k not in ("config", "required")}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    again, _ = SLUTask.build_model_from_file(tmp_path / "config.yaml", tmp_path / "model.pth")
    speech = (batch["speech"], batch["speech_lengths"])
    assert again.token_list == TOKENS and torch.equal(model.eval().encode(*speech)[0], again.eval().encode(*speech)[0])


@pytest.mark.parametrize("task", OPTIONS)
def test_training_of_every_task_counts_updates_once_and_knows_context(build, inputs, task):
    from espnet2.tasks.cls import CLSTask
    from espnet2.tasks.slu import SLUTask

    of_task = {"slu": SLUTask, "cls": CLSTask}[task]
    assert {"context", "next_context", "place"} <= set(of_task.optional_data_names())
    assert of_task.trainer.__name__ == "ContextTrainer"
    rates = ["--optim", "sgd", "--optim_conf", "lr=0.01", "--upstream_lr", "0.001"]
    model, args = build("aware", task, options=[*rates, *OPTIONS[task]])
    (optimizer,) = of_task.build_optimizers(args, model)
    assert {group["lr"] for group in optimizer.param_groups} == {0.001, 0.01}
    model.train()(**inputs(task))[0].sum().backward()
    optimizer.step()
    assert int(model.encoder.num_updates) == 1


@pytest.mark.parametrize(
    "weights, message",
    [
        ([1.0, 2.0], "one number >= 0 for each of the 3 classes"),
        ([1.0, 2.0, -1.0], "one number >= 0"),
        ("balanced", "no 'label'"),
    ],
)
def test_class_weights_that_cannot_be(build, weights, message):
    with pytest.raises(ValueError, match=message):
        build("none", "cls", model_conf={"class_weights": weights})


def test_balanced_weights_of_odd_labels():
    with pytest.raises(UserError, match="'Negative' has none"):
        balanced_weights(["Neutral", "Positive"], CLASSES[:3])
    with pytest.raises(UserError, match="the training labels have '<mixed>'"):
        balanced_weights(["Neutral", "<mixed>"], CLASSES[:3])


def test_a_context_of_another_width_names_both_widths(build, inputs):
    batch = inputs("cls")
    batch["context"] = batch["context"][..., : CONTEXT_DIM - 1]
    with pytest.raises(ValueError, match="width 11, the model was built for 12"):
        build("generated", "cls")[0](**batch)
