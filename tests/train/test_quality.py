import judging
import pytest
import torch

from iqazoo.errors import InputError
from iqazoo.ops import ranking_loss
from iqazoo.train.quality import QualityTrainer, RatingObjective


class Ratings(torch.utils.data.Dataset):
    """Noise of different strength; less is rated higher."""

    def __init__(self, count=64, seed=0) -> None:
        generator = torch.Generator().manual_seed(seed)
        strength = torch.rand(count, 3, 1, 1, generator=generator) / 2
        self.reference = torch.rand(count, 3, 8, 8, generator=generator)
        self.images = self.reference + strength * torch.randn(count, 3, 8, 8, generator=generator)
        self.ratings = 5 - 8 * strength[:, 0, 0]

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        images = {"img": self.images[index], "ref_img": self.reference[index]}
        return {**images, "mos_label": self.ratings[index], "img_path": str(index)}

    def fingerprint(self):
        return str(float(self.images.sum()))


def trainer(folder, network, accumulate=1, processes=judging.ALONE, **facts):
    torch.manual_seed(0)
    spec = judging.spec(network, **facts)
    config = judging.config(folder, epochs=6, accumulate=accumulate)
    objective = RatingObjective(spec, network())
    return QualityTrainer(config, spec, objective, Ratings(), Ratings(32, seed=1), processes=processes)


@pytest.mark.parametrize(
    ("network", "facts"),
    [(judging.Tiny, {}), (judging.Similar, {}), (judging.Blind, {"kind": "NR"})],
    ids=["distance", "similarity", "without reference"],
)
def test_ratings_are_learnt(tmp_path, network, facts):
    made = trainer(tmp_path, network, **facts)
    before = made.validation(made.val_loader(), 0)["krcc"]
    assert made.fit()
    assert made.at.best > before + 0.05
    assert made.at.best > 0.4


def test_the_loss_is_ranknet_in_the_right_direction(tmp_path):
    made = trainer(tmp_path, judging.Similar)
    made.feed_data(next(iter(made.train_loader())))
    rating, image, reference = made.inputs
    assert rating.shape == (8,)
    result = made.objective(rating, image, reference)
    score = made.objective.network(image, reference)
    torch.testing.assert_close(result.loss, ranking_loss(score, rating, lower_is_better=False).loss)
    better = sum(bool((score[i] - score[j]) * (rating[i] - rating[j]) > 0) for i in range(8) for j in range(i))
    assert result.agreement.item() == pytest.approx(better / 28)


def test_a_part_without_a_pair_is_refused(tmp_path):
    expected = r"needs 2 or more samples at once; got a batch of 8 for 1 processes in 8 parts each, which is 1; raise"
    with pytest.raises(InputError, match=expected):
        trainer(tmp_path, judging.Tiny, accumulate=8)
    made = trainer(tmp_path, judging.Tiny, accumulate=4)
    made.start_epoch()
    made.feed_data(next(iter(made.train_loader())))
    made.optimize_parameters(1)
    assert made.at.loss > 0


def test_a_missing_part_is_named(tmp_path):
    with pytest.raises(InputError, match="a batch needs mos_label, img, ref_img; got img"):
        trainer(tmp_path, judging.Tiny).feed_data({"img": torch.rand(2, 3, 8, 8)})
