"""Public data sets: where they are looked for, and where they come from. None is kept here."""

import csv
import gzip
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.tools import HERE

VARIABLE = "LEARNING_DATA"
"""The environment variable that names their folder; the default is `data/learning`."""

SOURCES = {
    "hillstrom": "the file of Kevin Hillstrom's MineThatData e-mail challenge (2008), gzipped",
    "obd": (
        "from the PyPI wheel obp 0.4.1: the samples in obp/dataset/obd, gzipped, and what its"
        " BernoulliTS(is_zozotown_prior=True, random_state=12345) says in"
        " compute_batch_action_dist(n_sim=100000), as .npz"
    ),
}

Row = Mapping[str, str]


class MissingDataSetError(Exception):
    """A data set is not there; the text says which, where it was looked for, and its source."""


def usual_folder() -> Path:
    """Return where the data sets are looked for, unless an option says otherwise."""
    return Path(os.environ.get(VARIABLE) or HERE.parent / "data" / "learning")


def path(folder: Path, source: str, name: str) -> Path:
    """Return the file of this name, or raise MissingDataSetError."""
    if not (folder / name).is_file():
        raise MissingDataSetError(
            f"{source}: not measured, because there is no {name}; the folder is data/learning,"
            f" or what {VARIABLE} or --data names. It is {SOURCES[source]}."
        )
    return folder / name


def rows(folder: Path, source: str, name: str) -> Sequence[Row]:
    """Read a gzipped table with a header."""
    with gzip.open(path(folder, source, name), "rt", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))
