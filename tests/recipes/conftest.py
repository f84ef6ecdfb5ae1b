"""What the recipes' tests share: a Python that is warm, and one recipe that was run from its first stage to its last."""

import fcntl
import os
import pickle

import pytest

from tests.recipes.tiny import Recipe, make_llm
from tests.recipes.warm_python import warm_python


@pytest.fixture(scope="session")
def warm(tmp_path_factory):
    """Folder of a `python3` that has ESPnet imported already, for `use_python`."""
    with warm_python(tmp_path_factory.mktemp("warm")) as folder:
        yield folder


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """The system `aware` from stage 1 to 15, undisturbed, each step in a process of its own; to be looked at and copied.

    `options` is what it was run with and `said` what it printed. All of pytest's workers have the same one.
    """
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    with open(shared / "finished.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = shared / "finished.pickle"
        if not done.exists():
            done.write_bytes(pickle.dumps(_finish(shared / "finished")))
        return pickle.loads(done.read_bytes())


def _finish(folder):
    from tests.checkpoints import make_upstream  # loads torch

    (folder / "recipe").mkdir(parents=True)
    recipe = Recipe(folder / "recipe", make_upstream("hubert-base", folder / "upstream"))
    llm = make_llm(folder / "llm")
    recipe.options = ["--context", "aware", "--llm", str(llm), "--num_prev", "2", "--asr_tag", "aware"]
    done = recipe.run(*recipe.options)
    assert done.returncode == 0, done.stdout
    recipe.said = done.stdout
    return recipe
