"""Floating point operations that a function needs, from its jaxpr.

Counts products (dot_general, convolutions) with the lengths of loops; all
else is two orders of magnitude less. XLA's own `cost_analysis` counts the body
of a loop once, however often it runs.
"""

from collections.abc import Callable, Mapping
import math
from typing import Any

import jax
import numpy as np

from asymtalker_jax.parallel import mesh as mesh_lib


def needed_flops(
    function: Callable[..., Any], args: tuple[Any, ...],
    trips: Mapping[str, float],
) -> float:
  """Returns the operations of function(*args), summed over all examples.

  Args:
    function: traced for one CPU, on any machine: fused kernels of others hide
      their products.
    args: arrays or shapes.
    trips: named scope -> mean trips of a loop in it whose length is not known
      before it runs.

  Raises:
    ValueError: a loop of unknown length outside of these scopes.
  """
  shapes = jax.tree.map(
      lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), args
  )
  with jax.sharding.use_abstract_mesh(mesh_lib.described('cpu')):
    closed = jax.make_jaxpr(function)(*shapes)
  return _count(closed.jaxpr, trips)


def loop_trips(name: str, trips: Mapping[str, float]) -> float:
  """Returns the mean trips of the loop with this scope path.

  Raises:
    ValueError: no scope of `trips` is in it.
  """
  found = [n for scope, n in trips.items() if scope in name.split('/')]
  if not found:
    raise ValueError(
        f'loop {name!r} has no length known before it runs: expected one of'
        f' the scopes {sorted(trips)} around it'
    )
  return found[-1]


def _count(jaxpr, trips: Mapping[str, float]) -> float:
  return sum(_of_equation(e, trips) for e in jaxpr.eqns)


def _of_equation(equation, trips: Mapping[str, float]) -> float:
  """Operations of one equation and of what it calls."""
  name, params = equation.primitive.name, equation.params
  if name == 'dot_general':
    (contract, _), _ = params['dimension_numbers']
    shape = equation.invars[0].aval.shape
    inner = math.prod(shape[axis] for axis in contract)
    return 2.0 * inner * math.prod(equation.outvars[0].aval.shape)
  if name == 'conv_general_dilated':
    return _of_convolution(equation)
  inside = [_count(j, trips) for j in _jaxprs(params)]
  if name == 'cond':
    return max(inside)
  if name == 'scan':
    return params['length'] * sum(inside)
  if name == 'while' and any(inside):
    stack = str(equation.source_info.name_stack)
    return loop_trips(stack, trips) * sum(inside)
  return sum(inside)


def _of_convolution(equation) -> float:
  """Products with values that lie in the input, not in its padding."""
  p = equation.params
  spec = p['dimension_numbers']
  lhs, rhs = (v.aval.shape for v in equation.invars)
  out = equation.outvars[0].aval.shape
  total = 2.0 * out[spec.out_spec[0]] * out[spec.out_spec[1]]
  total *= rhs[spec.rhs_spec[1]]  # Inputs of one group.
  for i, stride in enumerate(p['window_strides']):
    total *= valid_products(
        size=lhs[spec.lhs_spec[2 + i]], kernel=rhs[spec.rhs_spec[2 + i]],
        out=out[spec.out_spec[2 + i]], stride=stride,
        low=p['padding'][i][0], lhs_dilation=p['lhs_dilation'][i],
        rhs_dilation=p['rhs_dilation'][i],
    )
  return total


def valid_products(
    *, size: int, kernel: int, out: int, stride: int = 1, low: int = 0,
    lhs_dilation: int = 1, rhs_dilation: int = 1,
) -> int:
  """Returns how many (output, tap) pairs of one axis meet an input.

  Args:
    size: of the input.
    kernel: taps.
    out: size of the output.
    stride: of the window.
    low: padding before the input.
    lhs_dilation: of the input: gaps between values are not multiplied.
    rhs_dilation: of the window.
  """
  at = (
      stride * np.arange(out)[:, None]
      + rhs_dilation * np.arange(kernel)
      - low
  )
  inside = (at >= 0) & (at <= (size - 1) * lhs_dilation)
  return int((inside & (at % lhs_dilation == 0)).sum())


def _jaxprs(params: Mapping[str, Any]):
  """Yields the jaxprs among the parameters of an equation."""
  for value in params.values():
    for item in value if isinstance(value, (tuple, list)) else (value,):
      item = getattr(item, 'jaxpr', item)
      if hasattr(item, 'eqns'):
        yield item
