"""The words that people name folders of images by."""

from functools import cache

TRAIN = {"train", "training"}
TEST = {"test", "testing"}
VALIDATION = {"val", "valid", "validation"}
NORMAL = {"good", "ok", "okay", "normal", "nominal"}
ANOMALOUS = {"bad", "ng", "nok", "notok", "notgood", "defect", "defects", "defective", "anomaly", "anomalies"}
ANOMALOUS |= {"anomalous", "abnormal"}
MASKS = {"mask", "masks", "groundtruth", "gt"}


@cache
def plain(folder: str) -> str:
    """A folder's name as the sets above have it: letters and digits alone, in lower case."""
    return "".join(letter for letter in folder.casefold() if letter.isalnum())


def is_mask_folder(folder: str) -> bool:
    """Whether a folder is named for masks, which say where a defect is."""
    return plain(folder) in MASKS
