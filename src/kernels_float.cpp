// The kernels of kernels/compiled.hpp in float.

#include "plastic/kernels/compiled.hpp"

namespace plastic::detail::kernels {

PLASTIC_KERNELS(template, float)

}  // namespace plastic::detail::kernels
