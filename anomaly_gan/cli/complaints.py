"""What went wrong, in one line on standard error, with its exit code. Nothing heavy is imported here."""

import sys

from anomaly_gan.errors import is_of_memory

KEEPS_RUNS = ("train", "evaluate")
"""The commands that leave a run's folder."""


def complain(message: str) -> int:
    """Say in one line what is wrong; the exit code for it."""
    print(f"anomaly-gan: {' '.join(message.split())}", file=sys.stderr)
    return 2


def complain_of_files(error: OSError, command: str) -> int:
    """Say in one line which file or folder of `command` cannot be used; the exit code for it."""
    if error.strerror is None:  # not from the file system
        raise error
    place = f"{error.filename}: " if error.filename else ""
    remedy = "; paths.runs=FOLDER chooses another place for runs" if command in KEEPS_RUNS else ""
    return complain(f"{place}{error.strerror}{remedy}")


def complain_of_memory(error: Exception) -> int:
    """Say in one line that memory, here or of the device, did not suffice; the exit code for it."""
    if not is_of_memory(error):
        raise error
    told = " ".join(str(error).split())
    return complain(
        f"not enough memory ({told[:200] or 'none left'}); "
        "try a smaller batch_size, width, data.image_size, data.evaluation_batch_size or scoring.chunk"
    )
