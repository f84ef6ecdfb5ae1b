"""Makes ESPnet know our classes: the only place that touches ESPnet's globals.

Importing `espnet_ctx` stays light: a hook waits for one of ESPnet's task modules to be imported and then registers
with all of them. `register()` does it at once.
"""

import importlib
import importlib.abc
import importlib.util
import sys

# ESPnet task module -> what we add to its ClassChoices, and the task class that we put in place of its own:
# {module: ({choices variable: {name: (module, class)}}, {its task: (module, our subclass)})}
_ENCODER = ("espnet_ctx.espnet.encoder", "ContextSSLEncoder")
_OUR_TASKS = "espnet_ctx.espnet.tasks"
_TASKS = {
    "espnet2.tasks.asr": (
        {
            "encoder_choices": {"context_ssl": _ENCODER},
            "model_choices": {"context_asr": ("espnet_ctx.espnet.models", "ContextASRModel")},
        },
        {"ASRTask": (_OUR_TASKS, "ContextASRTask")},
    ),
    "espnet2.tasks.slu": (
        {
            "encoder_choices": {"context_ssl": _ENCODER},
            "model_choices": {"context_slu": ("espnet_ctx.espnet.models", "ContextSLUModel")},
        },
        {"SLUTask": (_OUR_TASKS, "ContextSLUTask")},
    ),
    "espnet2.tasks.cls": (
        {
            "encoder_choices": {"context_ssl": _ENCODER},
            "decoder_choices": {"attentive": ("espnet_ctx.espnet.decoder", "AttentiveDecoder")},
            "model_choices": {"context_cls": ("espnet_ctx.espnet.models", "ContextCLSModel")},
        },
        {"CLSTask": (_OUR_TASKS, "ContextCLSTask")},
    ),
}


def register() -> None:
    """Register with every ESPnet task that we extend, importing them. Idempotent.

    Raises:
        RuntimeError: one of our names is held by another class.
    """
    importlib.import_module(_OUR_TASKS)  # ends with register_loaded()


def register_loaded() -> None:
    """Register with the ESPnet tasks whose modules our tasks have imported."""
    _install_finder()
    for name in _TASKS:
        _register_in(name)


def install_hook() -> None:
    """Register when one of ESPnet's task modules is imported, or now when one has been. Idempotent."""
    _install_finder()
    if any(name in sys.modules for name in _TASKS) and _OUR_TASKS not in sys.modules:
        register()


def _install_finder() -> None:
    if not any(isinstance(finder, _PostImport) for finder in sys.meta_path):
        sys.meta_path.insert(0, _PostImport())


def _load(place: tuple[str, str]) -> type:
    return getattr(importlib.import_module(place[0]), place[1])


def _register_in(module_name: str) -> None:
    module = sys.modules[module_name]
    choices, tasks = _TASKS[module_name]
    for variable, classes in choices.items():
        choice = getattr(module, variable)
        for name, place in classes.items():
            ours = _load(place)
            held = choice.classes.setdefault(name, ours)
            if held is not ours:
                raise RuntimeError(f"ESPnet's {variable} already has '{name}': {held}; known: {', '.join(choice.classes)}")
            if not issubclass(ours, choice.base_type):
                raise RuntimeError(f"{ours} is no {choice.base_type}, which {variable} asks for")
    for name, place in tasks.items():
        ours, theirs = _load(place), getattr(module, name)
        if theirs is ours:
            continue
        # whoever imported the class before us holds it under its own name
        for other in [m for n, m in sys.modules.items() if n.startswith("espnet2.")]:
            if vars(other).get(name) is theirs:
                setattr(other, name, ours)


class _PostImport(importlib.abc.MetaPathFinder):
    """Lets the ordinary finders find ESPnet's task modules and registers once the outermost of them has run.

    Not earlier: ESPnet's SLU task imports its ASR task and derives from it, and is to derive from the plain one.
    """

    def __init__(self):
        self.running = 0

    def find_spec(self, name, path, target=None):
        if name not in _TASKS:
            return None
        position = sys.meta_path.index(self)
        for finder in sys.meta_path[position + 1 :]:
            spec = finder.find_spec(name, path, target)
            if spec is not None:
                break
        else:
            return None
        run = spec.loader.exec_module

        def run_and_register(module):
            self.running += 1
            try:
                run(module)
            finally:
                self.running -= 1
            # our own tasks import ESPnet's first, and register at their end
            if self.running == 0 and _OUR_TASKS not in sys.modules:
                register()

        spec.loader.exec_module = run_and_register
        return spec
