"""Which class each image file of a folder belongs to, and which class is normal.

Nothing that is not certain is learned from.
"""

import os
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

from anomaly_gan.data.decode import SUFFIXES
from anomaly_gan.data.places import NORMAL_KEY, PLACES_TOLD, Place, Placed, counted, placed_in
from anomaly_gan.data.scan import Scan, scan, some
from anomaly_gan.data.split_file import placed_by
from anomaly_gan.data.words import NORMAL, TEST, TRAIN, VALIDATION, plain
from anomaly_gan.errors import UserError, nearest

GOOD = "good"
"""Class of normal images where the folders do not say otherwise (MVTec AD's name)."""


class Files(NamedTuple):
    """Image files of one split, sorted by path."""

    names: list[str]
    """Paths relative to the root, with forward slashes."""
    classes: list[str]
    """Class of each file."""


@dataclass(frozen=True)
class Tree:
    """A folder of images, read."""

    class_names: tuple[str, ...]
    """ "good" first, the others sorted."""
    train: Files
    """Of every class that has images to learn from."""
    test: Files | None
    normal: str
    """The class that is learned from."""
    told: list[str] = field(default_factory=list)
    """Which sub-folders are learned from and tested on, and what is left out, for a person, in lines."""
    left_out: list[str] = field(default_factory=list)
    """The last of these lines."""
    masks: list[str] = field(default_factory=list)
    """Pictures of where a defect is: paths, as in `Files`."""


def read_tree(root: Path, asked: int | str | None, split_file: Path | None = None) -> Tree:
    """Recognise the layout of `root`, or take it from a file.

    - `train/<class>/*` and `test/<class>/*`: classes by folder, at any depth below it. MVTec AD's layout is
      this one with "good" alone in train. Images directly in `train` are all of one class, "good". Without a
      test part, `val` is the test part.
    - no train folder: images and folders of images, all to learn from but those in folders that are named for
      something bad. What is not learned from is tested.

    Names of splits and words for normal, anomalous and masks (`words`) count in any case and at any depth. A
    class whose folder is named by a word for normal is the normal one, or the only one that has training
    images; otherwise it must be said.

    Args:
        root: a folder.
        asked: name of the normal class, else its index in `Tree.class_names`; "good" where no folder is named
            so: all that is not named for something bad. None: what the layout says.
        split_file: see `split_file.placed_by`; what it does not name is left out.

    Raises:
        UserError: there are no images, it is unclear what class they have or which is normal, or the class
            asked for has no training images.
    """
    splits = {} if split_file else _splits(root)
    found = scan(root, apart=splits.values())
    left_out = found.left_out()
    if split_file:
        images, tested = placed_by(split_file, found.images, root)
        unused = len(found.images) - len(images) - len(tested)
        left_out += [f"left out: {unused} images that {split_file.name} does not name"] if unused else []
    else:
        images, tested = _placed_by_folders(root, splits, found, left_out)
    outside = [place.path for place in tested.values() if not place.label]
    if outside:
        raise UserError(
            f"{root}/{outside[0]} holds images outside of any class folder: "
            f"move them into {root}/{outside[0]}/{GOOD} or {root}/{outside[0]}/<defect>"
        )
    normal_keys = _decide(images, tested, asked, root / splits.get("train", ""))
    tree = _tree(images, tested, normal_keys, bool(splits or split_file), left_out)
    return replace(tree, masks=found.masks)


def _placed_by_folders(
    root: Path, splits: dict[str, str], found: Scan, left_out: list[str]
) -> tuple[Placed, Placed]:
    """What is learned from and what is tested, by folders; what is neither is told in `left_out`."""
    train_folder = splits.get("train", "")
    if splits and not train_folder:
        one = next(iter(splits.values()))
        raise UserError(f"{root} has a {one} folder but no train folder: put normal images in {root}/train")
    images = placed_in(found.images, train_folder, root)
    if not images:
        where = root / train_folder
        unused = "".join(f"; {line}" for line in left_out)
        raise UserError(f"no images in {where}: it holds {contents(where)}{unused}; {EXPECTED}")
    tested: Placed = {}
    if train_folder:
        test_folder = splits.get("test") or splits.get("val")
        left_out += _other_folders(found.images, train_folder, test_folder, splits)
        if test_folder:
            tested = placed_in(found.images, test_folder, root)
    else:
        _refuse_splits_below(images, root)
    return images, tested


def _tree(images: Placed, tested: Placed, normal_keys: set[str], split: bool, left_out: list[str]) -> Tree:
    """Name the classes, where those of `normal_keys` are the normal one."""
    labels = {place.key: place.label for place in reversed([*images.values(), *tested.values()])}
    ours = [labels[key] for key in labels if key in normal_keys]
    normal = ours[0] if len(ours) == 1 and ours[0] else GOOD
    in_train = {place.key: place for place in images.values()}
    if NORMAL_KEY not in in_train and all(in_train[key].normal is not False for key in normal_keys):
        normal_keys = normal_keys | {NORMAL_KEY}  # of the test part: a word for what is learned from

    def class_of(place: Place) -> str:
        return normal if place.key in normal_keys else labels[place.key] or GOOD

    train = {name: class_of(place) for name, place in images.items()}
    if split:
        others = [place for name, place in images.items() if train[name] != normal]
        if others:
            left_out = [f"left out: {counted(others)}: not of the normal class", *left_out]
    else:
        tested = {name: place for name, place in images.items() if train[name] != normal}
    test = {name: class_of(place) for name, place in tested.items()}
    learned = [place for name, place in images.items() if train[name] == normal]
    several = len({*images.values(), *tested.values()}) > 1
    told = [f"learned from: {counted(learned)}"] if several else []
    for what, is_normal in (("normal", True), ("anomalous", False)):
        places = [place for name, place in tested.items() if (test[name] == normal) == is_normal]
        if places:
            told.append(f"tested on, {what}: {counted(places)}")
    class_names = sorted({*train.values(), *test.values()}, key=lambda name: (name != GOOD, name))
    return Tree(
        class_names=tuple(class_names),
        train=Files(list(train), list(train.values())),
        test=Files(list(test), list(test.values())) if test else None,
        normal=normal,
        told=told + left_out,
        left_out=left_out,
    )


