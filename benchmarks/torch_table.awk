# One table from lines of Google Benchmark's CSV, medians of several repetitions, and lines
# NAME,MILLISECONDS of pytorch_bench.py. Google Benchmark must print milliseconds.

{ gsub(/"/, "") }

$1 == "name" { for (i = 1; i <= NF; ++i) column[$i] = i; next }

$1 ~ /\/real_time_median$/ {
  name = $1
  sub(/\/real_time_median$/, "", name)
  if ($(column["time_unit"]) != "ms") {
    print name " is not in milliseconds" >"/dev/stderr"
    exit failed = 1
  }
  time[name] = $(column["real_time"])
  next
}

NF == 2 {
  torch[$1] = $2
  names[++count] = $1
}

END {
  if (failed) exit 1
  printf "%-64s %11s %11s %13s\n", "benchmark", "plastic ms", "PyTorch ms", "times faster"
  for (i = 1; i <= count; ++i) {
    name = names[i]
    if (!(name in time)) {
      print "plastic_bench gave no time of " name >"/dev/stderr"
      exit 1
    }
    printf "%-64s %11.3f %11.2f %13.1f\n", name, time[name], torch[name], torch[name] / time[name]
  }
}
