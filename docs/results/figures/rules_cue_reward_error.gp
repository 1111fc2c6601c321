# gnuplot rules_cue_reward_error.gp draws the figure again.
if (!exists('unfinished')) unfinished = ''
reset
set terminal svg noenhanced font 'Helvetica,Arial,sans-serif,14' background 'white' size 840,626
set output 'rules_cue_reward_error.svg'.unfinished
set encoding utf8
set border 3 lc rgb '#555555'
set tics nomirror tc rgb '#222222'
set grid lc rgb '#e4e4e4' lw 0.8
set style fill transparent solid 0.18 noborder
set rmargin 3
set title "Cue-reward: all rules" font ',16' offset 0,1.2
set xlabel "mean squared error of queries"
set xrange [0:*]
set offsets 0, graph 0.04, 0, 0
set yrange [14 - 0.4:-0.6] noextend
set key off
set tmargin 5
set ytics ("gradient, RNN, n = 3" 0, "Hebbian, RNN, n = 3" 1, "plain, RNN, n = 1" 2, "trace, RNN (form=decay), n = 1" 3, "trace, RNN (form=oja), n = 1" 4, "trace, RNN (form=clip), n = 1" 5, "modulated, RNN, n = 1" 6, "modulated, LSTM, n = 1" 7, "retroactive, RNN, n = 1" 8, "fast weights, RNN, n = 1" 9, "delta, recurrent DeltaNet, n = 1" 10, "delta, delta RNN, n = 1" 11, "STPN, RNN, n = 1" 12, "ABCD, RNN (form=ABCD_lr normalise=max), n = 1" 13)
set arrow from 0.0358, graph 0 to 0.0358, graph 1 nohead dt 2 lw 1.5 lc rgb '#777777'
set label "perfect memory 0.0358" at 0.0358, graph 1 center offset 0,0.7 font ',11' tc rgb '#666666'
set arrow from 0.2738, graph 0 to 0.2738, graph 1 nohead dt 2 lw 1.5 lc rgb '#777777'
set label "cue ignored 0.274" at 0.2738, graph 1 center offset 0,1.6 font ',11' tc rgb '#666666'
$d0 << END
0.128346735 0 0.111653884 0.145039586
END
$d0s << END
0.122600285 0
0.135734586 0
0.126705335 0
END
$d1 << END
0.111231589 1 0.0953487744 0.127114403
END
$d1s << END
0.113716291 1
0.116009404 1
0.103969071 1
END
$d2 << END
0.281740091 2 nan nan
END
$d3 << END
0.283496809 3 nan nan
END
$d4 << END
0.283531906 4 nan nan
END
$d5 << END
0.283553279 5 nan nan
END
$d6 << END
0.129867709 6 nan nan
END
$d7 << END
0.121746189 7 nan nan
END
$d8 << END
0.14611936 8 nan nan
END
$d9 << END
0.251395006 9 nan nan
END
$d10 << END
0.223255666 10 nan nan
END
$d11 << END
0.287126593 11 nan nan
END
$d12 << END
0.11761894 12 nan nan
END
$d13 << END
0.284038857 13 nan nan
END
plot $d0s using 1:2 with points pt 6 ps 0.6 lc rgb '#0072B2' , \
  $d0 using 1:2:3:4 with xerrorbars lw 2 pt 0 lc rgb '#0072B2' , \
  $d0 using 1:2 with points pt 7 ps 1.1 lc rgb '#0072B2' , \
  $d1s using 1:2 with points pt 6 ps 0.6 lc rgb '#D55E00' , \
  $d1 using 1:2:3:4 with xerrorbars lw 2 pt 0 lc rgb '#D55E00' , \
  $d1 using 1:2 with points pt 7 ps 1.1 lc rgb '#D55E00' , \
  $d2 using 1:2 with points pt 7 ps 1.1 lc rgb '#555555' , \
  $d3 using 1:2 with points pt 7 ps 1.1 lc rgb '#E69F00' , \
  $d4 using 1:2 with points pt 7 ps 1.1 lc rgb '#E69F00' , \
  $d5 using 1:2 with points pt 7 ps 1.1 lc rgb '#E69F00' , \
  $d6 using 1:2 with points pt 7 ps 1.1 lc rgb '#009E73' , \
  $d7 using 1:2 with points pt 7 ps 1.1 lc rgb '#009E73' , \
  $d8 using 1:2 with points pt 7 ps 1.1 lc rgb '#CC79A7' , \
  $d9 using 1:2 with points pt 7 ps 1.1 lc rgb '#56B4E9' , \
  $d10 using 1:2 with points pt 7 ps 1.1 lc rgb '#8A7A00' , \
  $d11 using 1:2 with points pt 7 ps 1.1 lc rgb '#8A7A00' , \
  $d12 using 1:2 with points pt 7 ps 1.1 lc rgb '#332288' , \
  $d13 using 1:2 with points pt 7 ps 1.1 lc rgb '#882255' 
unset output
