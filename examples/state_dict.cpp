// Turns a model file into a state dictionary of the published PyTorch code, and the reverse.

#include "plastic/io/state_dict.hpp"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <exception>
#include <iostream>
#include <string>

#include "command_line.hpp"
#include "plastic/cells/dispatch.hpp"

namespace {

using namespace plastic;

bool is_model(const TensorFile& file) {
  return std::ranges::any_of(file.tensors,
                             [](const auto& entry) { return entry.first.starts_with("param."); });
}

template <class Scalar>
TensorFile convert(const TensorFile& in) {
  return with_layered_cell_type<Scalar>(
      setting(in.metadata, "cell"), setting(in.metadata, "rule"),
      [&]<class Cell>(std::type_identity<Cell>) {
        return is_model(in) ? to_state_dict(from_tensors<Cell>(in))
                            : to_tensors(from_state_dict<Cell>(in, from_settings(in.metadata)));
      });
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app(
      "Turns a model file (tensors param.*) into a state dictionary of the published PyTorch code\n"
      "(in_fc.0.w.param and so on), or such a state dictionary into a model file.\n\n"
      "Both are safetensors files whose __metadata__ has the settings: cell, rule, inputs, hidden\n"
      "and the others that a model file has. F64 stays F64, F32 stays F32.");
  std::string in_path, out_path;
  app.add_option("IN", in_path, "file to read")->required()->type_name("FILE");
  app.add_option("OUT", out_path, "file to write; replaced only when all is done")
      ->required()
      ->type_name("FILE");
  examples::say_in_one_line(app, "state_dict");
  CLI11_PARSE(app, argc, argv);
  try {
    const TensorFile in = read_safetensors(in_path);
    if (in.tensors.empty()) throw std::runtime_error("there is no tensor in the file");
    const bool in_double = in.tensors.begin()->second.dtype() == DType::F64;
    write_safetensors(out_path, in_double ? convert<double>(in) : convert<float>(in));
  } catch (const std::exception& error) {
    std::cerr << "state_dict: " << in_path << " -> " << out_path << ": " << error.what() << "\n";
    return 1;
  }
}
