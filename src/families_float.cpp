// The cells of cells/families.hpp in float.

#include "plastic/cells/families.hpp"

namespace plastic {

template class PlasticCell<TraceRnn, Trace, float>;
template class PlasticCell<TraceClamp, Trace, float>;
template class PlasticCell<ModulatedRnn, Modulated, float>;
template class PlasticCell<ModulatedLstm, Modulated, float>;
template class PlasticCell<RetroactiveRnn, Retroactive, float>;
template class PlasticCell<FastWeightsRnn, FastWeights, float>;
template class PlasticCell<DeltaNetModel, Delta, float>;
template class PlasticCell<DeltaRnnModel, Delta, float>;
template class PlasticCell<RecurrentDeltaNetModel, Delta, float>;
template class PlasticCell<StpnRnn, Stpn, float>;
template class PlasticCell<AbcdRnn, Abcd, float>;
template class PlasticCell<AbcdMlp, Abcd, float>;

}  // namespace plastic
