// The kernels of kernels/compiled.hpp in double.

#include "plastic/kernels/compiled.hpp"

namespace plastic::detail::kernels {

PLASTIC_KERNELS(template, double)

}  // namespace plastic::detail::kernels
