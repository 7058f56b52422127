"""What the tasks draw for images and do to them, their baselines, and that networks learn them."""

import functools

import numpy as np
import pytest
import torch
from PIL import Image

from faceae import config, models, tasks
from faceae.config import Data, Mask, Model, Noise, Optim, Settings, Train, Upscale
from faceae.data import synthetic
from faceae.data.batch import Batch
from faceae.errors import InputError
from faceae.evaluation import baselines, pca
from faceae.models.frame import FrameUnet
from faceae.tasks.colorize import luminance
from faceae.tasks.denoise import sigma_of
from faceae.training.engine import train_one_epoch
from faceae.training.state import TrainState
from faceae.training.transfer import to_device

CPU = torch.device("cpu")
SIZE = 32
WHOLE = ("denoise", "colorize", "upscale", "repair", "reconstruct")
SEVERAL = ("inpaint", "denoise", "colorize")
SMALL = Model(name="unet", width=8, levels=2)


def settings(*task, **changed):
    name = "article" if task == ("reconstruct",) else "unet"
    model = Model(name=name, width=8, levels=2, latent_dim=16)
    mask = Mask(size=12)
    return config.validate(Settings(task=task, data=Data(image_size=SIZE), mask=mask, model=model, **changed))


def ids(count):
    return [f"{number}.png" for number in range(count)]


@functools.cache
def portraits(count, size=SIZE):
    return np.stack([synthetic.portrait(number, size) for number in range(count)])


def batch(task, count=16, epoch=1):
    return Batch(portraits(count, task.image_size), task.draw(ids(count), 0, epoch), count, damage=task.damage)


@pytest.mark.parametrize("name", WHOLE)
def test_a_task_gives_bytes_in_range_and_asks_for_every_pixel(name):
    task = tasks.create(settings(name))
    drawn = task.draw(ids(5), 0, 1)
    assert drawn.shape == (5, task.row_bytes)
    assert drawn.dtype == np.uint8
    data = to_device(batch(task), CPU)
    assert data.given.shape == data.original.shape == (16, 3, SIZE, SIZE)
    assert data.given.dtype == torch.float32
    assert data.given.amin() >= 0
    assert data.given.amax() <= 1
    assert torch.allclose(data.given * 255, (data.given * 255).round(), atol=1e-3)  # as in a file
    assert (data.mask == 1).all()
    assert data.mask.shape == (16, 1, SIZE, SIZE)
    assert (data.given != data.original).any() == (name != "reconstruct")


def test_noise_depends_on_seed_epoch_and_id_alone():
    task = tasks.Denoise(Noise("5:50"), SIZE)
    first = task.draw(ids(8), 0, 1)
    assert (task.draw(ids(8)[::-1], 0, 1)[::-1] == first).all()
    for other in (task.draw(ids(8), 1, 1), task.draw(ids(8), 0, 2), task.draw_validation(ids(8))):
        assert (other != first).any(1).all()
    given = to_device(batch(task), CPU).given
    assert torch.equal(given, to_device(batch(task), CPU).given)


def test_validation_has_noise_that_no_training_image_gets():
    task = tasks.Denoise(Noise(25), SIZE)
    training = task.draw(ids(2000), 0, 1).view(np.int32)[:, 0]
    validation = task.draw_validation(ids(2000)).view(np.int32)[:, 0]
    assert training.min() >= 0
    assert training.max() + 3 * SIZE**2 <= validation.min()
    task.damage(torch.zeros(2000, 3, SIZE, SIZE), torch.from_numpy(task.draw_validation(ids(2000))))  # inside the bank


def test_noise_has_the_standard_deviation_that_was_drawn():
    task = tasks.Denoise(Noise("5:50"), 64)
    grey = torch.full((64, 3, 64, 64), 0.5)
    rows = task.draw(ids(64), 0, 1)
    sigmas = rows.view(np.float32)[:, 1]
    assert sigmas.min() >= 5
    assert sigmas.max() <= 50
    assert sigmas.std() > 8
    given, _ = task.damage(grey, torch.from_numpy(rows))
    noise = 255 * (given - 0.5)
    assert np.allclose(noise.std((1, 2, 3)), sigmas, rtol=0.05)
    assert (np.abs(noise.mean((1, 2, 3)).numpy()) < 0.05 * sigmas + 0.5).all()
    pixels = (255 * given).round().byte().permute(0, 2, 3, 1).numpy()
    assert np.allclose([sigma_of(each) for each in pixels], sigmas, rtol=0.1)


