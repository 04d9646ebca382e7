"""Every command in the README and the guides exists as it is written."""

import importlib
import pathlib
import re
import shlex

import pytest

from asymtalker_jax.cli import main as cli

ROOT = pathlib.Path(__file__).parents[2]
GUIDES = [
    ROOT / 'README.md', *sorted((ROOT / 'docs').glob('**/*.md')),
    ROOT / 'launch' / 'README.md', ROOT / 'data' / 'README.md',
    *sorted((ROOT / 'configs').glob('**/*.py')),
    *sorted((ROOT / 'asymtalker_jax' / 'cli').glob('*.py')),
    *sorted((ROOT / 'asymtalker_jax' / 'pretrained').glob('*/README.md')),
]
_BLOCK = re.compile(r'^```bash\n(.*?)^```', re.MULTILINE | re.DOTALL)
# Indented, as in docstrings; flags may go on in the lines below.
_INDENTED = re.compile(r'^ +(asymtalker [a-z].*(?:\n +-.*)*)', re.MULTILINE)


def commands(guide):
  """Lines `asymtalker ...` of a guide, continued lines joined."""
  text = guide.read_text(encoding='utf-8')
  lines = [
      line for block in _BLOCK.findall(text)
      for line in block.replace('\\\n', ' ').splitlines()
  ]
  lines += [
      re.sub(r'\\*\n', ' ', found)
      for found in _INDENTED.findall(_BLOCK.sub('', text))
  ]
  for line in lines:
    if line.startswith('asymtalker ') and not re.search(r'\.\.\.|\[', line):
      yield line


@pytest.mark.parametrize(
    'line', [line for guide in GUIDES for line in commands(guide)]
)
def test_a_guide_s_command_is_understood(line, monkeypatch, capsys):
  monkeypatch.chdir(ROOT)
  _, *words = shlex.split(line, comments=True)
  module = importlib.import_module(
      f'asymtalker_jax.cli.{cli.VERBS[words[0]][0]}'
  )
  monkeypatch.setattr(module, 'main', lambda argv: 0)
  assert cli.main(words) == 0, capsys.readouterr().err
  for word in words:
    if word.startswith('--golden='):
      assert (ROOT / word.removeprefix('--golden=')).is_file()


def test_a_guide_has_commands():
  assert len(list(commands(ROOT / 'docs' / 'released_weights.md'))) > 8
  assert len(list(commands(ROOT / 'configs' / 'teacher.py'))) == 2
  assert len(list(commands(ROOT / 'launch' / 'README.md'))) > 4
