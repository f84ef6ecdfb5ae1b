"""Run and import what a recipe keeps in `local/`."""

import importlib.util
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared" / "data"


def load_prepare(corpus):
    """Import `egs2/<corpus>/asr1/local/prepare.py`."""
    path = ROOT / "egs2" / corpus / "asr1" / "local" / "prepare.py"
    spec = importlib.util.spec_from_file_location(f"prepare_{corpus}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run_data_sh(corpus, cwd, *args):
    """Run the recipe's `local/data.sh` in a folder of its own."""
    for name in ("utils", "local"):
        if not (cwd / name).exists():
            (cwd / name).symlink_to(ROOT / "egs2" / corpus / "asr1" / name)
    env = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "PYTHONPATH": str(ROOT)}
    return subprocess.run(["local/data.sh", *args], cwd=cwd, env=env, capture_output=True, text=True)
