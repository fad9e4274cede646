#!/usr/bin/env bash
# Is the documentation complete? Every public header has a reference page under docs/reference/ with all headings, in order
# and none of them empty; every page has its header; every example has its chapter and its expected output; every
# picture is there and is shown (whether it is up to date: the tests picture_*); every file is of one version.
# Takes no arguments, runs from anywhere; names what is missing and fails.
set -u
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 2

headings=("Synopsis" "Semantics" "Cancellation" "Exceptions" "Complexity and allocation" "Thread safety" "Example"
  "Compared with")
problems=0
complain() {
  printf '%s\n' "$1"
  problems=$((problems + 1))
}

# The headings of a page, code left out, each with the number of lines below it that are not blank: "4 ## Synopsis".
outline() {
  awk '
    /^```/ { in_code = !in_code; lines++; next }
    !in_code && /^##? / { if (title != "") print lines " " title; title = $0; lines = 0; next }
    NF { lines++ }
    END { if (title != "") print lines " " title }' "$1"
}

check_page() {
  local header=$1 page=$2 wanted found line last=0
  found=$(outline "$page")
  [[ $(head -n 1 <<<"$found" | cut -d' ' -f2-) == "# tandem/$header.hpp" ]] ||
    complain "$page: the first heading must be \"# tandem/$header.hpp\""
  [[ $(head -n 1 <<<"$found" | cut -d' ' -f1) != 0 ]] || complain "$page: no summary below the first heading"
  for wanted in "${headings[@]}"; do
    line=$(grep -nE "^[0-9]+ ## $wanted\$" <<<"$found" | cut -d: -f1)
    case $line in
      "") complain "$page: lacks the heading \"## $wanted\""; continue ;;
      *$'\n'*) complain "$page: has the heading \"## $wanted\" more than once"; continue ;;
    esac
    ((line > last)) || complain "$page: the heading \"## $wanted\" is out of order"
    last=$line
    [[ $(sed -n "${line}p" <<<"$found" | cut -d' ' -f1) != 0 ]] || complain "$page: nothing below \"## $wanted\""
  done
}

headers=0
for file in include/tandem/*.hpp; do
  header=$(basename "$file" .hpp)
  [[ $header != tandem ]] || continue
  headers=$((headers + 1))
  page=docs/reference/$header.md
  if [[ -f $page ]]; then check_page "$header" "$page"; else complain "$file: has no page $page"; fi
done
((headers > 0)) || complain "include/tandem: no headers found"

for page in docs/reference/*.md; do
  [[ -f $page ]] || continue
  [[ -f include/tandem/$(basename "$page" .md).hpp ]] || complain "$page: there is no header of that name"
done

# What people copy must be right on g++ 12, which miscompiles some of these.
while IFS= read -r line; do
  complain "$line: g++ 12 may miscompile a co_await in a condition (README, \"The trap of g++ 12\"): name its result first"
done < <(grep -nE '(if|while) \(!?co_await' examples/*.cpp examples/pictures/*.cpp book/*/*.md docs/reference/*.md |
  cut -d: -f1,2)

examples=0
for file in examples/[0-9][0-9]_*.cpp; do
  [[ -f $file ]] || continue
  examples=$((examples + 1))
  name=$(basename "$file" .cpp)
  [[ -f book/en/$name.md ]] || complain "$file: has no chapter book/en/$name.md"
  [[ -f examples/expected/$name.out ]] || complain "$file: has no expected output examples/expected/$name.out"
done

for chapter in book/en/*.md; do
  while read -r picture; do
    [[ -f book/en/$picture ]] || complain "$chapter: shows $picture, which is not in book/en"
  done < <(sed -n 's/^!\[.*\](\([^)]*\)).*/\1/p' "$chapter")
done
for picture in book/en/*.svg; do
  [[ -f $picture ]] || continue
  chapter=${picture%.svg}
  chapter=${chapter%_curve}
  chapter=${chapter%_measured}.md
  grep -q "]($(basename "$picture"))" "$chapter" || complain "$picture: is not shown in $chapter"
done

# The tests that docs/design/parity.md names, as "file: name", at the end of a row.
while IFS= read -r named; do
  test=tests/test_${named%%: *}.cpp
  [[ -f $test ]] || continue  # a reason, not a test
  grep -qF "TEST_CASE(\"${named#*: }\"" <(sed -z 's/(\n */(/g; s/"\n *"//g' "$test") || complain "docs/design/parity.md: no test \"$named\""
done < <(sed -n 's/^| .* | \(.*\) |$/\1/p' docs/design/parity.md | sed 's/; \([a-z_]*: \)/\n\1/g')

# Needs Python, as the tables of the benchmarks do.
if command -v python3 >/dev/null; then
  while IFS= read -r line; do complain "$line"; done < <(tests/package/version 2>&1)
fi

if ((problems > 0)); then
  echo "check_docs: $problems problems" >&2
  exit 1
fi
echo "check_docs: $headers headers and $examples examples are documented"
