import pytest
import torch
from transformers import AutoFeatureExtractor, AutoModel

from espnet_ctx.nn import Upstream
from espnet_ctx.nn.masking import span_mask
from tests.checkpoints import UPSTREAMS

LENGTHS = (16000, 9731, 4801, 723)


def batch_of(lengths=LENGTHS):
    torch.manual_seed(1)
    waves = [torch.randn(n) * 0.1 + 0.02 for n in lengths]
    return waves, torch.nn.utils.rnn.pad_sequence(waves, batch_first=True), torch.tensor(lengths)


@pytest.mark.parametrize("name", UPSTREAMS)
@torch.no_grad()
def test_padded_batch_equals_transformers_on_each_utterance_alone(name, upstream_dir):
    source = str(upstream_dir(name))
    upstream = Upstream(source).eval()
    reference = AutoModel.from_pretrained(source).eval()
    extractor = AutoFeatureExtractor.from_pretrained(source)
    waves, speech, lengths = batch_of()
    frames, frame_lengths = upstream(speech, lengths)
    for i, wave in enumerate(waves):
        inputs = extractor(wave.numpy(), sampling_rate=16000, return_tensors="pt")
        alone = reference(**{k: v for k, v in inputs.items() if k != "attention_mask" or name == "wav2vec2-bert"})
        n = int(frame_lengths[i])
        expected = alone.last_hidden_state[0]
        assert expected.size(0) - n == (1 if name == "wav2vec2-bert" and expected.size(0) != n else 0)
        # transformers normalises the filter bank in single precision, we in double
        assert (frames[i, :n] - expected[:n]).abs().max() < (2e-5 if name != "wav2vec2-bert" else 5e-5)


@pytest.mark.parametrize("name", ["wav2vec2-base", "wav2vec2-large", "data2vec-audio"])
def test_lengths_equal_the_frames_of_every_length_from_400_to_20000(name, upstream_dir):
    upstream = Upstream(str(upstream_dir(name)))
    lengths = torch.arange(400, 20001)
    frames = upstream.output_lengths(lengths)
    # the number of frames that the convolutions themselves give, on the meta device: shapes only
    convolutions = upstream.model.feature_extractor.to("meta")
    previous = None
    for n in [400, 719, 720, 721, 1039, 1040, 4801, 9731, 15999, 16000, 19999, 20000]:
        assert convolutions(torch.empty(1, n, device="meta")).size(-1) == int(frames[n - 400])
    for n, previous in zip(range(401, 20001), frames.tolist()):
        assert int(frames[n - 400]) - previous == (1 if (n - 400) % 320 == 0 else 0)
    assert int(frames[0]) == 1 and int(frames[-1]) == 62


def test_filter_bank_lengths_are_those_of_the_checkpoints_feature_extractor(upstream_dir):
    source = str(upstream_dir("wav2vec2-bert"))
    extractor, upstream = AutoFeatureExtractor.from_pretrained(source), Upstream(source)
    for n in (723, 879, 880, 1040, 9731):
        mask = extractor(torch.randn(n).numpy(), sampling_rate=16000, return_tensors="pt")["attention_mask"]
        assert int(upstream.output_lengths(torch.tensor([n]))) == int(mask.sum())


def test_too_short_an_utterance_names_the_option(upstream_dir):
    with pytest.raises(ValueError, match="399 samples.*min_wav_duration"):
        Upstream(str(upstream_dir()))(torch.randn(1, 399), torch.tensor([399]))


def test_weighted_layers_start_as_the_mean_and_learn(upstream_dir):
    upstream = Upstream(str(upstream_dir()), layers="weighted").eval()
    _, speech, lengths = batch_of()
    out, _ = upstream(speech, lengths)
    hidden = upstream.model(speech[:1], output_hidden_states=True).hidden_states
    assert torch.allclose(out[0], torch.stack(hidden).mean(0)[0], atol=1e-5)
    out.square().sum().backward()
    assert upstream.layer_weights.grad.abs().sum() > 0


def test_built_from_its_architecture_with_no_checkpoint_at_hand(upstream_dir, tmp_path):
    first = Upstream(str(upstream_dir("wav2vec2-large"))).eval()
    again = Upstream(architecture=first.architecture).eval()
    again.load_state_dict(first.state_dict())
    _, speech, lengths = batch_of()
    assert torch.equal(first(speech, lengths)[0], again(speech, lengths)[0])


