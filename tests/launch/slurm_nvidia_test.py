"""launch/slurm_nvidia.sbatch: which ends of a job start it again."""

import os
import pathlib
import re
import subprocess

import pytest

ROOT = pathlib.Path(__file__).parents[2]
SRUN = '#!/bin/sh\necho "$@" > "$STUB/srun"\nexit "$CODE"\n'
SCONTROL = '#!/bin/sh\necho "$@" > "$STUB/scontrol"\n'


@pytest.fixture
def launch(tmp_path):
  """Runs the job; returns its code, what scontrol was told, and stderr."""
  for name, text in (('srun', SRUN), ('scontrol', SCONTROL)):
    program = tmp_path / 'programs' / name
    program.parent.mkdir(exist_ok=True)
    program.write_text(text)
    program.chmod(0o755)

  def run(code, *words, **variables):
    env = {
        k: v for k, v in os.environ.items()
        if not k.startswith('SLURM_') and k != 'RESTARTS'
    }
    env |= dict(
        PATH=f'{tmp_path}/programs:{env["PATH"]}', STUB=str(tmp_path),
        CODE=str(code), SLURM_SUBMIT_DIR=str(ROOT), SLURM_JOB_ID='70',
        SLURM_CPUS_PER_TASK='8',
    )
    done = subprocess.run(
        ['bash', ROOT / 'launch/slurm_nvidia.sbatch', *words],
        env=env | variables, capture_output=True, text=True, timeout=60,
    )
    told = tmp_path / 'scontrol'
    return (
        done.returncode, told.read_text().strip() if told.exists() else '',
        done.stderr,
    )

  return run


@pytest.mark.parametrize('code', [0, 2, 3])
def test_a_job_that_would_end_so_again_is_not_queued_again(launch, code):
  assert launch(code, 'train-teacher') == (code, '', '')


# A crash, an absent process, SIGKILL, SIGTERM.
@pytest.mark.parametrize('code', [1, 75, 137, 143])
def test_other_jobs_are_queued_again(launch, code):
  found, told, said = launch(code, 'train-teacher', SLURM_RESTART_COUNT='19')
  assert (found, told) == (code, 'requeue 70') and f'ended with {code}' in said


@pytest.mark.parametrize('variables', [
    {'SLURM_RESTART_COUNT': '20'},
    {'SLURM_RESTART_COUNT': '3', 'RESTARTS': '3'},
    {'RESTARTS': '0'},
])
def test_restarts_are_bounded(launch, variables):
  code, told, said = launch(75, 'train-teacher', **variables)
  assert (code, told) == (75, '') and 'restarts' in said


def test_of_an_array_only_the_job_itself_is_queued_again(launch, tmp_path):
  _, told, _ = launch(
      75, 'data', 'encode', '--worker=%a', SLURM_ARRAY_JOB_ID='70',
      SLURM_ARRAY_TASK_ID='63',
  )
  assert told == 'requeue 70_63'
  assert (tmp_path / 'srun').read_text().endswith('data encode --worker=63\n')


@pytest.mark.parametrize('name', ['README.md', 'slurm_nvidia.sbatch'])
def test_jobs_of_an_array_have_one_task_and_one_gpu(name):
  """Else eight equal processes would share the first GPU."""
  text = (ROOT / 'launch' / name).read_text()
  calls = re.findall(r'sbatch ((?:--\S+[\s#\\]+)+)launch/', text)
  calls = [flags for flags in calls if '--array' in flags]
  assert calls and len(calls) == text.count('--array=')
  for flags in calls:
    assert '--ntasks=1 ' in flags and '--gpus-per-node=1 ' in flags
