"""The command `asymtalker VERB`: finds the verb, parses flags, reports errors.

A verb is a module with a docstring (its help), `define_flags()` and
`main(argv)`. It is imported only when it is called, so that help is immediate.
What a user can cause is a ValueError or OSError and becomes one line on stderr
and exit code 2; ASYMTALKER_TRACEBACK=1 shows where it came from. A training that
broke ends with DIVERGED, a file system that failed it with cluster.RETRY.
"""

from collections.abc import Sequence
import importlib
import logging as std_logging
import os
import signal
import sys
import traceback
import types

from absl import flags
from absl import logging

import asymtalker_jax
from asymtalker_jax.cli import cluster
from asymtalker_jax.cli import processor

FLAGS = flags.FLAGS
# Verb -> (module in this folder, what it does).
VERBS = {
    'generate': ('generate', 'portrait + speech -> talking video'),
    'data': ('data', 'build or encode a dataset'),
    'train-vae': ('train_vae', 'train the video autoencoder'),
    'train-teacher': ('train_teacher', 'train the many-step teacher'),
    'train-student': ('train_student', 'distil the few-step student'),
    'train-reader': ('train_reader', 'train the reader that evaluation uses'),
    'compile-check': ('compile_check', 'compile a step for absent TPUs'),
    'export': ('export', 'make one bundle of trained parts'),
    'sweep': ('sweep', 'run the points of a sweep and collect a table'),
    'evaluate': ('evaluate', 'measure a bundle on unseen identities'),
    'convert': ('convert', 'make a bundle of released weights'),
    'parity': ('parity', 'compare with recorded outputs of the originals'),
    'bench': ('bench', 'time the networks on this machine'),
}
# Exit code of a training whose losses are not finite: the same steps would be
# taken again.
DIVERGED = 3
# What a path that a user gave can be: it stays wrong.
_WRONG_PATH = (
    FileNotFoundError, FileExistsError, PermissionError, IsADirectoryError,
    NotADirectoryError,
)  # pyformat: disable
_HELP = {'-h', '-help', '--help', '--helpfull', '--helpshort'}


def main(argv: Sequence[str] | None = None) -> int:
  """Runs the command line and returns its exit code.

  Args:
    argv: words after the program name; sys.argv by default.
  """
  words = list(sys.argv[1:] if argv is None else argv)
  if not words or words[0] in _HELP | {'help'}:
    print(_overview())
    return 0
  verb = words[0]
  if verb == '--version':
    print(f'asymtalker_jax {asymtalker_jax.__version__}')
    return 0
  if verb not in VERBS:
    return _fail('', f'unknown verb {verb!r}; expected one of {list(VERBS)}')
  return _run(verb, words[1:])


def _run(verb: str, words: list[str]) -> int:
  """Parses the flags of a verb, runs it and turns errors into exit codes."""
  _set_up_process(verb, words)
  own = []
  try:
    module = importlib.import_module(f'asymtalker_jax.cli.{VERBS[verb][0]}')
    others = set(FLAGS)
    module.define_flags()
    if verb in cluster.VERBS:
      cluster.define_flags()
    own = [name for name in FLAGS if name not in others]
    if _HELP & set(words):
      print(_verb_help(module, own))
      return 0
    words = _parse(words)
    if verb in cluster.VERBS:
      cluster.join(own)
    # A verb that compares has a code of its own; the others return nothing.
    return module.main([verb] + words) or 0
  except (
      ValueError, OSError, OverflowError, flags.Error, ModuleNotFoundError
  ) as error:  # pyformat: disable
    if os.environ.get('ASYMTALKER_TRACEBACK') == '1':
      raise
    return cluster.leave(_fail(
        verb, str(error) or type(error).__name__, _code_of(verb, error)
    ))  # pyformat: disable
  except FloatingPointError as error:
    return cluster.leave(_fail(verb, str(error), DIVERGED))
  except KeyboardInterrupt:
    return cluster.leave(_fail(verb, 'interrupted', 130))
  except Exception:
    if cluster.is_joined():  # Others wait: show it here, not at the exit.
      traceback.print_exc()
      cluster.leave(1)
    raise
  finally:
    forget_flags(own)


def _code_of(verb: str, error: Exception) -> int:
  """2, but where a storage of a run of several processes has failed."""
  failed = isinstance(error, OSError) and not isinstance(error, _WRONG_PATH)
  return cluster.RETRY if failed and verb in cluster.VERBS else 2


