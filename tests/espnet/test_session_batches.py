"""Training in the order of speech: predecessors come first, batches are bounded, nothing is lost; and what it needs."""

import argparse
from itertools import chain
from types import SimpleNamespace
from unittest import mock

import pytest

from espnet_ctx.espnet.session_batches import SessionBatches
from espnet_ctx.files import UserError, write_table

LENGTHS = [3, 1, 5, 2, 4]  # utterances of each session
SAMPLES = 1000


@pytest.fixture
def corpus():
    places, num_samples, first = {}, {}, 0
    for number, length in enumerate(LENGTHS):
        for place in range(length):
            places[f"s{number}-{place}"] = (first + place, first, first + length)
            num_samples[f"s{number}-{place}"] = SAMPLES * (1 + (number + place) % 3)
        first += length
    return places, num_samples


@pytest.mark.parametrize("lanes", [1, 2, 3, 9])
def test_what_was_said_before_is_in_an_earlier_batch(corpus, lanes):
    places, num_samples = corpus
    sampler = SessionBatches(places, num_samples, 6 * SAMPLES, lanes)
    batches = sampler.generate(3)
    assert sorted(chain(*batches)) == sorted(places)
    turn = {utt: number for number, batch in enumerate(batches) for utt in batch}
    for utt in places:
        session, place = utt.split("-")
        assert place == "0" or turn[f"{session}-{int(place) - 1}"] < turn[utt]
    assert max(len(batch) * max(num_samples[utt] for utt in batch) for batch in batches) <= 6 * SAMPLES
    assert max(map(len, batches)) <= lanes and (lanes == 1) == (len(batches) == len(places))
    assert len(sampler) == len(sampler.generate(0)) == len(list(sampler))


def test_another_epoch_is_in_another_order_and_again_in_the_same(corpus):
    sampler = SessionBatches(*corpus, 6 * SAMPLES, 2)
    orders = [sampler.generate(epoch) for epoch in range(6)]
    assert sampler.generate(3) == orders[3] and len({str(order) for order in orders}) > 3


def test_the_task_trains_in_that_order_when_it_is_asked_to(build, corpus, tmp_path):
    from espnet2.tasks.abs_task import AbsTask
    from espnet2.tasks.asr import ASRTask

    places, num_samples = corpus
    write_table(tmp_path / "place", {utt: " ".join(map(str, place)) for utt, place in places.items()})
    write_table(tmp_path / "shape", {utt: str(n) for utt, n in num_samples.items()})
    data = [(str(tmp_path / "place"), "place", "text_int")]
    options = {"data_path_and_name_and_type": data, "shape_files": [tmp_path / "shape"], "batch_type": "numel"}
    options.update(batch_bins=6 * SAMPLES, distributed=False, train=True)

    def factory(asked=True, **changes):
        theirs = SimpleNamespace(sampler="theirs", shuffle=True)
        with mock.patch.object(AbsTask, "build_sequence_iter_factory", return_value=theirs):
            args = argparse.Namespace(session_batches=asked)
            return ASRTask.build_sequence_iter_factory(args, SimpleNamespace(**{**options, **changes}), "train")

    made = factory()
    assert made.sampler.generate(1) == SessionBatches(places, num_samples, 6 * SAMPLES).generate(1) and made.shuffle is False
    for untouched in (factory(asked=False), factory(train=False)):
        assert untouched.sampler == "theirs" and untouched.shuffle is True
    for change in ({"distributed": True}, {"batch_type": "sorted"}, {"data_path_and_name_and_type": []}):
        with pytest.raises(UserError, match="--session_batches true needs the training data 'place'"):
            factory(**change)
