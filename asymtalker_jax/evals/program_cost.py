"""Operations and bytes of a program, with the bodies of loops counted in full.

XLA's cost analysis counts the body of a loop once, however often it runs: the
blocks of a transformer, the steps of a sampler. Here every body is compiled by
itself, and what XLA left out is added, also of loops in loops:

  cost(f) = xla(f) + sum over outermost loops of n cost(body) - xla(body)  (1)

`matrix_flops` counts without XLA: matrix products and convolutions only, two
per multiply and add. A share of a device's peak is one of these.
"""

from collections.abc import Iterator
from typing import Any

import jax
from jax.extend import core
import numpy as np

_COSTS = {'flops': 'flops', 'bytes': 'bytes accessed'}


def matrix_flops(closed: core.ClosedJaxpr) -> float:
  """Operations of the matrix products and convolutions of a program.

  Args:
    closed: as `jax.make_jaxpr` or `jit(...).trace` give it.

  Raises:
    ValueError: a loop whose number of turns is not known.
  """
  total = sum(n * matrix_flops(body) for body, n in _loops(closed.jaxpr))
  return total + _straight_flops(closed.jaxpr)


def xla_cost(
    closed: core.ClosedJaxpr, compiled: jax.stages.Compiled | None = None
) -> dict[str, float]:
  """{'flops', 'bytes'} of a program by XLA's analysis and (1).

  Bytes are what all operations read and write after fusion, caches not
  considered.

  Args:
    closed: the program.
    compiled: the same, where it is compiled already.

  Raises:
    ValueError: a loop whose number of turns is not known.
  """
  return _once_and_in_full(closed, compiled)[1]


def _once_and_in_full(
    closed: core.ClosedJaxpr, compiled: jax.stages.Compiled | None = None
) -> tuple[dict[str, float], dict[str, float]]:
  """xla(f) and cost(f) of (1)."""
  if compiled is None:
    shapes = [
        jax.ShapeDtypeStruct(v.aval.shape, v.aval.dtype)
        for v in closed.jaxpr.invars
    ]
    function = jax.jit(core.jaxpr_as_fun(closed))
    compiled = function.lower(*shapes).compile()
  analysis = compiled.cost_analysis() or {}
  once = {k: float(analysis.get(name, 0.0)) for k, name in _COSTS.items()}
  total = dict(once)
  for body, turns in _loops(closed.jaxpr):
    if turns > 1:
      body_once, body_in_full = _once_and_in_full(body)
      for k in total:
        total[k] += turns * body_in_full[k] - body_once[k]
  return once, total


def _loops(
    jaxpr: core.Jaxpr,
) -> Iterator[tuple[core.ClosedJaxpr, int]]:
  """(body, turns) of the outermost loops, wherever they are called."""
  for equation in jaxpr.eqns:
    name, params = equation.primitive.name, equation.params
    if name == 'scan':
      yield params['jaxpr'], params['length']
    elif name == 'while':
      raise ValueError('while loop: expected loops of a known length')
    else:
      for inner in _called(params):
        yield from _loops(inner)


def _called(params: dict[str, Any]) -> Iterator[core.Jaxpr]:
  """What an equation calls once; of branches, which differ little, the last."""
  if 'branches' in params:
    params = {'branch': params['branches'][-1]}
  for value in params.values():
    if isinstance(value, core.ClosedJaxpr):
      yield value.jaxpr
    elif isinstance(value, core.Jaxpr):
      yield value


def _straight_flops(jaxpr: core.Jaxpr) -> float:
  """As `matrix_flops`, what is outside of loops."""
  total = 0.0
  for equation in jaxpr.eqns:
    name, params = equation.primitive.name, equation.params
    shapes = [np.shape(v.aval) for v in equation.invars if hasattr(v, 'aval')]
    if name == 'dot_general':
      contracted, _ = params['dimension_numbers'][0]
      terms = np.prod([shapes[0][i] for i in contracted])
      total += 2.0 * np.prod(equation.outvars[0].aval.shape) * terms
    elif name == 'conv_general_dilated':
      features = params['dimension_numbers'].rhs_spec[0]
      terms = np.prod(shapes[1]) / shapes[1][features]
      total += 2.0 * np.prod(equation.outvars[0].aval.shape) * terms
    elif 'dot_product_attention' in name:  # cuDNN's, which shows no products.
      total += 4.0 * np.prod(shapes[0]) * shapes[1][1]
    elif name != 'scan':
      total += sum(_straight_flops(inner) for inner in _called(params))
  return total
