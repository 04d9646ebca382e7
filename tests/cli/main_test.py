"""The dispatcher: help, unknown verbs, flags and config keys."""

import io
import sys
import types

from absl import flags
from absl import logging
import pytest

from asymtalker_jax import __version__
from asymtalker_jax.cli import cluster
from asymtalker_jax.cli import main as cli


def test_overview_lists_every_verb(capsys):
  for words in ([], ['--help'], ['help']):
    assert cli.main(words) == 0
    text = capsys.readouterr().out
    assert all(verb in text for verb in cli.VERBS)


def test_overview_imports_nothing_heavy(monkeypatch):
  heavy = [name for name in sys.modules if name.startswith('jax')]
  for name in heavy:
    monkeypatch.setitem(sys.modules, name, None)  # Importing it now fails.
  assert cli.main([]) == 0


@pytest.mark.parametrize('verb', cli.VERBS)
def test_help_of_every_verb_lists_flags_and_defaults(verb, capsys):
  assert cli.main([verb, '--help']) == 0
  text = capsys.readouterr().out
  assert f'asymtalker {verb}' in text
  assert 'flags:\n  --' in text


def one_line(capsys):
  text = capsys.readouterr().err
  assert text.count('\n') == 1, text
  return text


def test_version(capsys):
  assert cli.main(['--version']) == 0
  assert capsys.readouterr().out == f'asymtalker_jax {__version__}\n'


def test_unknown_verb(capsys):
  assert cli.main(['generat']) == 2
  assert "unknown verb 'generat'; expected one of" in one_line(capsys)


def test_unknown_flag(capsys):
  assert cli.main(['generate', '--frobnicate=1']) == 2
  assert 'frobnicate' in one_line(capsys)


@pytest.fixture
def verb(monkeypatch):
  """Registers a verb that raises what the test puts into it."""
  module = types.ModuleType('asymtalker_jax.cli.made_up', 'Made up.')
  module.define_flags = lambda: flags.DEFINE_string('word', 'a', 'a word')
  module.error = None

  def main(argv):
    module.seen = (argv, flags.FLAGS.word)
    if module.error is not None:
      raise module.error

  module.main = main
  monkeypatch.setitem(sys.modules, module.__name__, module)
  monkeypatch.setitem(cli.VERBS, 'made-up', ('made_up', 'made up'))
  return module


def test_words_and_flags_reach_the_verb(verb):
  assert cli.main(['made-up', 'build', '--word=b']) == 0
  assert verb.seen == (['made-up', 'build'], 'b')
  assert cli.main(['made-up']) == 0
  assert verb.seen == (['made-up'], 'a')
  assert 'word' not in flags.FLAGS


@pytest.mark.parametrize(
    'error, code, text',
    [
        (ValueError('size 3:\nexpected 4'), 2, 'size 3: expected 4'),
        (FileNotFoundError('x: no such file'), 2, 'x: no such file'),
        (PermissionError(13, 'Permission denied', 'x'), 2, 'Permission denied'),
        (OSError(5, 'Input/output error', 'x'), 2, 'Input/output error'),
        (FloatingPointError('loss=nan'), cli.DIVERGED, 'loss=nan'),
        (KeyboardInterrupt(), 130, 'interrupted'),
    ],
)
def test_what_users_cause_is_one_line(verb, capsys, error, code, text):
  verb.error = error
  assert cli.main(['made-up']) == code
  line = one_line(capsys)
  assert line.startswith('asymtalker made-up: ') and text in line


def test_a_file_system_that_failed_a_cluster_asks_for_another_start(
    verb, monkeypatch
):
  monkeypatch.setattr(cluster, 'VERBS', ('made-up',))
  monkeypatch.setattr(cluster, 'join', lambda names: None)
  verb.error = OSError(5, 'Input/output error', 'x')
  assert cli.main(['made-up']) == cluster.RETRY
  verb.error = FileNotFoundError('x: no such file')
  assert cli.main(['made-up']) == 2


