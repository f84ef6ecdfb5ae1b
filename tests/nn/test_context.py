"""Cross-attention, student, distillation and injection: padding, absence, gradients."""

import pytest
import torch

from espnet_ctx.nn import Context, ContextDistillation, ContextInjection, CrossAttention, Student, context_mask
from espnet_ctx.nn.distillation import segment_means
from espnet_ctx.nn.masking import length_mask
from espnet_ctx.nn.student import POOLINGS

DIM, CONTEXT_DIM = 16, 12


def frames_of(lengths=(50, 33, 7)):
    torch.manual_seed(2)
    frames = torch.randn(len(lengths), max(lengths), DIM)
    return frames, length_mask(torch.tensor(lengths), max(lengths))


def context_of(lengths=(4, 2, 1)):
    torch.manual_seed(3)
    context = torch.zeros(len(lengths), max(lengths), CONTEXT_DIM)
    for i, n in enumerate(lengths):
        context[i, :n] = torch.randn(n, CONTEXT_DIM)
    return context, torch.tensor(lengths)


# cross-attention


def test_a_context_of_zeros_equals_no_context_bit_for_bit():
    attention = CrossAttention(DIM, CONTEXT_DIM).eval()
    frames, _ = frames_of()
    zeros = torch.zeros(3, 5, CONTEXT_DIM)
    absent = attention(frames, zeros, context_mask(zeros, torch.tensor([1, 5, 3])))
    assert torch.equal(absent, attention(frames, None, None))


def test_padding_rows_of_the_context_change_nothing():
    attention = CrossAttention(DIM, CONTEXT_DIM).eval()
    frames, _ = frames_of()
    context, lengths = context_of()
    mask = context_mask(context, lengths)
    first = attention(frames, context, mask)
    context[1, 2:], context[2, 1:] = float("nan"), 1e9
    assert torch.equal(first, attention(frames, context, mask))


def test_a_batch_with_context_equals_one_by_one():
    attention = CrossAttention(DIM, CONTEXT_DIM).eval()
    frames, _ = frames_of()
    context, lengths = context_of()
    context[1] = 0  # absent
    together = attention(frames, context, context_mask(context, lengths))
    for i, n in enumerate(lengths):
        rows = context[i : i + 1, :n]
        alone = attention(frames[i : i + 1], rows, context_mask(rows, lengths[i : i + 1]))
        assert (together[i] - alone[0]).abs().max() < 1e-6


def test_one_context_row_is_not_trivially_attended_and_the_gate_scales():
    attention = CrossAttention(DIM, CONTEXT_DIM, gate_init=0.0).eval()
    frames, _ = frames_of()
    context, lengths = context_of((1, 1, 1))
    assert torch.equal(attention(frames, context, context_mask(context, lengths)), frames)
    attention.gate.data.fill_(1.0)
    added = attention(frames, context, context_mask(context, lengths)) - frames
    # with the null key among the keys, frames differ in how much of the context they take
    assert (added - added.mean(1, keepdim=True)).abs().max() > 1e-3


@pytest.mark.parametrize("num_heads, rows", [(1, (4, 2, 0)), (4, (1, 0, 1)), (2, (3, 5, 2))])
def test_projecting_the_keys_equals_projecting_the_frames(num_heads, rows):
    """Against the attention of PyTorch, with the null key among the keys: values and gradients."""
    torch.manual_seed(4)
    ours = CrossAttention(DIM, CONTEXT_DIM, num_heads, gate_init=0.7)
    for parameter in ours.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    theirs = torch.nn.MultiheadAttention(DIM, num_heads, batch_first=True)
    key_value = torch.nn.Parameter(ours.key_value.weight.detach().clone())
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([ours.query.weight, torch.eye(DIM), torch.eye(DIM)]))
        theirs.in_proj_bias.copy_(torch.cat([ours.query.bias, torch.zeros(2 * DIM)]))
        theirs.out_proj.load_state_dict(ours.out.state_dict())
    frames, _ = frames_of()
    context, lengths = context_of([max(n, 1) for n in rows])
    context[[n == 0 for n in rows]] = 0
    mask = context_mask(context, lengths)
    projected = torch.nn.functional.linear(ours.context_norm(context), key_value, ours.key_value.bias)
    keys, values = torch.cat([ours.null_key_value.expand(3, 1, -1), projected], 1).chunk(2, -1)
    padding = ~torch.nn.functional.pad(mask, (1, 0), value=True)
    added, _ = theirs(ours.norm(frames), keys, values, key_padding_mask=padding)
    out, expected = ours(frames, context, mask), frames + ours.gate * added
    assert (out - expected).abs().max() < 1e-5
    probe = torch.randn_like(out)
    (out * probe).sum().backward(inputs=[ours.query.weight, ours.out.weight, ours.key_value.weight])
    (expected * probe).sum().backward(inputs=[theirs.in_proj_weight, theirs.out_proj.weight, key_value])
    for mine, other in (
        (ours.query.weight.grad, theirs.in_proj_weight.grad[:DIM]),
        (ours.out.weight.grad, theirs.out_proj.weight.grad),
        (ours.key_value.weight.grad, key_value.grad),
    ):
        assert (mine - other).norm() < 1e-5 * other.norm()


