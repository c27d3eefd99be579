"""Whatever people name folders: what is not certainly normal is never learned from, nor a mask scored."""

from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anomaly_gan.data.scan import NOT_TAKEN, scan
from anomaly_gan.data.tree import Tree, read_tree
from anomaly_gan.errors import UserError
from anomaly_gan.own_files import MARK, mark

NORMAL = ["good", "ok", "normal", "nominal"]
ANOMALOUS = ["bad", "ng", "defect", "anomaly", "abnormal", "not ok"]
MASK = ["mask", "masks", "ground_truth"]
UNKNOWN = ["crack", "cat", "part 7", "2024-01-15", "0"]


def spelled(words: list[str]) -> st.SearchStrategy[str]:
    """The words in any case, with other separators."""
    forms = [str.lower, str.upper, str.title, str.capitalize, lambda word: word.replace("_", "-")]
    return st.builds(lambda word, form: form(word), st.sampled_from(words), st.sampled_from(forms))


def fill(root: Path, *places: str) -> Path:
    """Empty files: a layout is told by names."""
    for place in places:
        path = root / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def learned(tree: Tree) -> set[str]:
    return {name for name, label in zip(*tree.train, strict=True) if label == tree.normal}


def scored(tree: Tree) -> dict[str, bool]:
    """Whether each test image counts as normal."""
    return {} if tree.test is None else {n: label == tree.normal for n, label in zip(*tree.test, strict=True)}


class Layout(NamedTuple):
    """Files, and what is true of them."""

    normal: set[str]
    tested_normal: set[str]
    anomalous: set[str]
    masks: set[str]

    @property
    def files(self) -> set[str]:
        return set().union(*self)


@st.composite
def layouts(draw: st.DrawFn) -> Layout:
    """Folders named by the words that people use, with or without splits, deeper or not, with masks."""
    split = draw(st.booleans())
    train = f"{draw(spelled(['train', 'training']))}/" if split else ""
    test = f"{draw(spelled(['test', 'testing', 'val']))}/" if split else ""
    depth = draw(st.sampled_from(["", "cam1/", "cam1/left/"]))
    good = draw(spelled(NORMAL))
    normal = {f"{train}{depth}{good}/{i}.png" for i in range(3)}
    if draw(st.booleans()):
        normal.add(f"{train}{depth}{draw(spelled(NORMAL))}/deeper/9.jpg")
    bad = draw(st.lists(spelled(ANOMALOUS), max_size=3))
    anomalous = {f"{test}{depth}{name}/1.png" for name in bad}
    if not depth:
        anomalous |= {
            f"{test}{name}/x/2.png" for name in draw(st.lists(st.sampled_from(UNKNOWN), max_size=2))
        }
    tested_normal = {f"{test}{draw(spelled(NORMAL))}/5.png"} if split and draw(st.booleans()) else set()
    masks = {f"{draw(spelled(MASK))}/{name}/1_mask.png" for name in bad[:1]}
    if draw(st.booleans()):
        masks |= {f"{name.rpartition('.')[0]}_mask.png" for name in anomalous}
    return Layout(normal, tested_normal, anomalous, masks)


@settings(max_examples=150, deadline=None)
@given(layouts())
def test_what_is_named_is_learned_from_or_tested_as_it_is_named(tmp_path_factory, layout: Layout) -> None:
    root = fill(tmp_path_factory.mktemp("layout"), *layout.files)
    tree = read_tree(root, None)
    assert learned(tree) == layout.normal
    expected = dict.fromkeys(layout.tested_normal, True) | dict.fromkeys(layout.anomalous, False)
    assert scored(tree) == expected
    told = "\n".join(tree.told)
    assert (f"masks: {len(layout.masks)} in" in told) == bool(layout.masks)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(UNKNOWN), min_size=2, max_size=4, unique=True), st.booleans(), st.data())
def test_where_nothing_says_what_is_normal_nothing_is_learned_until_it_is_said(
    tmp_path_factory, names: list[str], split: bool, data: st.DataObject
) -> None:
    below = "train/" if split else ""
    files = {f"{below}{name}/{i}.png" for name in names for i in range(2)}
    bad = f"{below}NG/1.png"
    root = fill(tmp_path_factory.mktemp("layout"), *files, bad)
    with pytest.raises(UserError, match="nothing says which are normal") as refused:
        read_tree(root, None)
    message = str(refused.value)
    assert "\n" not in message
    assert all(f"{below}{name} (2)" in message for name in names)
    assert "normal_class=" in message
    chosen = data.draw(st.sampled_from(names))
    tree = read_tree(root, chosen)
    assert learned(tree) == {name for name in files if name.split("/")[-2] == chosen}
    assert not any(scored(tree).values())
    assert learned(read_tree(root, "good")) == files  # all but what is named for something bad


