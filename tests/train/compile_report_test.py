"""What compile-check counts, on programs whose cost can be said by hand."""

import functools
import types

import jax
import jax.numpy as jnp
import pytest

from asymtalker_jax.train import compile_report
from asymtalker_jax.train import hlo_cost
from asymtalker_jax.train import needed_flops

# pylint: disable=line-too-long
# As the TPU compiler writes them, shortened: a loop of 4 trips around a product
# and a gather of parameters.
PROGRAM = """
HloModule step

%body (p: (s32[], f32[8,16])) -> (s32[], f32[8,16]) {
  %p = (s32[], f32[8,16]{1,0}) parameter(0)
  %i = s32[] get-tuple-element(%p), index=0
  %x = f32[8,16]{1,0} get-tuple-element(%p), index=1
  %w = f32[4,16]{1,0} constant({...})
  %all-gather.1 = f32[16,16]{1,0} all-gather(%w), replica_groups=[2,4]<=[8]
  %dot.1 = f32[8,16]{1,0} dot(%x, %all-gather.1), lhs_contracting_dims={1}, rhs_contracting_dims={0}, metadata={op_name="layer/mlp"}
  ROOT %t = (s32[], f32[8,16]{1,0}) tuple(%i, %dot.1)
}

%condition (q: (s32[], f32[8,16])) -> pred[] {
  %q = (s32[], f32[8,16]{1,0}) parameter(0)
  %j = s32[] get-tuple-element(%q), index=0
  %n = s32[] constant(4)
  ROOT %less = pred[] compare(%j, %n), direction=LT
}

ENTRY %main (a: f32[8,16]) -> f32[8,16] {
  %a = f32[8,16]{1,0} parameter(0)
  %zero = s32[] constant(0)
  %start = (s32[], f32[8,16]{1,0}) tuple(%zero, %a)
  %while.1 = (s32[], f32[8,16]{1,0}) while(%start), condition=%condition, body=%body
  %out = f32[8,16]{1,0} get-tuple-element(%while.1), index=1
  ROOT %all-reduce.1 = f32[8,16]{1,0} all-reduce(%out), replica_groups={{0,1,2,3,4,5,6,7}}, to_apply=%sum
}
"""

EXHAUSTED = """RESOURCE_EXHAUSTED: XLA:TPU compile permanent error. Ran out of
memory in memory space hbm. Used 20.00G of 15.75G hbm.

  Largest program allocations in hbm:

  1. Size: 9.00G
     Operator: op_name="jit(step)/attention/logits" source_file="dit.py"
     Shape: f32[4,12,9216,9216]{3,2,1,0:T(8,128)}
     Unpadded size: 9.00G
  ==========================

  2. Size: 512.00M
     Shape: bf16[4,9216,8960]{2,1,0}
"""


def test_loops_multiply_products_and_collectives():
  cost = hlo_cost.Module(PROGRAM, {}, 8).cost()
  assert cost.flops == 4 * 2 * 8 * 16 * 16
  # A chip passes its 4 x 16 floats on to the 3 others of its group; an
  # all-reduce sends 2 (n - 1) / n of the array.
  assert cost.sent['all-gather'] == 4 * 3 * 4 * 16 * 4
  assert cost.sent['all-reduce'] == 2 * 7 / 8 * 8 * 16 * 4
  assert cost.count == {'all-gather': 4, 'all-reduce': 1}


def test_largest_arrays_are_named_by_their_origin():
  what, size = hlo_cost.Module(PROGRAM, {}, 8).largest()[0]
  assert (what, size) == ('f32[16, 16] all-gather', 1024)


def test_text_that_is_no_program_is_refused():
  with pytest.raises(ValueError, match='ENTRY'):
    hlo_cost.Module('nothing', {}, 8)


def test_scans_conditions_and_gradients_are_counted():
  def loss(w, x):
    layer = lambda x, _: (jnp.tanh(x @ w), None)
    return jax.lax.scan(layer, x, length=5)[0].sum()

  args = jnp.zeros((16, 16)), jnp.zeros((8, 16))
  one = 2 * 8 * 16 * 16
  assert needed_flops.needed_flops(loss, args, {}) == 5 * one
  # Backwards: by x and by w in every layer.
  grad = jax.grad(loss)
  assert needed_flops.needed_flops(grad, args, {}) == 15 * one
  choose = lambda w, x: jax.lax.cond(x.sum() > 0, lambda: x @ w, lambda: x)
  assert needed_flops.needed_flops(choose, args, {}) == one


