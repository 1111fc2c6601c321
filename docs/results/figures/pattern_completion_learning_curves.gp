# gnuplot pattern_completion_learning_curves.gp draws the figure again.
if (!exists('unfinished')) unfinished = ''
reset
set terminal svg noenhanced font 'Helvetica,Arial,sans-serif,14' background 'white' size 640,430
set output 'pattern_completion_learning_curves.svg'.unfinished
set encoding utf8
set border 3 lc rgb '#555555'
set tics nomirror tc rgb '#222222'
set grid lc rgb '#e4e4e4' lw 0.8
set style fill transparent solid 0.18 noborder
set rmargin 3
set xlabel "training batches"
set ylabel "mean squared error, validation"
set key outside top center horizontal reverse Left samplen 1.2 width -1
$d0 << END
100 0.181548153 nan nan
200 0.083104139 nan nan
300 0.0579570305 nan nan
400 0.0406106746 nan nan
500 0.0322979956 nan nan
600 0.0270652644 nan nan
700 0.0236465479 nan nan
800 0.0198829187 nan nan
900 0.0178444172 nan nan
1000 0.0173865966 nan nan
1100 0.0130016703 nan nan
1200 0.0151580853 nan nan
1300 0.0108921661 nan nan
1400 0.0120059232 nan nan
1500 0.00906314822 nan nan
1600 0.00992454902 nan nan
1700 0.00815222627 nan nan
1800 0.00729140352 nan nan
1900 0.00840769962 nan nan
2000 0.00617720963 nan nan
END
near_zero = 0.0156857604
set yrange [0:0.196072005]
set multiplot layout 1,1 title "Completion of patterns of 1000 bits" font ',16'
unset arrow
unset label
set xtics 500
set title "n = 1"
plot $d0 using 1:2 with lines lw 2.2 lc rgb '#E69F00' title "trace"
unset multiplot
unset output
