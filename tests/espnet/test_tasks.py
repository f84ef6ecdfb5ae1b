import copy
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml


def save(model, args, directory: Path) -> dict:
    torch.save(model.state_dict(), directory / "model.pth")
    config = {k: v for k, v in vars(args).items() if k not in ("config", "required")}
    (directory / "config.yaml").write_text(yaml.safe_dump(config))
    return {"config_file": directory / "config.yaml", "model_file": directory / "model.pth"}


@pytest.mark.parametrize("system", ["none", "aware"])
def test_a_trained_model_builds_without_its_upstream(build, batch, tmp_path, system):
    from espnet2.tasks.asr import ASRTask

    model, args = build(system)
    args.encoder_conf["upstream"] = str(tmp_path / "gone")
    again, _ = ASRTask.build_model_from_file(**save(model, args, tmp_path))
    speech = (batch["speech"], batch["speech_lengths"])
    assert torch.equal(model.eval().encode(*speech)[0], again.eval().encode(*speech)[0])


def test_a_codebook_travels_with_the_weights(build, batch, tmp_path):
    from espnet2.tasks.asr import ASRTask

    np.save(tmp_path / "codebook.npy", np.random.default_rng(0).normal(size=(6, 12)).astype("float32"))
    conf = {"distillation_conf": {"loss": "codebook", "codebook": str(tmp_path / "codebook.npy")}}
    model, args = build("aware", model_conf=conf)
    (tmp_path / "codebook.npy").unlink()
    again, _ = ASRTask.build_model_from_file(**save(model, args, tmp_path))
    loss, again_loss = (m.eval()(**copy.deepcopy(batch))[1]["loss_context"] for m in (model, again))
    assert torch.equal(loss, again_loss) and loss > 0
    with pytest.raises(ValueError, match="no codebook file"):
        build("aware", model_conf=conf)


def test_the_upstream_has_its_own_learning_rate(build):
    from espnet2.tasks.asr import ASRTask

    model, args = build("aware", options=["--optim", "adamw", "--optim_conf", "lr=0.01", "--upstream_lr", "0.001"])
    (optimizer,) = ASRTask.build_optimizers(args, model)
    of = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    rates = {name: of[id(p)] for name, p in model.named_parameters()}
    assert {r for n, r in rates.items() if n.startswith("encoder.upstream.")} == {0.001}
    assert {r for n, r in rates.items() if not n.startswith("encoder.upstream.")} == {0.01}


def test_updates_are_counted_and_unfreeze_the_upstream(build, batch):
    from espnet2.tasks.asr import ASRTask

    model, args = build("none", encoder_conf={"upstream_conf": {"freeze_updates": 2}}, options=["--optim", "sgd"])
    (optimizer,) = ASRTask.build_optimizers(args, model)
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    moved = []
    for _ in range(3):
        optimizer.zero_grad()
        model.train()(**copy.deepcopy(batch))[0].sum().backward()
        optimizer.step()
        moved.append({n for n, p in model.named_parameters() if not torch.equal(p, before[n])})
    assert int(model.encoder.num_updates) == 3
    assert moved[1] == {"ctc.ctc_lo.weight", "ctc.ctc_lo.bias"}
    assert any("upstream.model.encoder.layers" in n for n in moved[2])
    assert not any("feature_extractor" in n for n in moved[2])


def test_context_is_an_optional_input(build):
    from espnet2.tasks.asr import ASRTask

    assert {"context", "next_context", "place"} <= set(ASRTask.optional_data_names())
    assert "speech" in ASRTask.required_data_names()


ROOT = Path(__file__).parents[2]
# training configurations, each alone and under the overlays that belong to it
TRAINING = sorted(p for pattern in ("conf/train*.yaml", "egs2/*/*/conf/train*.yaml") for p in ROOT.glob(pattern))
CONFIGS = [[p] for p in TRAINING] + [[p, f] for p in TRAINING for f in sorted(p.parent.glob("finetune*.yaml"))]
TOP, BASE = ROOT / "conf/train_asr.yaml", ROOT / "conf/published/wav2vec2-base.yaml"
# each with the tiny checkpoint of its kind, laid over the base's settings, and the learning rate of all weights at its peak
PUBLISHED = [
    ("wav2vec2-base", "wav2vec2-base", 5e-5),
    ("hubert-base", "hubert-base", 2e-5),
    ("wavlm-base-plus", "wavlm-base", 2e-5),
    ("wav2vec2-large", "wav2vec2-large", 1e-5),
    ("sentiment", "wav2vec2-base", 2e-5),
]
OVERLAYS = sorted((ROOT / "conf/context").glob("*.yaml"))


@pytest.fixture(scope="module")
def contexts(tmp_path_factory):
    """A training archive of two utterances, width 12, as an option of `asr_train`."""
    from espnet_ctx.context.store import write_archive

    folder = tmp_path_factory.mktemp("contexts")
    write_archive(folder, {"a": "sea", "b": ""}, [("sea", np.ones((1, 12), np.float32))], 12, "float32", {}, {})
    return ["--train_data_path_and_name_and_type", f"{folder}/context.scp,context,kaldi_ark"]