@pytest.mark.parametrize("split", ["", "train/"])
def test_the_only_class_that_is_not_named_for_something_bad_is_normal(tmp_path: Path, split: str) -> None:
    fill(tmp_path, f"{split}bolts/1.png", f"{split}NG/2.png", f"{split}NG/3.png")
    tree = read_tree(tmp_path, None)
    assert learned(tree) == {f"{split}bolts/1.png"}
    assert tree.normal == "bolts"


def test_one_class_alone_with_training_images_is_normal_whatever_its_name(tmp_path: Path) -> None:
    fill(tmp_path, "train/zebra/1.png", "test/zebra/2.png", "test/ant/3.png")
    tree = read_tree(tmp_path, None)
    assert (tree.normal, tree.class_names) == ("zebra", ("ant", "zebra"))
    assert scored(tree) == {"test/zebra/2.png": True, "test/ant/3.png": False}


def test_a_word_for_normal_in_the_test_part_means_what_was_learned_from(tmp_path: Path) -> None:
    fill(tmp_path, "train/images/1.png", "test/good/2.png", "test/scratch/3.png")
    assert scored(read_tree(tmp_path, None)) == {"test/good/2.png": True, "test/scratch/3.png": False}


def test_one_can_ask_for_what_is_named_bad(tmp_path: Path) -> None:
    fill(tmp_path, "train/OK/1.png", "train/NG/2.png", "test/OK/3.png", "test/NG/4.png")
    tree = read_tree(tmp_path, "ng")
    assert learned(tree) == {"train/NG/2.png"}
    assert scored(tree) == {"test/OK/3.png": False, "test/NG/4.png": True}
    assert any("train/OK (1): not of the normal class" in line for line in tree.told)


@pytest.mark.parametrize(
    ("places", "message"),
    [
        (["good/1.png", "2.png"], "both images and folders of images"),
        (["NG/1.png", "mask/2.png"], "nothing normal to learn from"),
        (["good/NG/1.png"], r"named for normal images \(good\) and for others \(NG\)"),
        (["train/a/1.png", "Training/a/1.png"], "two folders for one part of the data, Training and train"),
        (["val/good/1.png"], "has a val folder but no train folder"),
        (["bottle/train/good/1.png", "bottle/test/crack/1.png"], "give one data set, data.root=.*/bottle"),
        (["train/good/1.png", "val/2.png"], "outside of any class folder"),
        (
            ["runs/a/note.gif"],
            r"no images in .*; left out: 1 \.gif: kinds of image that are not read",
        ),
    ],
)
def test_what_is_not_certain_is_refused_in_a_line(tmp_path: Path, places: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message) as refused:
        read_tree(fill(tmp_path, *places), None)
    assert "\n" not in str(refused.value)


def test_val_is_tested_on_where_there_is_no_test_and_told_where_there_is(tmp_path: Path) -> None:
    fill(tmp_path, "train/good/1.png", "Val/good/2.png", "Val/bent/3.png")
    assert scored(read_tree(tmp_path, None)) == {"Val/good/2.png": True, "Val/bent/3.png": False}
    tree = read_tree(fill(tmp_path, "test/bent/4.png", "extra/5.png"), None)
    assert scored(tree) == {"test/bent/4.png": False}
    assert "left out: Val (2): test is tested on" in "\n".join(tree.left_out)
    assert "left out: extra (1): neither in train nor in test" in tree.left_out


def test_a_mask_beside_a_picture_is_known_by_the_picture(tmp_path: Path) -> None:
    fill(tmp_path, "good/0.png", "crack/000.jpg", "crack/000_mask.png", "crack/face_mask.png")
    found = scan(tmp_path)
    assert found.masks == ["crack/000_mask.png"]
    assert "crack/face_mask.png" in found.images


@pytest.mark.parametrize("suffix", NOT_TAKEN)
def test_image_files_of_other_kinds_are_counted(tmp_path: Path, suffix: str) -> None:
    fill(tmp_path, "1.png", f"a{suffix}", f"b{suffix.upper()}", "notes.txt")
    tree = read_tree(tmp_path, None)
    assert tree.left_out == [f"left out: 2 {suffix}: kinds of image that are not read; convert them to PNG"]


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("place", [".", "runs/digits/x", "predictions_explained"])
def test_pictures_that_this_program_drew_are_left_out_and_that_is_said(
    tmp_path: Path, place: str, old: bool
) -> None:
    figures = (Path(place) / "figures").as_posix()
    fill(tmp_path, "1.png", "2.png", f"{figures}/roc.png")
    assert learned(read_tree(tmp_path, "good")) == {"1.png", "2.png", f"{figures}/roc.png"}
    if old:
        fill(tmp_path, f"{place}/config.yaml", f"{place}/result.json")
    else:
        mark(tmp_path / figures)
        assert (tmp_path / figures / MARK).is_file()
    tree = read_tree(tmp_path, None)
    assert learned(tree) == {"1.png", "2.png"}
    assert tree.left_out == [f"left out: 1 pictures that anomaly-gan drew itself, in {figures}"]
    assert scan(tmp_path / figures).images == []