@pytest.mark.parametrize('error, code', [
    (ValueError('bad'), 2), (FloatingPointError('loss=nan'), 3),
    (RuntimeError('a defect'), 1),
])
def test_a_process_that_others_wait_for_ends_at_once(
    verb, monkeypatch, capsys, error, code
):
  def end(status):
    raise SystemExit(status)

  monkeypatch.setattr(cluster, 'is_joined', lambda: True)
  monkeypatch.setattr(cluster.os, '_exit', end)
  verb.error = error
  with pytest.raises(SystemExit) as left:
    cli.main(['made-up'])
  assert left.value.code == code and str(error) in capsys.readouterr().err


def test_defects_are_not_hidden(verb):
  verb.error = RuntimeError('a defect')
  with pytest.raises(RuntimeError):
    cli.main(['made-up'])


def test_traceback_on_request(verb, monkeypatch):
  verb.error = ValueError('bad')
  monkeypatch.setenv('ASYMTALKER_TRACEBACK', '1')
  with pytest.raises(ValueError):
    cli.main(['made-up'])


CONFIG = '''
import ml_collections
def get_config(size):
  if size != 'tiny':
    raise ValueError(f'size {size!r}: expected tiny')
  return ml_collections.ConfigDict(
      {'steps': 10, 'flow': {'shift': 5.0}, 'arm': 'a'})
'''


@pytest.mark.parametrize(
    'words, text',
    [
        (['--config=CONFIG:huge'], "size 'huge': expected tiny"),
        (['--config=nothing.py:tiny'], '--config=nothing.py: no such file'),
        (['--config=BROKEN'], 'broken.py, line 1: '),
        (['--config=FAILS'], '--config: ZeroDivisionError: division by zero'),
        (['--config=LACKS'], "no attribute 'nothing'"),
        (['--config=CONFIG:tiny', '--config.nope=1'],
         "no key 'nope'; expected one of ['arm', 'flow', 'steps']"),
        (['--config=CONFIG:tiny', '--config.flow.nope=1'],
         "no key 'nope'; expected one of ['shift']"),
        (['--config=CONFIG:tiny', '--config.steps=many'], 'many'),
    ],
)
def test_wrong_configs(verb, capsys, tmp_path, words, text):
  from ml_collections import config_flags
  verb.define_flags = lambda: config_flags.DEFINE_config_file('config')
  (tmp_path / 'c.py').write_text(CONFIG)
  (tmp_path / 'broken.py').write_text('def get_config(:')
  (tmp_path / 'fails.py').write_text('def get_config():\n  return 1 / 0')
  (tmp_path / 'lacks.py').write_text('import os\nos.nothing')
  for mark, name in (
      ('CONFIG', 'c'), ('BROKEN', 'broken'), ('FAILS', 'fails'),
      ('LACKS', 'lacks'),
  ):
    words = [w.replace(mark, str(tmp_path / f'{name}.py')) for w in words]
  assert cli.main(['made-up', *words]) == 2
  assert text in one_line(capsys)


def test_right_config(verb, tmp_path):
  from ml_collections import config_flags
  verb.define_flags = lambda: config_flags.DEFINE_config_file('config')
  verb.main = lambda argv: seen.append(flags.FLAGS.config.steps)
  (tmp_path / 'c.py').write_text(CONFIG)
  seen = []
  for steps in (3, 4):
    assert cli.main([
        'made-up', f'--config={tmp_path}/c.py:tiny', f'--config.steps={steps}'
    ]) == 0
  assert seen == [3, 4]


def test_our_log_lines_are_shown_and_those_of_libraries_are_not(
    verb, monkeypatch
):
  def log(level, text, file):  # As if a line of that file did.
    code = compile(f'logging.{level}({text!r})', file, 'exec')
    exec(code, {'logging': logging})  # pylint: disable=exec-used

  def main(argv):
    del argv
    log('info', 'ours', cli.__file__)
    log('info', 'progress of a library', '/lib/another/x.py')
    log('error', 'trouble of a library', '/lib/another/x.py')

  verb.main = main
  shown = io.StringIO()
  handler = logging.get_absl_handler().python_handler
  monkeypatch.setattr(handler, 'stream', shown)
  assert cli.main(['made-up']) == 0
  assert shown.getvalue().splitlines() == [
      'INFO: ours', 'ERROR: trouble of a library'
  ]
