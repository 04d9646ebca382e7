"""Conversion tables: every key accounted for, in both directions."""

import jax
import numpy as np
import pytest

from asymtalker_jax.convert import rules

STACKED = rules.Table(
    rules=(
        rules.Rule(
            'blocks.{i:\\d+}.attn.{p:q|k}.weight',
            'blocks[{i}]/attn/{p}/kernel',
            rules.LINEAR,
        ),
        rules.Rule('patch.weight', 'patch/kernel', rules.CONV3D),
        rules.Rule('scale', 'scale', rules.drop_unit_axes(1, 2)),
    ),
    ignore=(r'text\..*',),
    constants={'std': np.float32([2, 3])},
)


def sources():
  rng = np.random.default_rng(0)
  draw = lambda *shape: rng.normal(size=shape).astype(np.float32)
  blocks = {
      f'blocks.{i}.attn.{p}.weight': draw(5, 4)
      for i in range(3)
      for p in 'qk'
  }
  rest = {'patch.weight': draw(5, 4, 1, 2, 3), 'scale': draw(1, 4, 1, 1)}
  return blocks | rest


def targets():
  shape = lambda *s: jax.ShapeDtypeStruct(s, np.float32)
  return {
      'blocks': {
          'attn': {p: {'kernel': shape(3, 4, 5)} for p in 'qk'},
      },
      'patch': {'kernel': shape(1, 2, 3, 4, 5)},
      'scale': shape(4),
      'std': shape(2),
  }


def test_stacked_layers_become_slices_of_one_parameter():
  tensors = sources()
  params = rules.convert(tensors, STACKED, targets())
  assert jax.tree.map(np.shape, params) == jax.tree.map(
      lambda t: t.shape, targets()
  )
  for i in range(3):
    np.testing.assert_array_equal(
        params['blocks']['attn']['k']['kernel'][i],
        tensors[f'blocks.{i}.attn.k.weight'].T,
    )
  np.testing.assert_array_equal(params['scale'], tensors['scale'][0, :, 0, 0])
  np.testing.assert_array_equal(params['std'], [2, 3])


def test_export_gives_back_every_bit():
  tensors = sources()
  exported = rules.export(
      rules.convert(tensors, STACKED, targets()), STACKED
  )
  assert exported.keys() == tensors.keys()
  for key, tensor in tensors.items():
    assert exported[key].dtype == tensor.dtype
    np.testing.assert_array_equal(exported[key], tensor)


@pytest.mark.parametrize(
    'transform, shape',
    [
        (rules.IDENTITY, (2, 3)),
        (rules.LINEAR, (2, 3)),
        (rules.CONV1D, (2, 3, 4)),
        (rules.CONV2D, (2, 3, 4, 5)),
        (rules.CONV3D, (2, 3, 4, 5, 6)),
        (rules.POINTWISE2D, (2, 3, 1, 1)),
        (rules.POINTWISE3D, (2, 3, 1, 1, 1)),
        (rules.drop_unit_axes(1, 2), (1, 4, 1, 1)),
    ],
)
def test_transforms_have_exact_inverses(transform, shape):
  x = np.arange(np.prod(shape)).reshape(shape)
  np.testing.assert_array_equal(transform.inverse(transform.forward(x)), x)


def test_one_error_lists_every_mismatch():
  tensors = sources()
  tensors['unknown.weight'] = np.zeros(1, np.float32)
  tensors['blocks.3.attn.q.weight'] = np.zeros((5, 4), np.float32)
  tensors['blocks.0.attn.q.weight'] = np.zeros((4, 4), np.float32)
  tensors['scale'] = np.zeros((2, 4, 1, 1), np.float32)
  del tensors['patch.weight'], tensors['blocks.1.attn.k.weight']
  with pytest.raises(ValueError) as error:
    rules.convert(tensors, STACKED, targets())
  lines = str(error.value).splitlines()
  assert lines[0].startswith('6 mismatches')
  for words in (
      'no rule: unknown.weight',
      'no target: blocks.3.attn.q.weight -> blocks[3]/attn/q/kernel of 3',
      'wrong shape: blocks.0.attn.q.weight -> blocks[0]/attn/q/kernel is',
      'wrong shape: scale -> scale: shape (2, 4, 1, 1)',
      'not in the checkpoint: patch/kernel',
      'not in the checkpoint: blocks/attn/k/kernel slices [1]',
  ):
    assert sum(words in line for line in lines) == 1, (words, lines)


def test_ignored_keys_are_skipped():
  tensors = sources() | {'text.embedding': np.zeros(3)}
  rules.convert(tensors, STACKED, targets())


def test_a_key_with_two_rules_is_an_error():
  table = rules.Table(rules=(rules.Rule('a', 'x'), rules.Rule('{n}', '{n}')))
  with pytest.raises(ValueError, match='more than one rule: a -> x, a'):
    rules.convert({'a': np.zeros(1)}, table, {})


def test_two_keys_for_one_target_are_an_error():
  table = rules.Table(rules=(rules.Rule('a', 'x'), rules.Rule('b', 'x')))
  target = {'x': jax.ShapeDtypeStruct((1,), np.float32)}
  with pytest.raises(ValueError, match='filled twice: x by a and b'):
    rules.convert({'a': np.zeros(1), 'b': np.zeros(1)}, table, target)


def test_a_parameter_without_a_rule_cannot_be_exported():
  with pytest.raises(ValueError, match='extra/bias -> no rule'):
    rules.export({'extra': {'bias': np.zeros(1)}}, STACKED)


def test_a_rule_that_reads_in_one_direction_only_is_refused():
  with pytest.raises(ValueError, match='both sides need the same fields'):
    rules.Rule('blocks.{i}.weight', 'blocks/kernel')


def test_values_take_the_dtype_of_the_target():
  table = rules.Table(rules=(rules.Rule('a', 'x'),))
  target = {'x': jax.ShapeDtypeStruct((2,), np.float32)}
  params = rules.convert({'a': np.array([1, 2], np.float16)}, table, target)
  assert params['x'].dtype == np.float32