def test_upscaling_is_given_what_pillow_makes_of_a_small_image():
    task = tasks.Upscale(4, 64)
    data = to_device(batch(task, 4), CPU)
    for pixels, given in zip(portraits(4, 64), data.given, strict=True):
        small = Image.fromarray(pixels).resize((16, 16), Image.Resampling.BICUBIC)
        large = np.asarray(small.resize((64, 64), Image.Resampling.BICUBIC), np.float32)
        assert np.abs(255 * given.permute(1, 2, 0).numpy() - large).mean() < 1.5  # Pillow's cubic has another constant


def test_colouring_keeps_the_luminance_and_stays_in_range():
    task = tasks.Colorize(SIZE)
    data = to_device(batch(task), CPU)
    assert (data.given == data.given[:, :1]).all()
    assert ((luminance(data.original) - data.given[:, :1]).abs() <= 0.51 / 255).all()
    torch.manual_seed(0)
    network = FrameUnet(8, 2, 1, keeps_luminance=True)
    for weights in network.parameters():
        weights.data.mul_(4)  # colours beyond what a luminance allows
    for output in (network(data.given, data.mask), network.eval()(data.given, data.mask)):
        assert output.amin() >= -1e-6
        assert output.amax() <= 1 + 1e-6
        assert torch.allclose(luminance(output), data.given[:, :1], atol=1e-5)
        assert (output.std(1) > 0.01).any()


@pytest.mark.parametrize(("name", "better", "worse"), [
    ("denoise", "nonlocal_means", "noisy"), ("colorize", "pca", "grey"), ("reconstruct", "pca", "mean"),
])  # fmt: skip
def test_a_baseline_does_better_than_nothing(name, better, worse):
    task = tasks.create(settings(name))
    linear = pca.fit(pca.shrink(list(portraits(200)[16:])))
    means = {key: sums.means()["mse"] for key, sums in baselines.measure([batch(task)], linear, task).items()}
    assert set(means) == {better, worse}
    assert means[better] < 0.6 * means[worse]


def test_a_projection_onto_more_components_is_nearer():
    linear, given = pca.fit(pca.shrink(list(portraits(200)))), portraits(1)[0]
    errors = [
        np.square(linear.rebuild(given, given[..., 0] > 300, count) - given.astype(float)).mean()
        for count in (4, 16, 64)
    ]
    assert errors == sorted(errors, reverse=True)
    assert errors[2] < errors[0] / 2


@pytest.mark.parametrize("name", ["inpaint", "denoise", "colorize", "upscale", "reconstruct", "+".join(SEVERAL)])
def test_a_network_learns_the_task(name):
    train = Train(batch_size=16, loss="mse")
    chosen = settings(
        *name.split("+"),
        train=train,
        optim=Optim(name="muon", lr=0.01),
        **({"noise": Noise(25)} if name == "denoise" else {}),
    )
    task = tasks.create(chosen)
    torch.manual_seed(0)
    state = TrainState(models.build(chosen), chosen)
    losses = [
        train_one_epoch(state.network, [batch(task, epoch=epoch)], state, device=CPU).loss for epoch in range(1, 40)
    ]
    assert np.mean(losses[-5:]) < 0.6 * losses[0]


def test_a_saved_model_of_each_task_is_loaded_and_says_that_it_fills_no_holes(tmp_path):
    for name in WHOLE:
        chosen = settings(name)
        models.save(str(tmp_path / name), models.build(chosen), chosen)
        model = models.load(str(tmp_path / name))
        data = to_device(batch(tasks.create(chosen), 2), CPU)
        assert model(data.given, data.mask).shape == (2, 3, SIZE, SIZE)
        with pytest.raises(InputError, match=f"trained for --task {name} and fills no holes"):
            model(portraits(1)[0], np.ones((SIZE, SIZE), bool))


def test_of_several_tasks_each_image_gets_one_and_another_in_another_epoch():
    task = tasks.create(settings(*SEVERAL))
    first, second = (task.draw(ids(300), 0, epoch) for epoch in (1, 2))
    assert (np.bincount(first[:, 0]) > 70).all()
    assert (first[:, 0] != second[:, 0]).any()
    assert (task.draw(ids(300)[::-1], 0, 1)[::-1] == first).all()
    data = to_device(batch(task), CPU)
    alone = {name: tasks.create(settings(name)) for name in SEVERAL}
    for number, (name, _, _) in enumerate(task.split(first[:16])):
        drawn = torch.from_numpy(alone[name].draw(ids(16), 0, 1)[number : number + 1])
        given, mask = alone[name].damage(data.original[number : number + 1], drawn)
        assert torch.equal(data.given[number], given[0])
        assert torch.equal(data.mask[number], mask[0])


