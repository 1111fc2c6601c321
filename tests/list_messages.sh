#!/usr/bin/env bash
# Lists the texts that users read, each with its file and line, so that they can be proof-read together:
#
#   list_messages.sh                the statements of the library and the examples that hold messages
#   list_messages.sh --docstrings   the first sentence of every docstring of include/plastic
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

if [[ ${1:-} == --docstrings ]]; then
  git ls-files 'include/*.hpp' | xargs awk '
    function print_docstring() {
      if (match(text, /[.]( |$)/)) text = substr(text, 1, RSTART)
      if (text != "") print place ": " text
      text = ""
    }
    FNR == 1 { print_docstring() }
    /^ *\/\/\/( |$)/ {
      sub(/^ *\/\/\/ ?/, "")
      if ($0 ~ /^@[{}]$/) next
      if (text == "") place = FILENAME ":" FNR
      text = text (text == "" ? "" : " ") $0
      next
    }
    { print_docstring() }
    END { print_docstring() }'
else
  # A statement ends at a semicolon, a brace or a colon. It holds a message if it checks, throws, prints or
  # describes an option, or if it has two words in one string.
  git ls-files 'include/*.hpp' 'examples/*.hpp' 'examples/*.cpp' | xargs awk '
    function print_statement() {
      if (text ~ /"[^"]*[A-Za-z][^"]*"/ && (text ~ words || text ~ /"[^"]*[a-z,] [a-z][^"]*"/)) {
        print place ": " text
      }
      text = ""
    }
    BEGIN { words = "check_|reject|throw|fail|refuse|static_assert|cerr|cout|add_(option|flag|subcommand)" }
    FNR == 1 { print_statement() }
    /^ *(#|\/\/)/ { next }
    {
      sub(/  \/\/.*/, "")
      sub(/^ +/, "")
      if (text == "") place = FILENAME ":" FNR
      text = text (text == "" ? "" : " ") $0
    }
    /[;{}:] *$/ { print_statement() }
    END { print_statement() }'
fi
