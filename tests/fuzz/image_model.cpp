#include "plastic/io/image_model_file.hpp"
#include "readers.hpp"

namespace plastic::fuzz {
namespace {

void read(Bytes bytes) {
  const auto encoder = encoder_from_tensors<float>(parse_safetensors(bytes));
  TensorFile written;
  add_encoder(written, *encoder);
  TensorFile again;
  add_encoder(again, *encoder_from_tensors<float>(written));
  expect(safetensors_bytes(written) == safetensors_bytes(again), "an encoder comes back");
}

std::vector<std::string> seeds() {
  TensorFile small, colours;
  add_encoder(small, *make_encoder<float>("conv4", {1, 16, 16}, 0, 1));
  add_encoder(colours, *make_encoder<float>("conv4", {3, 20, 17}, 0, 2));
  return {safetensors_bytes(small), safetensors_bytes(colours)};
}

}  // namespace

const Reader image_model{"image_model", read, seeds};

}  // namespace plastic::fuzz