@pytest.mark.parametrize("rows", [(1, 1, 1), (4, 2, 1)])
def test_folded_for_inference_it_gives_the_same_and_follows_the_weights_no_more(rows):
    attention = CrossAttention(DIM, CONTEXT_DIM).eval()
    frames, _ = frames_of()
    context, lengths = context_of(rows)
    mask = context_mask(context, lengths)
    before = attention(frames, context, mask)
    attention.fold()
    assert torch.equal(before, attention(frames, context, mask))
    torch.nn.init.zeros_(attention.gate)
    assert torch.equal(before, attention(frames, context, mask))


def test_no_mask_is_a_mask_in_which_all_are_there():
    attention = CrossAttention(DIM, CONTEXT_DIM).eval()
    frames, _ = frames_of()
    for rows in (1, 4):
        context = torch.randn(3, rows, CONTEXT_DIM)
        assert torch.equal(attention(frames, context), attention(frames, context, torch.ones(3, rows, dtype=torch.bool)))


def test_dropout_of_the_weights_is_for_training():
    attention = CrossAttention(DIM, CONTEXT_DIM, dropout=0.5)
    frames, _ = frames_of()
    context, lengths = context_of()
    outputs = [attention(frames, context, context_mask(context, lengths)) for _ in range(2)]
    assert not torch.equal(*outputs)
    attention.eval()
    outputs = [attention(frames, context, context_mask(context, lengths)) for _ in range(2)]
    assert torch.equal(*outputs)


def test_heads_must_divide_the_width():
    with pytest.raises(ValueError, match="num_heads must divide .* 16, got 3"):
        CrossAttention(DIM, CONTEXT_DIM, num_heads=3)


def test_absent_means_zeros_or_beyond_the_length():
    context, lengths = context_of()
    context[0, 1] = 0
    expected = [[True, False, True, True], [True, True, False, False], [True, False, False, False]]
    assert context_mask(context, lengths).tolist() == expected


# student


@pytest.mark.parametrize("pooling", POOLINGS)
def test_student_of_a_padded_batch_equals_one_by_one(pooling):
    student = Student(DIM, CONTEXT_DIM, pooling, num_tokens=3 if pooling == "multi_query" else 1).eval()
    frames, mask = frames_of((50, 33, 7, 1))
    frames[~mask] = 100.0
    together = student(frames, mask)
    assert together.shape == (4, 3 if pooling == "multi_query" else 1, CONTEXT_DIM)
    for i, n in enumerate(mask.sum(1)):
        alone = student(frames[i : i + 1, :n], mask[i : i + 1, :n])
        assert (together[i] - alone[0]).abs().max() < 1e-5
        assert (student(frames[i : i + 1, :n], None) - alone).abs().max() < 1e-6  # no mask: all are there


def test_mean_pooling_is_the_mean():
    student = Student(DIM, CONTEXT_DIM, "mean")
    frames, mask = frames_of()
    expected = student.fc(student.norm(frames[1, :33]).mean(0))
    assert torch.allclose(student(frames, mask)[1, 0], expected, atol=1e-5)


@pytest.mark.parametrize("stop", [False, True])
def test_stop_gradient_keeps_the_students_gradient_from_the_frames(stop):
    student = Student(DIM, CONTEXT_DIM, stop_gradient=stop)
    frames, mask = frames_of()
    frames.requires_grad_()
    student(frames, mask).sum().backward()
    assert (frames.grad is None) == stop and student.fc.weight.grad.abs().sum() > 0


def test_unknown_pooling_and_impossible_tokens():
    with pytest.raises(ValueError, match="one of mean, attentive, conv_max, multi_query; got 'max'"):
        Student(DIM, CONTEXT_DIM, "max")
    with pytest.raises(ValueError, match="gives one token, got num_tokens 2"):
        Student(DIM, CONTEXT_DIM, "conv_max", num_tokens=2)


# distillation


