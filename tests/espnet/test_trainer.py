import dataclasses
import os
from types import SimpleNamespace

import pytest
import torch

from espnet_ctx.files import whole_file


def test_an_interrupted_save_leaves_the_last_checkpoint(tmp_path):
    from espnet_ctx.espnet.trainer import whole_saves

    path = tmp_path / "checkpoint.pth"
    torch.save({"epoch": 1}, path)

    class Unsavable:
        def __reduce__(self):
            raise OSError("No space left on device")

    with pytest.raises(OSError), whole_saves():
        torch.save({"weights": torch.zeros(10**5), "bad": Unsavable()}, path)
    assert torch.load(path, weights_only=True) == {"epoch": 1} and os.listdir(tmp_path) == ["checkpoint.pth"]
    with whole_saves():
        torch.save({"epoch": 2}, path)
    assert torch.load(path, weights_only=True) == {"epoch": 2}


def test_a_kill_between_the_files_of_an_epoch_is_repaired(tmp_path):
    from espnet_ctx.espnet.trainer import repair

    stats = {1: {"valid": {"loss": 3.0}}, 2: {"valid": {"loss": 1.0}}, 3: {"valid": {"loss": 2.0}}}
    states = {"model": {"w": torch.ones(2)}, "reporter": {"epoch": 3, "stats": stats}}
    with whole_file(tmp_path / "checkpoint.pth", "wb") as f:
        torch.save(states, f)
    torch.save({"w": torch.zeros(2)}, tmp_path / "2epoch.pth")
    (tmp_path / "latest.pth").symlink_to("2epoch.pth")
    repair(tmp_path, [("valid", "loss", "min")])
    assert torch.load(tmp_path / "3epoch.pth", weights_only=True)["w"].tolist() == [1, 1]
    assert os.readlink(tmp_path / "latest.pth") == "3epoch.pth"
    assert os.readlink(tmp_path / "valid.loss.best.pth") == "2epoch.pth"


class AutocastProbe(torch.nn.Module):
    def forward(self):
        return torch.is_autocast_enabled("cpu")


@pytest.mark.parametrize("has_bf16", [True, False])
@pytest.mark.parametrize("ngpu", [0, 1])
@pytest.mark.parametrize("use_amp", [True, False])
def test_the_cpu_trains_in_bf16_where_it_has_it(monkeypatch, caplog, has_bf16, ngpu, use_amp):
    from espnet2.train.trainer import Trainer, TrainerOptions

    from espnet_ctx.espnet import trainer

    seen = {}
    monkeypatch.setattr(Trainer, "run", classmethod(lambda cls, **kwargs: seen.update(kwargs)))
    monkeypatch.setattr(trainer, "has_bfloat16", lambda: has_bf16)
    fields = {field.name: None for field in dataclasses.fields(TrainerOptions)}
    options = TrainerOptions(**{**fields, "ngpu": ngpu, "use_amp": use_amp})
    model = torch.nn.Module()
    model.encoder = AutocastProbe()
    distributed = SimpleNamespace(dist_rank=None)
    trainer.ContextTrainer.run(model, [], [], options, distributed)
    assert model.encoder() == (use_amp and ngpu == 0 and has_bf16)
    assert seen["trainer_options"].use_amp == (use_amp and ngpu == 1)  # ESPnet's own is for GPUs
    assert ("stays in single precision" in caplog.text) == (use_amp and ngpu == 0 and not has_bf16)


def test_a_training_counts_its_own_updates(build, monkeypatch):
    """`--init_param` copies the count of the training that it starts from, before the trainer runs."""
    from espnet2.train.trainer import Trainer, TrainerOptions

    from espnet_ctx.espnet.trainer import ContextTrainer

    begun = []
    monkeypatch.setattr(Trainer, "run", classmethod(lambda cls, model, **_: begun.append(int(model.encoder.num_updates))))
    fields = {field.name: None for field in dataclasses.fields(TrainerOptions)}
    model = build("aware")[0]
    model.encoder.num_updates.fill_(5328)
    ContextTrainer.run(model, [], [], TrainerOptions(**fields), SimpleNamespace(dist_rank=None))
    assert begun == [0]
