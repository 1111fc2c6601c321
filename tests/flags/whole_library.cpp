// Compiled with options that the library refuses.

#include "plastic/plastic.hpp"

int main() { plastic::PlasticRNN<plastic::Hebbian, float> net({.inputs = 2, .hidden = 4}); }