def test_loops_of_unknown_length_need_a_mean():
  def steps(x, n):
    with jax.named_scope('prefix'):
      return jax.lax.fori_loop(0, n, lambda _, x: x @ x, x)

  args = jnp.zeros((4, 4)), jnp.asarray(3)
  count = functools.partial(needed_flops.needed_flops, steps, args)
  assert count({'prefix': 1.5}) == 1.5 * 2 * 4**3
  with pytest.raises(ValueError, match='no length known'):
    count({'other': 1.5})


def test_products_with_padding_do_not_count():
  def convolve(x, w):
    return jax.lax.conv_general_dilated(x, w, (1,), 'SAME')

  args = jnp.zeros((1, 2, 6)), jnp.zeros((4, 2, 3))
  # 6 outputs of 3 taps, of which the two at the ends meet the padding.
  assert needed_flops.needed_flops(convolve, args, {}) == 2 * 2 * 4 * (18 - 2)


def test_out_of_memory_names_the_largest_buffers():
  assert compile_report.largest_of_error(EXHAUSTED) == [
      ['f32[4,12,9216,9216]{3,2,1,0:T(8,128)} jit(step)/attention/logits',
       round(9 * 2**30 / 1e9, 3)],
      ['bf16[4,9216,8960]{2,1,0}', round(2**29 / 1e9, 3)],
  ]


def program(error=None, flops=0):
  """A program whose compilation fails, or takes 12 GB."""
  def compile_():
    if error:
      raise jax.errors.JaxRuntimeError(error)
    stats = types.SimpleNamespace(
        argument_size_in_bytes=4e9, output_size_in_bytes=3e9,
        alias_size_in_bytes=3e9, temp_size_in_bytes=7e9,
        generated_code_size_in_bytes=1e9,
    )
    return types.SimpleNamespace(
        memory_analysis=lambda: stats, as_text=lambda: PROGRAM
    )

  lowered = types.SimpleNamespace(compile=compile_)
  plain = lambda x: x @ x
  return types.SimpleNamespace(
      name='teacher', examples=8, args=(jnp.zeros((16, 16)),), trips={},
      function=types.SimpleNamespace(lower=lambda *_: lowered),
      plain=lambda: plain,
  )


@pytest.mark.parametrize('hbm_gb, fits', [(16, True), (11.9, False)])
def test_memory_is_compared_with_the_chip(hbm_gb, fits):
  mesh = jax.make_mesh((1,), ('data',))
  chip = compile_report.Chip(
      hbm_gb=hbm_gb, flops=1e6, hbm_gb_per_s=1e-3, ici_gb_per_s=1e-3
  )
  report = compile_report.check(program(), mesh, chip)
  assert report['fits'] == fits
  assert report['hbm_gb'] == dict(
      arguments=4, results=0, temporaries=7, program=1, total=12
  )
  assert report['needed_flops'] == 2 * 16**3
  assert report['roofline_s']['compute'] == round(16384 / 1e6, 4)
  assert report['step_s'] == max(report['roofline_s'].values())
  text = compile_report.text_of(report, chip)
  assert ('DOES NOT FIT' in text) != fits


def test_a_step_that_is_too_large_is_an_answer_not_an_error():
  mesh = jax.make_mesh((1,), ('data',))
  chip = compile_report.CHIPS['v5e']
  report = compile_report.check(program(EXHAUSTED), mesh, chip)
  assert not report['fits'] and report['largest_buffers'][0][1] > 9
  text = compile_report.text_of(report, chip)
  assert 'DOES NOT FIT 16 GB' in text and 'attention/logits' in text
  with pytest.raises(jax.errors.JaxRuntimeError, match='INTERNAL'):
    compile_report.check(program('INTERNAL: no'), mesh, chip)


@pytest.mark.parametrize('topology', ('v9:2x2', 'v5e', 'v5e:256', 'v5e:2x2x'))
def test_unknown_topologies_are_refused_with_the_choices(topology):
  with pytest.raises(ValueError, match='v5e:16x16, with one of'):
    compile_report.devices(topology)
