"""Context-aware fine-tuning of self-supervised speech models, as a plugin of ESPnet2.

Importing this package registers its encoder, models and tasks with ESPnet (when and if ESPnet's own
task modules are imported).
"""

from espnet_ctx.espnet.registry import install_hook, register
from espnet_ctx.version import __version__

__all__ = ["__version__", "register"]

install_hook()