def test_a_model_of_several_tasks_does_the_one_that_is_named(tmp_path):
    chosen = settings(*SEVERAL)
    models.save(str(tmp_path), models.build(chosen), chosen)
    model = models.load(str(tmp_path))
    picture, hole = portraits(1)[0], np.zeros((SIZE, SIZE), bool)
    hole[8:20, 8:20] = True
    for use in (lambda: model(picture), lambda: model(picture, hole)):
        with pytest.raises(InputError, match="for --task inpaint denoise colorize; choose one with --task, or"):
            use()
    with pytest.raises(InputError, match="was trained for --task inpaint denoise colorize, not for upscale"):
        model.for_task("upscale")
    filled = model.for_task("inpaint")(picture, hole)
    assert (filled == picture)[~hole].all()
    assert (filled != picture)[hole].any()
    assert (model.for_task("denoise")(picture) != picture).any()
    grey = np.repeat(picture.mean(2, keepdims=True).astype(np.uint8), 3, 2)
    coloured = model.for_task("colorize")(grey)
    assert (np.abs(coloured @ (0.299, 0.587, 0.114) - grey[..., 0]) < 1).all()


def test_models_of_older_versions_have_one_task_as_text():
    tree = config.to_dict(settings("denoise"))
    assert tree["task"] == ["denoise"]
    assert config.from_dict(tree | {"task": "denoise"}, Settings) == settings("denoise")


def test_a_patch_is_where_a_repaired_image_differs_and_its_contents_vary():
    task = tasks.create(settings("repair"))
    data = to_device(Batch(portraits(64), task.draw(ids(64), 0, 1), 64, damage=task.damage), CPU)
    changed = (data.given != data.original).any(1)
    share = changed.float().mean((1, 2))
    assert (share == 0).sum() >= 3  # a face without anything wrong
    assert share.max() < 0.2
    for wrong in changed[share > 0]:
        rows, columns = wrong.any(1).nonzero(), wrong.any(0).nonzero()
        assert max(len(rows), len(columns)) <= round(3 / 8 * SIZE)


def test_a_network_of_repairs_says_where_something_is_wrong():
    chosen = settings("repair", train=Train(batch_size=16), optim=Optim(name="muon", lr=0.01))
    task, place = tasks.create(chosen), torch.zeros(SIZE, SIZE, dtype=torch.bool)
    place[10:18, 6:16] = True
    torch.manual_seed(0)
    state = TrainState(models.build(chosen), chosen)
    for epoch in range(1, 200):
        train_one_epoch(state.network, [batch(task, epoch=epoch)], state, device=CPU)
    images = to_device(batch(task), CPU).original
    images[:, :, place] = torch.tensor([0.1, 0.9, 0.2])[:, None]
    suspicion = state.network.eval().suspicion(images)
    assert suspicion.shape == (16, 1, SIZE, SIZE)
    assert suspicion[:, 0, place].mean() > 2 * suspicion[:, 0, ~place].mean()


@pytest.mark.parametrize(("changed", "message"), [
    ({"noise": Noise(20)}, r"--noise.sigma 20: it means nothing to --task inpaint; use --task denoise"),
    ({"task": ("denoise",), "upscale": Upscale(2)}, r"--upscale.factor 2: it means nothing to --task denoise"),
    ({"task": ("denoise",), "noise": Noise("50:5")}, r"--noise.sigma 50:5: give levels above 0"),
    ({"task": ("denoise",), "noise": Noise("much")}, r"--noise.sigma much: write a number"),
    ({"task": ("denoise",), "noise": Noise(0.0)}, r"--noise.sigma 0.0: give levels above 0"),
    ({"task": ("upscale",), "upscale": Upscale(5)}, r"--upscale.factor 5: 128 pixels cannot be divided by it"),
    ({"task": ("denoise", "denoise")}, r"--task denoise denoise: denoise is there twice"),
    ({"task": ("inpaint", "repair")}, r"--task inpaint repair: repair cannot be learnt with others"),
    ({"task": ("repair",)}, r"--task repair: use --model.name unet; article cannot say what is wrong"),
    ({"task": ("reconstruct",), "model": SMALL}, r"--task reconstruct: nothing is hidden"),
    ({"task": ("denoise",), "model": Model(name="unet", levels=8)}, r"--model.levels 8: the image of 128"),
])  # fmt: skip
def test_settings_that_contradict_the_task_are_refused(changed, message):
    with pytest.raises(InputError, match=message):
        config.validate(Settings(**changed))
