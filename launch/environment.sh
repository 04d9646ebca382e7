# Sourced by the scripts that need the virtual environment .venv.
#
# install_into_venv SPEC...   makes .venv in the current folder if there is none
# and installs SPEC into it; does nothing when neither SPEC nor setup.py changed
# since the last time. SPEC is editable (-e .), so that the sources count at
# once, and so that no stale copy of them stays behind in build/.

find_python() {
  local candidate
  for candidate in "${PYTHON:-}" python3 python3.13 python3.12 python3.11; do
    if [ -n "$candidate" ] && command -v "$candidate" >/dev/null 2>&1 &&
        "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
      echo "$candidate"
      return
    fi
  done
  echo "Python 3.11 or newer is needed; PYTHON=/path/to/python names one" >&2
  return 1
}

make_venv() {
  [ -x .venv/bin/python ] && .venv/bin/python -m pip --version >/dev/null 2>&1 &&
    return
  local python
  python=$(find_python) || return 1
  rm -rf .venv
  if ! "$python" -m venv .venv; then
    rm -rf .venv
    echo "$python cannot make virtual environments; on Debian and Ubuntu:" \
      "apt install python3-venv" >&2
    return 1
  fi
}

install_into_venv() {
  make_venv || return 1
  local wanted stamp
  wanted=$({ echo "$*"; cat setup.py; } | cksum)
  stamp=.venv/installed-$(echo "$*" | cksum | cut -d' ' -f1)
  [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ] && return
  .venv/bin/python -m pip install --quiet --disable-pip-version-check "$@" ||
    return 1
  echo "$wanted" >"$stamp"
}

# For training on CPU: the allocator keeps what it once got, in large pages.
# XLA allocates hundreds of MB in each step, and the system zeroes fresh pages.
# What it brings is the difference of time/step_s in metrics.jsonl.
keep_memory() {
  export GLIBC_TUNABLES=glibc.malloc.hugetlb=1:glibc.malloc.mmap_threshold=17179869184:glibc.malloc.trim_threshold=17179869184
}
