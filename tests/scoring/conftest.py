import shutil

import pytest

from espnet_ctx.scoring.sclite import score_texts


@pytest.fixture(autouse=True)
def _needs_sctk():
    if not (shutil.which("sclite") or shutil.which("sctk")):
        pytest.skip("sclite is not installed (package sctk)")


@pytest.fixture
def scored(tmp_path):
    """Score lists of texts into `<name>/score_{wer,cer}`; returns the folder `<name>`."""

    def make(name, refs, hyps):
        ids = [f"spk{i % 2}-utt{i:04d}" for i in range(len(refs))]
        utt2spk = {utt: utt.partition("-")[0] for utt in ids}
        ref, hyp = (dict(zip(ids, texts, strict=True)) for texts in (refs, hyps))
        score_texts(ref, hyp, utt2spk, tmp_path / name)
        return tmp_path / name

    return make
