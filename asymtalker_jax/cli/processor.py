"""What XLA is told about the processor, before JAX starts."""

import importlib.metadata
import importlib.util
import os

_FLAG = '--xla_cpu_experimental_ynn_fusion_type'


def choose_convolutions() -> None:
  """Lets Eigen compute convolutions on CPU, and YNNPACK the rest.

  With 32 to 192 channels Eigen's are 1.2 to 2 times as fast; YNNPACK's products
  of matrices are the faster ones (`asymtalker bench`, jaxlib 0.10.2). XLA ends
  the process at a flag that it does not know, so the flag is set for the
  versions that have it, and not beside libtpu, which reads the flags too. What
  XLA_FLAGS already says about it stays.
  """
  flags = os.environ.get('XLA_FLAGS', '')
  known = importlib.metadata.version('jaxlib').startswith('0.10.')
  if not known or _FLAG in flags or importlib.util.find_spec('libtpu'):
    return
  own = f'{_FLAG}=-LIBRARY_FUSION_TYPE_INDIVIDUAL_CONVOLUTION'
  os.environ['XLA_FLAGS'] = f'{flags} {own}'.strip()
