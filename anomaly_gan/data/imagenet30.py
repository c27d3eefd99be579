"""ImageNet-30 (Hendrycks et al., 2019): 30 ImageNet classes without overlap, as a folder tree."""

from pathlib import Path
from typing import Any

from anomaly_gan.data.folder import Folder
from anomaly_gan.data.module import class_index
from anomaly_gan.data.scan import scan
from anomaly_gan.data.tree import Files, Tree, contents
from anomaly_gan.errors import UserError

WNIDS = {
    "acorn": "n12267677",
    "airliner": "n02690373",
    "ambulance": "n02701002",
    "american_alligator": "n01698640",
    "banjo": "n02787622",
    "barn": "n02793495",
    "bikini": "n02837789",
    "digital_clock": "n03196217",
    "dragonfly": "n02268443",
    "dumbbell": "n03255030",
    "forklift": "n03384352",
    "goblet": "n03443371",
    "grand_piano": "n03452741",
    "hotdog": "n07697537",
    "hourglass": "n03544143",
    "manhole_cover": "n03717622",
    "mosque": "n03788195",
    "nail": "n03804744",
    "parking_meter": "n03891332",
    "pillow": "n03938244",
    "revolver": "n04086273",
    "rotary_dial_telephone": "n03187595",
    "schooner": "n04147183",
    "snowmobile": "n04252077",
    "soccer_ball": "n04254680",
    "stingray": "n01498041",
    "strawberry": "n07745940",
    "tank": "n04389033",
    "toaster": "n04442312",
    "volcano": "n09472597",
}
"""Class name -> WordNet id, either of which may name the class's folder."""


class ImageNet30(Folder):
    """1,300 training and 100 test images a class, cropped to 224x224 as ImageNet's are.

    Folders: `one_class_{train,test}/<name>/images/*` (the public archive) or `{train,test}/<name or wnid>/*`;
    other classes beside the 30 are ignored.

    Args:
        **options: see Folder.
    """

    def __init__(
        self,
        *,
        name: str = "imagenet30",
        image_size: int = 224,
        channels: int = 3,
        resize: str = "crop",
        **options: Any,
    ):
        super().__init__(name=name, image_size=image_size, channels=channels, resize=resize, **options)

    def read_tree(self) -> Tree:
        """The files of the 30 classes.

        Raises:
            UserError: a class has no training images, or there is no test folder.
        """
        prefix = "one_class_" if (self.root / "one_class_train").is_dir() else ""
        train, test = (_read_split(self.root, f"{prefix}{split}") for split in ("train", "test"))
        lacking = [
            f"{split} images of {', '.join(name for name in WNIDS if name not in files.classes)}"
            for split, files in (("train", train), ("test", test))
            if not set(WNIDS) <= set(files.classes)
        ]
        if lacking:
            raise UserError(
                f"{self.root} lacks {' and '.join(lacking)}: it holds {contents(self.root)}; {HELP}"
            )
        names = tuple(WNIDS)
        return Tree(names, train, test, names[class_index(self.requested_class or 0, names, self.name)])

    def preview(self) -> list[str]:
        """Nothing: a benchmark is known."""
        return []

    def missing_root(self) -> str:
        """The message where there is no `root`."""
        return f"data.root={self.root} is not a folder; {HELP}"


HELP = (
    "expected one_class_{train,test}/<name>/images/* (unpack the public ImageNet-30 archive there) or "
    "{train,test}/<name or wnid>/* (copy the 30 classes of an ImageNet tree)"
)


def _read_split(root: Path, split: str) -> Files:
    names, classes = [], []
    for name, wnid in WNIDS.items():
        for folder in (name, wnid):
            if (root / split / folder).is_dir():
                found = scan(root, f"{split}/{folder}").images
                names += found
                classes += [name] * len(found)
    return Files(names, classes)
