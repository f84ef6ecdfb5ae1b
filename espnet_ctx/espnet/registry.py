"""Makes ESPnet know our classes: the only place that touches ESPnet's globals.

Importing `espnet_ctx` stays light: a hook waits for ESPnet's task modules to be imported and then
registers. `register()` does it at once.
"""

import importlib
import importlib.abc
import importlib.util
import sys

# ESPnet task module -> what we add to its ClassChoices, and the task class that we put in place of its own:
# {module: ({choices variable: {name: (module, class)}}, {its task: (module, our subclass)})}
_ENCODER = ("espnet_ctx.espnet.encoder", "ContextSSLEncoder")
_TASKS = {
    "espnet2.tasks.asr": (
        {
            "encoder_choices": {"context_ssl": _ENCODER},
            "model_choices": {"context_asr": ("espnet_ctx.espnet.models", "ContextASRModel")},
        },
        {"ASRTask": ("espnet_ctx.espnet.tasks", "ContextASRTask")},
    ),
}


def register() -> None:
    """Register with every ESPnet task that we extend, importing them. Idempotent.

    Raises:
        RuntimeError: one of our names is held by another class.
    """
    for name in _TASKS:
        importlib.import_module(name)
        _register_in(name)


def install_hook() -> None:
    """Register with each of ESPnet's task modules when it is imported, or now when it has been. Idempotent."""
    if not any(isinstance(finder, _PostImport) for finder in sys.meta_path):
        sys.meta_path.insert(0, _PostImport())
    for name in _TASKS:
        if name in sys.modules:
            _register_in(name)


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
    """Lets the ordinary finders find ESPnet's task modules and registers once they have run."""

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
            run(module)
            # our own modules import the task module first: they are whole only when it has returned
            if "espnet_ctx.espnet.tasks" not in sys.modules:
                _register_in(name)

        spec.loader.exec_module = run_and_register
        return spec