@pytest.mark.parametrize("source, message", [(None, "--upstream"), ("no/such-model", "no/such-model")])
def test_nothing_to_load_is_an_error_that_names_the_option(source, message):
    with pytest.raises(ValueError, match=message):
        Upstream(source)


def test_another_kind_of_model_is_refused(tmp_path):
    import transformers as hf

    hf.BertConfig(num_hidden_layers=1).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="type 'bert'; allowed: wav2vec2"):
        Upstream(str(tmp_path))


def test_only_the_intended_parameters_get_gradients(upstream_dir):
    upstream = Upstream(str(upstream_dir()), freeze_updates=3).train()
    _, speech, lengths = batch_of()
    assert not upstream(speech, lengths, updates=2)[0].requires_grad
    upstream(speech, lengths, updates=3)[0].square().sum().backward()
    with_gradient = {n for n, p in upstream.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    assert with_gradient and not any("feature_extractor" in n for n in with_gradient)
    assert any("encoder.layers.1" in n for n in with_gradient)


def test_no_second_copy_of_the_weights(upstream_dir):
    upstream = Upstream(str(upstream_dir()), mask_time_prob=0.5)
    count = sum(p.numel() for p in upstream.parameters())
    assert count == sum(p.numel() for p in AutoModel.from_pretrained(str(upstream_dir())).parameters())
    assert upstream._guard._norm is upstream.model.feature_extractor.conv_layers[0].layer_norm


def test_span_mask_covers_its_share_and_stays_out_of_padding():
    torch.manual_seed(0)
    lengths = torch.tensor([500, 300, 100, 9])
    mask = torch.stack([span_mask(lengths, 500, 0.5, 10) for _ in range(200)]).float()
    shares = [mask[:, i, :n].mean().item() for i, n in enumerate(lengths.tolist())]
    # 1 - exp(-0.5) = 0.39 of the frames when spans may overlap
    assert all(abs(share - 0.39) < 0.03 for share in shares[:3]) and shares[3] == 0
    assert all(mask[:, i, n:].sum() == 0 for i, n in enumerate(lengths.tolist()))


def test_masking_only_in_training(upstream_dir):
    none = {"hidden_dropout": 0.0, "attention_dropout": 0.0, "activation_dropout": 0.0, "feat_proj_dropout": 0.0}
    upstream = Upstream(str(upstream_dir()), mask_time_prob=0.5, config=none)
    _, speech, lengths = batch_of()
    assert torch.equal(upstream.eval()(speech, lengths)[0], upstream(speech, lengths)[0])
    upstream.train()
    assert not torch.equal(upstream(speech, lengths)[0], upstream(speech, lengths)[0])


def test_hooks_change_a_layers_output_and_do_not_stay(upstream_dir):
    upstream = Upstream(str(upstream_dir("wavlm-base"))).eval()
    _, speech, lengths = batch_of()
    plain = upstream(speech, lengths)[0]
    changed = upstream(speech, lengths, after_layer={1: lambda frames, mask: frames + 1})[0]
    assert not torch.allclose(plain, changed) and torch.equal(plain, upstream(speech, lengths)[0])


@pytest.mark.parametrize("kind", ["wav2vec2-base", "wav2vec2-bert"])
def test_hooks_get_the_mask_of_the_frames(upstream_dir, kind):
    upstream, seen = Upstream(str(upstream_dir(kind))).eval(), []

    def look(frames, mask):
        seen.append((frames, mask))
        return frames * 2

    _, speech, lengths = batch_of()
    plain, counts = upstream(speech, lengths)
    last, _ = upstream(speech, lengths, after_layer={2: look}, after_output=look)
    assert torch.equal(last[0, : counts[0]], 2 * seen[1][0][0, : counts[0]])
    for frames, mask in seen:
        assert mask.shape == frames.shape[:2] and torch.equal(mask.sum(1), counts)
    # samples that are nobody's; then none that are
    more = torch.nn.functional.pad(speech, (0, 5000))
    assert (upstream(more, lengths, after_output=look)[0][0, : counts[0]] - 2 * plain[0, : counts[0]]).abs().max() < 1e-4
    assert seen[-1][1].shape == seen[-1][0].shape[:2] and torch.equal(seen[-1][1].sum(1), counts)
    for whole in (lengths[:1], None):
        upstream(speech[:1, : lengths[0]], whole, after_output=look)
        assert seen[-1][1] is None
