# What the shell client programs share; sourced. A check is a command line that must succeed, or an output that must be equal.

checks=0
failed=0

# verdict NAME WHY: prints one; an empty WHY is a pass.
verdict() {
  checks=$((checks + 1))
  if [ -z "$2" ]; then
    echo "PASS $1"
  else
    failed=$((failed + 1))
    echo "FAIL $1 $(tr -s '[:space:]' ' ' <<<"$2" | cut -c1-300)"
  fi
}

# equal NAME EXPECTED ACTUAL
equal() {
  local why=
  [ "$2" = "$3" ] || why="expected '$2', got '$3'"
  verdict "$1" "$why"
}

# contains NAME PART TEXT
contains() {
  local why=
  case $3 in *"$2"*) ;; *) why="no '$2' in '$3'" ;; esac
  verdict "$1" "$why"
}

# succeeds NAME COMMAND...
succeeds() {
  local name=$1 out why=
  shift
  out=$("$@" 2>&1 </dev/null) || why="status $?: $(tail -n 5 <<<"$out")"
  verdict "$name" "$why"
}

finish() {
  echo "DONE $checks"
  [ "$failed" = 0 ]
}
