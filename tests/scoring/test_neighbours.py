"""The scores of the paper and of CSI, around F: views, ensemble, chunks, running statistics."""

import pytest
import torch
from torch.nn.modules.batchnorm import _BatchNorm

from anomaly_gan.scoring.scores import PARTS, SCORES


def normal_images() -> torch.Tensor:
    return torch.rand(20, 1, 16, 16, generator=torch.Generator().manual_seed(1))


def unseen_images() -> torch.Tensor:
    return torch.rand(9, 1, 16, 16, generator=torch.Generator().manual_seed(2))


def test_scores_of_all_forms_and_parts_are_given(make_scorer) -> None:
    names = {name + form for name in SCORES + PARTS for form in ("", "_ens")}
    scorer = make_scorer()
    scorer.fit(normal_images().split(7))
    assert set(scorer.scores(unseen_images())) == names
    assert set(scorer.parts) == {part + form for part in PARTS for form in ("", "_ens")}
    scorer.keep_primary_alone()
    assert set(scorer.scores(unseen_images())) == {name + "_ens" for name in SCORES + PARTS}


def test_without_an_ensemble_there_are_no_ensemble_scores(make_scorer) -> None:
    scorer = make_scorer(ensemble=0)
    scorer.fit([normal_images()])
    assert set(scorer.scores(unseen_images())) == set(SCORES + PARTS)
    assert scorer.primary == "csi"
    assert make_scorer(ensemble=1, primary="paper").primary == "paper_ens"


def test_what_f_says_belongs_to_its_own_image_and_shift(make_scorer) -> None:
    scorer, images = make_scorer().eval(), unseen_images()
    embeddings, logits, middle, penultimate = scorer.embed(images, "plain")
    for i, image in enumerate(images):
        for k in range(4):
            features = scorer.network(image.rot90(k, (1, 2))[None])
            torch.testing.assert_close(embeddings[i, k], features.embedding[0], rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(logits[i, k], features.shift_logits[0, k], rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(middle[i, k], features.middle[0], rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(penultimate[i, k], features.penultimate[0], rtol=1e-4, atol=1e-5)


def test_the_ensemble_averages_embeddings_over_its_draws(make_scorer) -> None:
    scorer, images = make_scorer(ensemble=3).eval(), unseen_images()
    embeddings = scorer.embed(images, "ensemble").embeddings
    network = scorer.network
    views = scorer.views
    draws = [
        network(views.drawn(images, views.scoring_draw(draw, 0))).embedding.view(4, 9, -1)
        for draw in range(3)
    ]
    expected = torch.stack(draws).mean(0).transpose(0, 1)
    torch.testing.assert_close(embeddings, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("recalibrate", [False, True])
def test_the_chunk_does_not_change_a_score(make_scorer, recalibrate: bool) -> None:
    scores = []
    # Recalibration sees the variance within a batch: batches of one image would be another matter.
    for chunk in (40, 64, 1000):
        torch.manual_seed(0)
        scorer = make_scorer(chunk=chunk, recalibrate_batch_norm=recalibrate)
        scorer.fit([normal_images()])
        scores.append(scorer.score(unseen_images()))
    tolerance = {"rtol": 0.05, "atol": 0.05} if recalibrate else {"rtol": 1e-4, "atol": 1e-5}
    torch.testing.assert_close(scores[0], scores[2], **tolerance)
    torch.testing.assert_close(scores[1], scores[2], **tolerance)


def test_no_more_views_than_the_chunk_pass_through_f_at_once(make_scorer) -> None:
    scorer = make_scorer(chunk=12)
    sizes = []
    scorer.network.register_forward_hook(lambda _, args, __: sizes.append(len(args[0])))
    scorer.fit([normal_images()])
    scorer.score(unseen_images())
    assert max(sizes) == 12


def test_recalibration_gives_the_statistics_of_the_normal_images(make_scorer) -> None:
    scorer = make_scorer(ensemble=0, chunk=1000)
    first = next(m for m in scorer.modules() if isinstance(m, _BatchNorm))
    before = first.momentum
    inputs = []
    first.register_forward_hook(lambda _, args, __: inputs.append(args[0].detach()))
    scorer.fit([normal_images()])
    seen = inputs[0]  # the one batch of the recalibration
    torch.testing.assert_close(first.running_mean, seen.mean((0, 2, 3)), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(first.running_var, seen.var((0, 2, 3)), rtol=1e-4, atol=1e-5)
    assert first.momentum == before


def test_without_recalibration_the_training_statistics_stay(make_scorer) -> None:
    scorer = make_scorer(recalibrate_batch_norm=False)
    before = {n: v.clone() for n, v in scorer.named_buffers() if "running" in n}
    scorer.fit([normal_images()])
    assert all(torch.equal(value, before[name]) for name, value in scorer.named_buffers() if name in before)


def test_scoring_in_half_precision_changes_the_convolutions_and_little_else(make_scorer) -> None:
    scores = {}
    for precision in ("32-true", "bf16-mixed"):
        torch.manual_seed(0)
        scorer = make_scorer(precision=precision)
        scorer.fit(normal_images().split(7))
        scores[precision] = scorer.scores(unseen_images())
    whole, half = scores["32-true"]["paper"], scores["bf16-mixed"]["paper"]
    assert half.dtype == torch.float32
    assert not torch.equal(half, whole)
    torch.testing.assert_close(half, whole, rtol=0.05, atol=0.05)


def test_an_unsure_shift_head_is_said(make_scorer) -> None:
    scorer = make_scorer()
    with torch.no_grad():
        scorer.network.shift_head.bias.copy_(torch.tensor([-9.0, 9.0, 9.0, 9.0]))
    with pytest.warns(UserWarning, match=r"shifts \[0\]"):
        scorer.fit([normal_images()])
