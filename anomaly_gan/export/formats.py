"""The two kinds of exported files: how each is written, and run again."""

import json
import logging
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from jaxtyping import UInt8
from numpy import ndarray
from torch.export import ExportedProgram

from anomaly_gan.errors import UserError
from anomaly_gan.export.graph import INPUT

METADATA = "anomaly_gan"
"""The key under which a file says what it holds, as JSON."""

LARGEST_ONNX = 2 * 10**9
"""Bytes. An ONNX file is one protobuf message, which ends at 2 GiB."""

Outputs = dict[str, ndarray]
"""By name, in the order of the metadata's `outputs`."""

Runner = Callable[[UInt8[ndarray, "batch channels height width"]], Outputs]


class Format(ABC):
    """A kind of file."""

    suffix: str

    @abstractmethod
    def check(self) -> None:
        """Before any work.

        Raises:
            UserError: its libraries are missing.
        """

    @abstractmethod
    def write(self, program: ExportedProgram, metadata: Mapping[str, Any], path: Path) -> None:
        """Write `program` to `path`, which ends in `suffix`.

        Raises:
            UserError: it does not fit this kind of file.
        """

    @abstractmethod
    def open(self, path: Path) -> tuple[Runner, dict[str, Any]]:
        """What a file of this kind computes, on the CPU, and its metadata."""


class Torch(Format):
    """`torch.export`'s archive."""

    suffix = ".pt2"

    def check(self) -> None:
        return None  # it needs torch alone

    def write(self, program: ExportedProgram, metadata: Mapping[str, Any], path: Path) -> None:
        for weights in program.parameters():  # so that whoever runs it may call .numpy() on what comes
            weights.requires_grad_(False)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of channels_last weights it says that they may be incomplete
            torch.export.save(program, path, extra_files={METADATA: json.dumps(metadata)})

    def open(self, path: Path) -> tuple[Runner, dict[str, Any]]:
        extra: dict[str, Any] = {METADATA: ""}
        module = torch.export.load(path, extra_files=extra).module()

        def run(images: ndarray) -> Outputs:
            with torch.inference_mode():
                outputs = module(torch.from_numpy(images))
            return {name: values.numpy() for name, values in outputs.items()}

        return run, json.loads(extra[METADATA])


class Onnx(Format):
    """For ONNX Runtime and its like."""

    suffix = ".onnx"

    def check(self) -> None:
        missing = [name for name in ("onnx", "onnxscript", "onnxruntime") if find_spec(name) is None]
        if missing:
            raise UserError(
                f"format=onnx: {' and '.join(missing)} not installed; pip install 'anomaly-gan[export]'"
            )

    def write(self, program: ExportedProgram, metadata: Mapping[str, Any], path: Path) -> None:
        size = sum(
            tensor.numel() * tensor.element_size()
            for tensor in [*program.state_dict.values(), *program.constants.values()]
            if isinstance(tensor, torch.Tensor)
        )
        if size > LARGEST_ONNX:
            raise UserError(
                f"format=onnx: weights and bank have {size / 2**30:.1f} GiB, an ONNX file ends at 2; "
                "format=torch has no such end"
            )
        logging.getLogger("onnxscript").setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the exporter's own use of torch
            exported = torch.onnx.export(program, dynamo=True, verbose=False)
        assert exported is not None
        model = exported.model
        for value, name in zip(model.graph.outputs, metadata["outputs"], strict=True):
            value.name = name
        # It names files of the machine that exported, and is as long as the rest.
        parts: list[Any] = [model, model.graph, *model.graph.all_nodes()]
        for part in parts:
            part.metadata_props.clear()
        model.metadata_props[METADATA] = json.dumps(metadata)
        exported.save(path, external_data=False)

    def open(self, path: Path) -> tuple[Runner, dict[str, Any]]:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()  # it would take all there are
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        names = [output.name for output in session.get_outputs()]

        def run(images: ndarray) -> Outputs:
            return dict(zip(names, session.run(names, {INPUT: images}), strict=True))

        return run, json.loads(session.get_modelmeta().custom_metadata_map[METADATA])


FORMATS: dict[str, Format] = {"torch": Torch(), "onnx": Onnx()}
