"""The 1,797 real 8x8 digits that scikit-learn ships: always there, no download."""

from __future__ import annotations

import numpy as np

from landscape_sweep.data._source import Arrays, Report, Source, Spec

SPEC = Spec(name="digits", shape=(1, 8, 8), classes=10, train=1437, test=360)


def source(root: str, path: str | None) -> Source:
    """The digits; they are looked for nowhere, so `root` and `path` are not used."""
    return Source(SPEC, _read)


def _read(download: bool, report: Report) -> Arrays:
    """A fixed split, stratified by class. Pixels are counts from 0 to 16, here exactly times 15."""
    # Imported late: scikit-learn takes a second, and other data sets don't need it.
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    images = (15 * digits.images).astype(np.uint8)[..., None]
    labels = digits.target.astype(np.int64)
    x_train, x_test, y_train, y_test = train_test_split(
        images, labels, train_size=SPEC.train, test_size=SPEC.test, stratify=labels, random_state=0
    )
    return Arrays(x_train, y_train, x_test, y_test)
