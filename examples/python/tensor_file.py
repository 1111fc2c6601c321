"""Reads and writes safetensors files of numbers that numpy has, with numpy alone.

The package safetensors does the same: save_file(tensors, path, metadata), load_file(path).
"""

import json
import os

import numpy

CODES = {"F": "f", "I": "i", "U": "u"}
TYPES = {
    f"{kind}{8 * size}": numpy.dtype(f"<{CODES[kind]}{size}")
    for kind in CODES
    for size in (1, 2, 4, 8)
    if (kind, size) != ("F", 1)
}
TYPES["BOOL"] = numpy.dtype("?")
NAMES = {dtype: name for name, dtype in TYPES.items()}


def write(path, tensors, metadata):
    """tensors: arrays by name; metadata: texts by name, the settings of a model."""
    header, parts, place = {"__metadata__": metadata}, [], 0
    for name, array in sorted(tensors.items()):
        part = numpy.ascontiguousarray(array).tobytes()
        header[name] = {
            "dtype": NAMES[array.dtype],
            "shape": list(array.shape),
            "data_offsets": [place, place + len(part)],
        }
        place += len(part)
        parts.append(part)
    text = json.dumps(header).encode()
    with open(f"{path}.tmp", "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text + b"".join(parts))
    os.replace(f"{path}.tmp", path)


def read(path):
    """Returns the arrays by name, and the texts by name."""
    with open(path, "rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        data = file.read()
    metadata = header.pop("__metadata__", {})
    tensors = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        values = numpy.frombuffer(data[begin:end], TYPES[entry["dtype"]])
        tensors[name] = values.reshape(entry["shape"]).copy()
    return tensors, metadata
