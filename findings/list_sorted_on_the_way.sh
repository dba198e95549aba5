#!/bin/sh
# csvkit 2.2.0 with agate 1.14.2: sorting a list of people rewrites its times, numbers and codes.
# Guess: csvsort puts lines into another order, and leaves cells as they are, as csvgrep does.
# What happens: the kind of each column is guessed and its cells are written anew. A time of the day becomes minutes
# and seconds, a number loses its plus, a code its zeros.
# Seen: 09:30 as 0:09:30, 14:05 as 0:14:05, +6581234567 as 6581234567, 0042 as 42; by csvgrep all as they were.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
trap 'exit 1' HUP INT TERM
python3 -m venv "$dir"
"$dir/bin/pip" install --quiet --disable-pip-version-check csvkit==2.2.0 agate==1.14.2
cat >"$dir/list.csv" <<'END'
name,phone,time,code
Ben,+6581234568,14:05,0043
Ana,+6581234567,09:30,0042
END
"$dir/bin/csvsort" -c name "$dir/list.csv" >"$dir/sorted.csv"
"$dir/bin/csvgrep" -c name -m Ana "$dir/list.csv" >"$dir/found.csv"
cat "$dir/sorted.csv" "$dir/found.csv"
[ "$(sed -n 2p "$dir/sorted.csv")" = "Ana,6581234567,0:09:30,42" ]
[ "$(sed -n 3p "$dir/sorted.csv")" = "Ben,6581234568,0:14:05,43" ]
[ "$(sed -n 2p "$dir/found.csv")" = "Ana,+6581234567,09:30,0042" ]
