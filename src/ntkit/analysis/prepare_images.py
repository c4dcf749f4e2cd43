"""From images to encoded training and test images, with everything the reader should know about what was done."""

import numpy as np
import polars as pl

from ntkit.analysis.prepare import FEWEST_ROWS, Prepared
from ntkit.analysis.results import ColumnSummary, DataSummary
from ntkit.analysis.settings import Settings
from ntkit.errors import ImageError
from ntkit.images.encode import ImageEncoder, class_names, class_numbers
from ntkit.images.image_set import ImageSet
from ntkit.tables.schema import Target
from ntkit.tables.split import stratified_rows, train_test_rows

LABEL = "label"
"""What the classes of images are called where a table has the name of a column."""


def prepare_images(
    images: ImageSet,
    test: ImageSet | None,
    settings: Settings,
    *,
    limit: int | None = None,
    resize: tuple[int, int] | None = None,
) -> Prepared:
    """Split, draw a part, encode.

    Raises:
        ImageError: for whatever in the images does not fit the settings.
    """
    if limit is not None and limit < FEWEST_ROWS:
        raise ImageError(f"Fitting images needs a limit (--limit) of at least {FEWEST_ROWS}, got {limit}.")
    notes: list[str] = []
    classes = class_names(images)
    target = Target(LABEL, "classification", classes)
    codes = class_numbers(images, target)
    if len(images) < FEWEST_ROWS:
        raise ImageError(
            f"Fitting images needs at least {FEWEST_ROWS} of them, got {len(images)}. Give more data."
        )
    rows = np.arange(len(images))
    if test is None:
        rows, test_rows = train_test_rows(len(images), settings.test_fraction, settings.seed, classes=codes)
        notes.append(f"Held out at random: {len(test_rows)} of {len(images)} images, seed {settings.seed}.")
        test_codes, held_out = codes[test_rows], images
    else:
        test_codes, held_out, test_rows = class_numbers(test, target), test, np.arange(len(test))
    if limit is not None:
        for what, available in (("Trained", len(rows)), ("Tested", len(test_rows))):
            if available > limit:
                notes.append(f"{what} on {limit} of {available} images, drawn at random class by class.")
        rows = rows[stratified_rows(codes[rows], limit, settings.seed)]
        test_rows = test_rows[stratified_rows(test_codes, limit, settings.seed)]
    if len(rows) > settings.max_rows:
        raise ImageError(
            f"Exact kernels need at most max_rows={settings.max_rows} training images, got {len(rows)} (memory and the "
            "kernel's time grow with their square). Draw a part with limit (--limit), or raise max_rows (--max-rows)."
        )
    train, test_images = images.chosen(rows), held_out.chosen(test_rows)
    encoder = ImageEncoder.fit(train, classes, name=LABEL, resize=resize)
    x, x_test = encoder.points(train), encoder.points(test_images)
    counts = ", ".join(f"{name}: {int((codes == code).sum())}" for code, name in enumerate(classes[:12]))
    summary = DataSummary(
        rows=len(images) + (0 if test is None else len(test)),
        train_rows=len(x),
        test_rows=len(x_test),
        features=int(np.prod(encoder.shape)),
        columns=(),
        target=ColumnSummary(LABEL, "classes", 0, counts + (", …" if len(classes) > 12 else "")),
        notes=tuple(notes),
        image_shape=encoder.shape,
    )
    truth = pl.Series(LABEL, [str(label) for label in test_images.labels])  # type: ignore[union-attr]
    return Prepared(
        encoder,
        x,
        encoder.targets(train),
        rows,
        x_test,
        encoder.targets(test_images),
        test_rows,
        truth,
        summary,
        test_images.names,
    )
