#include "experiments/results.hpp"
#include "input_files.hpp"
#include "readers.hpp"

namespace plastic::fuzz {
namespace {

void read(Bytes bytes) {
  const experiments::Columns columns = experiments::read_columns(MemoryFile(bytes).path());
  for (const auto& [name, column] : columns) expect(!column.empty(), "a column has rows");
}

std::vector<std::string> seeds() {
  return {"batch,train_loss,validation_loss,seconds\n200,0.5,nan,1.25\n400,-inf,1e-300,2\n",
          "step,mean,sd\n0,0.1,0\n"};
}

}  // namespace

const Reader csv{"csv", read, seeds};

}  // namespace plastic::fuzz
