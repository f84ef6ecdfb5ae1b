"""Registration, in a process without ESPnet where the order of imports matters: what a user's script would see."""

import os
import re
import subprocess
import sys

import pytest

SCRIPTS = {
    "plugin first, and twice": "import espnet_ctx; espnet_ctx.register(); from espnet2.bin.asr_inference import ASRTask",
    "espnet first": "from espnet2.bin import asr_inference; import espnet_ctx; ASRTask = asr_inference.ASRTask",
    "another task first": "import espnet_ctx, espnet2.tasks.slu; from espnet2.tasks.asr import ASRTask",
    "a spawned worker": "import espnet_ctx.espnet.tasks; from espnet2.tasks.asr import ASRTask",
}
CHECK = """
import espnet2.tasks.asr as asr
assert ASRTask.__name__ == asr.ASRTask.__name__ == "ContextASRTask", ASRTask
assert asr.encoder_choices.classes["context_ssl"].__name__ == "ContextSSLEncoder"
assert asr.model_choices.classes["context_asr"].__name__ == "ContextASRModel"
assert "context_ssl" in ASRTask.get_parser().format_help()
import espnet2.bin.cls_inference as cls, espnet2.bin.slu_inference as slu
assert (cls.CLSTask.__name__, slu.SLUTask.__name__) == ("ContextCLSTask", "ContextSLUTask")
# derives from ESPnet's plain tasks, whatever was imported first: ours would act twice otherwise
assert [c.__name__ for c in slu.SLUTask.__mro__[:4]] == ["ContextSLUTask", "ContextTask", "SLUTask", "ASRTask"]
"""
# most of what ESPnet imports from elsewhere, which is most of the time, is imported once for all scripts
FORKS = """
import os, sys
import g2p_en, torcheval.metrics, transformers.models.auto.auto_factory
assert not {"espnet2", "espnet_ctx"} & sys.modules.keys()
for script in sys.argv[1:]:
    if os.fork() == 0:
        exec(script)
        sys.exit()
    os.wait()
"""
LIGHT = "import sys, espnet_ctx, espnet_ctx.files; print(sorted({'torch', 'espnet2', 'transformers'} & set(sys.modules)))"


def python(script: str, *arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True)


@pytest.mark.slow
def test_espnet_knows_our_classes_whatever_was_imported_first():
    result = python(FORKS, *(f"{script}{CHECK}print('registered:', {name!r})" for name, script in SCRIPTS.items()))
    assert re.findall("registered: (.*)", result.stdout) == list(SCRIPTS), result.stderr


def test_importing_the_package_is_light():
    assert python(LIGHT).stdout.strip() == "[]"


def test_a_name_that_something_else_holds_is_refused(monkeypatch):
    from espnet2.tasks.asr import encoder_choices

    from espnet_ctx.espnet import registry, tasks  # noqa: F401  registers

    monkeypatch.setitem(encoder_choices.classes, "context_ssl", encoder_choices.classes["rnn"])
    with pytest.raises(RuntimeError, match="encoder_choices already has 'context_ssl'"):
        registry.register_loaded()


def test_the_launcher_runs_modules_commands_and_scripts(tmp_path):
    script = tmp_path / "script.py"
    script.write_text("import sys; print(__name__, sys.argv[1:])")
    for arguments in (["-m", "script", "a"], ["-c", script.read_text(), "a"], [str(script), "a"]):
        result = subprocess.run(
            [sys.executable, "-m", "espnet_ctx", *arguments],
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": f"{tmp_path}:."},
        )
        assert result.stdout.strip() == "__main__ ['a']", result.stderr
    assert subprocess.run([sys.executable, "-m", "espnet_ctx"], capture_output=True).returncode == 2
