"""A CSV file says what is learned from and what is tested."""

from pathlib import Path

import pytest

from anomaly_gan.data.masks import masks_of
from anomaly_gan.data.tree import Tree, read_tree
from anomaly_gan.errors import UserError

GOOD, BAD = "Data/Images/Normal", "Data/Images/Anomaly"


def fill(root: Path, *places: str) -> Path:
    """Empty files: a layout is told by names."""
    for place in places:
        (root / place).parent.mkdir(parents=True, exist_ok=True)
        (root / place).touch()
    return root


def learned(tree: Tree) -> set[str]:
    return {name for name, label in zip(*tree.train, strict=True) if label == tree.normal}


def scored(tree: Tree) -> dict[str, bool]:
    """Whether each test image counts as normal."""
    assert tree.test is not None
    return {name: label == tree.normal for name, label in zip(*tree.test, strict=True)}


def visa(above: Path) -> Path:
    """One kind of part in VisA's layout, beside another, and the split file that has both."""
    root = fill(
        above / "candle",
        *(f"{GOOD}/{i:04}.JPG" for i in range(4)),
        *(f"{BAD}/{i:03}.JPG" for i in range(2)),
        *(f"Data/Masks/Anomaly/{i:03}.png" for i in range(2)),
    )
    lines = ["object,split,label,image,mask"]
    lines += [f"candle,train,normal,candle/{GOOD}/{i:04}.JPG," for i in range(3)]
    lines += [f"candle,test,normal,candle/{GOOD}/0003.JPG,"]
    lines += [
        f"candle,test,anomaly,candle/{BAD}/{i:03}.JPG,candle/Data/Masks/Anomaly/{i:03}.png" for i in (0, 1)
    ]
    lines += [f"capsules,train,normal,capsules/{GOOD}/000.JPG,"]
    (above / "1cls.csv").write_text("\r\n".join(lines))
    return root


def test_the_layout_of_visa_is_read_as_its_split_file_says(tmp_path: Path) -> None:
    root = visa(tmp_path)
    tree = read_tree(root, None, tmp_path / "1cls.csv")
    assert learned(tree) == {f"{GOOD}/{i:04}.JPG" for i in range(3)}
    assert scored(tree) == {f"{GOOD}/0003.JPG": True, f"{BAD}/000.JPG": False, f"{BAD}/001.JPG": False}
    assert tree.test is not None
    assert masks_of(tree.test.names, tree.masks) == {
        f"{BAD}/{i:03}.JPG": f"Data/Masks/Anomaly/{i:03}.png" for i in range(2)
    }


def test_labels_of_the_file_hold_where_all_images_lie_in_one_folder(tmp_path: Path) -> None:
    root = fill(tmp_path / "parts", *(f"{i}.png" for i in range(6)))
    (root / "split.csv").write_text(
        "image,split,label\n0.png,train,ok\n1.png,train,ok\n2.png,test,ok\n3.png,test,scratch\n4.png,val,ok\n"
    )
    tree = read_tree(root, None, root / "split.csv")
    assert learned(tree) == {"0.png", "1.png"}
    assert scored(tree) == {"2.png": True, "3.png": False}
    assert tree.left_out == ["left out: 2 images that split.csv does not name"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "cannot be read as a CSV file"),
        ("", "the first line must name the columns image"),
        ("picture,split\n0.png,train\n", "the first line must name the columns image"),
        ("image,split\n0.png,learn\n", "line 2 has split 'learn': train or test"),
        ("image,split\n0.png,train\n./0.png,test\n", "line 3 names 0.png a second time"),
        ("image,split\n9.png,train\n", "it has no image below"),
        ("image,split\n0.png,test\n", "it has no image below"),
    ],
)
def test_a_file_that_says_nothing_certain_is_refused(tmp_path: Path, text: str | None, said: str) -> None:
    root, file = fill(tmp_path / "parts", "0.png", "1.png"), tmp_path / "split.csv"
    if text is not None:
        file.write_text(text)
    with pytest.raises(UserError, match=said):
        read_tree(root, None, file)
