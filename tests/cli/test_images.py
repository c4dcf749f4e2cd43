"""ntkit fit and predict on images, as a user would: folders, .npz files, and what goes wrong with them."""

import numpy as np
import polars as pl
import pytest

QUICK = ("--network", "mlp1", "--no-baselines", "--folds", "2")


def bars(count, seed):
    """Pictures of bars that stand (1) or lie (0)."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(2, size=count)
    pixels = rng.integers(0, 90, (count, 4, 4))
    for image, label, place in zip(pixels, labels, rng.integers(4, size=count), strict=True):
        image[(slice(None), place) if label else (place, slice(None))] += 140
    return pixels.astype(np.uint8), labels


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """A folder and .npz files of the same pictures, and a fitted model of each."""
    image = pytest.importorskip("PIL.Image")
    folder = tmp_path_factory.mktemp("images")
    pixels, labels = bars(40, 0)
    for number, (picture, label) in enumerate(zip(pixels, labels, strict=True)):
        (folder / "pictures" / str(label)).mkdir(parents=True, exist_ok=True)
        image.fromarray(picture).save(folder / "pictures" / str(label) / f"{number:02}.png")
    order = np.argsort(labels, kind="stable")  # as the folder is read
    np.savez(folder / "bars.npz", x=pixels[order], y=labels[order])
    new, truth = bars(6, 1)
    np.savez(folder / "new.npz", images=new)
    np.savez(folder / "labelled.npz", images=new, labels=truth)
    np.savez(folder / "larger.npz", x=new.repeat(2, axis=1))
    return folder


@pytest.fixture(scope="module")
def fitted(images, command):
    """The outputs of fitting the folder and the .npz file."""
    for name in ("pictures", "bars.npz"):
        output = command("fit", images / name, "--out", images / "out" / name, *QUICK)
        assert "Scores on 10 test images" in output
    return images / "out"


def test_a_folder_and_an_array_of_the_same_images_are_learnt_alike(images, fitted):
    folder, array = (pl.read_csv(fitted / name / "predictions.csv") for name in ("pictures", "bars.npz"))
    assert folder.drop("image").equals(array)
    assert folder["image"][0].endswith(".png")
    assert folder["image"].str.slice(0, 1).cast(pl.Int64).to_list() == folder["target_label"].to_list()
    assert sorted(path.name for path in (fitted / "pictures").iterdir()) == [
        "model",
        "predictions.csv",
        "report.html",
    ]


def test_predictions_of_labelled_and_other_images_agree(images, fitted, command, tmp_path):
    for name in ("new", "labelled"):
        command("predict", fitted / "bars.npz", images / f"{name}.npz", "--out", tmp_path / f"{name}.csv")
    new, labelled = (pl.read_csv(tmp_path / f"{name}.csv") for name in ("new", "labelled"))
    assert labelled.drop("target_label").equals(new)
    assert labelled["target_label"].to_list() == bars(6, 1)[1].tolist()
    assert new.columns[:2] == ["row", "prediction"]
    output = command("predict", fitted / "pictures", images / "pictures" / "0", "--time", "inf")
    assert "row,image,prediction" in output


@pytest.mark.slow
def test_a_model_resizes_new_images_as_it_did_the_training_images(images, command, tmp_path):
    command("fit", images / "bars.npz", "--resize", "3x2", "--limit", "20", "--out", tmp_path / "out", *QUICK)
    assert "row,prediction" in command("predict", tmp_path / "out", images / "larger.npz")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fit", "bars.npz", "--depth", "2"], "--depth has no meaning here: images take the network"),
        (["fit", "bars.npz", "--target", "y"], "--target has no meaning here"),
        (["fit", "bars.npz", "--subsample"], "--limit draws a part"),
        (["fit", "bars.npz", "--network", "alexnet"], "one of mlp, residual_mlp, lenet"),
        (["fit", "bars.npz", "--network", "lenet"], "network lenet (--network) cannot be used on inputs"),
        (["fit", "bars.npz", "--resize", "huge"], "--resize) needs pixels, such as 16 or 16x24"),
        (["fit", "bars.npz", "--test", "new.npz"], "need labels, got none"),
        (["fit", "new.npz"], "needs the class of every image"),
        (["fit", "absent.npz"], "no such file"),
        (
            ["fit", "table.csv", "--target", "y", "--limit", "10"],
            "--limit has no meaning here: it is for images",
        ),
        (["fit", "table.csv", "--target", "y", "--network", "mlp1", "--ard"], "--ard has no meaning here"),
    ],
)
def test_a_mistake_ends_with_one_message_and_no_output(images, command, tmp_path, arguments, message):
    arguments = [images / word if word.endswith((".npz", ".csv")) else word for word in arguments]
    output = command(*arguments, "--out", tmp_path / "out", code=1)
    assert message in output
    assert output.startswith("ntkit: ")
    assert list(tmp_path.iterdir()) == []


def test_a_model_of_images_refuses_what_is_no_image_of_its_size(images, fitted, command):
    model = fitted / "bars.npz"
    assert "got 8 x 4 pixels" in command("predict", model, images / "larger.npz", code=1)
    assert "--missing has no meaning here" in command(
        "predict", model, images / "new.npz", "--missing", "drop", code=1
    )
    (images / "table.csv").write_text("a,b")
    assert "ends in .npz" in command("predict", model, images / "table.csv", code=1)


def test_a_table_without_a_target_is_a_wrong_command_line(images, command):
    assert "column to predict" in command("fit", "table.csv", "--out", images / "none", code=2)
