// The cells of cells/families.hpp in double.

#include "plastic/cells/families.hpp"

namespace plastic {

template class PlasticCell<TraceRnn, Trace, double>;
template class PlasticCell<TraceClamp, Trace, double>;
template class PlasticCell<ModulatedRnn, Modulated, double>;
template class PlasticCell<ModulatedLstm, Modulated, double>;
template class PlasticCell<RetroactiveRnn, Retroactive, double>;
template class PlasticCell<FastWeightsRnn, FastWeights, double>;
template class PlasticCell<DeltaNetModel, Delta, double>;
template class PlasticCell<DeltaRnnModel, Delta, double>;
template class PlasticCell<RecurrentDeltaNetModel, Delta, double>;
template class PlasticCell<StpnRnn, Stpn, double>;
template class PlasticCell<AbcdRnn, Abcd, double>;
template class PlasticCell<AbcdMlp, Abcd, double>;

}  // namespace plastic
