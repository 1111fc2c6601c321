# One table from Google Benchmark's CSV, medians of several repetitions.

function milliseconds(time, unit) {
  return time * (unit == "ns" ? 1e-6 : unit == "us" ? 1e-3 : unit == "s" ? 1e3 : 1)
}

function ratio(a, b) { return b > 0 && a > 0 ? sprintf("%.2f", a / b) : "-" }

{ gsub(/"/, "") }

$1 == "name" {
  delete column
  for (i = 1; i <= NF; ++i) column[$i] = i
  next
}

# The peak is that of the process: the largest of its repetitions.
$1 ~ /\/real_time$/ {
  name = $1
  sub(/\/real_time$/, "", name)
  if ($(column["peak_MiB"]) > peak[name]) peak[name] = $(column["peak_MiB"])
}

$1 ~ /\/real_time_median$/ {
  name = $1
  sub(/\/real_time_median$/, "", name)
  time[name] = milliseconds($(column["real_time"]), $(column["time_unit"]))
  samples[name] = $(column["items_per_second"])
  if (name !~ /^(limit|libtorch)\//) names[++count] = name
  if (name ~ /^limit\//) {
    roofline[name] = $(column["roofline_ms"])
    probes = sprintf("multiply-add %.2f", $(column["multiply_add_ns"]))
    for (level = 1; ("level" level "_read_ns") in column; ++level) {
      probes = probes sprintf("; level %d: load %.2f, load and store %.2f", level,
        $(column["level" level "_read_ns"]), $(column["level" level "_update_ns"]))
    }
  }
}

END {
  printf "%-66s %10s %11s %9s %9s %12s %12s %10s\n", "benchmark", "ms", "samples/s", "peak MiB",
    "vs limit", "of roofline", "vs libtorch", "vs autograd"
  for (i = 1; i <= count; ++i) {
    name = names[i]
    printf "%-66s %10.4f %11.0f %9.1f %9s %12s %12s %10s\n", name, time[name], samples[name],
      peak[name], ratio(time[name], time["limit/" name]), ratio(roofline["limit/" name], time[name]),
      ratio(time["libtorch/" (name ~ /^conv2d/ ? "" : "closed_form/") name], time[name]),
      ratio(time["libtorch/autograd/" name], time[name])
  }
  print ""
  print "vs limit: time over that of the bare passes; of roofline: the least time that this machine"
  print "needs for their operations and bytes, over the time; vs libtorch, vs autograd: times faster than"
  print "the closed-form and the autograd way in libtorch."
  if (probes != "") {
    print ""
    print "The roofline is that of the probes, in ns for a vector register: " probes "."
  }
}
