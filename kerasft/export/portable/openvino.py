"""OpenVINO, for Intel's processors: `model.xml` and `model.bin`."""

import tempfile
from pathlib import Path

from kerasft.console import stderr_filter
from kerasft.export.portable.format import Format, Source
from kerasft.export.portable.onnx import FILE as ONNX_FILE
from kerasft.export.portable.onnx import write_float

FILE = "model.xml"


def openvino() -> Format:
    """Returns the format, in float32. It is converted from ONNX."""

    def write(source: Source, folder: Path) -> None:
        import openvino as runtime

        with tempfile.TemporaryDirectory() as place, stderr_filter.without_notices():
            path = Path(place) / ONNX_FILE
            write_float(source.network, path)
            runtime.save_model(runtime.convert_model(path), folder / FILE, compress_to_fp16=False)

    return Format(
        name="openvino",
        runtime="openvino",
        packages=("tf2onnx", "onnx", "openvino"),
        requirements=("numpy", "openvino", "pillow"),
        exact=True,
        write=write,
    )
