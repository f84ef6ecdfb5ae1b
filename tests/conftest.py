"""Shared fixtures: tiny checkpoints, and no network."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"

import pytest  # noqa: E402


@pytest.fixture(scope="session")
def upstream_dir(tmp_path_factory):
    """`upstream_dir(name)`: folder of the tiny checkpoint of that name, made once a session."""
    from tests.checkpoints import make_upstream

    made = {}

    def get(name: str = "hubert-base"):
        if name not in made:
            made[name] = make_upstream(name, tmp_path_factory.mktemp(name))
        return made[name]

    return get
