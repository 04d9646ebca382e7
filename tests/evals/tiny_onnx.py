"""Small ONNX files, written without the package onnx."""

import numpy as np

_FLOAT, _INT64 = 1, 7  # TensorProto.DataType
_INTS = 7  # AttributeProto.AttributeType


def _varint(value: int) -> bytes:
  out = b''
  while value > 127:
    out += bytes([value & 127 | 128])
    value >>= 7
  return out + bytes([value])


def _message(*fields) -> bytes:
  """Protocol buffer of (number, value): int, str, or bytes of a message."""
  out = b''
  for number, value in fields:
    if isinstance(value, int):
      out += _varint(number << 3) + _varint(value)
    else:
      value = value.encode() if isinstance(value, str) else value
      out += _varint(number << 3 | 2) + _varint(len(value)) + value
  return out


def _value(name: str, shape) -> bytes:
  """ValueInfoProto of floats; a str in `shape` is a free dimension."""
  sizes = [(1, _message((1 if isinstance(n, int) else 2, n))) for n in shape]
  tensor = _message((1, _FLOAT), (2, _message(*sizes)))
  return _message((1, name), (2, _message((1, tensor))))


def node(kind: str, inputs: str, output: str, **attributes) -> bytes:
  """NodeProto; `inputs` are names with blanks between; attributes, lists of ints."""
  lists = [
      (5, _message((1, key), *((8, n) for n in values), (20, _INTS)))
      for key, values in attributes.items()
  ]
  names = [(1, name) for name in inputs.split()]
  return _message(*names, (2, output), (4, kind), *lists)


def tensor(name: str, value) -> bytes:
  """TensorProto of floats or int64."""
  value = np.asarray(value)
  kind = _FLOAT if value.dtype == np.float32 else _INT64
  sizes = [(1, n) for n in value.shape]
  return _message(*sizes, (2, kind), (8, name), (9, value.tobytes()))


def model(nodes, inputs, outputs, constants=()) -> bytes:
  """ModelProto; inputs and outputs are {name: shape}."""
  graph = _message(
      *((1, x) for x in nodes), (2, 'tiny'), *((5, x) for x in constants),
      *((11, _value(*x)) for x in inputs.items()),
      *((12, _value(*x)) for x in outputs.items()),
  )  # pyformat: disable
  opset = _message((1, ''), (2, 13))
  return _message((1, 8), (7, graph), (8, opset))