def _decide(images: Placed, tested: Placed, asked: int | str | None, where: Path) -> set[str]:
    """The keys of the classes that are the normal one.

    Args:
        images: that can be learned from.
        tested: those of the test part.
        asked: see `read_tree`.
        where: the folder of the former, for messages.
    """
    places = {place.key: place for place in reversed([*images.values()])}
    learnable = {key for key, place in places.items() if place.normal is not False}
    everything = {place.key: place.label or GOOD for place in reversed([*images.values(), *tested.values()])}
    if asked is not None and plain(str(asked)) in NORMAL and learnable:
        return learnable & {NORMAL_KEY} or learnable
    if asked is not None:
        key = _key_asked_for(str(asked), everything)
        if key in places:
            return {key}
        if key is None:
            hints = nearest(str(asked), list(everything.values()))
            raise UserError(f"normal_class={asked} is no class of {where}: {hints} (or an index)")
        raise UserError(
            f"no training images of normal_class={everything[key]} in {where}; "
            f"classes with training images: {', '.join(sorted(everything[k] for k in places))}"
        )
    certain = learnable & {NORMAL_KEY} or learnable
    if len(certain) == 1 and not (NORMAL_KEY in certain and "" in learnable):
        return certain
    found = counted(images.values())
    if not learnable:
        raise UserError(
            f"nothing normal to learn from in {where}: {found}; put good images into a folder named "
            f"{GOOD}, or name the class that is normal: normal_class=NAME"
        )
    names = sorted(place.label for key, place in places.items() if key in learnable and place.label)
    one = f"normal_class={names[0]} learns from that folder alone"
    everything_good = "" if NORMAL_KEY in learnable else f", normal_class={GOOD} from all of them"
    what = "both images and folders of images" if "" in learnable else "several folders of images"
    raise UserError(
        f"{where} holds {what}, and nothing says which are normal: {found}; {one}{everything_good}"
    )


def _key_asked_for(asked: str, names: dict[str, str]) -> str | None:
    """The key of the class that `asked` names, exactly, in another case, or by its index."""
    for key, name in names.items():
        if asked == name:
            return key
    if asked.casefold() in names:
        return asked.casefold()
    by_index = sorted(names, key=lambda key: (names[key] != GOOD, names[key]))
    if asked.isdecimal() and int(asked) < len(by_index):
        return by_index[int(asked)]
    return None


def _splits(root: Path) -> dict[str, str]:
    """The folders in `root` that are splits: "train", "test" and "val", each with the name it has there."""
    found: dict[str, str] = {}
    try:
        names = sorted(os.listdir(root))
    except OSError as error:
        raise UserError(f"{root}: this folder cannot be read ({error.strerror})") from error
    for name in names:
        for split, words in (("train", TRAIN), ("test", TEST), ("val", VALIDATION)):
            if plain(name) in words and not name.startswith(".") and (root / name).is_dir():
                if split in found:
                    raise UserError(
                        f"{root} has two folders for one part of the data, {found[split]} and {name}: "
                        "give them one name"
                    )
                found[split] = name
    return found


def _other_folders(names: list[str], train: str, test: str | None, splits: dict[str, str]) -> list[str]:
    """What lies beside the two parts, in lines."""
    unused = Counter(name.split("/", 1)[0] if "/" in name else "." for name in names)
    unused = Counter({place: count for place, count in unused.items() if place not in (train, test)})
    lines = []
    if splits.get("val") in unused:
        count = unused.pop(splits["val"])
        lines.append(
            f"left out: {splits['val']} ({count}): {test} is tested on, and the threshold comes from a part "
            f"of {train} (data.calibration_fraction)"
        )
    if unused:
        counts = [f"{place} ({count})" for place, count in unused.items()]
        parts = f"neither in {train} nor in {test}" if test else f"not in {train}"
        lines.append(f"left out: {some(counts, PLACES_TOLD)}: {parts}")
    return lines


def _refuse_splits_below(images: Placed, root: Path) -> None:
    """Refuse a folder of data sets: their test parts would be learned from."""
    for name in images:
        parts = name.split("/")[:-1]
        for depth, part in enumerate(parts):
            if plain(part) in TRAIN | TEST | VALIDATION:
                above = "/".join(parts[:depth])
                raise UserError(
                    f"{root}/{above} has a {part} folder of its own: give one data set, "
                    f"data.root={root}/{above}"
                )


def contents(folder: Path, shown: int = 8) -> str:
    """What lies in `folder`, for an error message."""
    entries = sorted(
        f"{entry.name}/" if os.path.isdir(entry.path) else entry.name
        for entry in os.scandir(folder)
        if not entry.name.startswith(".")
    )
    return some(entries, shown) if entries else "nothing"


EXPECTED = (
    f"expected {'/'.join(suffix[1:] for suffix in SUFFIXES)} files in train/<class>/ and test/<class>/, "
    f"in train/{GOOD}/ and test/{{{GOOD},<defect>}}/, in {GOOD}/ and <defect>/, or normal images alone"
)
