"""Every command in the README and the guides exists as it is written."""

import importlib
import pathlib
import re
import shlex

import pytest

from asymtalker_jax.cli import main as cli

ROOT = pathlib.Path(__file__).parents[2]
GUIDES = [ROOT / 'README.md', *sorted((ROOT / 'docs').glob('*.md'))]
_BLOCK = re.compile(r'^```bash\n(.*?)^```', re.MULTILINE | re.DOTALL)


def commands(guide):
  """Lines `asymtalker ...` of a guide, continued lines joined."""
  for block in _BLOCK.findall(guide.read_text(encoding='utf-8')):
    for line in block.replace('\\\n', ' ').splitlines():
      if line.startswith('asymtalker ') and '...' not in line:
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
