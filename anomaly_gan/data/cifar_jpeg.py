"""CIFAR-10's images as JPEG files, as a folder tree."""

from anomaly_gan.data.folder import Folder


class CIFAR10JPEG(Folder):
    """`{train,test}/<class>/*.jpg`: a folder like any other, but one says how to get it; see Folder."""

    def preview(self) -> list[str]:
        """Nothing: a benchmark is known."""
        return []

    def missing_root(self) -> str:
        """The message where there is no `root`."""
        return f"data.root={self.root} is not a folder; {HELP}"


HELP = (
    "expected {train,test}/<class>/*.jpg, CIFAR-10's 50,000 + 10,000 images by class as JPEG (quality 75): "
    "put such a folder there, or use data=cifar10 data.download=true, the original images"
)
