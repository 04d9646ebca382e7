"""The import table of the rooms, read from the source."""

import ast
import pathlib

import pytest

PACKAGE = pathlib.Path(__file__).parents[1] / 'asymtalker_jax'
EVERYTHING = None
# Room -> (rooms of ours that it may import, libraries that it must not).
TABLE = {
    'types': (set(), {'flax'}),
    'files': (set(), {'flax'}),
    'tensor_file': (set(), {'flax'}),
    'sampler_values': ({'types'}, {'flax'}),
    'parallel': (set(), {'flax'}),
    'flow': ({'types'}, {'flax'}),
    'temporal_reference_encoding': ({'types'}, {'flax'}),
    'models': ({'types', 'parallel'}, set()),
    'asymmetric_distillation': ({'types', 'flow'}, {'flax'}),
    'inputs': ({'types'}, {'flax'}),
    'convert': (
        {'types', 'models', 'bundle', 'tensor_file', 'sampler_values'},
        {'flax'},
    ),
    'bundle': (
        {'types', 'models', 'files', 'tensor_file', 'sampler_values'}, {'flax'}
    ),
    'train': (
        {'types', 'parallel', 'flow', 'temporal_reference_encoding', 'models',
         'asymmetric_distillation', 'inputs', 'bundle', 'evals',
         'sampler_values'},
        {'flax'},
    ),
    'generate': (
        {'types', 'parallel', 'flow', 'temporal_reference_encoding', 'models',
         'inputs', 'bundle', 'sampler_values'},
        {'flax'},
    ),
    'evals': (
        {'types', 'flow', 'temporal_reference_encoding', 'models', 'inputs',
         'bundle', 'generate', 'files'},
        {'flax'},
    ),
    'parity': (
        {'types', 'flow', 'asymmetric_distillation', 'models', 'convert',
         'inputs', 'generate', 'evals'},
        {'flax'},
    ),
    'cli': (EVERYTHING, set()),
    'pretrained': (set(), {'flax'}),
}


def imports(path):
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(node, ast.Import):
      yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
      assert not node.level, f'{path}: relative import'
      yield from (f'{node.module}.{alias.name}' for alias in node.names)


def files():
  return sorted(p for p in PACKAGE.rglob('*.py') if p.name != '__init__.py')


@pytest.mark.parametrize(
    'path', files(), ids=lambda p: str(p.relative_to(PACKAGE))
)
def test_rooms_import_downwards_only(path):
  room = path.relative_to(PACKAGE).parts[0].removesuffix('.py')
  assert room in TABLE, f'{room} is not a room of the import table'
  allowed, forbidden = TABLE[room]
  for name in imports(path):
    parts = name.split('.')
    assert parts[0] not in forbidden, f'{path} imports {name}'
    if parts[0] != 'asymtalker_jax' or allowed is EVERYTHING:
      continue
    assert parts[1] in allowed | {room}, f'{path} imports {name}'


def test_nothing_imports_the_command_line():
  for path in files():
    if path.relative_to(PACKAGE).parts[0] == 'cli':
      continue
    assert not any(n.startswith('asymtalker_jax.cli') for n in imports(path))


def test_dataset_builders_need_no_network():
  rooms = {'types', 'files', 'inputs', 'generate', 'evals'}
  for path in (PACKAGE.parent / 'data').rglob('*.py'):
    for name in imports(path):
      parts = name.split('.')
      assert parts[0] not in {'flax', 'jax', 'tensorflow'}, f'{path}: {name}'
      assert parts[0] != 'asymtalker_jax' or parts[1] in rooms, (
          f'{path}: {name}')


def test_configs_hold_values_only():
  for path in (PACKAGE.parent / 'configs').rglob('*.py'):
    for name in imports(path):
      assert name.split('.')[0] == 'ml_collections', f'{path}: {name}'


def test_no_drawers():
  drawers = {'utils', 'helpers', 'misc', 'common'}
  assert not [p for p in files() if p.stem in drawers]
