# gnuplot key_value_error.gp draws the figure again.
if (!exists('unfinished')) unfinished = ''
reset
set terminal svg noenhanced font 'Helvetica,Arial,sans-serif,14' background 'white' size 640,430
set output 'key_value_error.svg'.unfinished
set encoding utf8
set border 3 lc rgb '#555555'
set tics nomirror tc rgb '#222222'
set grid lc rgb '#e4e4e4' lw 0.8
set style fill transparent solid 0.18 noborder
set rmargin 3
set xlabel "keys to remember"
set ylabel "mean squared error of queries"
set key outside top center horizontal reverse Left samplen 1.2 width -1
set xrange [15.2:104.8]
set xtics (20, 40, 60, 80, 100)
$d0 << END
20 0.0315135853 nan nan
END
$d1 << END
20 0.000142769204 nan nan
END
$d2 << END
20 1.27626127e-05 nan nan
END
near_zero = 0.00272277377
set yrange [0:0.0340346721]
set multiplot layout 1,1 title "Key-value retrieval" font ',16'
unset arrow
unset label
set title "n = 1"
plot $d0 using 1:2 with linespoints pt 7 ps 0.7 lw 2.2 lc rgb '#009E73' title "options feature=dpfp nu=1 correct=false", \
  $d1 using 1:2 with linespoints pt 7 ps 0.7 lw 2.2 lc rgb '#CC79A7' title "options feature=elu", \
  $d2 using 1:2 with linespoints pt 7 ps 0.7 lw 2.2 lc rgb '#E69F00' title "options feature=dpfp nu=1"
unset multiplot
unset output
