import os

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
