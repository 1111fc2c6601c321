// The second file of a program whose files are compiled for different processors.

#include "plastic/plastic.hpp"

plastic::Index hidden_of_other_file() {
  return plastic::PlasticRNN<plastic::Hebbian, float>({.inputs = 2, .hidden = 4}).options().hidden;
}
