#pragma once

#include "plastic/cells/forward.hpp"

double step_elsewhere();

/// A function of a network that this header knows by name alone.
double loss_of(plastic::PlasticLSTM<plastic::Gradient, float>& net);
