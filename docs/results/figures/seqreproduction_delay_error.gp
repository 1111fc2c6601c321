# gnuplot seqreproduction_delay_error.gp draws the figure again.
if (!exists('unfinished')) unfinished = ''
reset
set terminal svg noenhanced font 'Helvetica,Arial,sans-serif,14' background 'white' size 840,430
set output 'seqreproduction_delay_error.svg'.unfinished
set encoding utf8
set border 3 lc rgb '#555555'
set tics nomirror tc rgb '#222222'
set grid lc rgb '#e4e4e4' lw 0.8
set style fill transparent solid 0.18 noborder
set rmargin 3
set xlabel "delay (steps)"
set ylabel "mean squared error of queries"
set key outside top center horizontal reverse Left samplen 1.2 width -1
set xrange [-3.6:63.6]
set xtics (0, 10, 20, 40, 60)
$d0 << END
0 3.18756626e-06 nan nan
10 0.000312774228 nan nan
END
$d1 << END
0 5.9710091e-06 nan nan
10 0.00149884409 nan nan
END
$d2 << END
0 1.06029248e-05 nan nan
10 0.000194829524 nan nan
END
$d3 << END
0 3.17609865e-05 nan nan
END
$d4 << END
0 2.84730335e-05 nan nan
END
$d5 << END
0 1.21834613e-05 nan nan
END
near_zero = 0
set logscale y
set format y '1e%T'
set yrange [1e-06:1]
set multiplot layout 1,2 title "Sequence reproduction: delay, 5 values" font ',16'
unset arrow
unset label
set label "chance 0.333" at graph 0.99, first 0.333333333 right offset 0,(0.333333333 < near_zero ? 0.6 : -0.6) font ',11' tc rgb '#666666' front
set title "RNN, n = 1"
plot $d0 using 1:2 with linespoints pt 7 ps 0.7 lw 2.2 lc rgb '#0072B2' title "gradient", \
  $d1 using 1:2 with linespoints pt 7 ps 0.7 lw 2.2 lc rgb '#D55E00' title "Hebbian", \
  $d2 using 1:2 with linespoints pt 7 ps 0.7 lw 2.2 lc rgb '#555555' title "plain", \
  0.333 with lines dt 2 lw 1.5 lc rgb '#777777' notitle
unset arrow
unset label
set label "chance 0.333" at graph 0.99, first 0.333333333 right offset 0,(0.333333333 < near_zero ? 0.6 : -0.6) font ',11' tc rgb '#666666' front
set title "LSTM, n = 1"
plot $d3 using 1:2 with linespoints pt 7 ps 0.7 lw 2.2 lc rgb '#0072B2' title "gradient", \
  $d4 using 1:2 with linespoints pt 7 ps 0.7 lw 2.2 lc rgb '#D55E00' title "Hebbian", \
  $d5 using 1:2 with linespoints pt 7 ps 0.7 lw 2.2 lc rgb '#555555' title "plain", \
  0.333 with lines dt 2 lw 1.5 lc rgb '#777777' notitle
unset multiplot
unset output
