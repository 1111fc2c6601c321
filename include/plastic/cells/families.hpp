#pragma once

/// The networks of the literature whose fast weights are fast matrices with a rule of their own. If
/// PLASTIC_COMPILED is defined, src/families_float.cpp and src/families_double.cpp compile them:
/// see cells/compiled.hpp.

#include "plastic/cells/abcd.hpp"
#include "plastic/cells/delta.hpp"
#include "plastic/cells/fast_weights.hpp"
#include "plastic/cells/modulated.hpp"
#include "plastic/cells/retroactive.hpp"
#include "plastic/cells/stpn.hpp"
#include "plastic/cells/trace.hpp"

#ifdef PLASTIC_COMPILED

namespace plastic {

extern template class PlasticCell<TraceRnn, Trace, float>;
extern template class PlasticCell<TraceClamp, Trace, float>;
extern template class PlasticCell<ModulatedRnn, Modulated, float>;
extern template class PlasticCell<ModulatedLstm, Modulated, float>;
extern template class PlasticCell<RetroactiveRnn, Retroactive, float>;
extern template class PlasticCell<FastWeightsRnn, FastWeights, float>;
extern template class PlasticCell<DeltaNetModel, Delta, float>;
extern template class PlasticCell<DeltaRnnModel, Delta, float>;
extern template class PlasticCell<RecurrentDeltaNetModel, Delta, float>;
extern template class PlasticCell<StpnRnn, Stpn, float>;
extern template class PlasticCell<AbcdRnn, Abcd, float>;
extern template class PlasticCell<AbcdMlp, Abcd, float>;

extern template class PlasticCell<TraceRnn, Trace, double>;
extern template class PlasticCell<TraceClamp, Trace, double>;
extern template class PlasticCell<ModulatedRnn, Modulated, double>;
extern template class PlasticCell<ModulatedLstm, Modulated, double>;
extern template class PlasticCell<RetroactiveRnn, Retroactive, double>;
extern template class PlasticCell<FastWeightsRnn, FastWeights, double>;
extern template class PlasticCell<DeltaNetModel, Delta, double>;
extern template class PlasticCell<DeltaRnnModel, Delta, double>;
extern template class PlasticCell<RecurrentDeltaNetModel, Delta, double>;
extern template class PlasticCell<StpnRnn, Stpn, double>;
extern template class PlasticCell<AbcdRnn, Abcd, double>;
extern template class PlasticCell<AbcdMlp, Abcd, double>;

}  // namespace plastic

#endif
