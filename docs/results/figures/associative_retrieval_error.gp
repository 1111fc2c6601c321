# gnuplot associative_retrieval_error.gp draws the figure again.
if (!exists('unfinished')) unfinished = ''
reset
set terminal svg noenhanced font 'Helvetica,Arial,sans-serif,14' background 'white' size 840,320
set output 'associative_retrieval_error.svg'.unfinished
set encoding utf8
set border 3 lc rgb '#555555'
set tics nomirror tc rgb '#222222'
set grid lc rgb '#e4e4e4' lw 0.8
set style fill transparent solid 0.18 noborder
set rmargin 3
set title "Associative retrieval, 50 units" font ',16' offset 0,1.2
set xlabel "share of wrong answers"
set xrange [0:*]
set offsets 0, graph 0.04, 0, 0
set yrange [5 - 0.4:-0.6] noextend
set key off
set tmargin 5
set ytics ("fast weights (activation=tanh), n = 1" 0, "fast weights (activation=relu), n = 1" 1, "STPN, n = 1" 2, "Hebbian, n = 1" 3, "plain, n = 1" 4)
$d0 << END
0.00015625 0 nan nan
END
$d1 << END
0.61453125 1 nan nan
END
$d2 << END
0 2 nan nan
END
$d3 << END
0.614609375 3 nan nan
END
$d4 << END
0.621328125 4 nan nan
END
plot $d0 using 1:2 with points pt 7 ps 1.1 lc rgb '#56B4E9' , \
  $d1 using 1:2 with points pt 7 ps 1.1 lc rgb '#56B4E9' , \
  $d2 using 1:2 with points pt 7 ps 1.1 lc rgb '#332288' , \
  $d3 using 1:2 with points pt 7 ps 1.1 lc rgb '#D55E00' , \
  $d4 using 1:2 with points pt 7 ps 1.1 lc rgb '#555555' 
unset output
