"""The few-step student beside its many-step guided teacher.

  speed-up       = frames per second of the student / of the teacher         (1)
  sync retained  = lip-sync of the student / of the teacher                  (2)

Both generate the same cases in one process, video by video in turn, so that
whatever else the machine does slows both down alike.
"""

from collections.abc import Mapping

SPEED_UP, SYNC_RETAINED = 5.0, 0.9
# Figures of lip-sync, the better one first.
_SYNC = ('sync_c', 'lip_sync')


def compare(
    student: Mapping[str, float], teacher: Mapping[str, float]
) -> dict[str, float | bool | str]:
  """Equations (1) and (2) from the figures of both.

  Returns:
    'sync_figure' (which one is compared), the values of both, 'speed_up',
    'sync_retained', their targets and whether both are reached.

  Raises:
    ValueError: a figure is missing on one side.
  """
  sync = next((f for f in _SYNC if f in student and f in teacher), None)
  if sync is None or not {'frames_per_s'} <= set(student) & set(teacher):
    raise ValueError(
        f'figures {sorted(set(student) & set(teacher))} of student and teacher:'
        f' expected frames_per_s and one of {_SYNC}'
    )
  speed_up = student['frames_per_s'] / teacher['frames_per_s']
  # A teacher that does not follow the speech at all is no yardstick.
  follows = teacher[sync] > 0
  retained = student[sync] / teacher[sync] if follows else float('nan')
  return {
      'sync_figure': sync,
      'student_frames_per_s': student['frames_per_s'],
      'teacher_frames_per_s': teacher['frames_per_s'],
      f'student_{sync}': student[sync],
      f'teacher_{sync}': teacher[sync],
      'speed_up': speed_up,
      'speed_up_target': SPEED_UP,
      'sync_retained': retained,
      'sync_retained_target': SYNC_RETAINED,
      'passed': bool(speed_up >= SPEED_UP and retained >= SYNC_RETAINED),
  }


def table(found: Mapping[str, float | bool | str]) -> str:
  """A Markdown table of `compare`."""
  sync = found['sync_figure']
  lines = [
      '| student against teacher | student | teacher | ratio | target |',
      '|---|---|---|---|---|',
  ]
  for label, key, ratio, target in (
      ('speed [frames/s]', 'frames_per_s', 'speed_up', 'speed_up_target'),
      (sync, sync, 'sync_retained', 'sync_retained_target')):  # pyformat: disable
    lines.append(
        f'| {label} | {found["student_" + key]:.4g} |'
        f' {found["teacher_" + key]:.4g} | {found[ratio]:.3f} |'
        f' >= {found[target]:g} |'
    )
  verdict = 'reached' if found['passed'] else 'not reached'
  return '\n'.join(lines) + f'\n\nBoth targets: {verdict}.\n'
