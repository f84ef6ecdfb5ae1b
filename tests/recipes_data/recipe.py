"""Run and import what a recipe keeps in `local/`."""

import importlib.util
import subprocess
import sys
from pathlib import Path

from espnet_ctx.bin.check_data import check_data_dir
from espnet_ctx.files import read_table

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared" / "data"


def load_prepare(corpus):
    """Import `egs2/<corpus>/asr1/local/prepare.py`."""
    path = ROOT / "egs2" / corpus / "asr1" / "local" / "prepare.py"
    spec = importlib.util.spec_from_file_location(f"prepare_{corpus}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run_data_sh(corpus, cwd, *args, task="asr1"):
    """Run the recipe's `local/data.sh` in a folder of its own."""
    for name, folder in (("utils", ROOT), ("local", ROOT / "egs2" / corpus / task)):
        if not (cwd / name).exists():
            (cwd / name).symlink_to(folder / name)
    env = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "PYTHONPATH": str(ROOT)}
    return subprocess.run(["local/data.sh", *args], cwd=cwd, env=env, capture_output=True, text=True)


def assert_context_stays_in_its_set(data, sets, video_of, name_of=lambda utt: utt):
    """No history of a set passes through an utterance of another set, nor through another recording or chapter.

    Args:
        data: folder of the sets.
        sets: their names.
        video_of: what the utterances of one session have in common, from a name.
        name_of: the corpus' name of an utterance, from an id of a set or of `prev_text`.
    """
    tables = {}
    for name in sets:
        files = {file: data / name / file for file in ("text", "utt2prev", "prev_text")}
        tables[name] = {file: read_table(path) if path.exists() else {} for file, path in files.items()}
    for name, own in tables.items():
        known = own["text"].keys() | own["prev_text"].keys()
        foreign = {name_of(utt) for other in tables if other != name for utt in tables[other]["text"]}
        assert not foreign & set(map(name_of, known))
        for utt, previous in own["utt2prev"].items():
            if previous != "-":
                assert previous in known, (name, utt, previous)
                assert video_of(name_of(previous)) == video_of(name_of(utt)), (name, utt, previous)
        check_data_dir(data / name)
