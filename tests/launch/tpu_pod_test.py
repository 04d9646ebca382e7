"""launch/tpu_pod.sh against a gcloud that says what it is told to say."""

import os
import pathlib
import subprocess

import pytest

ROOT = pathlib.Path(__file__).parents[2]
VERBS = ('describe', 'create', 'delete', 'ssh')
ABSENT = '1 ERROR: (gcloud.x.describe) NOT_FOUND: Resource was not found.'
UNKNOWN = '1 ERROR: (gcloud.x.describe) UNAVAILABLE: try again.'
EXISTS = '6 ERROR: (gcloud.x.create) ALREADY_EXISTS: Resource exists.'
ACTIVE = '0 ACTIVE'
RAN = ['0', '0']  # The mount and the command.
# Answers call n with line n of `answers`: exit code, then what it prints, a
# failure on stderr. What a newer gcloud adds there must not matter.
GCLOUD = """#!/usr/bin/env bash
echo "${*//$'\n'/ }" >> "$STUB/calls"
read -r code words <<< "$(sed -n "$(wc -l < "$STUB/calls")p" "$STUB/answers")"
echo 'WARNING: a newer gcloud is there' >&2
[ "$code" = 0 ] || exec >&2
[ -z "$words" ] || echo "$words"
exit "$code"
"""


@pytest.fixture
def launch(tmp_path):
  """Runs the launcher; returns the verbs of its calls, code and stderr."""
  programs = tmp_path / 'programs'
  programs.mkdir()
  for name, text in (('gcloud', GCLOUD), ('sleep', '#!/bin/sh\n')):
    (programs / name).write_text(text)
    (programs / name).chmod(0o755)

  def run(*answers):
    (tmp_path / 'answers').write_text('\n'.join(answers) + '\n')
    env = dict(
        os.environ, PATH=f'{programs}:{os.environ["PATH"]}', STUB=str(tmp_path),
        PROJECT='p', ZONE='z', IMAGE='registry/image', SHARE='host:/share',
    )
    for name in ('NAME', 'KEEP', 'SPOT'):
      env.pop(name, None)
    done = subprocess.run(
        ['bash', ROOT / 'launch/tpu_pod.sh', 'v5litepod-8', 'train-teacher'],
        env=env, capture_output=True, text=True, timeout=60,
    )
    calls = (tmp_path / 'calls').read_text().splitlines()
    verbs = [next(v for v in VERBS if f' {v} ' in call) for call in calls]
    return verbs, done.returncode, done.stderr

  return run


def test_an_absent_slice_is_created_and_removed_at_the_end(launch):
  verbs, code, _ = launch(ABSENT, '0', '0 PROVISIONING', ACTIVE, *RAN, '0')
  assert code == 0
  assert verbs == [
      'describe', 'create', 'describe', 'describe', 'ssh', 'ssh', 'delete'
  ]


def test_a_slice_is_not_created_while_its_state_is_unknown(launch):
  verbs, code, said = launch(UNKNOWN, UNKNOWN, ACTIVE, *RAN, '0')
  assert code == 0
  assert verbs == ['describe', 'describe', 'describe', 'ssh', 'ssh', 'delete']
  assert said.count('UNAVAILABLE: try again.') == 2


def test_a_create_that_fails_does_not_end_the_job(launch):
  verbs, code, said = launch(ABSENT, EXISTS, ACTIVE, *RAN, '0')
  assert code == 0
  assert verbs == ['describe', 'create', 'describe', 'ssh', 'ssh', 'delete']
  assert 'ALREADY_EXISTS' in said and 'not created' in said


def test_a_preempted_command_goes_on_in_a_new_slice(launch):
  taken = ['0', '255', UNKNOWN, '0 SUSPENDED']
  again = ['0 SUSPENDED', '0', ABSENT, '0', ACTIVE, *RAN, '0']
  verbs, code, said = launch(ACTIVE, *taken, *again)
  assert code == 0 and 'ended with 255' in said
  assert verbs == [
      'describe', 'ssh', 'ssh', 'describe', 'describe',
      'describe', 'delete', 'describe', 'create', 'describe', 'ssh', 'ssh',
      'delete',
  ]  # pyformat: disable


def test_bad_input_ends_the_job_also_where_the_state_is_asked_twice(launch):
  verbs, code, said = launch(ACTIVE, '0', '2', UNKNOWN, ACTIVE, '0')
  assert code == 2 and 'the command failed (2)' in said
  assert verbs == ['describe', 'ssh', 'ssh', 'describe', 'describe', 'delete']
