# gnuplot -c demo.gp FOLDER draws what `./dev demo` has left there: at_work.png, one test episode of the
# Hebbian network beside the learning curves, and learning_curves.svg.
folder = ARG1
file(name) = folder . '/' . name
hebbian = '#D55E00'
plain = '#555555'
grey = '#777777'
array cue_colours[5] = [0x0072B2, 0xE69F00, 0x009E73, 0xCC79A7, 0x56B4E9]
colour(cue) = cue_colours[int(cue) + 1]
letter(cue) = substr('ABCDE', int(cue) + 1, int(cue) + 1)

set datafile separator comma
set datafile missing NaN
set encoding utf8
set border 3 lc rgb '#555555'
set tics nomirror
set style fill solid 1 noborder

set terminal pngcairo noenhanced font 'Sans,19' background 'white' size 1660, 1000
set output file('at_work.png')
set multiplot

# The episode: four rows over the same steps.
stats file('hebbian/answers.csv') using 'step' name 'S' nooutput
last = S_max
stats file('hebbian/answers.csv') using (column('asked') == 1 ? column('step') : NaN) name 'Q' nooutput
query = Q_min - 0.5
seen = ''
stats file('hebbian/answers.csv') using (column('asked') == 0 ? (seen = seen . letter(column('cue')), 0) : 0) nooutput
known(cue) = strstrt(seen, letter(cue)) > 0
set xrange [-0.6:last + 0.6]
set lmargin at screen 0.125
set rmargin at screen 0.60
set arrow 1 from query, graph 0 to query, graph 1 nohead dt 3 lw 2 lc rgb grey front
unset key
set format x ''
set xtics 0, 5 nomirror

set label 1 'A Hebbian network in one episode' at screen 0.125, 0.965 left font 'Sans Bold,22'
set label 2 'each cue is shown with its reward' at first 4.5, graph 1.14 center font ',17' tc rgb '#333333'
set label 3 'cues alone: which reward?' at first 14.5, graph 1.14 center font ',17' tc rgb '#333333'
set tmargin at screen 0.87
set bmargin at screen 0.71
set yrange [-1.45:1.45]
set ytics -1, 1, 1 nomirror
set ylabel "cue and\nreward" offset 0.5, 0
shown(name) = column('asked') == 0 ? column(name) : NaN
asked(name) = column('asked') == 1 ? column(name) : NaN
plot 0 with lines lc rgb '#bbbbbb', \
     file('hebbian/answers.csv') using 'step':(shown('reward')):(0.6):(colour(column('cue'))) with boxes lc rgb variable, \
     '' using (shown('step')):(column('reward') < 0 ? 0.32 : -0.32):(letter(column('cue'))):(colour(column('cue'))) with labels font 'Sans Bold,17' tc rgb variable, \
     '' using (asked('step')):(-0.32):(letter(column('cue'))):(colour(column('cue'))) with labels font 'Sans Bold,17' tc rgb variable
unset label 1
unset label 2
unset label 3

set tmargin at screen 0.68
set bmargin at screen 0.54
set yrange [0:*]
set ytics 0, 0.05 nomirror
set ylabel "learning\nrate eta(t)" offset 0.5, 0
plot file('hebbian/episode.csv') using 'step':'eta' with filledcurves y1=0 fs transparent solid 0.25 lc rgb hebbian, \
     '' using 'step':'eta' with linespoints pt 7 ps 1.2 lw 3 lc rgb hebbian

set tmargin at screen 0.51
set bmargin at screen 0.31
stats file('hebbian/fast.csv') matrix name 'F' nooutput
m = abs(F_max) > abs(F_min) ? abs(F_max) : abs(F_min)
m = m > 0 ? m : 1
# Steep in the middle, since a few weights are much larger than the others.
set palette defined (-1 '#002f52', -0.4 '#3f92c8', 0 'white', 0.4 '#e58a4e', 1 '#6e2c00')
set cbrange [-m:m]
set colorbox user origin screen 0.607, 0.31 size screen 0.009, 0.20
set cbtics font ',13' m
set format cb '%.2f'
set yrange [*:*] noextend
unset ytics
set ylabel "64 fast\nweights" offset -2.4, 0
plot file('hebbian/fast.csv') matrix with image pixels
unset colorbox

