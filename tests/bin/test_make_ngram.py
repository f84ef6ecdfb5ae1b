import shutil

import pytest

from espnet_ctx.bin import make_ngram
from espnet_ctx.files import UserError, write_table


@pytest.fixture
def run(tmp_path):
    write_table(tmp_path / "text", {f"u{i}": "ab ba" if i % 3 else "ab" for i in range(20)})

    def get(*options):
        out = tmp_path / "exp/2gram.arpa"
        fixed = ["--text", str(tmp_path / "text"), "--token_type", "char", "--ngram_num", "2", "--out", str(out)]
        make_ngram.main([*fixed, *options])
        return out

    return get


@pytest.mark.skipif(shutil.which("lmplz") is None, reason="lmplz is not installed (utils/install_lmplz.sh)")
def test_the_words_of_the_ngram_are_the_tokens(run):
    sections = run().read_text().split("\\2-grams:")
    unigrams = {line.split("\t")[1] for line in sections[0].splitlines() if "\t" in line}
    assert unigrams == {"<unk>", "<s>", "</s>", "a", "b", "<space>"}
    probability = {line.split("\t")[1]: float(line.split("\t")[0]) for line in sections[1].splitlines() if "\t" in line}
    assert probability["<s> a"] > -0.1 > -0.3 > probability.get("<s> b", -9)  # every text begins with it


@pytest.mark.parametrize(
    "options, message",
    [
        (["--ngram_num", "7"], "--ngram_num is 7: must be 2 to 6"),
        (["--token_type", "bpe"], "--token_type bpe and --bpemodel go together"),
    ],
)
def test_bad_options_are_refused(run, options, message):
    with pytest.raises(UserError, match=message):
        run(*options)


def test_a_missing_program_is_named_with_what_builds_it(run, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="'lmplz' .*: utils/install_lmplz.sh builds it"):
        run()


def test_a_failure_leaves_nothing(run, monkeypatch, tmp_path):
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin/lmplz"
    program.write_text("#!/bin/sh\necho half\necho 'no space left' >&2\nexit 3\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:/bin:/usr/bin")
    with pytest.raises(UserError, match="lmplz -o 2 .* failed: no space left"):
        run()
    assert not any((tmp_path / "exp").iterdir())