def _parse(words: list[str]) -> list[str]:
  """Positional words left after parsing flags.

  Raises:
    ValueError, OSError, flags.Error: with what ml_collections says about a
      --config flag brought into one line.
  """
  for word in words:
    name, _, path = word.partition('=')
    path = path.partition(':')[0]
    if path and name in ('--config', '--gate') and not os.path.isfile(path):
      raise FileNotFoundError(f'{name}={path}: no such file')
  try:
    left = FLAGS(['asymtalker'] + words)[1:]
    if 'config' in FLAGS and FLAGS['config'].value is not None:
      FLAGS['config'].value.to_dict()  # A missing file shows only when used.
    return left
  except flags.Error as error:
    message = str(error)
    if 'Traceback' in message:  # Of the config file: its last line says why.
      message = '--config: ' + message.strip().splitlines()[-1]
    raise ValueError(message) from error
  except (ValueError, OSError):
    raise
  except Exception as error:  # A config file is Python: anything may happen.
    raise ValueError(_why(words, error)) from error


def _why(words: list[str], error: Exception) -> str:
  """One line about what went wrong while a config file ran."""
  if isinstance(error, SyntaxError):
    return f'{error.filename}, line {error.lineno}: {error.msg}'
  if isinstance(error, (AttributeError, KeyError)):
    try:
      return _unknown_key(words) or str(error)
    except (AttributeError, KeyError):
      pass  # Not of an override.
  return f'--config: {type(error).__name__}: {error}'


def _unknown_key(words: list[str]) -> str | None:
  """Which --config.a.b=value names no key, and what it could have named."""
  overrides = [w for w in words if w.startswith('--config.')]
  plain = [w for w in words if w not in overrides]
  sys.argv = ['asymtalker', *plain]  # ml_collections reads overrides here.
  FLAGS(sys.argv)
  for word in overrides:
    node = FLAGS['config'].value
    for key in word.partition('=')[0].split('.')[1:]:
      if key not in node:
        return f'{word}: no key {key!r}; expected one of {sorted(node)}'
      node = node[key]
  return None


def _set_up_process(verb: str, words: list[str]) -> None:
  """Plain log lines, and SIGTERM that unwinds so that files are cleaned up."""
  processor.choose_convolutions()
  logging.use_absl_handler()
  logging.set_verbosity(logging.INFO)
  handler = logging.get_absl_handler().python_handler
  handler.setFormatter(std_logging.Formatter('%(levelname)s: %(message)s'))
  handler.addFilter(_is_for_the_user)
  # ml_collections looks for overrides of a config in sys.argv.
  sys.argv = ['asymtalker', verb, *words]
  if hasattr(signal, 'SIGTERM'):
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))


def _is_for_the_user(record: std_logging.LogRecord) -> bool:
  """Whether a log line is shown; libraries' own progress is not."""
  ours = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
  return record.levelno > std_logging.INFO or record.pathname.startswith(ours)


def forget_flags(names: Sequence[str]) -> None:
  """Removes a verb's flags, so that one process can run several verbs."""
  for name in list(FLAGS):
    if name in names or name.startswith(('config.', 'gate.')):
      delattr(FLAGS, name)
  FLAGS.unparse_flags()


def _overview() -> str:
  width = max(map(len, VERBS))
  verbs = '\n'.join(f'  {v:{width}}  {text}' for v, (_, text) in VERBS.items())
  return (
      'Long talking-head videos from one portrait and speech (AsymTalker in'
      f' JAX).\n\nusage: asymtalker VERB [flags]\n\n{verbs}\n\n'
      'asymtalker VERB --help explains a verb and lists its flags.'
  )


def _verb_help(module: types.ModuleType, names: Sequence[str]) -> str:
  lines = [module.__doc__.strip()]
  lines += [module.USAGE] if hasattr(module, 'USAGE') else []
  lines += ['', 'flags:']
  for name in names:
    flag = FLAGS[name]
    default = '' if flag.default is None else f' (default {flag.default})'
    lines.append(f'  --{name}\n      {flag.help}{default}')
  return '\n'.join(lines)


def _fail(verb: str, message: str, code: int = 2) -> int:
  where = f'asymtalker {verb}'.strip()
  print(f'{where}: {" ".join(message.split())}', file=sys.stderr)
  return code


if __name__ == '__main__':
  sys.exit(main())
