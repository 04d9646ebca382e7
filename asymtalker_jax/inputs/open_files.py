"""How many files a process may hold open: readers keep one per shard."""

import resource

_OTHERS = 256  # of libraries, checkpoints, pipes


def allow(count: int, what: str) -> None:
  """Lets this process and its children open `count` files more.

  Args:
    count: of files.
    what: they belong to, for messages.

  Raises:
    ValueError: the system does not let it.
  """
  soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
  if soft == resource.RLIM_INFINITY:
    return
  if soft != hard:
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
  if hard != resource.RLIM_INFINITY and hard < count + _OTHERS:
    raise ValueError(
        f'{what}: {count} shards, but this system lets a process open {hard}'
        f' files; expected at least {count + _OTHERS} (`ulimit -Hn`)'
    )
