#!/usr/bin/env bash
# Counts the instructions of three hot functions (benches/counted.rs) and compares them with benches/counted.txt.
# With --update it writes that file anew. A count does not depend on how busy the machine is. The debug
# profile, like all of .ci/run: the counts repeat there too, and a release build would cost more than all else.
set -euo pipefail
cd "$(dirname "$0")/.."
exec </dev/null

known=benches/counted.txt
# How far above the known count a function may be, in percent.
margin=25

as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
        sudo -n "$@"
    else
        echo "not root, and no sudo: cannot run $*" >&2
        return 1
    fi
}

if ! command -v valgrind >/dev/null; then
    as_root apt-get update -qq
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends valgrind libc6-dbg
fi

update=no
case "${1:-}" in
"") ;;
--update) update=yes ;;
*)
    echo "usage: .ci/counted.sh [--update]" >&2
    exit 64
    ;;
esac

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

binary=$(cargo test --locked --bench counted --no-run --message-format=json 2>"$scratch/build" |
    sed -n 's/.*"executable":"\([^"]*counted-[^"]*\)".*/\1/p') || true
if [ -z "$binary" ]; then
    cat "$scratch/build" >&2
    exit 1
fi

# Prints the instructions of one function for each of its items: those that happen while it is being called.
count() {
    local said items instructions
    said=$(valgrind --tool=callgrind --callgrind-out-file="$scratch/$1.out" \
        --toggle-collect="*::counted_$1" "$binary" "$1" 2>"$scratch/$1.log") || {
        cat "$scratch/$1.log" >&2
        return 1
    }
    items=${said#"$1 "}
    instructions=$(sed -n 's/^totals: \([0-9]*\).*/\1/p' "$scratch/$1.out")
    if [ -z "$instructions" ] || [ "$instructions" -eq 0 ]; then
        echo "nothing was counted of $1: is there a function counted_$1 in benches/counted.rs?" >&2
        return 1
    fi
    echo $((instructions / items))
}

failed=no
printf '%-12s %12s %12s %8s\n' function known counted change
for name in line_parse key_join pack; do
    counted=$(count "$name")
    echo "$name $counted" >>"$scratch/counted.txt"
    before=$(sed -n "s/^$name \([0-9]*\)\$/\1/p" "$known" 2>/dev/null || true)
    if [ -z "$before" ]; then
        printf '%-12s %12s %12d %8s\n' "$name" - "$counted" new
        [ "$update" = yes ] || failed=yes
        continue
    fi
    change=$(((counted - before) * 100 / before))
    printf '%-12s %12d %12d %7d%%\n' "$name" "$before" "$counted" "$change"
    if [ $((counted * 100)) -gt $((before * (100 + margin))) ]; then
        failed=yes
    fi
done

if [ "$update" = yes ]; then
    {
        echo "# Instructions an item, debug profile, by .ci/counted.sh --update."
        cat "$scratch/counted.txt"
    } >"$known"
    echo "$known is written"
elif [ "$failed" = yes ]; then
    echo "more than $margin % above $known, or not in it; if that is meant: .ci/counted.sh --update" >&2
    exit 1
fi