def test_segment_means_by_hand():
    context = torch.arange(1.0, 6.0).view(1, 5, 1).repeat(2, 1, 1)
    mask = torch.tensor([[True] * 5, [False, True, False, False, False]])
    # 5 rows in 2 segments: rows 1-2 and 3-5; one row is repeated
    assert segment_means(context, mask, 2)[..., 0].tolist() == [[1.5, 4.0], [2.0, 2.0]]
    assert segment_means(context, mask, 1)[..., 0].tolist() == [[3.0], [2.0]]
    assert segment_means(context, torch.zeros(2, 5, dtype=torch.bool), 1).abs().sum() == 0


def test_losses_by_hand():
    student = torch.tensor([[[1.0, 0.0]], [[0.0, 2.0]], [[5.0, 5.0]]])
    teacher = torch.tensor([[[0.0, 1.0]], [[0.0, 1.0]], [[9.0, 9.0]]])
    mask = torch.tensor([[True], [True], [False]])  # the third has no teacher
    loss, cosine = ContextDistillation("cosine")(student, teacher, mask)
    assert loss.item() == pytest.approx(0.5) and cosine.item() == pytest.approx(0.5)
    assert ContextDistillation("mse")(student, teacher, mask)[0].item() == pytest.approx((2 + 1) / 2)
    # equal teachers are no negatives of each other: nothing is left to tell apart
    assert ContextDistillation("infonce")(student, teacher, mask)[0].item() == pytest.approx(0.0)
    teacher[0, 0] = torch.tensor([1.0, 0.0])
    expected = torch.log1p(torch.exp(torch.tensor(-10.0))).item()
    assert ContextDistillation("infonce", temperature=0.1)(student, teacher, mask)[0].item() == pytest.approx(expected, abs=1e-6)
    codebook = torch.tensor([[3.0, 0.0], [0.0, 3.0]])
    loss, _ = ContextDistillation("codebook", temperature=0.1, codebook=codebook)(student, teacher, mask)
    assert loss.item() == pytest.approx(expected, abs=1e-6)


def test_no_teacher_in_the_batch_gives_zero_that_touches_the_student():
    student = torch.ones(2, 1, 3, requires_grad=True)
    loss, cosine = ContextDistillation()(student, torch.zeros(2, 1, 3), torch.zeros(2, 1, dtype=torch.bool))
    loss.backward()
    assert loss.item() == 0 and cosine is None and student.grad.abs().sum() == 0


def test_gradients_reach_the_student_and_never_the_teacher():
    student = torch.randn(2, 1, 4, requires_grad=True)
    teacher = torch.randn(2, 3, 4, requires_grad=True)
    for name in ("cosine", "mse", "infonce"):
        student.grad = None
        ContextDistillation(name)(student, teacher, torch.ones(2, 3, dtype=torch.bool))[0].backward()
        assert student.grad.abs().sum() > 0 and teacher.grad is None


def test_loss_names_and_codebook_go_together():
    with pytest.raises(ValueError, match="one of cosine, mse, infonce, codebook; got 'kl'"):
        ContextDistillation("kl")
    with pytest.raises(ValueError, match="codebook"):
        ContextDistillation("codebook")


# injection


def injection_of(**conf):
    torch.manual_seed(4)
    return ContextInjection(DIM, CONTEXT_DIM, **conf)


def test_teacher_is_fed_in_training_and_the_student_at_inference():
    injection = injection_of(student={}, teacher_feeding=1.0)
    frames, mask = frames_of()
    context, lengths = context_of()
    given = Context(context, context_mask(context, lengths))
    fed, predicted, _ = injection.train().fed(frames, mask, given, updates=0)
    assert fed.mask[:, 0].tolist() == [False] * 3 and torch.equal(fed.mask[:, 1:], given.mask)
    fed, predicted, _ = injection.eval().fed(frames, mask, given, updates=0)
    assert torch.equal(fed.embeddings, predicted) and fed.mask is None


def test_feeding_goes_from_teacher_to_student_over_the_updates():
    injection = injection_of(student={}, teacher_feeding=[1.0, 0.0, 100]).train()
    frames, mask = frames_of((9,) * 400)
    given = Context(torch.ones(400, 1, CONTEXT_DIM), torch.ones(400, 1, dtype=torch.bool))
    shares = [injection.fed(frames, mask, given, updates)[0].mask[:, -1].float().mean().item() for updates in (0, 50)]
    assert shares[0] == 1.0 and abs(shares[1] - 0.5) < 0.1
    assert torch.equal(*injection.fed(frames, mask, given, 100)[0][:1], injection.student(frames, mask))
    own, predicted, _ = injection.fed(frames, mask, given, 900)
    assert torch.equal(own.embeddings, predicted)


def test_without_a_student_the_given_context_is_fed():
    injection = injection_of()
    frames, mask = frames_of()
    assert injection.fed(frames, mask, None, 0) == (None, None, None)
    with pytest.raises(ValueError, match="probability, got 2"):
        injection_of(teacher_feeding=2)