set tmargin at screen 0.28
set bmargin at screen 0.10
set yrange [-1.3:1.3]
set ytics -1, 1, 1 nomirror
set format x '%g'
set xlabel 'step of the episode'
set ylabel "answer" offset 0.5, 0
set key at graph 0.02, graph 0.95 left top vertical reverse Left samplen 1 font ',17'
plot 0 with lines lc rgb '#bbbbbb' notitle, \
     file('hebbian/answers.csv') using 'step':(known(column('cue')) ? asked('reward') : NaN) with points pt 6 ps 2.6 lw 2.5 lc rgb grey title 'true reward', \
     '' using 'step':(known(column('cue')) ? NaN : asked('reward')) with points pt 2 ps 1.6 lw 2 lc rgb '#bbbbbb' title 'of a cue never shown', \
     '' using 'step':(asked('answer')) with points pt 7 ps 1.5 lc rgb hebbian title 'answer'
unset arrow 1

# The learning curves.
set label 1 'Learning curves, n = 1' at screen 0.725, 0.965 left font 'Sans Bold,22'
set lmargin at screen 0.725
set rmargin at screen 0.965
set tmargin at screen 0.87
set bmargin at screen 0.10
set xrange [0:*]
set yrange [0:0.19]
set xtics 0, 1000 nomirror
set ytics 0, 0.05 nomirror
set grid lc rgb '#e4e4e4'
set xlabel 'training batches'
set ylabel 'mean squared error, validation' offset 1, 0
set key at graph 0.98, graph 0.995 right top vertical font ',17' samplen 1.5
set label 2 'cue ignored 0.137' at graph 0.98, first 0.1369 right offset 0,-0.7 font ',16' tc rgb grey
set label 3 'perfect memory 0.018' at graph 0.98, first 0.0179 right offset 0,-0.7 font ',16' tc rgb grey
plot 0.1369 with lines dt 2 lw 2 lc rgb grey notitle, 0.0179 with lines dt 2 lw 2 lc rgb grey notitle, \
     file('none/progress.csv') using 'batch':'validation_loss' with lines lw 4 lc rgb plain title 'plain, no fast weights', \
     file('hebbian/progress.csv') using 'batch':'validation_loss' with lines lw 4 lc rgb hebbian title 'Hebbian'
unset multiplot
unset output

reset
set datafile separator comma
set datafile missing NaN
set encoding utf8
set terminal svg noenhanced font 'Helvetica,Arial,sans-serif,14' background 'white' size 800, 500
set output file('learning_curves.svg')
set title 'Cue-reward, RNN, n = 1'
set xlabel 'training batches'
set ylabel 'mean squared error, validation'
set border 3 lc rgb '#555555'
set tics nomirror
set grid lc rgb '#e4e4e4'
set key outside top center horizontal
set xrange [0:*]
set yrange [0:0.19]
set label 'cue ignored 0.137' at graph 0.99, first 0.1369 right offset 0,-0.7 tc rgb grey
set label 'perfect memory 0.018' at graph 0.99, first 0.0179 right offset 0,-0.7 tc rgb grey
plot 0.1369 with lines dt 2 lw 1.5 lc rgb grey notitle, 0.0179 with lines dt 2 lw 1.5 lc rgb grey notitle, \
     file('hebbian/progress.csv') using 'batch':'validation_loss' with lines lw 2.2 lc rgb hebbian title 'Hebbian', \
     file('none/progress.csv') using 'batch':'validation_loss' with lines lw 2.2 lc rgb plain title 'plain, no fast weights'
unset output