@pytest.mark.parametrize("overlay", OVERLAYS, ids=lambda p: p.stem)
@pytest.mark.parametrize("configs", CONFIGS, ids=lambda c: "+".join(str(p.relative_to(ROOT)) for p in c))
def test_every_configuration_builds_its_model(configs, overlay, contexts, upstream_dir, tmp_path):
    from espnet2.tasks.asr import ASRTask

    from espnet_ctx.bin import merge_config

    merge_config.main([*map(str, configs), str(overlay), "--out", str(tmp_path / "train.yaml")])
    args = ASRTask.get_parser().parse_args(
        ["--config", str(tmp_path / "train.yaml"), "--output_dir", "unused", "--encoder_conf", f"upstream={upstream_dir()}",
         "--encoder_conf", "context_dim=12", *contexts]
    )
    args.token_list = ["<blank>", "<unk>", "a", "<sos/eos>"]
    model = ASRTask.build_model(args)
    assert (model.encoder.injection is None) == (overlay.stem == "none")
    assert (model.alpha > 0) == (overlay.stem in ("aware", "prev_audio", "carry"))
    assert (model.encoder.memory is None) == (overlay.stem != "carry")
    ASRTask.build_optimizers(args, model)


def test_every_published_setting_is_tested():
    assert {name for name, _, _ in PUBLISHED} == {path.stem for path in BASE.parent.glob("*.yaml")}


@pytest.mark.parametrize("name, upstream, rate", PUBLISHED, ids=[name for name, _, _ in PUBLISHED])
@pytest.mark.parametrize("task", ["asr", "slu", "cls"])
def test_every_task_builds_with_the_published_settings(task, name, upstream, rate, upstream_dir, tmp_path):
    from espnet_ctx.bin import merge_config  # registers with ESPnet, before its tasks are looked up

    from espnet2.schedulers.tristage_lr import TristageLR  # isort: skip
    from espnet2.tasks.asr import ASRTask  # isort: skip
    from espnet2.tasks.cls import CLSTask  # isort: skip
    from espnet2.tasks.slu import SLUTask  # isort: skip

    task_overlay = [] if task == "asr" else [ROOT / f"conf/task/{task}.yaml"]
    overlays = [*task_overlay, BASE, BASE.with_stem(name), ROOT / "conf/context/aware.yaml"]
    merge_config.main([str(TOP), *map(str, overlays), "--out", str(tmp_path / "train.yaml")])
    of_task = {"asr": ASRTask, "slu": SLUTask, "cls": CLSTask}[task]
    (tmp_path / "labels").write_text("a Negative\nb Positive\nc Neutral\n")
    encoder_conf = ["--encoder_conf", f"upstream={upstream_dir(upstream)}", "--encoder_conf", "context_dim=12"]
    data = ["--train_data_path_and_name_and_type", f"{tmp_path}/labels,label,text"]
    args = of_task.get_parser().parse_args(
        ["--config", str(tmp_path / "train.yaml"), "--output_dir", "unused", *encoder_conf, *data]
    )
    args.token_list = ["Negative", "Neutral", "Positive", "<unk>"] if task == "cls" else ["<blank>", "<unk>", "a", "<sos/eos>"]
    model = of_task.build_model(args)
    assert type(model).__name__ == f"Context{task.upper()}Model" and model.alpha == 0.5
    assert model.encoder.upstream.mask_time_prob == args.encoder_conf["upstream_conf"]["mask_time_prob"] >= 0.65
    assert model.encoder.upstream.freeze_updates >= 2000 and args.unused_parameters
    (optimizer,) = of_task.build_optimizers(args, model)
    assert len(optimizer.param_groups) == 1  # one rate for all weights
    # adam takes what optim_conf says, and the schedule what scheduler_conf says: up in a tenth of the steps, then down
    assert args.scheduler == "tristagelr" and tuple(optimizer.param_groups[0]["betas"]) == (0.9, 0.98)
    conf = {**args.scheduler_conf, "max_steps": 100}
    assert args.scheduler_conf["max_steps"] >= 20000
    schedule, rates = TristageLR(optimizer, **conf), []
    for _ in range(100):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert max(rates) == rates[9] == pytest.approx(rate)  # ESPnet begins at step 1
    assert rates[:10] == sorted(rates[:10]) and rates[9:] == sorted(rates[9:], reverse=True)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.05 * rate)


def test_an_unknown_key_in_a_configuration_fails(tmp_path, capsys):
    from espnet2.tasks.asr import ASRTask

    (tmp_path / "train.yaml").write_text("no_such_key: 1\n")
    with pytest.raises(SystemExit):
        ASRTask.get_parser().parse_args(["--config", str(tmp_path / "train.yaml"), "--output_dir", "unused"])
    assert "no_such_key" in capsys.readouterr().err
